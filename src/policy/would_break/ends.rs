//! The ends of recorded flows: each is a pod that exists, a pod that only the recording knows, or addresses that no policy tells apart.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    net::IpAddr,
};

use super::recorded::{PassedOver, RecordedEnd, RecordedPod};
use crate::{
    api::{names::is_dns_label, peers::Protocol},
    policy::{
        flow::{AddressRange, FlowNamespace, FlowPod, FlowSnapshot, IpFamily, Party, known_ranges, service_targets},
        preview::PreviewedBaseline,
    },
};

/// How many addresses are remembered with what the policies say of them.
const MOST_REMEMBERED: usize = 100_000;
/// How many pods that only the recording knows are kept.
const MOST_NEW: usize = 100_000;
/// How many pods of which nothing is known are named.
const NAMED: usize = 3;

/// A cluster IP with a port.
type ClusterIpPort = (IpAddr, (Protocol, u16));

/// All ends, each with a number, and what exists.
#[derive(Debug)]
pub struct RecordedEnds {
    snapshot: FlowSnapshot,
    /// The ranges that policies name. No policy tells two addresses apart that are in the same ranges.
    ranges: Vec<AddressRange>,
    nodes: HashSet<IpAddr>,
    services: HashSet<IpAddr>,
    /// What is behind the ports of cluster IPs, for those that were asked for last.
    behind: HashMap<ClusterIpPort, Vec<(RecordedEnd, u16)>>,
    /// Which pod has an address now.
    pods_at: HashMap<IpAddr, usize>,
    /// The numbers of ends that are addresses, for the addresses that were seen last.
    outside: HashMap<IpAddr, usize>,
    /// The pods that only the recording knows, one for each set of labels.
    new_pods: Vec<FlowPod>,
    /// The namespaces that only the recording knows, with their labels.
    new_namespaces: BTreeMap<String, BTreeMap<String, String>>,
    numbers: HashMap<EndKey, usize>,
    ends: Vec<KnownEnd>,
    /// The first pods of which nothing is known.
    unknown: Vec<String>,
}

#[derive(Debug, Eq, Hash, PartialEq)]
enum EndKey {
    /// A pod that exists, or several that are recorded by the beginning of their names.
    Named(String, String),
    /// Pods that are gone, by their namespace and labels, and by the beginning of their names if only that is recorded.
    Gone(String, BTreeMap<String, String>, String),
    /// The other one of two such pods.
    Twin(usize),
    /// An address outside of the pods: the ranges that contain it, and itself if it is the address of a node.
    Outside(Vec<usize>, IpFamily, Option<IpAddr>),
}

#[derive(Clone, Copy, Debug)]
enum KnownEnd {
    /// The number of the pod.
    Pod(usize),
    /// The number of the pod among the new ones.
    New(usize),
    /// Addresses that no policy tells apart. They are of one family.
    Outside(IpFamily),
}

impl RecordedEnds {
    /// No end yet.
    pub fn new(mut snapshot: FlowSnapshot, baseline: Option<&PreviewedBaseline>) -> Self {
        let mut pods_at = HashMap::new();
        for (number, pod) in snapshot.pods.iter_mut().enumerate() {
            if !pod.has_ended && !pod.on_host_network {
                pods_at.extend(pod.addresses.iter().map(|address| (*address, number)));
            }
            // A pod that has ended by now had traffic. It is judged as if it ran, but its address may belong to another pod.
            pod.has_ended = false;
        }
        let services = snapshot.services.iter().flat_map(|service| service.addresses.iter().copied()).collect();
        let of_pods = snapshot.pods.iter().flat_map(|pod| &pod.node_addresses);
        let nodes = of_pods.chain(snapshot.nodes.iter().flat_map(|node| &node.addresses)).copied().collect();
        let policies = baseline.map(PreviewedBaseline::all_policies).unwrap_or_default();
        let ranges = known_ranges(snapshot.policies.iter().chain(&policies), &snapshot.cluster_policies).all;
        Self {
            snapshot,
            ranges,
            nodes,
            services,
            behind: HashMap::new(),
            pods_at,
            outside: HashMap::new(),
            new_pods: Vec::new(),
            new_namespaces: BTreeMap::new(),
            numbers: HashMap::new(),
            ends: Vec::new(),
            unknown: Vec::new(),
        }
    }

    /// Whether an address is the cluster IP of a Service.
    pub fn is_cluster_ip(&self, address: IpAddr) -> bool {
        self.services.contains(&address)
    }

    /// What is behind a port of the Service with this cluster IP: of the pods that policies do not tell apart, one; and the port there.
    pub fn behind(&mut self, cluster_ip: IpAddr, port: (Protocol, u16)) -> Vec<(RecordedEnd, u16)> {
        if let Some(known) = self.behind.get(&(cluster_ip, port)) {
            return known.clone();
        }
        let mut kinds = BTreeSet::new();
        let mut found = Vec::new();
        for (party, target) in service_targets(&self.snapshot, cluster_ip, port) {
            let end = match (party.pod.and_then(|pod| self.snapshot.pods.get(pod)), party.address) {
                (Some(pod), _) if !kinds.insert((&pod.namespace, &pod.labels, &pod.ports, pod.on_host_network, target)) => {
                    continue;
                }
                (Some(pod), _) => RecordedEnd::Pod(RecordedPod {
                    namespace: pod.namespace.clone(),
                    name: pod.name.clone(),
                    ..RecordedPod::default()
                }),
                (None, Some(address)) => RecordedEnd::Address(address),
                (None, None) => continue,
            };
            found.push((end, target));
        }
        if self.behind.len() >= MOST_REMEMBERED {
            self.behind.clear();
        }
        self.behind.insert((cluster_ip, port), found.clone());
        found
    }

    /// Whether an end is addresses outside of the pods.
    pub fn is_outside(&self, end: usize) -> bool {
        matches!(self.ends[end], KnownEnd::Outside(_))
    }

    /// The address family of an end that was recorded without an address.
    pub fn family(&self, end: usize) -> IpFamily {
        let first = match self.ends[end] {
            KnownEnd::Outside(family) => return family,
            KnownEnd::Pod(pod) => self.snapshot.pods[pod].addresses.first().copied(),
            KnownEnd::New(pod) => self.new_pods[pod].addresses.first().copied(),
        };
        first.map_or(IpFamily::IPv4, IpFamily::of)
    }

    /// The number of an end. An error is why there is none.
    pub fn number(&mut self, end: RecordedEnd) -> Result<usize, PassedOver> {
        match end {
            RecordedEnd::Address(address) => Ok(self.number_at(address)),
            RecordedEnd::Pod(mut pod) => {
                if !is_dns_label(&pod.namespace) {
                    return self.forget(&pod.namespace, &pod.name);
                }
                self.note_namespace(&pod.namespace, std::mem::take(&mut pod.namespace_labels));
                let named = EndKey::Named(pod.namespace.clone(), pod.name.clone());
                if let Some(known) = self.numbers.get(&named) {
                    return Ok(*known);
                }
                if let Some(found) = self.snapshot.pod(&pod.namespace, &pod.name) {
                    return Ok(self.number_of_pod(found));
                }
                self.number_of_gone(pod)
            }
        }
    }

    fn number_at(&mut self, address: IpAddr) -> usize {
        if let Some(pod) = self.pods_at.get(&address) {
            return self.number_of_pod(*pod);
        }
        if let Some(known) = self.outside.get(&address) {
            return *known;
        }
        let ranges = self.ranges.iter().enumerate().filter(|(_, range)| range.has(address)).map(|(number, _)| number);
        let key = EndKey::Outside(ranges.collect(), IpFamily::of(address), self.nodes.get(&address).copied());
        let number = self.keep(key, KnownEnd::Outside(IpFamily::of(address)));
        if self.outside.len() >= MOST_REMEMBERED {
            self.outside.clear();
        }
        self.outside.insert(address, number);
        number
    }

    /// Notes the labels of a namespace that is not among the objects.
    fn note_namespace(&mut self, name: &str, labels: BTreeMap<String, String>) {
        if !labels.is_empty() && !self.new_namespaces.contains_key(name) && !self.snapshot.has_namespace(name) {
            self.new_namespaces.insert(name.to_owned(), labels);
        }
    }

    fn keep(&mut self, key: EndKey, end: KnownEnd) -> usize {
        let ends = &mut self.ends;
        *self.numbers.entry(key).or_insert_with(|| {
            ends.push(end);
            ends.len() - 1
        })
    }

    fn number_of_pod(&mut self, pod: usize) -> usize {
        let FlowPod { namespace, name, .. } = &self.snapshot.pods[pod];
        self.keep(EndKey::Named(namespace.clone(), name.clone()), KnownEnd::Pod(pod))
    }

    /// For a pod that is not among the objects: a new one with the labels of its workload.
    fn number_of_gone(&mut self, recorded: RecordedPod) -> Result<usize, PassedOver> {
        let RecordedPod { namespace, name, labels, address, .. } = recorded;
        let prefix = name.strip_suffix('*').unwrap_or_default().to_owned();
        if labels.is_none() && prefix.is_empty() {
            return self.forget(&namespace, &name);
        }
        let labels_known = labels.is_some();
        let labels = labels.unwrap_or_default();
        let key = EndKey::Gone(namespace.clone(), labels.clone(), prefix.clone());
        if let Some(known) = self.numbers.get(&key) {
            return Ok(*known);
        }
        if self.new_pods.len() >= MOST_NEW {
            return Err(PassedOver::TooMany);
        }
        // A recording may leave out labels. A pod of the same workload has all of them.
        let is_alike = |pod: &FlowPod| {
            let has = |(key, value): (&String, &String)| pod.labels.get(key) == Some(value);
            let is_named =
                || pod.name.strip_prefix(&*prefix).is_some_and(|rest| prefix.is_empty() || !rest.trim_matches('-').contains('-'));
            !pod.on_host_network && labels.iter().all(has) && is_named() && !(labels.is_empty() && prefix.is_empty())
        };
        let alike = self.snapshot.pods_of(&namespace).map(|(_, pod)| pod).filter(|pod| is_alike(pod));
        let alike = alike.min_by_key(|pod| pod.labels.len());
        if alike.is_none() && !labels_known {
            return self.forget(&namespace, &name);
        }
        let (labels, ports) = alike.map_or((labels, vec![]), |pod| (pod.labels.clone(), pod.ports.clone()));
        let number = self.new_pods.len();
        // Its own name, because several pods that are gone may be recorded with one.
        let name = if prefix.is_empty() { name } else { prefix };
        let name = format!("{}~{number}", name.trim_end_matches('-'));
        let addresses = address.into_iter().collect();
        self.new_pods.push(FlowPod { namespace, name, labels, addresses, ports, ..FlowPod::default() });
        Ok(self.keep(key, KnownEnd::New(number)))
    }

    /// Notes a pod of which nothing is known.
    fn forget(&mut self, namespace: &str, name: &str) -> Result<usize, PassedOver> {
        let pod = format!("{namespace}/{name}");
        if self.unknown.len() < NAMED && !self.unknown.contains(&pod) {
            self.unknown.push(pod);
        }
        Err(PassedOver::UnknownPod)
    }

    /// Another pod like this one: two pods of a workload are not one pod.
    pub fn twin(&mut self, end: usize) -> usize {
        let key = EndKey::Twin(end);
        if let Some(known) = self.numbers.get(&key) {
            return *known;
        }
        // A pod that exists is only found by its own name or address.
        let KnownEnd::New(pod) = self.ends[end] else { return end };
        let pod = &self.new_pods[pod];
        let number = self.new_pods.len();
        let twin = FlowPod { name: format!("{}~{number}", pod.name), ..pod.clone() };
        self.new_pods.push(twin);
        self.keep(key, KnownEnd::New(number))
    }

    /// Ends the recording. The pods and namespaces that only the recording knows become objects like the others.
    pub fn finish(self) -> EndsOfFlows {
        let mut world = self.snapshot;
        let names: Vec<(String, String)> =
            world.pods.iter().chain(&self.new_pods).map(|pod| (pod.namespace.clone(), pod.name.clone())).collect();
        let existing = world.pods.len();
        world.add_pods(self.new_pods);
        world.add_namespaces(self.new_namespaces.into_iter().map(|(name, labels)| FlowNamespace { name, labels }));
        let pod = |end: &KnownEnd| {
            let (namespace, name) = match *end {
                KnownEnd::Outside(_) => return None,
                KnownEnd::Pod(pod) => &names[pod],
                KnownEnd::New(pod) => &names[existing + pod],
            };
            world.pod(namespace, name)
        };
        let pods = self.ends.iter().map(pod).collect();
        EndsOfFlows { world, pods, unknown: self.unknown }
    }
}

/// The ends once the recording has ended.
#[derive(Debug)]
pub struct EndsOfFlows {
    pub world: FlowSnapshot,
    /// The number of the pod in this world, for each end that is one.
    pods: Vec<Option<usize>>,
    /// The first pods of which nothing is known.
    pub unknown: Vec<String>,
}

impl EndsOfFlows {
    /// An end of a flow; `outside` is the address of the end that is no pod.
    pub fn party(&self, end: usize, family: IpFamily, outside: Option<IpAddr>) -> Party {
        let Some(pod) = self.pods[end] else { return Party { pod: None, address: outside } };
        Party { pod: Some(pod), address: self.world.pods[pod].address_of(family) }
    }
}
