//! Revisions of a baseline: the part of its spec that is written into policies. A rollout moves namespaces from one revision to another.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    api::{
        PolicyBaselineSpec, Role,
        allows::Allow,
        baseline::{Dns, Monitoring, PolicyMetadata},
    },
    policy::digest::Digest,
};

/// The part of a spec that is written into policies, with an id.
#[derive(Clone, Debug)]
pub struct Revision {
    /// A digest of the content: equal content has an equal id.
    pub id: Arc<str>,
    /// The content, in the form in which it is stored.
    pub data: Value,
}

#[derive(Debug, Deserialize, Serialize)]
struct Content {
    policies: Vec<Role>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    dns: Option<Dns>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    monitoring: Option<Monitoring>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    allows: Vec<Allow>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    metadata: Option<PolicyMetadata>,
}

impl Revision {
    /// The revision that a spec asks for.
    pub fn of(spec: &PolicyBaselineSpec) -> Self {
        let mut policies = spec.policies.clone();
        policies.sort_unstable();
        let mut allows = spec.allows.clone();
        allows.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        let (dns, monitoring, metadata) = (spec.dns.clone(), spec.monitoring.clone(), spec.metadata.clone());
        let content = Content { policies, dns, monitoring, allows, metadata };
        // The content has only string keys, so serialising it cannot fail.
        let data = serde_json::to_value(content).unwrap_or_default();
        Self { id: Self::id_of(&data), data }
    }

    /// A revision that was stored under this id. `None` if the data does not match the id or cannot be read.
    pub fn stored(id: &str, data: &Value) -> Option<Self> {
        let known = Self { id: Self::id_of(data), data: data.clone() };
        (*known.id == *id && Content::deserialize(data).is_ok()).then_some(known)
    }

    /// The spec with the content of this revision.
    pub fn within(&self, spec: PolicyBaselineSpec) -> Result<PolicyBaselineSpec, serde_json::Error> {
        let Content { policies, dns, monitoring, allows, metadata } = Content::deserialize(&self.data)?;
        Ok(PolicyBaselineSpec { policies, dns, monitoring, allows, metadata, ..spec })
    }

    fn id_of(data: &Value) -> Arc<str> {
        Digest::of_json(data).to_string().into()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::testkit::baseline_object;

    fn port(port: i32) -> Value {
        json!({"dns": {"ports": [port]}, "namespaceSelector": {"matchLabels": {"a": "b"}}})
    }

    #[test]
    fn a_revision_is_what_is_written_and_nothing_else() {
        let of = |spec: Value| Revision::of(&baseline_object("b", spec).spec).id;
        assert_eq!(of(json!({})), of(json!({"priority": 3, "mode": "Audit", "rollout": {}, "excludeNamespaces": ["x"]})));
        let two = |roles: [&str; 2]| of(json!({"policies": roles}));
        assert_eq!(
            two(["DefaultDenyEgress", "DefaultDenyIngress"]),
            two(["DefaultDenyIngress", "DefaultDenyEgress"]),
            "the order says nothing"
        );
        for spec in [port(5353), json!({"policies": ["DefaultDenyEgress"]}), json!({"metadata": {"namePrefix": "x-"}})] {
            assert_ne!(of(spec.clone()), of(json!({})), "{spec}");
        }
    }

    #[test]
    fn a_stored_revision_that_was_changed_is_none() {
        let revision = Revision::of(&baseline_object("b", port(5353)).spec);
        assert!(Revision::stored(&revision.id, &revision.data).is_some());
        let mut edited = revision.data.clone();
        edited["dns"]["ports"] = json!([1]);
        assert!(Revision::stored(&revision.id, &edited).is_none());
        for data in [json!(null), json!({}), json!({"policies": "x"}), json!("x")] {
            assert!(Revision::stored(&Revision::id_of(&data), &data).is_none(), "{data}");
        }
    }
}
