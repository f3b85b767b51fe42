//! What a policy of a baseline is for: one of the three roles, or a named allow.

use std::{collections::BTreeMap, fmt, sync::Arc};

use serde::{Serialize, Serializer};
use strum::{IntoStaticStr, VariantArray};

use super::{
    Role,
    names::{LABEL_ALLOW, LABEL_ROLE, is_dns_label},
};

/// The name of an allow. Cheap to clone.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct AllowName(Arc<str>);

impl AllowName {
    /// The longest name.
    pub const MOST: usize = 30;

    /// Checks a name: a DNS label that does not end like the name of a policy with a role. `None` if it is another text.
    pub fn parse(text: &str) -> Option<Self> {
        let is_of_a_role = Role::VARIANTS.iter().any(|role| text.ends_with(role.suffix()));
        (is_dns_label(text) && text.len() <= Self::MOST && !is_of_a_role).then(|| Self(text.into()))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// What a policy is for.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Purpose {
    /// It is one of the three policies that a baseline names by their roles.
    Role(Role),
    /// It is an allow of `spec.allows`.
    Allow(AllowName),
}

/// The kinds of purposes: for metrics and labels, which name no object.
#[derive(Clone, Copy, Debug, Eq, Hash, IntoStaticStr, PartialEq, VariantArray)]
#[strum(const_into_str)]
pub enum PurposeKind {
    /// The role of this name.
    DefaultDenyIngress,
    /// The role of this name.
    DefaultDenyEgress,
    /// The role of this name.
    MonitoringCarveout,
    /// Any allow.
    Allow,
}

impl Purpose {
    /// The role; `None` of an allow.
    pub const fn role(&self) -> Option<Role> {
        match self {
            Self::Role(role) => Some(*role),
            Self::Allow(_) => None,
        }
    }

    /// The kind.
    pub const fn kind(&self) -> PurposeKind {
        match self {
            Self::Role(Role::DefaultDenyIngress) => PurposeKind::DefaultDenyIngress,
            Self::Role(Role::DefaultDenyEgress) => PurposeKind::DefaultDenyEgress,
            Self::Role(Role::MonitoringCarveout) => PurposeKind::MonitoringCarveout,
            Self::Allow(_) => PurposeKind::Allow,
        }
    }

    /// The name of the policy, after the baseline's prefix.
    pub fn suffix(&self) -> String {
        match self {
            Self::Role(role) => role.suffix().into(),
            Self::Allow(AllowName(name)) => format!("allow-{name}"),
        }
    }

    /// The labels of the policy that say its purpose.
    pub fn labels(&self) -> BTreeMap<String, String> {
        let kind = (LABEL_ROLE.to_owned(), self.kind().into_str().to_owned());
        let name = match self {
            Self::Role(_) => None,
            Self::Allow(name) => Some((LABEL_ALLOW.to_owned(), name.as_str().to_owned())),
        };
        [kind].into_iter().chain(name).collect()
    }
}

impl From<Role> for Purpose {
    fn from(role: Role) -> Self {
        Self::Role(role)
    }
}

impl fmt::Display for Purpose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Role(role) => f.write_str(role.into_str()),
            Self::Allow(name) => write!(f, "allow {}", name.as_str()),
        }
    }
}

impl Serialize for Purpose {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_purpose_has_one_kind_one_name_and_labels_that_say_it() {
        for role in Role::VARIANTS.iter().copied() {
            let purpose = Purpose::from(role);
            assert_eq!((purpose.to_string(), purpose.kind().into_str()), (role.to_string(), role.into_str()));
            assert_eq!((purpose.suffix().as_str(), purpose.role()), (role.suffix(), Some(role)));
            assert_eq!(purpose.labels(), [(LABEL_ROLE.to_owned(), role.to_string())].into());
        }
        let allow = Purpose::Allow(AllowName::parse("web").unwrap());
        assert_eq!((allow.suffix().as_str(), allow.to_string().as_str(), allow.role()), ("allow-web", "allow web", None));
        let labels = [(LABEL_ROLE.to_owned(), "Allow".to_owned()), (LABEL_ALLOW.to_owned(), "web".to_owned())];
        assert_eq!(allow.labels(), labels.into());
        assert_eq!(PurposeKind::VARIANTS.len(), Role::VARIANTS.len() + 1);
    }

    #[test]
    fn a_name_is_a_label_that_fits_and_is_not_mistaken_for_a_role() {
        for name in ["a", "same-namespace", "0", &"n".repeat(30), "default-deny-ingress-2"] {
            assert_eq!(AllowName::parse(name).unwrap().as_str(), name);
        }
        for name in
            ["", "-a", "a-", "A", "a.b", &"n".repeat(31), "default-deny-ingress", "x-default-deny-egress", "monitoring-carveout"]
        {
            assert_eq!(AllowName::parse(name), None, "{name}");
        }
    }
}
