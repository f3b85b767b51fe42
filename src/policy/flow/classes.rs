//! Classes of pods: no policy can tell two pods of a class apart, so each selector and each pair is judged once for a whole class.

use std::{
    collections::{BTreeMap, HashMap},
    ops::Range,
};

use super::{
    objects::{ContainerPortName, FlowPod},
    ranges::AddressRange,
    selector::{LabelNumbers, LabelTests, Symbols},
    snapshot::FlowSnapshot,
};
use crate::policy::netpol::NAME_LABEL;

/// What policies see of a pod.
#[derive(Eq, Ord, PartialEq, PartialOrd)]
struct ClassKey<'a> {
    namespace: u32,
    /// The number of its labels.
    labels: u32,
    is_on_host_network: bool,
    /// A policy may name the port of the pod.
    ports: &'a [ContainerPortName],
    /// The ranges of policies that contain its addresses.
    ranges: Vec<u32>,
}

/// All classes, numbered namespace by namespace.
#[derive(Debug)]
pub struct Classes<'a> {
    /// The names of all namespaces, sorted. Their place is their number.
    namespaces: Vec<&'a str>,
    namespace_labels: Vec<LabelNumbers>,
    /// The classes of each namespace.
    of_namespace: Vec<Range<u32>>,
    /// The class of each pod; none if it has ended.
    of_pod: Vec<Option<u32>>,
    /// The labels of each class, by number.
    labels: Vec<u32>,
    /// The number of pods of each class, and the first one.
    members: Vec<(u64, usize)>,
    /// All labels that pods have.
    label_sets: Vec<LabelNumbers>,
}

impl<'a> Classes<'a> {
    /// Groups the pods. The ranges are those that policies name.
    pub fn of(snapshot: &'a FlowSnapshot, ranges: &[AddressRange], symbols: &mut Symbols<'a>) -> Self {
        let labels_of: BTreeMap<&str, _> =
            snapshot.namespaces.iter().map(|namespace| (&*namespace.name, Some(&namespace.labels))).collect();
        let unknown = snapshot.unknown_namespaces().into_iter().map(|name| (name, None));
        let all: BTreeMap<&str, _> = labels_of.into_iter().chain(unknown).collect();
        let no_labels = const { &BTreeMap::new() };
        let namespace_labels = all
            .iter()
            .map(|(name, labels)| LabelNumbers::of(labels.unwrap_or(no_labels), Some((NAME_LABEL, name)), symbols))
            .collect();
        let namespaces: Vec<&str> = all.into_keys().collect();

        let mut label_sets: HashMap<LabelNumbers, u32> = HashMap::new();
        let mut members: BTreeMap<ClassKey<'_>, Vec<usize>> = BTreeMap::new();
        for (number, pod) in snapshot.pods.iter().enumerate().filter(|(_, pod)| !pod.has_ended) {
            let labels = LabelNumbers::of(&pod.labels, None, symbols);
            let next = number_of(label_sets.len());
            let labels = *label_sets.entry(labels).or_insert(next);
            let namespace = number_of(namespaces.binary_search(&&*pod.namespace).unwrap_or_default());
            let key = ClassKey {
                namespace,
                labels,
                is_on_host_network: pod.on_host_network,
                ports: &pod.ports,
                ranges: ranges_of(pod, ranges),
            };
            members.entry(key).or_default().push(number);
        }
        let mut of_namespace = vec![0..0; namespaces.len()];
        let mut of_pod = vec![None; snapshot.pods.len()];
        let mut labels = Vec::with_capacity(members.len());
        let mut firsts = Vec::with_capacity(members.len());
        for ((key, pods), class) in members.into_iter().zip(0..) {
            if let Some(classes) = of_namespace.get_mut(key.namespace as usize) {
                let start = if classes.start == classes.end { class } else { classes.start };
                *classes = start..class + 1;
            }
            labels.push(key.labels);
            firsts.push((pods.len() as u64, pods.first().copied().unwrap_or_default()));
            for pod in pods {
                of_pod[pod] = Some(class);
            }
        }
        let mut sets: Vec<_> = label_sets.into_iter().map(|(labels, number)| (number, labels)).collect();
        sets.sort_unstable_by_key(|(number, _)| *number);
        let label_sets = sets.into_iter().map(|(_, labels)| labels).collect();
        Self { namespaces, namespace_labels, of_namespace, of_pod, labels, members: firsts, label_sets }
    }

    /// The number of classes.
    pub fn count(&self) -> usize {
        self.labels.len()
    }

    /// One pod of each class.
    pub fn first_pods(&self) -> impl Iterator<Item = usize> {
        self.members.iter().map(|(_, first)| *first)
    }

    /// The number of pods of each class.
    pub fn sizes(&self) -> Vec<u64> {
        self.members.iter().map(|(size, _)| *size).collect()
    }

    /// The class of a pod; none if it has ended.
    pub fn class(&self, pod: usize) -> Option<u32> {
        self.of_pod.get(pod).copied().flatten()
    }

    /// The classes of a namespace that a selector selects.
    pub fn in_namespace(&self, name: &str, pods: &LabelTests) -> ClassSet {
        let mut found = ClassSet::default();
        if let Ok(namespace) = self.namespaces.binary_search(&name) {
            self.of_namespace[namespace]
                .clone()
                .filter(|class| pods.select(self.labels_of(*class)))
                .for_each(|class| found.push(class));
        }
        found
    }

    /// The classes that two selectors select.
    pub fn in_namespaces(&self, namespaces: &LabelTests, pods: &LabelTests) -> ClassSet {
        let selected: Vec<bool> = self.label_sets.iter().map(|labels| pods.select(labels)).collect();
        let mut found = ClassSet::default();
        for (labels, classes) in self.namespace_labels.iter().zip(&self.of_namespace) {
            if namespaces.select(labels) {
                let classes = classes.clone().filter(|class| selected[self.labels[*class as usize] as usize]);
                classes.for_each(|class| found.push(class));
            }
        }
        found
    }

    fn labels_of(&self, class: u32) -> &LabelNumbers {
        &self.label_sets[self.labels[class as usize] as usize]
    }
}

fn ranges_of(pod: &FlowPod, ranges: &[AddressRange]) -> Vec<u32> {
    let has = |range: &AddressRange| pod.addresses.iter().any(|address| range.has(*address));
    ranges.iter().zip(0..).filter(|(range, _)| has(range)).map(|(_, number)| number).collect()
}

fn number_of(index: usize) -> u32 {
    u32::try_from(index).unwrap_or(u32::MAX)
}

/// Classes, as ascending ranges of their numbers. So all pods of a cluster, or of a namespace, are one range.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct ClassSet(Vec<Range<u32>>);

impl ClassSet {
    /// Adds a class. It is above all others.
    fn push(&mut self, class: u32) {
        match self.0.last_mut() {
            Some(last) if last.end == class => last.end += 1,
            _ => self.0.push(class..class + 1),
        }
    }

    /// Whether the class is one of them.
    pub fn has(&self, class: u32) -> bool {
        let at = self.0.partition_point(|range| range.end <= class);
        self.0.get(at).is_some_and(|range| range.start <= class)
    }

    /// All of them, as ascending ranges.
    pub fn ranges(&self) -> impl Iterator<Item = Range<u32>> {
        self.0.iter().cloned()
    }

    /// All of them, in ascending order.
    pub fn iter(&self) -> impl Iterator<Item = u32> {
        self.0.iter().flat_map(Clone::clone)
    }
}
