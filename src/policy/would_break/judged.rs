//! Judges recorded flows by the policies that would exist, and groups those that would be denied by workload.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::IpAddr,
    rc::Rc,
};

use jiff::Timestamp;

use super::{
    allows::{SharedNeeds, SharedPeer, SuggestedAllow},
    report::{BrokenFlows, RecordedPort},
    totals::{FlowTotals, joined_times},
};
use crate::{
    api::peers::Protocol,
    policy::{
        flow::{
            AddressCover, AddressRange, AllowedToo, Blame, ClusterPolicyRef, CompiledPolicies, DirectionVerdict, Flow,
            FlowDecider, FlowDecision, FlowSnapshot, IpFamily, Party, Suggestion, Suggestions, Way, few, known_ranges,
            pod_by_labels, workload, workload_labels,
        },
        netpol::Block,
        preview::PreviewedBaseline,
    },
};

/// How many times suggestions are judged together with the policies. Each time, fewer pods are left that nothing isolates.
const ROUNDS: usize = 8;

/// The most ports that a suggested policy names.
const MOST_PORTS: usize = 32;

/// A flow between two ends that no policy tells apart from the others of its totals.
pub struct TotalledFlow {
    pub flow: Flow,
    pub family: IpFamily,
    pub totals: FlowTotals,
}

/// What would be denied, and what would let it through.
#[derive(Default)]
pub struct JudgedFlows {
    pub broken: Vec<BrokenFlows>,
    pub suggestions: Vec<Suggestion>,
    /// What several namespaces need.
    pub allows: Vec<SuggestedAllow>,
    /// For what nothing is suggested, and what people have to write: one sentence each.
    pub for_people: Vec<String>,
    /// The policies of the Admin tier that deny flows. No NetworkPolicy can allow these flows.
    pub by_admin_tier: BTreeSet<String>,
}

/// Judges the flows by what exists and by a baseline. The pods of the flows are those of the snapshot.
pub fn judge(before: &FlowSnapshot, baseline: Option<&PreviewedBaseline>, flows: &[TotalledFlow]) -> JudgedFlows {
    // Without a baseline, nothing is denied that is not denied today.
    let today = baseline.map(|_| CompiledPolicies::of(before));
    let today = today.as_ref().map(FlowDecider::of);
    let mut suggestions: Vec<Suggestion> = Vec::new();
    let judged = settle(with_baseline(before, baseline), baseline, today.as_ref(), flows, &mut suggestions);
    if baseline.is_some() {
        // Somebody may apply them before the baseline is there, or where it does not close yet.
        settle(before.clone(), None, today.as_ref(), flows, &mut suggestions);
    }
    JudgedFlows { suggestions, ..judged }
}

/// Adds suggestions until these let through everything in a world where they are applied. Returns what is denied there without them.
fn settle(
    mut world: FlowSnapshot,
    baseline: Option<&PreviewedBaseline>,
    today: Option<&FlowDecider<'_, '_>>,
    flows: &[TotalledFlow],
    suggestions: &mut Vec<Suggestion>,
) -> JudgedFlows {
    let is_first = suggestions.is_empty();
    let former = known_ranges(world.policies.iter(), &world.cluster_policies).all;
    world.add_policies(suggestions.iter().map(Suggestion::flow_policy));
    let mut first = None;
    for round in 0..ROUNDS {
        let compiled = CompiledPolicies::of(&world);
        let addresses = if round == 0 && is_first { JudgedAddresses::One } else { JudgedAddresses::All(&former) };
        let mut found = BrokenGroups::of(&compiled, today, flows, addresses).finish(baseline);
        let mut more = std::mem::take(&mut found.suggestions);
        first.get_or_insert(found);
        // A suggestion may be the first policy to isolate some pods. Then it denies what these pods send or receive.
        let is_new_isolation = more.iter().any(|suggestion| !suggestion.newly_isolated.is_empty());
        drop(compiled);
        world.add_policies(more.iter().map(Suggestion::flow_policy));
        suggestions.append(&mut more);
        if !is_new_isolation {
            break;
        }
    }
    first.unwrap_or_default()
}

/// Which addresses of the end that is no pod are judged.
#[derive(Clone, Copy)]
enum JudgedAddresses<'r> {
    /// One: the policies tell none of the others apart from it.
    One,
    /// The edges of all ranges, and where a suggestion cuts them: what was suggested may tell them apart. The policies before that name these
    /// ranges.
    All(&'r [AddressRange]),
}

/// The most addresses inside of wide ranges that are judged.
const MOST_CUTS: usize = 256;

/// The addresses in a cover where one of the ranges begins or ends. Of these, those that the former ranges do not tell apart from the sample.
fn cuts(cover: &AddressCover, ranges: &[AddressRange], former: &[AddressRange], sample: IpAddr) -> Vec<IpAddr> {
    let is_alike = |address: &IpAddr| former.iter().all(|range| range.has(*address) == range.has(sample));
    let edges = ranges.iter().flat_map(AddressRange::blocks).flat_map(Block::edges);
    let found: BTreeSet<IpAddr> = edges.filter(|address| cover.has(*address)).filter(is_alike).take(MOST_CUTS).collect();
    found.into_iter().collect()
}

/// The flow itself, or one for each of these addresses.
fn variants(one: &TotalledFlow, addresses: JudgedAddresses<'_>, ranges: &[AddressRange]) -> Vec<Flow> {
    let JudgedAddresses::All(former) = addresses else { return vec![one.flow] };
    let cover = &one.totals.addresses;
    let sample = one.totals.outside.filter(|_| cover.is_wider());
    let edges = cover.edges().chain(sample.into_iter().flat_map(|sample| cuts(cover, ranges, former, sample)));
    let with = |address: IpAddr| {
        let end = |party: Party| if party.pod.is_some() { party } else { Party { address: Some(address), ..party } };
        Flow { from: end(one.flow.from), to: end(one.flow.to), ..one.flow }
    };
    std::iter::once(one.flow).chain(edges.map(with)).collect()
}

/// What exists once the baseline is enforced in every namespace that it selects. It replaces what it wrote in a former version.
pub fn with_baseline(before: &FlowSnapshot, baseline: Option<&PreviewedBaseline>) -> FlowSnapshot {
    let mut after = before.clone();
    if let Some(baseline) = baseline {
        baseline.enforce_in(&mut after);
    }
    after
}

/// What is the same for all flows of a group, in the order in which groups are shown.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
struct GroupKey {
    already: bool,
    from: Rc<(String, String)>,
    to: Rc<(String, String)>,
    decision: FlowDecision,
    /// Of an address.
    family: Option<IpFamily>,
}

/// How many flows there are of each protocol and port.
pub type PortCounts = BTreeMap<(Protocol, u16), u64>;

/// Protocols and ports.
type PortSet = BTreeSet<(Protocol, u16)>;

/// Flows of one port about which policies say the same.
#[derive(Default)]
struct BrokenGroup<'a> {
    totals: FlowTotals,
    /// How many flows there are.
    count: u64,
    by: Vec<(Way, Blame<'a>)>,
    /// For each direction that denies, one of the flows, and how many there are. None of a flow that the Admin tier denies: no NetworkPolicy
    /// can allow it.
    denied: Vec<(Way, Flow, u64)>,
    /// The policies of the Admin tier that deny it.
    by_admin_tier: BTreeSet<ClusterPolicyRef<'a>>,
}

impl<'a> BrokenGroup<'a> {
    fn add(&mut self, flow: &Flow, totals: &FlowTotals, verdicts: &[(Way, DirectionVerdict<'a>); 2]) {
        self.totals.join(totals);
        self.count = self.count.saturating_add(totals.count());
        let is_final = verdicts.iter().any(|(_, verdict)| verdict.is_denied_by_admin_tier());
        for (way, verdict) in verdicts {
            for blame in verdict.blamed() {
                if !self.by.contains(&(*way, blame)) {
                    self.by.push((*way, blame));
                }
                if let (true, Blame::ClusterPolicy(policy)) = (verdict.is_denied_by_admin_tier(), blame) {
                    self.by_admin_tier.insert(policy);
                }
            }
            if is_final || verdict.decision() != FlowDecision::Denied {
                continue;
            }
            match self.denied.iter_mut().find(|(of, ..)| of == way) {
                Some((.., count)) => *count = count.saturating_add(totals.count()),
                None => self.denied.push((*way, *flow, totals.count())),
            }
        }
    }
}

/// The groups of all ports between the same workloads and addresses. They are shown in one line.
#[derive(Default)]
struct BrokenLine<'a> {
    ports: PortSet,
    seen: Option<(Timestamp, Timestamp)>,
    addresses: AddressCover,
    count: u64,
    by: Vec<(Way, Blame<'a>)>,
    /// For each direction that denies, one of the flows, and how many there are of each port.
    denied: Vec<(Way, Flow, PortCounts)>,
}

impl<'a> BrokenLine<'a> {
    fn add(&mut self, port: (Protocol, u16), group: BrokenGroup<'a>) {
        self.ports.insert(port);
        self.seen = joined_times(self.seen, group.totals.seen);
        self.addresses.join(&group.totals.addresses);
        self.count = self.count.saturating_add(group.count);
        let new: Vec<_> = group.by.into_iter().filter(|policy| !self.by.contains(policy)).collect();
        self.by.extend(new);
        for (way, flow, count) in group.denied {
            match self.denied.iter_mut().find(|(of, ..)| *of == way) {
                Some((.., ports)) => *ports.entry(port).or_default() += count,
                None => self.denied.push((way, flow, [(port, count)].into())),
            }
        }
    }
}

struct BrokenGroups<'c, 'a> {
    compiled: &'c CompiledPolicies<'a>,
    /// By port too: each port may have addresses of its own, and a policy opens every address to every one of its ports.
    groups: BTreeMap<(GroupKey, (Protocol, u16)), BrokenGroup<'a>>,
    workloads: HashMap<usize, Rc<(String, String)>>,
}

impl<'c, 'a> BrokenGroups<'c, 'a> {
    fn of(
        compiled: &'c CompiledPolicies<'a>,
        today: Option<&FlowDecider<'_, '_>>,
        flows: &[TotalledFlow],
        addresses: JudgedAddresses<'_>,
    ) -> Self {
        let mut groups = Self { compiled, groups: BTreeMap::new(), workloads: HashMap::new() };
        let decider = FlowDecider::of(compiled);
        for one in flows {
            let judged = variants(one, addresses, &compiled.ranges).into_iter().map(|flow| (decider.decides(&flow), flow));
            let worst = judged.max_by_key(|(decision, _)| *decision);
            let Some((decision, flow)) = worst.filter(|(decision, _)| *decision != FlowDecision::Allowed) else { continue };
            let verdicts = [Way::Egress, Way::Ingress].map(|way| (way, compiled.judge(&flow, way)));
            let already = today.is_some_and(|today| today.decides(&flow) == decision);
            groups.add(&flow, one.family, (decision, already), &verdicts, &one.totals);
        }
        groups
    }

    fn add(
        &mut self,
        flow: &Flow,
        family: IpFamily,
        (decision, already): (FlowDecision, bool),
        verdicts: &[(Way, DirectionVerdict<'a>); 2],
        totals: &FlowTotals,
    ) {
        let pods = &self.compiled.snapshot.pods;
        // A pod on the host network has the address of its node, and a policy is written by that.
        let number = |party: Party| party.pod.filter(|pod| pods.get(*pod).is_some_and(|pod| !pod.on_host_network));
        let mut name = |party: Party| {
            let of_pod = |pod: usize| self.workloads.entry(pod).or_insert_with(|| Rc::new(workload(&pods[pod]))).clone();
            number(party).map(of_pod).unwrap_or_default()
        };
        let (from, to) = (name(flow.from), name(flow.to));
        let mut totals = totals.clone();
        let on_nodes = [flow.from, flow.to].into_iter().filter(|party| party.pod.is_some() && number(*party).is_none());
        on_nodes.filter_map(|party| party.address).for_each(|address| totals.addresses.add(address));
        let is_outside = [flow.from, flow.to].into_iter().any(|party| number(party).is_none());
        let key = GroupKey { already, from, to, decision, family: is_outside.then_some(family) };
        self.groups.entry((key, (flow.protocol, flow.port))).or_default().add(flow, &totals, verdicts);
    }

    fn finish(self, baseline: Option<&PreviewedBaseline>) -> JudgedFlows {
        let compiled = self.compiled;
        let mut broken = Vec::new();
        let mut suggestions = Suggestions::default();
        let mut shared = SharedNeeds::default();
        let mut for_people = BTreeSet::new();
        let by_admin_tier = self.groups.values().flat_map(|group| &group.by_admin_tier).map(ToString::to_string).collect();
        for ((key, cidrs), line) in lines(self.groups) {
            let has_too_many_ports = line.ports.len() > MOST_PORTS;
            let has_too_many_addresses = line.addresses.is_too_wide();
            // What is denied already was closed by somebody else, on purpose.
            if !key.already && has_too_many_ports {
                for_people.insert(format!("between two workloads that use more than {MOST_PORTS} ports, nothing is suggested: if that is no scan, write the range of ports yourself"));
            }
            if !key.already && has_too_many_addresses {
                let sentence =
                    "where there are too many addresses, nothing is suggested: write the ranges of that service yourself";
                for_people.insert(sentence.to_owned());
            }
            if !key.already && !has_too_many_ports && !has_too_many_addresses {
                for (way, flow, counts) in line.denied {
                    let ports: PortSet = counts.keys().copied().collect();
                    let peer = |baseline| shared_peer(compiled.snapshot, baseline, (&flow, way), &line.addresses, &ports);
                    if let Some((namespace, peer)) = baseline.and_then(peer) {
                        shared.note(namespace, &peer, way, &counts);
                    }
                    let too = AllowedToo { addresses: line.addresses.clone(), ports };
                    suggestions.push(Suggestion::for_many(compiled, &flow, way, too), compiled.snapshot);
                }
            }
            let alone = |cidr: String| match cidr.strip_suffix("/32").or(cidr.strip_suffix("/128")) {
                Some(address) => address.to_owned(),
                None => cidr,
            };
            let cidrs: Vec<String> = cidrs.into_iter().map(alone).collect();
            let many = if has_too_many_addresses { "too many addresses".to_owned() } else { few(&cidrs) };
            let shown = |workload: &(String, String)| if workload.0.is_empty() { many.clone() } else { workload.0.clone() };
            let by = |(way, blame): (Way, Blame<'_>)| match blame {
                // The policy is in the namespace of the pod that it isolates, which the line names.
                Blame::Policy(policy) => format!("{} {}", way.into_str(), policy.name),
                Blame::ClusterPolicy(_) | Blame::NoPolicy => format!("{} {blame}", way.into_str()),
            };
            let (first_seen, last_seen) = line.seen.unzip();
            broken.push(BrokenFlows {
                from: shown(&key.from),
                to: shown(&key.to),
                ports: line.ports.into_iter().map(|(protocol, number)| RecordedPort { protocol, number }).collect(),
                count: line.count,
                first_seen,
                last_seen,
                decision: key.decision,
                already: key.already,
                by: line.by.into_iter().map(by).collect(),
            });
        }
        JudgedFlows {
            broken,
            suggestions: suggestions.all,
            allows: shared.allows(baseline.into_iter().flat_map(PreviewedBaseline::allow_names)),
            for_people: for_people.into_iter().collect(),
            by_admin_tier,
        }
    }
}

/// One line for each two workloads, and for each two sets of addresses.
fn lines(groups: BTreeMap<(GroupKey, (Protocol, u16)), BrokenGroup<'_>>) -> BTreeMap<(GroupKey, Vec<String>), BrokenLine<'_>> {
    let mut lines: BTreeMap<_, BrokenLine<'_>> = BTreeMap::new();
    for ((key, port), group) in groups {
        let addresses = group.totals.addresses.cidrs().collect();
        lines.entry((key, addresses)).or_default().add(port, group);
    }
    lines
}

/// The namespace of the pods that a flow is denied to in one direction, and the other end, if other namespaces may need that too.
fn shared_peer<'a>(
    snapshot: &'a FlowSnapshot,
    baseline: &PreviewedBaseline,
    (flow, way): (&Flow, Way),
    addresses: &AddressCover,
    ports: &PortSet,
) -> Option<(&'a str, SharedPeer)> {
    let (own, peer) = flow.ends(way);
    let own = snapshot.pods.get(own.pod?)?;
    let is_api = |address: IpAddr| ports.iter().all(|port| baseline.is_api(address, *port));
    let cidrs: Vec<String> = addresses.cidrs().collect();
    let peer = match pod_by_labels(snapshot, peer) {
        Some(pod) if pod.namespace == own.namespace => SharedPeer::SameNamespace,
        Some(pod) => SharedPeer::Pods(pod.namespace.clone(), workload_labels(pod)),
        // A pod on the host network that has no address.
        None if cidrs.is_empty() => return None,
        None if way == Way::Egress && !addresses.is_wider() && addresses.edges().all(is_api) => SharedPeer::KubernetesApi,
        None => SharedPeer::Addresses(cidrs, ports.clone()),
    };
    Some((&own.namespace, peer))
}
