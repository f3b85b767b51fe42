//! Writes the least policy that allows a denied flow in one direction: these pods, this peer, this port.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    hash::{DefaultHasher, Hash, Hasher},
    sync::Arc,
};

use k8s_openapi::{
    api::networking::v1::{
        IPBlock, NetworkPolicy, NetworkPolicyEgressRule, NetworkPolicyIngressRule, NetworkPolicyPeer, NetworkPolicyPort,
        NetworkPolicySpec,
    },
    apimachinery::pkg::{
        apis::meta::v1::{LabelSelector, ObjectMeta},
        util::intstr::IntOrString,
    },
};
use serde::{Serialize, Serializer};

use super::{
    address_cover::{AddressCover, MOST},
    compile::CompiledPolicies,
    judge::{Flow, Party},
    object_parts::ObjectEdits,
    objects::{FlowPod, FlowPolicy},
    rule_parts::Way,
    snapshot::FlowSnapshot,
};
use crate::{api::peers::Protocol, policy::netpol::NAME_LABEL};

/// Policies that would allow flows, each once.
#[derive(Debug, Default)]
pub struct Suggestions {
    pub all: Vec<Suggestion>,
    /// The places of those whose content has this hash.
    by_content: HashMap<u64, Vec<usize>>,
    names: HashSet<(String, String)>,
    /// For a namespace and a name, the next number behind it.
    next: HashMap<(String, String), u32>,
}

impl Suggestions {
    /// Adds a policy, unless another one has the same content. It gets a name that no policy has: to apply it would replace that one.
    pub fn push(&mut self, new: Option<Suggestion>, snapshot: &FlowSnapshot) {
        let Some(mut new) = new else { return };
        let SuggestedPolicy { namespace, name, spec } = &mut new.policy;
        let mut hasher = DefaultHasher::new();
        (&*namespace, serde_json::to_string(&**spec).unwrap_or_default()).hash(&mut hasher);
        let alike = self.by_content.entry(hasher.finish()).or_default();
        if alike.iter().map(|place| &self.all[*place].policy).any(|other| (&other.namespace, &other.spec) == (namespace, spec)) {
            return;
        }
        alike.push(self.all.len());
        let first = std::mem::take(name);
        let next = self.next.entry((namespace.clone(), first.clone())).or_insert(1);
        loop {
            let wanted = if *next == 1 { first.clone() } else { format!("{first}-{next}") };
            *next += 1;
            if !snapshot.has_policy(namespace, &wanted) && self.names.insert((namespace.clone(), wanted.clone())) {
                *name = wanted;
                break;
            }
        }
        self.all.push(new);
    }
}

/// Which flows beside the one that is judged a policy shall allow.
#[derive(Clone, Debug, Default)]
pub struct AllowedToo {
    /// The addresses of the other end. Where that is a pod, they are not used.
    pub addresses: AddressCover,
    pub ports: BTreeSet<(Protocol, u16)>,
}

/// A policy to apply. It is written as any NetworkPolicy is.
#[derive(Clone, Debug)]
pub struct SuggestedPolicy {
    pub namespace: String,
    pub name: String,
    pub spec: Arc<NetworkPolicySpec>,
}

impl Serialize for SuggestedPolicy {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let (name, namespace) = (Some(self.name.clone()), Some(self.namespace.clone()));
        let metadata = ObjectMeta { name, namespace, ..ObjectMeta::default() };
        NetworkPolicy { metadata, spec: Some((*self.spec).clone()) }.serialize(serializer)
    }
}

/// A policy that would allow a flow in one direction.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Suggestion {
    pub policy: SuggestedPolicy,
    /// Pods that the policy would isolate, and that no policy isolates in this direction today. They would lose their other traffic.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub newly_isolated: Vec<String>,
    /// What else may surprise: one sentence each, without the full stop.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub cautions: Vec<String>,
}

/// Labels that a controller writes anew for each pod, each run or each version of a template. No policy is written by them.
const WRITTEN_ANEW: [&str; 8] = [
    "pod-template-hash",
    "rollouts-pod-template-hash",
    "controller-revision-hash",
    "pod-template-generation",
    "controller-uid",
    "batch.kubernetes.io/controller-uid",
    "batch.kubernetes.io/job-completion-index",
    "kubernetes.io/config.hash",
];
/// Labels that name one pod or one run, where it runs, which version it has, or who installed it. They are used only if a pod has no others.
const PASSING: [&str; 20] = [
    "app.kubernetes.io/managed-by",
    "app.kubernetes.io/version",
    "apps.kubernetes.io/pod-index",
    "batch.kubernetes.io/job-name",
    "chart",
    "helm.sh/chart",
    "heritage",
    "istio.io/rev",
    "job-name",
    "kubernetes.io/hostname",
    "revision",
    "security.istio.io/tlsMode",
    "service.istio.io/canonical-revision",
    "serving.knative.dev/revision",
    "serving.knative.dev/revisionUID",
    "statefulset.kubernetes.io/pod-name",
    "topology.kubernetes.io/region",
    "topology.kubernetes.io/zone",
    "track",
    "version",
];
/// The labels that name an application.
const APP: [&str; 3] = ["app.kubernetes.io/name", "app", "k8s-app"];
/// Where clouds give credentials of the node.
const METADATA: [&str; 3] = ["169.254.169.254/32", "169.254.170.2/32", "fd00:ec2::254/128"];
/// The longest part of a name.
const NAME_PART: usize = 40;

impl Suggestion {
    /// The policy that allows a flow in one direction. None if this end is no pod, or the other end is a pod without an address that would
    /// need one.
    pub fn of(compiled: &CompiledPolicies<'_>, flow: &Flow, way: Way) -> Option<Self> {
        Self::for_many(compiled, flow, way, AllowedToo::default())
    }

    /// The policy that allows this flow and others of the same workloads.
    pub fn for_many(compiled: &CompiledPolicies<'_>, flow: &Flow, way: Way, too: AllowedToo) -> Option<Self> {
        let snapshot = compiled.snapshot;
        let (own, peer) = flow.ends(way);
        let own = snapshot.pods.get(own.pod?)?;
        let selector = selector(own);
        let by_labels = pod_by_labels(snapshot, peer);
        let AllowedToo { mut addresses, mut ports } = too;
        ports.insert((flow.protocol, flow.port));
        if let (None, Some(address)) = (by_labels, peer.address) {
            addresses.add(address);
        }
        let peers = match by_labels {
            Some(pod) => vec![pod_peer(own, pod)],
            None => addresses.cidrs().map(address_peer).collect(),
        };
        if peers.is_empty() {
            return None;
        }
        let count = peers.len();
        let peers = Some(peers);
        let port_name = if ports.len() == 1 { format!("-{}", flow.port) } else { String::new() };
        let ports = Some(ports.into_iter().map(policy_port).collect());
        let mut spec = NetworkPolicySpec { pod_selector: Some(selector.clone()), ..NetworkPolicySpec::default() };
        let to_or_from = match way {
            Way::Egress => {
                spec.policy_types = Some(vec!["Egress".into()]);
                spec.egress = Some(vec![NetworkPolicyEgressRule { ports, to: peers }]);
                "to"
            }
            Way::Ingress => {
                spec.policy_types = Some(vec!["Ingress".into()]);
                spec.ingress = Some(vec![NetworkPolicyIngressRule { ports, from: peers }]);
                "from"
            }
        };
        let other = if count == 1 && !addresses.is_wider() { peer_name(snapshot, own, peer) } else { "addresses".into() };
        let name = format!("allow-{}-{to_or_from}-{other}{port_name}", name_part(app(own)));
        let policy = SuggestedPolicy { namespace: own.namespace.clone(), name, spec: Arc::new(spec) };
        let newly_isolated = newly_isolated(compiled, own, &selector, way);
        let mut cautions = cautions(own, by_labels);
        let metadata =
            addresses.cidrs().find(|cidr| METADATA.contains(&&**cidr)).filter(|_| by_labels.is_none() && way == Way::Egress);
        if let Some(cidr) = metadata {
            cautions.push(format!("{cidr} is the metadata service of a cloud, which gives credentials of the node: make sure that these pods may have them"));
        }
        if by_labels.is_none() && addresses.is_wider() {
            let ranges: Vec<String> = addresses.cidrs().collect();
            cautions.push(format!(
                "there are more than {MOST} addresses, so this policy opens ranges around them: {}",
                ranges.join(", ")
            ));
        }
        Some(Self { policy, newly_isolated, cautions })
    }

    /// The policy, as it decides flows once it is applied.
    pub fn flow_policy(&self) -> FlowPolicy {
        let SuggestedPolicy { namespace, name, spec } = self.policy.clone();
        FlowPolicy { namespace, name, baseline: None, created: None, edits: ObjectEdits::default(), spec }
    }
}

/// Selects the pod by the labels that it shares with its workload.
fn selector(pod: &FlowPod) -> LabelSelector {
    let labels = if lasting(pod).is_empty() { passing(pod) } else { lasting(pod) };
    let labels: BTreeMap<String, String> = labels.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
    LabelSelector { match_labels: (!labels.is_empty()).then_some(labels), match_expressions: None }
}

/// The labels that the pods of the next release have too.
fn lasting(pod: &FlowPod) -> BTreeMap<&str, &str> {
    passing(pod).into_iter().filter(|(key, _)| !PASSING.contains(key)).collect()
}

/// The labels that all pods of one release have, or at least those of one run.
fn passing(pod: &FlowPod) -> BTreeMap<&str, &str> {
    pod.labels.iter().map(|(key, value)| (&**key, &**value)).filter(|(key, _)| !WRITTEN_ANEW.contains(key)).collect()
}

/// One sentence for each end that no label tells apart from the other pods of its namespace.
fn cautions(own: &FlowPod, peer: Option<&FlowPod>) -> Vec<String> {
    let is_whole = |pod: &FlowPod| selector(pod).match_labels.is_none();
    let mut all = Vec::new();
    if is_whole(own) {
        all.push(format!("{}/{} has no label that stays, so this policy selects every pod of {0}", own.namespace, own.name));
    }
    for pod in [Some(own), peer].into_iter().flatten().filter(|pod| !is_whole(pod) && lasting(pod).is_empty()) {
        let keys: Vec<&str> = passing(pod).into_keys().collect();
        all.push(format!(
            "{}/{} has no label that its next run or release has too, so this policy is about this one only, by {}: add a label to its template",
            pod.namespace,
            pod.name,
            keys.join(", ")
        ));
    }
    if let Some(peer) = peer.filter(|peer| is_whole(peer)) {
        all.push(format!("{}/{} has no label that stays, so this policy opens to every pod of {0}", peer.namespace, peer.name));
    }
    all
}

/// The pod at this end, if its labels are what a policy is written by: for a pod on the host network, the address is.
pub fn pod_by_labels(snapshot: &FlowSnapshot, party: Party) -> Option<&FlowPod> {
    party.pod.and_then(|pod| snapshot.pods.get(pod)).filter(|pod| !pod.on_host_network)
}

fn policy_port((protocol, number): (Protocol, u16)) -> NetworkPolicyPort {
    NetworkPolicyPort { protocol: Some(protocol.into_str().into()), port: Some(IntOrString::Int(number.into())), end_port: None }
}

fn address_peer(cidr: String) -> NetworkPolicyPeer {
    NetworkPolicyPeer { ip_block: Some(IPBlock { cidr, except: None }), ..NetworkPolicyPeer::default() }
}

fn pod_peer(own: &FlowPod, pod: &FlowPod) -> NetworkPolicyPeer {
    let name =
        || LabelSelector { match_labels: Some([(NAME_LABEL.to_owned(), pod.namespace.clone())].into()), match_expressions: None };
    NetworkPolicyPeer {
        ip_block: None,
        namespace_selector: (pod.namespace != own.namespace).then(name),
        pod_selector: Some(selector(pod)),
    }
}

/// The namespace and the application of a pod for people, and the labels by which it is selected here. Pods for which both are the same
/// belong to one workload.
pub fn workload(pod: &FlowPod) -> (String, String) {
    let labels = workload_labels(pod);
    let labels: Vec<String> = labels.into_iter().map(|(key, value)| format!("{key}={value}")).collect();
    (format!("{}/{}", pod.namespace, app(pod)), labels.join(","))
}

/// The labels by which a policy selects a workload; none if it selects every pod of the namespace.
pub fn workload_labels(pod: &FlowPod) -> BTreeMap<String, String> {
    selector(pod).match_labels.unwrap_or_default()
}

/// The pods that the policy would be the first to isolate.
fn newly_isolated(compiled: &CompiledPolicies<'_>, own: &FlowPod, selector: &LabelSelector, way: Way) -> Vec<String> {
    let is_selected =
        |pod: &FlowPod| selector.match_labels.iter().flatten().all(|(key, value)| pod.labels.get(key) == Some(value));
    let is_open =
        |pod: usize| compiled.classes.class(pod).is_some_and(|class| compiled.isolating.of(way)[class as usize].is_empty());
    let pods = compiled.snapshot.pods_of(&own.namespace).filter(|(_, pod)| !pod.on_host_network && is_selected(pod));
    pods.filter(|(number, _)| is_open(*number)).map(|(_, pod)| pod.id()).collect()
}

/// What the pod is called for people: its application, or its own name.
fn app(pod: &FlowPod) -> &str {
    let label = APP.iter().find_map(|key| pod.labels.get(*key)).filter(|value| !value.is_empty());
    // What stands behind `~` only tells pods apart that are gone.
    label.map_or_else(|| pod.name.split('~').next().unwrap_or_default(), String::as_str)
}

fn peer_name(snapshot: &FlowSnapshot, own: &FlowPod, peer: Party) -> String {
    match (peer.pod.and_then(|pod| snapshot.pods.get(pod)), peer.address) {
        (Some(pod), _) if pod.namespace != own.namespace => format!("{}-{}", name_part(&pod.namespace), name_part(app(pod))),
        (Some(pod), _) => name_part(app(pod)),
        (None, Some(address)) => name_part(&address.to_string()),
        (None, None) => String::new(),
    }
}

/// The text with only those characters that names of policies may have.
fn name_part(text: &str) -> String {
    let valid = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
    let name: String = text.chars().take(NAME_PART).map(valid).collect();
    let name = name.trim_matches('-');
    if name.is_empty() { "x".into() } else { name.into() }
}
