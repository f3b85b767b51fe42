//! Two ends should talk, and cannot.

use super::{
    case::{AskedCase, SymptomCase},
    cause::{CauseName, SymptomCause},
    dns, shared,
};
use crate::policy::flow::{FlowEnd, Way};

/// The causes, in the order in which they are likely.
pub fn causes(case: &SymptomCase, asked: &AskedCase) -> Vec<SymptomCause> {
    vec![
        shared::denied(case, asked, Way::Ingress),
        shared::denied(case, asked, Way::Egress),
        dns_of_source(case, asked),
        shared::no_endpoints(case, asked),
        shared::wrong_port(case, asked),
        shared::not_ready(case, asked),
        shared::tier_denies(case, &asked.flows),
        shared::no_shared_family(asked),
        shared::undecided(case, &asked.flows),
        nothing_listens(asked),
        shared::other_kinds(case),
    ]
}

/// Without DNS, no name leads to the destination.
fn dns_of_source(case: &SymptomCase, asked: &AskedCase) -> SymptomCause {
    let name = CauseName::DnsOfSource;
    let FlowEnd::Pod { namespace, name: pod } = asked.from else {
        return SymptomCause::ruled_out(name, "the source is no pod of the cluster");
    };
    let Some(pod) = case.snapshot().pod(namespace, pod) else {
        return SymptomCause::ruled_out(name, "the source is not among the objects");
    };
    let found = dns::check(case, &[pod]).causes;
    let evidence =
        found.iter().filter(|cause| cause.is_found()).map(|cause| format!("{} ({})", cause.what, cause.cause.into_str()));
    let to_do = format!("policy-baseline explain symptom dns-hangs --from {} shows the evidence, and what to do", asked.from);
    SymptomCause::found_if(
        name,
        evidence.collect(),
        to_do,
        format!("no cause was found why {} could not resolve names", asked.from),
    )
}

/// What no object shows.
fn nothing_listens(asked: &AskedCase) -> SymptomCause {
    let why = vec!["no object shows whether a program listens, and on which addresses".into()];
    let to_know = format!(
        "connect to the port from inside of the destination: kubectl exec POD -- nc -vz POD_IP PORT. If only 127.0.0.1 answers, the program listens on that address alone. For {}, take {}",
        asked.to, asked.port
    );
    SymptomCause::not_known(CauseName::NothingListens, why, to_know)
}
