//! Checks the causes of what a person sees: names resolve late, traffic is blocked, traffic passes, or it comes and goes. Each cause is found,
//! ruled out, or not known. It needs only the objects: it reads no cluster and sends no packet.

mod answer;
mod blocked;
mod case;
mod cause;
mod comes_and_goes;
mod dns;
mod dns_requests;
mod missed_rules;
mod passes;
mod shared;
#[cfg(test)]
mod tests;
mod though_allowed;
mod times;

use std::collections::BTreeSet;

pub use answer::{Symptom, SymptomAnswer};
pub use case::SymptomSurroundings;
use case::{AskedCase, SymptomCase};
use cause::{CauseName, SymptomCause};

use super::{
    flow::{AskedPort, CompiledPolicies, FlowEnd, FlowError, FlowPolicy, JudgedFlow, few, pods_at},
    lint::ClusterLint,
};

/// Why a question about a symptom has no answer.
#[derive(Debug, thiserror::Error)]
pub enum SymptomError {
    #[error(transparent)]
    Flow(#[from] FlowError),
    #[error("there is no NetworkPolicy {0}. {1}")]
    NoPolicy(String, String),
    #[error("the namespace {0:?} has no pod that runs: check its name, and whether you may list its pods")]
    NoPods(String),
}

/// Whose names resolve late.
#[derive(Clone, Debug)]
pub enum DnsAskers {
    /// A pod, or all pods of a workload.
    Pods(FlowEnd),
    Namespace(String),
}

/// A question about traffic from one end to another.
#[derive(Clone, Debug)]
pub struct TrafficQuestion {
    pub symptom: Symptom,
    pub from: FlowEnd,
    pub to: FlowEnd,
    pub port: AskedPort,
    /// The policy that should deny it: its namespace, and its name. Without a namespace, it is in that of one of the ends.
    pub policy: Option<(Option<String>, String)>,
}

/// Checks why names resolve late.
pub fn dns_hangs(
    compiled: &CompiledPolicies,
    around: &SymptomSurroundings,
    askers: &DnsAskers,
) -> Result<SymptomAnswer, SymptomError> {
    let case = SymptomCase { compiled, lint: ClusterLint::of(compiled.snapshot), around };
    let snapshot = compiled.snapshot;
    let (of, mut pods) = match askers {
        DnsAskers::Pods(end) => (end.to_string(), pods_at(snapshot, end)?),
        DnsAskers::Namespace(namespace) => {
            let running = snapshot.pods_of(namespace).filter(|(_, pod)| !pod.has_ended);
            (format!("the pods of {namespace}"), running.map(|(number, _)| number).collect())
        }
    };
    if pods.len() > 1 {
        // Policies cannot tell pods of a class apart, so one of each with the same nameservers is enough.
        let mut seen = BTreeSet::new();
        let nameservers = |pod: usize| snapshot.pods.get(pod).map(|pod| &pod.life.nameservers);
        pods.retain(|pod| compiled.classes.class(*pod).is_some_and(|class| seen.insert((class, nameservers(*pod)))));
    }
    if let (DnsAskers::Namespace(namespace), []) = (askers, &*pods) {
        return Err(SymptomError::NoPods(namespace.clone()));
    }
    let found = dns::check(&case, &pods);
    Ok(SymptomAnswer::new(Symptom::DnsHangs, (of, found.decision), found.causes, found.suggestions))
}

/// Checks the causes of a symptom of traffic.
pub fn of_traffic(
    compiled: &CompiledPolicies,
    around: &SymptomSurroundings,
    question: &TrafficQuestion,
) -> Result<SymptomAnswer, SymptomError> {
    let case = SymptomCase { compiled, lint: ClusterLint::of(compiled.snapshot), around };
    let TrafficQuestion { symptom, from, to, port, policy } = question;
    let asked = case.ask(from, to, port)?;
    let causes = match symptom {
        Symptom::BlockedThoughAllowed => though_allowed::causes(&case, &asked),
        Symptom::ComesAndGoes => comes_and_goes::causes(&case, &asked),
        Symptom::Passes => passes::causes(&case, &asked, &named(&case, &asked, policy.as_ref())?),
        Symptom::Blocked | Symptom::DnsHangs => blocked::causes(&case, &asked),
    };
    let suggestions = if *symptom == Symptom::Passes { vec![] } else { compiled.suggestions(&asked.flows) };
    let of = format!("{from} to {to}, {port}");
    let decision = asked.flows.iter().map(JudgedFlow::decision).max();
    let causes = if decision.is_some() { causes } else { causes.into_iter().map(without_flow).collect() };
    Ok(SymptomAnswer::new(*symptom, (of, decision), causes, suggestions))
}

/// Without a flow, nothing is known of what only a flow shows.
fn without_flow(cause: SymptomCause) -> SymptomCause {
    let needs_no_flow = matches!(
        cause.cause,
        CauseName::NoEndpoints
            | CauseName::EndpointsNotReady
            | CauseName::NotReady
            | CauseName::WrongPort
            | CauseName::NoSharedFamily
            | CauseName::DnsOfSource
            | CauseName::PluginIgnores
            | CauseName::OtherKinds
    );
    if needs_no_flow { cause } else { cause.not_ruled_out(shared::NO_FLOW, shared::AFTER_NO_FLOW) }
}

/// The policies of this name.
fn named<'a>(
    case: &SymptomCase<'a>,
    asked: &AskedCase,
    policy: Option<&(Option<String>, String)>,
) -> Result<Vec<&'a FlowPolicy>, SymptomError> {
    let Some((namespace, name)) = policy else { return Ok(vec![]) };
    let ends = shared::ends(case, asked);
    let namespaces: BTreeSet<&str> = match namespace {
        Some(namespace) => [&**namespace].into(),
        None => ends.iter().map(|pod| &*pod.namespace).collect(),
    };
    let there = || case.snapshot().policies.iter().filter(|policy| namespaces.contains(&*policy.namespace));
    let found: Vec<&FlowPolicy> = there().filter(|policy| policy.name == *name).collect();
    if found.is_empty() {
        let names: Vec<String> = there().map(case::id).collect();
        let others = if names.is_empty() { "There is none at all".into() } else { format!("There are: {}", few(&names)) };
        let shown = namespace.as_ref().map(|namespace| format!("{namespace}/")).unwrap_or_default();
        return Err(SymptomError::NoPolicy(format!("{shown}{name}"), others));
    }
    Ok(found)
}
