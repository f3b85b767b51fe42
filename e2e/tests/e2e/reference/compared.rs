//! Compares verdicts flow by flow, counts them, and keeps what no exception explains.

use std::collections::{BTreeMap, HashMap};
use std::io::{self, Write};

use policy_baseline::{CompiledPolicies, Flow, FlowDecider, FlowDecision, FlowDump, FlowSnapshot, Party, Protocol, Way};
use policy_baseline_e2e::reference::{ReferenceVerdicts, ReferenceWorld, WorldParty, WorldVerdicts};
use serde_json::Value;

use super::exceptions::{Exception, Reference, exceptions_of};

const WAYS: [Way; 2] = [Way::Egress, Way::Ingress];
/// The most disagreements that are written out.
const SHOWN: usize = 3;

/// What was compared.
#[derive(Default)]
pub struct Comparison {
    worlds: usize,
    flows: usize,
    cyclonus: Counts,
    kube_network_policies: Counts,
    unexplained: Vec<String>,
}

/// What was compared with one engine. A flow has two verdicts.
#[derive(Default)]
struct Counts {
    verdicts: usize,
    allowed: usize,
    agreed: usize,
    /// How many verdicts each exception explains, alone or with others.
    explained: BTreeMap<&'static str, usize>,
    disagreed: usize,
    unexplained: usize,
}

impl Comparison {
    /// Compares a world.
    pub fn add(&mut self, world: &ReferenceWorld, verdicts: &ReferenceVerdicts) {
        self.worlds += 1;
        self.flows += world.flows.len();
        let ours = our_verdicts(world);
        for (reference, theirs) in
            [(Reference::Cyclonus, &verdicts.cyclonus), (Reference::KubeNetworkPolicies, &verdicts.kube_network_policies)]
        {
            let found = self.compare(world, &ours, reference, theirs);
            self.unexplained.extend(found);
        }
    }

    fn compare(
        &mut self,
        world: &ReferenceWorld,
        ours: &[[FlowDecision; 2]],
        reference: Reference,
        theirs: &WorldVerdicts,
    ) -> Vec<String> {
        let counts = match reference {
            Reference::Cyclonus => &mut self.cyclonus,
            Reference::KubeNetworkPolicies => &mut self.kube_network_policies,
        };
        let mut explanations = Explanations { world, ours, exceptions: exceptions_of(reference), known: HashMap::new() };
        let [egress, ingress, both] = [&theirs.egress, &theirs.ingress, &theirs.both].map(String::as_bytes);
        assert_eq!([egress.len(), ingress.len(), both.len()], [world.flows.len(); 3]);
        let read_like_theirs = explanations.after(explanations.all()).to_vec();
        let mut unexplained = Vec::new();
        for (at, ours) in ours.iter().enumerate() {
            let theirs = [egress[at] == b'+', ingress[at] == b'+'];
            assert_eq!(both[at] == b'+', theirs == [true; 2], "{} has two answers about {:?}", reference.name(), world.flows[at]);
            for (way, (ours, theirs)) in ours.iter().zip(theirs).enumerate() {
                counts.verdicts += 1;
                counts.allowed += usize::from(theirs);
                if read_like_theirs[at][way] != decided(theirs) {
                    counts.unexplained += 1;
                    let said = format!(
                        "{:?}: ours {ours:?}, {} {:?}; ours of what it reads: {:?}",
                        WAYS[way],
                        reference.name(),
                        decided(theirs),
                        read_like_theirs[at][way]
                    );
                    unexplained.push(described(world, at, &said));
                } else if *ours == decided(theirs) {
                    counts.agreed += 1;
                } else {
                    counts.disagreed += 1;
                    for exception in explanations.of(at, way, decided(theirs)) {
                        *counts.explained.entry(exception.name).or_default() += 1;
                    }
                }
            }
        }
        unexplained
    }

    /// Whether an exception has explained anything with each engine that it is about.
    pub fn has_met(&self, exception: &Exception) -> bool {
        exception.of.iter().all(|reference| {
            let counts = match reference {
                Reference::Cyclonus => &self.cyclonus,
                Reference::KubeNetworkPolicies => &self.kube_network_policies,
            };
            counts.explained.contains_key(exception.name)
        })
    }

    /// Prints the counts, also if the test passes: the test harness keeps only what print! writes.
    pub fn print(&self, what: &str) -> io::Result<()> {
        // In one piece: another test may print at the same time.
        let mut out = Vec::new();
        writeln!(out, "\n{} {what}, {} flows, each in both directions", self.worlds, self.flows)?;
        for (reference, counts) in
            [(Reference::Cyclonus, &self.cyclonus), (Reference::KubeNetworkPolicies, &self.kube_network_policies)]
        {
            let Counts { verdicts, allowed, agreed, explained, disagreed, unexplained } = counts;
            writeln!(out, "{}: {verdicts} verdicts, of them {allowed} allowed", reference.name())?;
            writeln!(out, "{agreed:>10}  agree")?;
            writeln!(out, "{disagreed:>10}  disagree because of exceptions, some of them because of several:")?;
            for (name, count) in explained {
                writeln!(out, "{count:>20}  {name}")?;
            }
            writeln!(out, "{unexplained:>10}  disagree without an explanation")?;
        }
        io::stderr().write_all(&out)
    }

    /// Fails if there is a disagreement that nothing explains.
    pub fn check(&self) {
        let shown = self.unexplained.iter().take(SHOWN).cloned().collect::<Vec<_>>().join("\n\n");
        assert!(self.unexplained.is_empty(), "{} disagreements, the first ones:\n{shown}", self.unexplained.len());
        assert!(self.flows > 0 && self.cyclonus.allowed > 0 && self.kube_network_policies.allowed > 0);
    }
}

fn decided(allowed: bool) -> FlowDecision {
    if allowed { FlowDecision::Allowed } else { FlowDecision::Denied }
}

fn described(world: &ReferenceWorld, at: usize, said: &str) -> String {
    let [from, to, port] = world.flows[at];
    let end = |party: &WorldParty| format!("{} {}", party.pod.as_deref().unwrap_or("-"), party.address);
    let (from, to, port) = (end(&world.parties[from]), end(&world.parties[to]), &world.ports[port]);
    let objects =
        world.objects.iter().chain(&world.admin_policies).map(|object| format!("  {object}")).collect::<Vec<_>>().join("\n");
    format!("{}: {from} to {to}, {} {}, {said}\n{objects}", world.name, port.protocol, port.number)
}

/// What our engine says about each flow of a world, in both directions.
fn our_verdicts(world: &ReferenceWorld) -> Vec<[FlowDecision; 2]> {
    let objects: Vec<&Value> = world.objects.iter().chain(&world.admin_policies).collect();
    let items = serde_json::to_string(&objects).unwrap();
    let dump = FlowDump::read(&format!(r#"{{"kind": "List", "items": {items}}}"#)).unwrap();
    assert_eq!(dump.warnings, [] as [&str; 0], "{}", world.name);
    let snapshot: FlowSnapshot = dump.objects.into_iter().collect();
    let compiled = CompiledPolicies::of(&snapshot);
    assert_eq!(compiled.refused_parts(), [] as [&str; 0], "{}", world.name);
    let decider = FlowDecider::of(&compiled);
    let party = |party: &WorldParty| Party {
        // An exception may have taken the pod away.
        pod: party.pod.as_ref().and_then(|pod| pod.split_once('/')).and_then(|(namespace, name)| snapshot.pod(namespace, name)),
        address: Some(party.address.parse().unwrap()),
    };
    let parties: Vec<Party> = world.parties.iter().map(party).collect();
    let ports = world.ports.iter().map(|port| (Protocol::named(Some(&port.protocol)).unwrap(), port.number));
    let ports: Vec<(Protocol, u16)> = ports.collect();
    let flow = |[from, to, port]: &[usize; 3]| {
        let (protocol, port) = ports[*port];
        let flow = Flow { from: parties[*from], to: parties[*to], protocol, port };
        let verdicts = WAYS.map(|way| compiled.judge(&flow, way).decision());
        let without_names = WAYS.map(|way| decider.direction(&flow, way));
        assert_eq!((without_names, decider.decides(&flow)), (verdicts, verdicts[0].max(verdicts[1])), "{}: {flow:?}", world.name);
        verdicts
    };
    world.flows.iter().map(flow).collect()
}

/// What explains the disagreements with one engine about one world.
struct Explanations<'a> {
    world: &'a ReferenceWorld,
    ours: &'a [[FlowDecision; 2]],
    exceptions: Vec<&'static Exception>,
    /// What our engine says of the world after some of the exceptions, by the bits of their numbers.
    known: HashMap<usize, Vec<[FlowDecision; 2]>>,
}

impl Explanations<'_> {
    const fn all(&self) -> usize {
        (1 << self.exceptions.len()) - 1
    }

    /// The fewest exceptions after which our engine says what the other one says: all of them, if no others.
    fn of(&mut self, flow: usize, way: usize, theirs: FlowDecision) -> Vec<&'static Exception> {
        let mut sets: Vec<usize> = (1..self.all()).collect();
        sets.sort_by_key(|set| set.count_ones());
        let found = sets.into_iter().find(|set| self.after(*set)[flow][way] == theirs);
        self.chosen(found.unwrap_or(self.all())).collect()
    }

    fn chosen(&self, set: usize) -> impl Iterator<Item = &'static Exception> {
        let bits = self.exceptions.iter().enumerate().filter(move |(bit, _)| set >> bit & 1 == 1);
        bits.map(|(_, exception)| *exception)
    }

    fn after(&mut self, set: usize) -> &[[FlowDecision; 2]] {
        if !self.known.contains_key(&set) {
            let mut world = self.world.clone();
            self.chosen(set).for_each(|exception| (exception.rewrite)(&mut world));
            let is_changed = (&world.objects, &world.admin_policies, &world.flows)
                != (&self.world.objects, &self.world.admin_policies, &self.world.flows);
            self.known.insert(set, if is_changed { our_verdicts(&world) } else { self.ours.to_vec() });
        }
        &self.known[&set]
    }
}
