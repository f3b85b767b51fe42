//! The table of all rules: id, severity, and what each finds in one line. docs/lint.md has their reasons and their examples, and the examples
//! are the tests.

use serde::Serialize;
use strum::{EnumIter, IntoEnumIterator, IntoStaticStr};

/// How bad a finding is.
#[derive(Clone, Copy, Debug, Eq, IntoStaticStr, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "lowercase")]
#[strum(serialize_all = "lowercase")]
pub enum Severity {
    /// It may be meant.
    Info,
    /// It is most likely a mistake.
    Warning,
    /// It is refused, or does not do what it says.
    Error,
}

/// A rule. Its name is that of the variant, in lower case with hyphens.
#[derive(Clone, Copy, Debug, EnumIter, Eq, Hash, IntoStaticStr, Ord, PartialEq, PartialOrd)]
#[strum(serialize_all = "kebab-case")]
pub enum LintRule {
    UnreadableFile,
    RefusedByApiServer,
    UnknownField,
    RefusedByOperator,
    BadIgnore,
    DeprecatedApi,
    NoNamespace,
    EgressWithoutDns,
    DnsOverUdpOnly,
    DnsRuleSelectsNothing,
    AllowsEverything,
    EmptyPeers,
    EmptyPorts,
    OrInsteadOfAnd,
    AndInsteadOfOr,
    RulesWithoutPolicyType,
    IsolatesByAccident,
    NeverWritten,
    BroadCidr,
    MetadataRange,
    PrivateRanges,
    ExceptOutsideCidr,
    HostBitsSet,
    BlockOfPodsOrServices,
    WidePortRange,
    UnknownPortName,
    SelectsNoWorkload,
    PeerSelectsNoWorkload,
    MutableLabel,
    HostNetworkPod,
    LabelTypo,
    DuplicateEntry,
    ShadowedEntry,
    DuplicateObject,
    ObjectInTwoFiles,
    OpensBaseline,
    CutsOffDns,
    BlocksCarveOut,
    TakesPlannedName,
    OptOutNotAllowed,
}

impl LintRule {
    /// Every rule, in the order of their ids.
    pub fn all() -> impl Iterator<Item = Self> {
        Self::iter()
    }

    /// The rule with this id or name.
    pub fn named(text: &str) -> Option<Self> {
        Self::all().find(|rule| text.eq_ignore_ascii_case(rule.id()) || text == rule.name())
    }

    /// Its name, such as `egress-without-dns`.
    pub fn name(self) -> &'static str {
        self.into()
    }

    /// Its id, such as `PB101`. It never changes its meaning.
    pub const fn id(self) -> &'static str {
        self.row().0
    }

    /// Whether it finds what the API server or the operator refuses, so that the object is not judged further.
    pub const fn is_refusal(self) -> bool {
        matches!(self, Self::RefusedByApiServer | Self::UnknownField | Self::RefusedByOperator | Self::DeprecatedApi)
    }

    /// How bad what it finds is.
    pub const fn severity(self) -> Severity {
        self.row().1
    }

    /// What it finds.
    pub const fn finds(self) -> &'static str {
        self.row().2
    }

    const fn row(self) -> (&'static str, Severity, &'static str) {
        use Severity::{Error, Info, Warning};
        match self {
            Self::UnreadableFile => ("PB001", Error, "a file that is no YAML or JSON"),
            Self::RefusedByApiServer => ("PB002", Error, "an object that the API server refuses"),
            Self::UnknownField => ("PB003", Error, "a field that does not exist, such as a typo"),
            Self::RefusedByOperator => ("PB004", Error, "a baseline or opt-out with which the operator cannot work"),
            Self::BadIgnore => ("PB005", Error, "an annotation that ignores an unknown rule, or gives no reason"),
            Self::DeprecatedApi => ("PB006", Error, "an API version that Kubernetes no longer serves"),
            Self::NoNamespace => ("PB007", Info, "a policy without a namespace"),
            Self::EgressWithoutDns => ("PB101", Warning, "pods whose egress is closed, without a rule for DNS over UDP"),
            Self::DnsOverUdpOnly => ("PB102", Warning, "a rule for DNS over UDP, and none for DNS over TCP"),
            Self::DnsRuleSelectsNothing => ("PB103", Error, "a rule for DNS whose labels no DNS pod has"),
            Self::AllowsEverything => ("PB201", Warning, "a rule that allows everybody on every port"),
            Self::EmptyPeers => ("PB202", Error, "an empty from or to, which allows everybody"),
            Self::EmptyPorts => ("PB203", Error, "an empty list of ports, which allows every port"),
            Self::OrInsteadOfAnd => ("PB204", Warning, "two peers where one with both selectors was probably meant"),
            Self::AndInsteadOfOr => ("PB205", Warning, "one peer with both selectors where two were probably meant"),
            Self::RulesWithoutPolicyType => ("PB301", Error, "rules for a direction that policyTypes does not name"),
            Self::IsolatesByAccident => ("PB302", Warning, "a direction that is closed, and has no rule"),
            Self::NeverWritten => ("PB303", Warning, "an allow, or a carve-out, that the baseline never writes"),
            Self::BroadCidr => ("PB401", Warning, "a range of addresses so wide that it is almost everybody"),
            Self::MetadataRange => ("PB402", Warning, "a wide range for egress that has the metadata service of the cloud in it"),
            Self::PrivateRanges => ("PB403", Info, "the whole internet without some of the private ranges, but not all"),
            Self::ExceptOutsideCidr => ("PB404", Error, "an except that is not inside its cidr"),
            Self::HostBitsSet => ("PB405", Error, "a range with address bits after the prefix"),
            Self::BlockOfPodsOrServices => ("PB406", Warning, "an ipBlock for the address of a given pod or Service"),
            Self::WidePortRange => ("PB501", Warning, "a range of thousands of ports"),
            Self::UnknownPortName => ("PB502", Warning, "a port name that no given workload has"),
            Self::SelectsNoWorkload => ("PB601", Info, "a podSelector that selects none of the given workloads"),
            Self::PeerSelectsNoWorkload => ("PB602", Info, "a peer that selects none of the given workloads"),
            Self::MutableLabel => ("PB603", Warning, "a selector with a label that changes with each release"),
            Self::HostNetworkPod => ("PB604", Warning, "a given workload on the host network that a policy selects"),
            Self::LabelTypo => {
                ("PB605", Warning, "a label value that differs in a letter or two from those of the given workloads")
            }
            Self::DuplicateEntry => ("PB701", Warning, "an entry that is in its list twice"),
            Self::ShadowedEntry => ("PB702", Warning, "an entry that another entry of its list covers"),
            Self::DuplicateObject => ("PB703", Error, "an object that is given twice"),
            Self::ObjectInTwoFiles => ("PB704", Info, "an object that another file has with other content"),
            Self::OpensBaseline => ("PB801", Warning, "a policy that opens what the baseline closes"),
            Self::CutsOffDns => ("PB802", Error, "a policy that cuts off DNS where the baseline does not allow it"),
            Self::BlocksCarveOut => ("PB803", Warning, "a policy that keeps the monitoring away from pods that it may scrape"),
            Self::TakesPlannedName => ("PB804", Error, "a policy with a name that the baseline plans"),
            Self::OptOutNotAllowed => ("PB805", Error, "an opt-out that the baseline does not allow"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_rule_is_found_by_its_id_and_by_its_name_and_the_ids_are_in_order() {
        let ids: Vec<&str> = LintRule::all().map(LintRule::id).collect();
        assert!(ids.is_sorted_by(|one, next| one < next), "{ids:?}");
        for rule in LintRule::all() {
            assert_eq!((LintRule::named(rule.id()), LintRule::named(rule.name())), (Some(rule), Some(rule)));
        }
        assert_eq!(LintRule::named("pb101").map(LintRule::name), Some("egress-without-dns"));
        assert_eq!(LintRule::named("PB999"), None);
    }
}
