//! Causes by the times at which pods and policies were created.

use jiff::Timestamp;

use super::{
    case::{AskedCase, BOTH_WAYS, SymptomCase, id},
    cause::{CauseName, SymptomCause},
    shared,
};
use crate::policy::flow::FlowPolicy;

/// The policies that isolate an end, each once.
fn isolating<'a>(case: &SymptomCase<'a>, asked: &AskedCase) -> Vec<&'a FlowPolicy> {
    let mut all: Vec<(u32, &FlowPolicy)> = BOTH_WAYS.into_iter().flat_map(|way| case.isolating(&asked.flows, way)).collect();
    all.sort_by_key(|(number, _)| *number);
    all.dedup_by_key(|(number, _)| *number);
    all.into_iter().map(|(_, policy)| policy).collect()
}

/// The policies that are younger than both ends. None: not all times are known.
fn younger<'a>(case: &SymptomCase<'a>, asked: &AskedCase) -> Option<(Timestamp, Vec<(&'a FlowPolicy, Timestamp)>)> {
    let ends: Option<Vec<Timestamp>> = shared::ends(case, asked).iter().map(|pod| pod.life.created).collect();
    let youngest = ends?.into_iter().max()?;
    let policies: Option<Vec<_>> = isolating(case, asked).into_iter().map(|policy| Some((policy, policy.created?))).collect();
    Some((youngest, policies?.into_iter().filter(|(_, created)| *created > youngest).collect()))
}

/// Connections that were open before the policy was there.
pub fn open_connection(case: &SymptomCase, asked: &AskedCase) -> SymptomCause {
    let name = CauseName::OpenConnection;
    if isolating(case, asked).is_empty() {
        return SymptomCause::ruled_out(name, "no policy isolates an end of this flow");
    }
    let to_know = "end the connection, or restart the client, and try anew: the network plugin decides whether a new policy ends open connections";
    match younger(case, asked) {
        None => {
            SymptomCause::not_known(name, vec!["the objects do not say when the pods and policies were created".into()], to_know)
        }
        Some((_, policies)) if policies.is_empty() => {
            SymptomCause::ruled_out(name, "the policies are older than one of the pods, so no connection is older than they are")
        }
        Some((pods, policies)) => SymptomCause::not_known(name, lines(pods, &policies), to_know),
    }
}

/// A policy that came, or came again, while the pods ran.
pub fn young_policy(case: &SymptomCase, asked: &AskedCase) -> SymptomCause {
    let name = CauseName::YoungPolicy;
    if isolating(case, asked).is_empty() {
        return SymptomCause::ruled_out(name, "no policy isolates an end of this flow");
    }
    let to_know = "compare these times with those of the problem. For a policy of a baseline, status.recentDrift and kubectl get events say whether somebody deleted it and the operator wrote it again";
    match younger(case, asked) {
        None => {
            SymptomCause::not_known(name, vec!["the objects do not say when the pods and policies were created".into()], to_know)
        }
        Some((_, policies)) if policies.is_empty() => SymptomCause::ruled_out(name, "each policy is older than one of the pods"),
        Some((pods, policies)) => SymptomCause::not_known(name, lines(pods, &policies), to_know),
    }
}

fn lines(pods: Timestamp, policies: &[(&FlowPolicy, Timestamp)]) -> Vec<String> {
    let line = |(policy, created): &(&FlowPolicy, Timestamp)| {
        let of = policy.baseline.as_ref().map(|baseline| format!(" of the baseline {baseline}")).unwrap_or_default();
        format!("{}{of} was created at {created}, and the pods run since {pods}", id(policy))
    };
    policies.iter().map(line).collect()
}
