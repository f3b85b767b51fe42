//! Names and keys that are visible in the cluster, each defined once.
//! A name that was checked here needs no second check.

use std::{borrow::Borrow, fmt, sync::Arc};

use serde::{Deserialize, Serialize};
use strum::{Display, IntoStaticStr, VariantArray};

use super::Uid;

/// The field manager of every write, and the value of `app.kubernetes.io/managed-by`.
pub const MANAGER: &str = "policy-baseline";
/// The prefix of all label and annotation keys that belong to the operator.
pub const DOMAIN: &str = "policybaseline.io/";
/// Label: the tool that manages the object.
pub const LABEL_MANAGED_BY: &str = "app.kubernetes.io/managed-by";
/// Label: the name of the baseline that planned the policy.
pub const LABEL_BASELINE: &str = "policybaseline.io/baseline";
/// Label: the role of the policy, or `Allow`.
pub const LABEL_ROLE: &str = "policybaseline.io/role";
/// Label: the name of the allow that the policy is, if its role is `Allow`.
pub const LABEL_ALLOW: &str = "policybaseline.io/allow";
/// Label: a hash of the policy's own namespace and name.
pub const LABEL_ID: &str = "policybaseline.io/id";
/// Annotation: a hash of what was planned for this policy.
pub const ANNOTATION_PLAN: &str = "policybaseline.io/plan";
/// Annotation: a hash of what the spec asked for in this policy, independent of the DNS that was found and of the rendering.
/// Policies of baselines with a rollout have it. It shows their revision after a restart of a version that renders differently.
pub const ANNOTATION_ASKED: &str = "policybaseline.io/asked";
/// Annotation for people: whose the policy is, what to do instead of editing it, and how to get an exception.
pub const ANNOTATION_ABOUT: &str = "policybaseline.io/about";
/// Annotation: the extra keys (`l:` labels, `a:` annotations) that the baseline asked for, comma-separated. With it, the
/// operator can remove a key that is no longer asked for, even if managedFields were wiped.
pub const ANNOTATION_KEYS: &str = "policybaseline.io/keys";
/// Label on the namespace of an install. Without it, the Lease in the namespace does not count: tenants may write Leases of any name.
/// Annotation on a baseline: the namespace of the install that it belongs to, if a cluster has more than one.
pub const INSTANCE: &str = "policybaseline.io/instance";
/// Annotation on a baseline: its owner confirms that this generation may release many namespaces.
pub const CONFIRM_RELEASE: &str = "policybaseline.io/confirm-release";
/// Label on an opt-out while it is in force, so that a scanner can find it.
pub const LABEL_OPT_OUT: &str = "policybaseline.io/opt-out";
/// The value of [`LABEL_OPT_OUT`].
pub const IN_FORCE: &str = "in-force";
/// Label on a namespace for which the operator has decided, if configured. Admission lets no pod in before the label is there. Its value
/// names the uid of the namespace: a copy of the label, as in a backup, proves nothing.
pub const LABEL_DECIDED: &str = "policybaseline.io/decided";
/// Label: the application that an object of the manifests belongs to. Its value is [`MANAGER`].
pub const LABEL_APP: &str = "app.kubernetes.io/name";
/// The name of the CRD of baselines.
pub const BASELINES_CRD: &str = "policybaselines.policybaseline.io";
/// The name of the CRD of opt-outs.
pub const OPT_OUTS_CRD: &str = "baselineoptouts.policybaseline.io";
/// The finalizer of a baseline whose `deletionPolicy` is `Delete`.
pub const FINALIZER: &str = "policybaseline.io/delete-policies";
/// The namespace of the operator if it is not configured.
pub const DEFAULT_OPERATOR_NAMESPACE: &str = "policy-baseline-system";
/// Namespaces that are always excluded, unless `includeSystemNamespaces` is true.
pub const SYSTEM_NAMESPACES: [&str; 3] = ["kube-node-lease", "kube-public", "kube-system"];

/// Whether a CRD has policies that can open what a NetworkPolicy closes, or decide before it does. Judged by the shape of its name,
/// `<plural>.<group>`: network plugins rename their kinds and add new ones more often than this operator is released.
pub fn is_other_policy_kind(crd: &str) -> bool {
    /// Kinds whose plural does not say `networkpolic`: what decides first at Calico and Antrea, and what OVN-Kubernetes has beside
    /// network policies.
    const OTHERS: [(&str, &str); 4] = [
        ("tiers", "projectcalico.org"),
        ("tiers", "antrea.io"),
        ("egressfirewalls", "k8s.ovn.org"),
        ("adminpolicybasedexternalroutes", "k8s.ovn.org"),
    ];
    let Some((plural, group)) = crd.split_once('.') else { return false };
    let is_in = |domain: &str| group == domain || group.strip_suffix(domain).is_some_and(|rest| rest.ends_with('.'));
    let by_shape = plural.contains("networkpolic") && group != "networking.k8s.io";
    by_shape || OTHERS.iter().any(|(kind, domain)| plural == *kind && is_in(domain))
}

/// The decision for a namespace: the first part of the value of [`LABEL_DECIDED`].
#[derive(Clone, Copy, Debug, Eq, IntoStaticStr, PartialEq)]
#[strum(const_into_str, serialize_all = "snake_case")]
pub enum DecidedLabel {
    /// The policies of a baseline are in place.
    Protected,
    /// No policy is planned in this namespace.
    Exempt,
}

impl DecidedLabel {
    /// The value of the label on the namespace with this uid.
    pub fn value(self, uid: &Uid) -> String {
        format!("{}-{uid}", self.into_str())
    }
}

/// One of the three policies of a baseline.
#[derive(
    Clone,
    Copy,
    Debug,
    Deserialize,
    Display,
    Eq,
    Hash,
    IntoStaticStr,
    Ord,
    PartialEq,
    PartialOrd,
    Serialize,
    VariantArray,
    schemars::JsonSchema,
)]
#[strum(const_into_str)]
pub enum Role {
    /// Selects every pod, allows nothing in.
    DefaultDenyIngress,
    /// Selects every pod, allows nothing out but DNS.
    DefaultDenyEgress,
    /// Pods that opt in by label may be scraped by the monitoring pods.
    MonitoringCarveout,
}

/// The roles that close a direction for every pod.
pub const DENIES: [Role; 2] = [Role::DefaultDenyIngress, Role::DefaultDenyEgress];

impl Role {
    /// The name of the policy, after the baseline's prefix.
    pub const fn suffix(self) -> &'static str {
        match self {
            Self::DefaultDenyIngress => "default-deny-ingress",
            Self::DefaultDenyEgress => "default-deny-egress",
            Self::MonitoringCarveout => "monitoring-carveout",
        }
    }
}

/// The name of a namespace. Cheap to clone.
#[derive(Clone, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct NamespaceName(Arc<str>);

impl NamespaceName {
    /// Wraps a name that came from the API server, which has checked it.
    pub fn observed(name: &str) -> Self {
        Self(name.into())
    }

    /// The name as a shared text.
    pub fn text(&self) -> Arc<str> {
        self.0.clone()
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Borrow<str> for NamespaceName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for NamespaceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for NamespaceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Why a text is not a valid label key or value. The message says what to write instead.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum LabelError {
    /// The name part of the key is invalid.
    #[error("{0:?} is no label key: use letters, digits, '-', '_' and '.', at most 63, with a letter or digit at both ends")]
    Key(String),
    /// The prefix of the key is invalid.
    #[error("{0:?} is no label key: before the '/' stands a lower-case DNS name of at most 253 characters")]
    Prefix(String),
    /// The value is invalid.
    #[error(
        "{0:?} is no label value: use letters, digits, '-', '_' and '.', at most 63, with a letter or digit at both ends, or nothing"
    )]
    Value(String),
}

/// Checks a label or annotation key as the API server does.
pub fn check_label_key(key: &str) -> Result<(), LabelError> {
    let name = match key.split_once('/') {
        None => key,
        Some((prefix, name)) => {
            let labels_ok = prefix.split('.').all(is_dns_label);
            if prefix.len() > 253 || !labels_ok {
                return Err(LabelError::Prefix(key.into()));
            }
            name
        }
    };
    if name.is_empty() || !is_label_text(name) {
        return Err(LabelError::Key(key.into()));
    }
    Ok(())
}

/// Checks a label value as the API server does.
pub fn check_label_value(value: &str) -> Result<(), LabelError> {
    if value.is_empty() || is_label_text(value) { Ok(()) } else { Err(LabelError::Value(value.into())) }
}

fn is_label_text(s: &str) -> bool {
    let inner = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    let ends = |b: Option<&u8>| b.is_some_and(u8::is_ascii_alphanumeric);
    s.len() <= 63 && s.bytes().all(inner) && ends(s.as_bytes().first()) && ends(s.as_bytes().last())
}

/// The group of an `apiVersion`; empty for the core.
pub fn group_of(api_version: &str) -> &str {
    api_version.split_once('/').map_or("", |(group, _)| group)
}

/// Whether the text is a lower-case DNS label (RFC 1123), as the names of namespaces are.
pub fn is_dns_label(s: &str) -> bool {
    let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    (1..=63).contains(&s.len()) && s.bytes().all(inner) && !s.starts_with('-') && !s.ends_with('-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_role_has_one_name() {
        for role in Role::VARIANTS {
            assert_eq!(serde_json::to_value(role).unwrap(), role.into_str());
        }
    }

    #[test]
    fn label_keys_and_values_are_judged_as_the_apiserver_does() {
        for ok in ["a", "app.kubernetes.io/name", "x_y.Z-1", &"k".repeat(63)] {
            assert_eq!(check_label_key(ok), Ok(()), "{ok}");
        }
        for bad in ["", "-a", "a b", "A_B/x", "example.com/", "/x", "a/b/c", "é", &"k".repeat(64)] {
            assert!(check_label_key(bad).is_err(), "{bad}");
        }
        for ok in ["", "prod", "A.b_c-1"] {
            assert_eq!(check_label_value(ok), Ok(()), "{ok}");
        }
        for bad in [" ", "-", "a/b", "ends-", &"v".repeat(64)] {
            assert!(check_label_value(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn policies_of_other_kinds_are_known_by_their_shape() {
        for crd in [
            "adminnetworkpolicies.policy.networking.k8s.io",
            "applicationnetworkpolicies.networking.k8s.aws",
            "baselineadminnetworkpolicies.policy.networking.k8s.io",
            "ciliumclusterwidenetworkpolicies.cilium.io",
            "ciliumnetworkpolicies.cilium.io",
            "clusternetworkpolicies.crd.antrea.io",
            "clusternetworkpolicies.networking.k8s.aws",
            "clusternetworkpolicies.policy.networking.k8s.io",
            "egressfirewalls.k8s.ovn.org",
            "egressnetworkpolicies.network.openshift.io",
            "fqdnnetworkpolicies.networking.gke.io",
            "globalnetworkpolicies.crd.projectcalico.org",
            "networkpolicies.projectcalico.org",
            "stagedglobalnetworkpolicies.projectcalico.org",
            "tiers.crd.antrea.io",
            "tiers.projectcalico.org",
        ] {
            assert!(is_other_policy_kind(crd), "{crd}");
        }
        for crd in [
            "networkpolicies.networking.k8s.io",
            "networkpolicies",
            "policybaselines.policybaseline.io",
            "tiers.example.com",
            "tiers.notprojectcalico.org",
            "ippools.crd.projectcalico.org",
            "ciliumendpoints.cilium.io",
        ] {
            assert!(!is_other_policy_kind(crd), "{crd}");
        }
    }
}
