//! The pods of a comparison, by workload: what each workload is called, and how many of them are named in one line.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use crate::{
    api::label_query::LabelQuery,
    policy::flow::{CompiledPolicies, FlowSnapshot, Row, workload},
};

/// The most names that one end of a change lists.
const MOST_NAMES: usize = 50;

/// The workloads whose pods are on the pod network.
#[derive(Debug)]
pub struct ComparedWorkloads {
    /// The namespace and the name of each. Those of a namespace are neighbours.
    names: Vec<(String, String)>,
    /// For each class of pods the number of its workload; none for pods on the host network.
    pub of_class: Vec<Option<u32>>,
    /// How many of their pods there are.
    pub pods: u64,
    /// How many pods are left out because they are on the host network.
    pub on_host_network: u64,
    /// The number of pods of each.
    sizes: Vec<u64>,
    /// Those that have pods that somebody selected.
    asked: Row,
}

/// Some of the ends of flows: workloads, or addresses.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd, Serialize)]
pub struct FlowEnds {
    /// The first of them. `shop/*` are all workloads of a namespace that has several.
    pub names: Vec<String>,
    /// How many more there are.
    #[serde(skip_serializing_if = "is_zero")]
    pub more: usize,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
const fn is_zero(number: &usize) -> bool {
    *number == 0
}

impl ComparedWorkloads {
    /// Groups the pods by namespace and by the labels that stay. With a selector, only the workloads with pods that it selects are asked for.
    pub fn of(snapshot: &FlowSnapshot, compiled: &CompiledPolicies<'_>, only: Option<&LabelQuery>) -> Self {
        let sizes = compiled.classes.sizes();
        let pods: Vec<_> = compiled.classes.first_pods().map(|pod| &snapshot.pods[pod]).collect();
        let keys: Vec<_> =
            pods.iter().map(|pod| (!pod.on_host_network).then(|| (pod.namespace.clone(), workload(pod)))).collect();
        let all: BTreeSet<_> = keys.iter().flatten().cloned().collect();
        let mut labels_of: BTreeMap<String, usize> = BTreeMap::new();
        for (_, (name, _)) in &all {
            *labels_of.entry(name.clone()).or_default() += 1;
        }
        let numbers: BTreeMap<_, u32> = all.iter().zip(0..).collect();
        let of_class: Vec<Option<u32>> = keys.iter().map(|key| numbers.get(key.as_ref()?).copied()).collect();
        let mut asked = Row::new(all.len());
        for (pod, workload) in pods.iter().zip(&of_class).filter_map(|(pod, workload)| Some((pod, (*workload)?))) {
            if only.is_none_or(|only| only.selects(&pod.labels)) {
                asked.set(workload..workload + 1);
            }
        }
        let mut of_workload = vec![0; all.len()];
        let mut on_host_network = 0;
        for (workload, size) in of_class.iter().zip(&sizes) {
            match workload {
                Some(workload) => of_workload[*workload as usize] += size,
                None => on_host_network += size,
            }
        }
        // The labels tell workloads of one name apart.
        let name = |(namespace, (name, labels)): &(String, (String, String))| match labels_of.get(name) {
            Some(2..) if !labels.is_empty() => (namespace.clone(), format!("{name} ({labels})")),
            _ => (namespace.clone(), name.clone()),
        };
        Self {
            names: all.iter().map(name).collect(),
            of_class,
            pods: of_workload.iter().sum(),
            on_host_network,
            sizes: of_workload,
            asked,
        }
    }

    /// The number of workloads.
    pub fn count(&self) -> usize {
        self.names.len()
    }

    /// Whether a workload has pods that somebody asks for.
    pub fn is_asked(&self, workload: u32) -> bool {
        self.asked.has(workload as usize)
    }

    /// Whether a workload has one pod only. It has no flow to itself that a policy decides.
    pub fn is_alone(&self, workload: u32) -> bool {
        self.sizes.get(workload as usize) == Some(&1)
    }

    /// The names of these. A namespace of which all are meant is named instead of its workloads.
    pub fn ends(&self, which: &Row) -> FlowEnds {
        if self.count() > 1 && which.count() == self.count() as u64 {
            return FlowEnds { names: vec![format!("all {} workloads", self.count())], more: 0 };
        }
        let (mut names, mut first) = (Vec::new(), 0);
        for chunk in self.names.chunk_by(|(one, _), (other, _)| one == other) {
            let meant: Vec<&String> =
                chunk.iter().enumerate().filter(|(index, _)| which.has(first + index)).map(|(_, (_, name))| name).collect();
            match (chunk, meant.len()) {
                ([(namespace, _), _, ..], count) if count == chunk.len() => names.push(format!("{namespace}/*")),
                _ => names.extend(meant.into_iter().cloned()),
            }
            first += chunk.len();
        }
        FlowEnds::first(names)
    }
}

impl FlowEnds {
    /// The first of these names, and how many more there are.
    pub fn first(mut names: Vec<String>) -> Self {
        let more = names.len().saturating_sub(MOST_NAMES);
        names.truncate(MOST_NAMES);
        Self { names, more }
    }
}
