//! What created a pod: the object in its owner references. What created that object can be told from its name, so nothing else has to be read.

use std::collections::BTreeMap;

use serde::Deserialize;
use strum::{IntoStaticStr, VariantArray};

/// A kind of workload.
#[derive(Clone, Copy, Debug, Eq, IntoStaticStr, Ord, PartialEq, PartialOrd, VariantArray)]
#[strum(const_into_str)]
pub enum WorkloadKind {
    Deployment,
    StatefulSet,
    DaemonSet,
    ReplicaSet,
    Job,
    CronJob,
}

/// A workload.
#[derive(Clone, Debug)]
pub struct FlowWorkload {
    pub kind: WorkloadKind,
    pub namespace: String,
    pub name: String,
}

/// The object that created a pod.
#[derive(Clone, Debug, Deserialize)]
pub struct PodOwner {
    kind: String,
    name: String,
}

/// An entry of the owner references.
#[derive(Deserialize, Debug)]
pub struct OwnerFields {
    #[serde(default)]
    controller: bool,
    #[serde(flatten)]
    owner: PodOwner,
}

/// The label with which a Deployment tells the pods of its ReplicaSets apart. It ends their names, too.
const TEMPLATE_HASH: &str = "pod-template-hash";
/// A CronJob ends the names of its Jobs with the minute for which they were due. Nothing has been due in a minute with fewer digits.
const MINUTE_DIGITS: usize = 8;

/// The owner that controls the object.
pub fn controller(owners: Vec<OwnerFields>) -> Option<PodOwner> {
    owners.into_iter().find(|one| one.controller).map(|one| one.owner)
}

impl PodOwner {
    /// The name of the workload of this kind to which a pod with these labels belongs.
    pub fn workload(&self, kind: WorkloadKind, labels: &BTreeMap<String, String>) -> Option<&str> {
        if self.kind == kind.into_str() {
            return Some(&self.name);
        }
        match (kind, &*self.kind) {
            (WorkloadKind::Deployment, "ReplicaSet") => {
                self.name.strip_suffix(&**labels.get(TEMPLATE_HASH)?)?.strip_suffix('-').filter(|name| !name.is_empty())
            }
            (WorkloadKind::CronJob, "Job") => {
                let (name, minute) = self.name.rsplit_once('-')?;
                let is_minute = minute.len() >= MINUTE_DIGITS && minute.bytes().all(|byte| byte.is_ascii_digit());
                Some(name).filter(|name| is_minute && !name.is_empty())
            }
            _ => None,
        }
    }

    /// Whether it and another owner belong to the same workload. Two ReplicaSets are those of one Deployment, and two Jobs of one CronJob.
    pub fn is_of_same_workload(
        &self,
        labels: &BTreeMap<String, String>,
        (other, other_labels): (&Self, &BTreeMap<String, String>),
    ) -> bool {
        let by_template = |kind: WorkloadKind| {
            let name = self.workload(kind, labels);
            name.is_some() && name == other.workload(kind, other_labels)
        };
        (self.kind == other.kind && self.name == other.name)
            || by_template(WorkloadKind::Deployment)
            || by_template(WorkloadKind::CronJob)
    }
}

impl WorkloadKind {
    /// The kind of an object.
    pub fn of_object(group: &str, kind: &str) -> Option<Self> {
        Self::VARIANTS.iter().copied().find(|one| (one.group(), one.into_str()) == (group, kind))
    }

    /// The kind that kubectl reads from this text: `deploy`, `deployment`, `deployments` or `deployments.apps`.
    pub fn spelled(text: &str) -> Option<Self> {
        let text = text.to_ascii_lowercase();
        let (name, group) = text.split_once('.').unzip();
        let name = name.unwrap_or(&text);
        let is_it = |kind: &&Self| {
            let singular = kind.into_str().to_ascii_lowercase();
            let is_short = name == kind.short_name() || (**kind == Self::CronJob && name == "cj");
            let is_long = name.strip_suffix('s').unwrap_or(name) == singular;
            (is_long && group.is_none_or(|group| group == kind.group())) || (is_short && group.is_none())
        };
        Self::VARIANTS.iter().find(is_it).copied()
    }

    /// How people write it.
    pub const fn short_name(self) -> &'static str {
        match self {
            Self::Deployment => "deploy",
            Self::StatefulSet => "sts",
            Self::DaemonSet => "ds",
            Self::ReplicaSet => "rs",
            Self::Job => "job",
            Self::CronJob => "cronjob",
        }
    }

    /// All short names, for a message.
    pub fn short_names() -> String {
        Self::VARIANTS.iter().map(|kind| kind.short_name()).collect::<Vec<_>>().join(", ")
    }

    /// The API group.
    pub const fn group(self) -> &'static str {
        match self {
            Self::Deployment | Self::StatefulSet | Self::DaemonSet | Self::ReplicaSet => "apps",
            Self::Job | Self::CronJob => "batch",
        }
    }

    /// The name of the resource.
    pub const fn plural(self) -> &'static str {
        match self {
            Self::Deployment => "deployments",
            Self::StatefulSet => "statefulsets",
            Self::DaemonSet => "daemonsets",
            Self::ReplicaSet => "replicasets",
            Self::Job => "jobs",
            Self::CronJob => "cronjobs",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_replica_sets_belong_to_one_deployment() {
        let owner = |kind: &str, name: &str| PodOwner { kind: kind.into(), name: name.into() };
        let labels = |hash: &str| BTreeMap::from([(TEMPLATE_HASH.to_owned(), hash.to_owned())]);
        let is_same = |one: PodOwner, hash: &str, other: PodOwner, other_hash: &str| {
            one.is_of_same_workload(&labels(hash), (&other, &labels(other_hash)))
        };
        assert!(is_same(owner("ReplicaSet", "web-1a"), "1a", owner("ReplicaSet", "web-2b"), "2b"));
        assert!(is_same(owner("ReplicaSet", "web-1a"), "", owner("ReplicaSet", "web-1a"), "1a"));
        assert!(is_same(owner("StatefulSet", "db"), "", owner("StatefulSet", "db"), ""));
        assert!(!is_same(owner("ReplicaSet", "web-1a"), "1a", owner("ReplicaSet", "db-2b"), "2b"));
        assert!(!is_same(owner("StatefulSet", "db"), "", owner("DaemonSet", "db"), ""));
    }

    #[test]
    fn a_pod_belongs_to_its_owner_and_to_what_created_that() {
        let of = |owner: &str, name: &str, hash: &str, kind| {
            let owner = PodOwner { kind: owner.into(), name: name.into() };
            owner.workload(kind, &[(TEMPLATE_HASH.to_owned(), hash.to_owned())].into()).map(str::to_owned)
        };
        let web = Some("web".to_owned());
        assert_eq!(of("ReplicaSet", "web-7d9f", "7d9f", WorkloadKind::Deployment), web);
        assert_eq!(of("ReplicaSet", "web-7d9f", "7d9f", WorkloadKind::ReplicaSet), Some("web-7d9f".to_owned()));
        assert_eq!(of("ReplicaSet", "web-7d9f", "other", WorkloadKind::Deployment), None, "of no Deployment");
        assert_eq!(of("ReplicaSet", "-7d9f", "7d9f", WorkloadKind::Deployment), None);
        assert_eq!(of("Job", "web-29400000", "", WorkloadKind::CronJob), web);
        for by_hand in ["web-1", "web-2940000x", "web", "-29400000"] {
            assert_eq!(of("Job", by_hand, "", WorkloadKind::CronJob), None, "{by_hand}");
        }
        assert_eq!(of("StatefulSet", "web", "", WorkloadKind::StatefulSet), web);
        assert_eq!(of("StatefulSet", "web", "", WorkloadKind::Deployment), None);
    }
}
