//! Finds the pods of a workload, and the pods that a label selector selects. Pods that have ended have no traffic, so they are left out.

use std::collections::BTreeSet;

use super::{error::FlowError, objects::FlowPod, owners::WorkloadKind, snapshot::FlowSnapshot};
use crate::api::label_query::LabelQuery;

/// The pods of a workload. An error says whether there is no such workload, or none of its pods.
pub fn of_workload(snapshot: &FlowSnapshot, kind: WorkloadKind, namespace: &str, name: &str) -> Result<Vec<usize>, FlowError> {
    let named = |pod: &FlowPod| pod.owner.as_ref().and_then(|owner| owner.workload(kind, &pod.labels)) == Some(name);
    running(snapshot, namespace, named).map_err(|have_ended| {
        let workload = format!("{} {namespace}/{name}", kind.into_str());
        if have_ended {
            return FlowError::AllEnded(format!("the {workload}"));
        }
        let of_kind = || snapshot.workloads.iter().filter(|one| one.kind == kind);
        let there = of_kind().filter(|one| one.namespace == namespace).map(|one| &*one.name);
        let there: BTreeSet<&str> = there.chain(names(snapshot, kind, namespace)).collect();
        if there.contains(name) {
            return FlowError::NoPodsOfWorkload { workload, describe: format!("{}/{name} -n {namespace}", kind.short_name()) };
        }
        // Whoever listed some of a kind listed all of them.
        FlowError::no_workload(
            workload,
            of_kind().next().is_some(),
            (kind.into_str(), namespace),
            &there.into_iter().collect::<Vec<_>>(),
        )
    })
}

/// The pods of a namespace that a selector selects.
pub fn labelled(snapshot: &FlowSnapshot, namespace: &str, labels: &LabelQuery) -> Result<Vec<usize>, FlowError> {
    running(snapshot, namespace, |pod| labels.selects(&pod.labels)).map_err(|have_ended| {
        if have_ended {
            let labels = if labels.is_empty() { String::new() } else { format!(" with {labels}") };
            return FlowError::AllEnded(format!("{namespace}{labels}"));
        }
        FlowError::NothingSelected {
            namespace: namespace.into(),
            labels: labels.to_string(),
            pods: snapshot.pods_of(namespace).filter(|(_, pod)| !pod.has_ended).count(),
        }
    })
}

/// The pods of a namespace that run. An error says whether there are some that have ended.
fn running(snapshot: &FlowSnapshot, namespace: &str, is_meant: impl Fn(&FlowPod) -> bool) -> Result<Vec<usize>, bool> {
    let (mut found, mut have_ended) = (Vec::new(), false);
    for (number, pod) in snapshot.pods_of(namespace).filter(|(_, pod)| is_meant(pod)) {
        if pod.has_ended {
            have_ended = true;
        } else {
            found.push(number);
        }
    }
    if found.is_empty() { Err(have_ended) } else { Ok(found) }
}

/// The names of the workloads of a kind to which pods belong.
fn names<'a>(snapshot: &'a FlowSnapshot, kind: WorkloadKind, namespace: &str) -> impl Iterator<Item = &'a str> {
    snapshot.pods_of(namespace).filter_map(move |(_, pod)| pod.owner.as_ref()?.workload(kind, &pod.labels))
}
