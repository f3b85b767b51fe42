//! Causes by the times at which pods and policies were created.

use jiff::Timestamp;

use super::{
    case::{AskedCase, BOTH_WAYS, SymptomCase, id},
    cause::{CauseName, SymptomCause},
};
use crate::policy::flow::FlowPolicy;

/// Whether a policy isolates an end.
fn is_isolated(case: &SymptomCase, asked: &AskedCase) -> bool {
    BOTH_WAYS.into_iter().any(|way| !case.isolating(&asked.flows, way).is_empty())
}

/// What was written after the pods of a flow were there: a line for each policy. None: not all times are known.
fn younger(case: &SymptomCase, asked: &AskedCase) -> Option<Vec<String>> {
    let mut lines = Vec::new();
    for flow in &asked.flows {
        let ends = [flow.flow.from, flow.flow.to].into_iter().filter_map(|party| case.pod(party));
        let created: Option<Vec<Timestamp>> = ends.map(|pod| pod.life.created).collect();
        // Both ends of a connection exist as long as it does.
        let pods = created?.into_iter().max()?;
        for (_, policy) in BOTH_WAYS.into_iter().flat_map(|way| case.isolating(std::slice::from_ref(flow), way)) {
            lines.extend(line(policy, policy.created?, pods));
        }
    }
    Some(lines)
}

/// When a policy was written, if that may be after the pods were there.
fn line(policy: &FlowPolicy, created: Timestamp, pods: Timestamp) -> Option<String> {
    let of = policy.baseline.as_ref().map(|baseline| format!(" of the baseline {baseline}")).unwrap_or_default();
    let written = match (policy.edits.is_changed, policy.edits.last) {
        _ if created > pods => format!("was created at {created}"),
        (_, Some(last)) if last > pods => format!("was written at {last}"),
        (true, None) => format!("was created at {created}, and changed later at a time that the objects do not show"),
        (_, Some(_)) | (false, None) => return None,
    };
    Some(format!("{}{of} {written}, and the pods run since {pods}", id(policy)))
}

/// A cause that needs a policy which is younger than the pods.
fn if_younger(case: &SymptomCase, asked: &AskedCase, name: CauseName, otherwise: &str, to_know: &str) -> SymptomCause {
    if !is_isolated(case, asked) {
        return SymptomCause::ruled_out(name, "no policy isolates an end of this flow");
    }
    match younger(case, asked) {
        None => {
            SymptomCause::not_known(name, vec!["the objects do not say when the pods and policies were created".into()], to_know)
        }
        Some(lines) if lines.is_empty() => SymptomCause::ruled_out(name, otherwise),
        Some(lines) => SymptomCause::not_known(name, lines, to_know),
    }
}

/// Connections that were open before the policy was there.
pub fn open_connection(case: &SymptomCase, asked: &AskedCase) -> SymptomCause {
    let otherwise = "the policies are older than one of the pods, so no connection is older than they are";
    let to_know = "end the connection, or restart the client, and try anew: the network plugin decides whether a new policy ends open connections";
    if_younger(case, asked, CauseName::OpenConnection, otherwise, to_know)
}

/// A policy that came, or came again, while the pods ran.
pub fn young_policy(case: &SymptomCase, asked: &AskedCase) -> SymptomCause {
    let otherwise = "each policy is older than one of the pods";
    let to_know = "compare these times with those of the problem. For a policy of a baseline, status.recentDrift and kubectl get events say whether somebody deleted it and the operator wrote it again";
    if_younger(case, asked, CauseName::YoungPolicy, otherwise, to_know)
}
