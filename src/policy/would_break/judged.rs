//! Judges recorded flows by the policies that would exist, and groups those that would be denied by workload.

use std::{collections::BTreeMap, net::IpAddr};

use super::{report::BrokenFlows, totals::FlowTotals};
use crate::{
    api::peers::Protocol,
    policy::{
        flow::{
            CompiledPolicies, DirectionVerdict, Flow, FlowDecision, FlowSnapshot, IpFamily, Party, Suggestion, Way, few, workload,
        },
        preview::PreviewedBaseline,
    },
};

/// How many times suggestions are judged together with the policies. Each time, fewer pods are left that nothing isolates.
const ROUNDS: usize = 8;

/// What stands for addresses that no policy should name.
pub const TOO_MANY: &str = "too many addresses";

/// A flow between two ends that no policy tells apart from the others of its totals.
pub struct TotalledFlow {
    pub flow: Flow,
    pub family: IpFamily,
    pub totals: FlowTotals,
}

/// What would be denied, and what would let it through.
pub struct JudgedFlows {
    pub broken: Vec<BrokenFlows>,
    pub suggestions: Vec<Suggestion>,
}

/// Judges the flows by what exists and by a baseline. The pods of the flows are those of the snapshot.
pub fn judge(before: &FlowSnapshot, baseline: Option<&PreviewedBaseline>, flows: &[TotalledFlow]) -> JudgedFlows {
    // Without a baseline, nothing is denied that is not denied today.
    let today = baseline.map(|_| CompiledPolicies::of(before));
    let mut suggestions: Vec<Suggestion> = Vec::new();
    let broken = settle(with_baseline(before, baseline), today.as_ref(), flows, &mut suggestions);
    if baseline.is_some() {
        // Somebody may apply them before the baseline is there, or where it does not close yet.
        settle(before.clone(), today.as_ref(), flows, &mut suggestions);
    }
    JudgedFlows { broken, suggestions }
}

/// Adds suggestions until these let through everything in a world where they are applied. Returns what is denied there without them.
fn settle(
    mut world: FlowSnapshot,
    today: Option<&CompiledPolicies<'_>>,
    flows: &[TotalledFlow],
    suggestions: &mut Vec<Suggestion>,
) -> Vec<BrokenFlows> {
    let is_first = suggestions.is_empty();
    world.add_policies(suggestions.iter().map(Suggestion::flow_policy));
    let mut broken = None;
    for round in 0..ROUNDS {
        let compiled = CompiledPolicies::of(&world);
        let addresses = if round == 0 && is_first { JudgedAddresses::One } else { JudgedAddresses::All };
        let (found, mut more) = BrokenGroups::of(&compiled, today, flows, addresses).finish();
        broken.get_or_insert(found);
        // A suggestion may be the first policy to isolate some pods. Then it denies what these pods send or receive.
        let is_new_isolation = more.iter().any(|suggestion| !suggestion.newly_isolated.is_empty());
        drop(compiled);
        world.add_policies(more.iter().map(Suggestion::flow_policy));
        suggestions.append(&mut more);
        if !is_new_isolation {
            break;
        }
    }
    broken.unwrap_or_default()
}

/// Which addresses of the end that is no pod are judged.
#[derive(Clone, Copy)]
enum JudgedAddresses {
    /// One: the policies tell none of the others apart from it.
    One,
    /// The edges of all ranges: what was suggested may tell them apart.
    All,
}

/// The flow itself, or one for each of these addresses.
fn variants(one: &TotalledFlow, addresses: JudgedAddresses) -> Vec<Flow> {
    let edges = match addresses {
        JudgedAddresses::One => return vec![one.flow],
        JudgedAddresses::All => one.totals.addresses.edges(),
    };
    let with = |address: IpAddr| {
        let end = |party: Party| if party.pod.is_some() { party } else { Party { address: Some(address), ..party } };
        Flow { from: end(one.flow.from), to: end(one.flow.to), ..one.flow }
    };
    std::iter::once(one.flow).chain(edges.map(with)).collect()
}

/// What exists once the baseline is enforced in every namespace that it selects. It replaces what it wrote in a former version.
pub fn with_baseline(before: &FlowSnapshot, baseline: Option<&PreviewedBaseline>) -> FlowSnapshot {
    let mut after = before.clone();
    let Some(baseline) = baseline else { return after };
    let planned: Vec<_> = before.all_namespaces().iter().flat_map(|namespace| baseline.flow_policies(namespace)).collect();
    after.replace_policies(baseline.name(), planned);
    after
}

/// What is the same for all flows of a group, in the order in which groups are shown.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
struct GroupKey {
    already: bool,
    from: (String, String),
    to: (String, String),
    protocol: Protocol,
    port: u16,
    decision: FlowDecision,
    /// Of an address.
    family: Option<IpFamily>,
}

#[derive(Default)]
struct BrokenGroup {
    totals: FlowTotals,
    by: Vec<String>,
    /// A flow that is denied in each direction.
    denied: BTreeMap<&'static str, (Way, Flow)>,
}

struct BrokenGroups<'c, 'a> {
    compiled: &'c CompiledPolicies<'a>,
    groups: BTreeMap<GroupKey, BrokenGroup>,
}

impl<'c, 'a> BrokenGroups<'c, 'a> {
    fn of(
        compiled: &'c CompiledPolicies<'a>,
        today: Option<&CompiledPolicies<'_>>,
        flows: &[TotalledFlow],
        addresses: JudgedAddresses,
    ) -> Self {
        let mut groups = Self { compiled, groups: BTreeMap::new() };
        for one in flows {
            let judged = |flow: Flow| {
                let verdicts = [Way::Egress, Way::Ingress].map(|way| (way, compiled.judge(&flow, way)));
                let decision = worst(verdicts.iter().map(|(_, verdict)| verdict.decision()));
                (decision, flow, verdicts)
            };
            let worst_of_all = variants(one, addresses).into_iter().map(judged).max_by_key(|(decision, ..)| *decision);
            let Some((decision, flow, verdicts)) = worst_of_all.filter(|(decision, ..)| *decision != FlowDecision::Allowed)
            else {
                continue;
            };
            let today = today.map(|today| worst([Way::Egress, Way::Ingress].map(|way| today.judge(&flow, way).decision())));
            groups.add(&flow, one.family, (decision, today == Some(decision)), &verdicts, &one.totals);
        }
        groups
    }

    fn add(
        &mut self,
        flow: &Flow,
        family: IpFamily,
        (decision, already): (FlowDecision, bool),
        verdicts: &[(Way, DirectionVerdict<'_>); 2],
        totals: &FlowTotals,
    ) {
        let pods = &self.compiled.snapshot.pods;
        // A pod on the host network has the address of its node, and a policy is written by that.
        let pod = |party: Party| party.pod.and_then(|pod| pods.get(pod)).filter(|pod| !pod.on_host_network);
        let name = |party: Party| pod(party).map(workload).unwrap_or_default();
        let mut totals = totals.clone();
        let on_nodes = [flow.from, flow.to].into_iter().filter(|party| party.pod.is_some() && pod(*party).is_none());
        on_nodes.filter_map(|party| party.address).for_each(|address| totals.addresses.add(address));
        let is_outside = [flow.from, flow.to].into_iter().any(|party| pod(party).is_none());
        let key = GroupKey {
            already,
            from: name(flow.from),
            to: name(flow.to),
            protocol: flow.protocol,
            port: flow.port,
            decision,
            family: is_outside.then_some(family),
        };
        let group = self.groups.entry(key).or_default();
        group.totals.join(&totals);
        for (way, verdict) in verdicts {
            let words = verdict.blamed().map(|policy| match policy {
                Some(policy) => format!("{} {}/{}", way.into_str(), policy.namespace, policy.name),
                None => format!("{} on the host network", way.into_str()),
            });
            for word in words {
                if !group.by.contains(&word) {
                    group.by.push(word);
                }
            }
            if matches!(verdict, DirectionVerdict::Denied { .. }) {
                group.denied.entry(way.into_str()).or_insert((*way, *flow));
            }
        }
    }

    fn finish(self) -> (Vec<BrokenFlows>, Vec<Suggestion>) {
        let (mut broken, mut suggestions) = (Vec::new(), Vec::new());
        for (key, group) in self.groups {
            // What is denied already was closed by somebody else, on purpose. And too many addresses are for people to write.
            let is_for_people = key.already || group.totals.addresses.is_too_wide();
            for (way, flow) in group.denied.values().filter(|_| !is_for_people) {
                let suggestion = Suggestion::with_addresses(self.compiled, flow, *way, &group.totals.addresses);
                Suggestion::push_new(&mut suggestions, suggestion, self.compiled.snapshot);
            }
            let alone = |cidr: String| match cidr.strip_suffix("/32").or(cidr.strip_suffix("/128")) {
                Some(address) => address.to_owned(),
                None => cidr,
            };
            let cidrs: Vec<String> = group.totals.addresses.cidrs().map(alone).collect();
            let many = if group.totals.addresses.is_too_wide() { TOO_MANY.to_owned() } else { few(&cidrs) };
            let shown = |(name, _): (String, String)| if name.is_empty() { many.clone() } else { name };
            let (first_seen, last_seen) = group.totals.seen.unzip();
            broken.push(BrokenFlows {
                from: shown(key.from),
                to: shown(key.to),
                protocol: key.protocol,
                port: key.port,
                count: group.totals.count,
                first_seen,
                last_seen,
                decision: key.decision,
                already: key.already,
                by: group.by,
            });
        }
        (broken, suggestions)
    }
}

fn worst(decisions: impl IntoIterator<Item = FlowDecision>) -> FlowDecision {
    decisions.into_iter().max().unwrap_or(FlowDecision::Allowed)
}
