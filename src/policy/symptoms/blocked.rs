//! Two ends should talk, and cannot.

use super::{
    case::{AskedCase, SymptomCase},
    cause::{CauseName, SymptomCause},
    dns, shared,
};
use crate::policy::flow::{FlowEnd, Way, pods_at};

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
    if let FlowEnd::Address(_) = asked.from {
        return SymptomCause::ruled_out(name, "the source is no pod of the cluster");
    }
    if let FlowEnd::Address(_) = asked.to {
        return SymptomCause::ruled_out(name, "the destination is an address, so no name has to be resolved");
    }
    let to_know = format!("policy-baseline explain symptom dns-hangs --from {} shows the evidence, and what to do", asked.from);
    let Ok(sources) = pods_at(case.snapshot(), asked.from) else {
        return SymptomCause::not_known(name, vec!["the source has no pod that runs".into()], "name a pod that runs");
    };
    let dns = dns::check(case, &sources);
    if !dns.is_known() {
        let why = vec!["the objects do not show whom the source asks for names".into()];
        return SymptomCause::not_known(name, why, to_know);
    }
    let found = dns.causes.iter().filter(|cause| cause.is_found());
    let mut evidence: Vec<String> = found.map(|cause| format!("{} ({})", cause.what, cause.cause.into_str())).collect();
    if evidence.is_empty() {
        return SymptomCause::ruled_out(name, format!("no cause was found why {} could not resolve names", asked.from));
    }
    if asked.service.is_none() {
        evidence.insert(0, "a pod has no name of its own in the DNS, so the client may know its address".into());
        return SymptomCause::not_known(name, evidence, to_know);
    }
    if !dns.is_denied() {
        evidence.insert(0, "not every request for a name is denied".into());
        return SymptomCause::not_known(name, evidence, to_know);
    }
    SymptomCause::found_if(name, evidence, to_know, "")
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
