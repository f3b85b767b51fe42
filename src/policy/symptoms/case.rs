//! What the causes look at: the compiled policies, what is known beside them, and the flows that were asked for.

use std::collections::{BTreeMap, BTreeSet};

use crate::policy::{
    flow::{
        AskedFlows, AskedPort, CompiledPolicies, DirectionVerdict, FlowDecision, FlowEnd, FlowError, FlowNamespace, FlowPod,
        FlowPolicy, FlowService, FlowSnapshot, JudgedFlow, Party, PolicyRef, Way, party_shown, verdict_sentences,
    },
    lint::{ClusterLint, LintRule},
    plugins::PluginJudgement,
};

/// What is known beside the objects that decide flows.
#[derive(Debug, Default)]
pub struct SymptomSurroundings {
    /// The network plugin; none if nothing was read that shows it.
    pub plugin: Option<PluginJudgement>,
    /// Policies of kinds that are not judged, by kind and name.
    pub other_policies: Vec<String>,
    /// Whether these are all: somebody looked for every such kind.
    pub others_are_complete: bool,
}

/// Everything that the causes look at.
pub struct SymptomCase<'a> {
    pub compiled: &'a CompiledPolicies<'a>,
    pub lint: ClusterLint,
    pub around: &'a SymptomSurroundings,
}

/// The flows that were asked for.
pub struct AskedCase<'a> {
    pub from: &'a FlowEnd,
    pub to: &'a FlowEnd,
    pub port: &'a AskedPort,
    pub flows: Vec<JudgedFlow<'a>>,
    /// The Service that the destination is.
    pub service: Option<&'a FlowService>,
    /// Why there is no such flow.
    pub problem: Option<FlowError>,
}

pub const BOTH_WAYS: [Way; 2] = [Way::Egress, Way::Ingress];

impl AskedCase<'_> {
    /// The numbers of the pods that send.
    pub fn sources(&self) -> BTreeSet<usize> {
        self.flows.iter().filter_map(|flow| flow.flow.from.pod).collect()
    }

    /// The numbers of the pods that receive.
    pub fn destinations(&self) -> BTreeSet<usize> {
        self.flows.iter().filter_map(|flow| flow.flow.to.pod).collect()
    }
}

impl<'a> SymptomCase<'a> {
    /// The objects.
    pub const fn snapshot(&self) -> &'a FlowSnapshot {
        self.compiled.snapshot
    }

    /// The pod at an end.
    pub fn pod(&self, party: Party) -> Option<&'a FlowPod> {
        self.snapshot().pods.get(party.pod?)
    }

    /// The pods with these numbers.
    pub fn pods(&self, numbers: BTreeSet<usize>) -> Vec<&'a FlowPod> {
        numbers.into_iter().filter_map(|number| self.snapshot().pods.get(number)).collect()
    }

    /// The name of an end.
    pub fn name(&self, party: Party) -> String {
        party_shown(self.snapshot(), party)
    }

    /// Finds and judges the flows of a question. What is wrong with a Service, a port or an address is a cause, and no error.
    pub fn ask(&self, from: &'a FlowEnd, to: &'a FlowEnd, port: &'a AskedPort) -> Result<AskedCase<'a>, FlowError> {
        let service = match to {
            FlowEnd::Service { namespace, name } => self.snapshot().service(namespace, name),
            FlowEnd::Address(address) => self.snapshot().service_at(*address),
            FlowEnd::Pod { .. } | FlowEnd::Workload { .. } | FlowEnd::Labelled { .. } => None,
        };
        let mut asked = AskedCase { from, to, port, flows: vec![], service, problem: None };
        match AskedFlows::find(self.snapshot(), from, to, port) {
            Ok(found) => asked.flows = found.flows.into_iter().map(|flow| self.compiled.judged(flow)).collect(),
            Err(
                problem @ (FlowError::PodEnded(_)
                | FlowError::NoPortOfService { .. }
                | FlowError::NoPortOfPod { .. }
                | FlowError::NothingBehind { .. }
                | FlowError::NoSharedFamily(..)
                | FlowError::NoFamilyOfService { .. }),
            ) => asked.problem = Some(problem),
            Err(error) => return Err(error),
        }
        Ok(asked)
    }

    /// What policies say about one direction of these flows, where `is_it` holds, as evidence.
    pub fn said<'f, 'j: 'f>(
        &self,
        flows: impl IntoIterator<Item = &'f JudgedFlow<'j>>,
        way: Way,
        is_it: impl Fn(&DirectionVerdict<'_>) -> bool,
    ) -> Vec<String> {
        let of_flow = |flow: &JudgedFlow<'_>| {
            let (own, peer) = flow.flow.ends(way);
            let port = format!("{} {}", flow.flow.protocol.into_str(), flow.flow.port);
            verdict_sentences(way, flow.of(way), &self.name(own), &self.name(peer), &port)
        };
        flows.into_iter().filter(|flow| is_it(flow.of(way))).flat_map(of_flow).collect()
    }

    /// The same of both directions, first of the egress.
    pub fn said_both_ways<'f, 'j: 'f>(
        &self,
        flows: impl IntoIterator<Item = &'f JudgedFlow<'j>> + Clone,
        is_it: impl Fn(&DirectionVerdict<'_>) -> bool,
    ) -> Vec<String> {
        let egress = self.said(flows.clone(), Way::Egress, &is_it);
        [egress, self.said(flows, Way::Ingress, &is_it)].concat()
    }

    /// The policies that isolate an end of these flows in a direction, each once.
    pub fn isolating(&self, flows: &[JudgedFlow<'_>], way: Way) -> Vec<(u32, &'a FlowPolicy)> {
        let pods = flows.iter().filter_map(|flow| flow.flow.ends(way).0.pod);
        let mut numbers: Vec<u32> = pods.flat_map(|pod| self.compiled.isolating(pod, way)).copied().collect();
        numbers.sort_unstable();
        numbers.dedup();
        let policy = |number: u32| Some((number, self.snapshot().policies.get(number as usize)?));
        numbers.into_iter().filter_map(policy).collect()
    }

    /// A policy, by its name.
    pub fn policy(&self, of: PolicyRef<'_>) -> Option<&'a FlowPolicy> {
        self.snapshot().policy(of.namespace, of.name)
    }

    /// The labels of a namespace; of one that is not among the objects, only its name.
    pub fn namespace_labels(&self, name: &str) -> BTreeMap<String, String> {
        let known = self.snapshot().namespaces.iter().find(|namespace| namespace.name == name);
        known.map_or_else(|| FlowNamespace::named(name).labels, |namespace| namespace.labels.clone())
    }

    /// What rules of `lint` find in a policy below a path, as evidence.
    pub fn linted(&self, policy: &FlowPolicy, rules: &[LintRule], below: &str) -> Vec<String> {
        let hits = self.lint.hits(policy).into_iter();
        let wanted = hits.filter(|hit| rules.contains(&hit.rule) && is_below(&hit.path, below));
        wanted.map(|hit| format!("{}: {}: {} ({})", id(policy), hit.path, hit.message, hit.rule.id())).collect()
    }
}

/// Whether a path is this one or one below it: `spec.egress[0].to[1].podSelector` is below `spec.egress[0]`.
fn is_below(path: &str, above: &str) -> bool {
    path.strip_prefix(above).is_some_and(|rest| rest.is_empty() || above.is_empty() || rest.starts_with(['.', '[']))
}

/// The namespace and the name of a policy.
pub fn id(policy: &FlowPolicy) -> String {
    format!("{}/{}", policy.namespace, policy.name)
}

/// Whether NetworkPolicies deny.
pub const fn is_denied_by_policies(verdict: &DirectionVerdict<'_>) -> bool {
    matches!(verdict, DirectionVerdict::Denied { .. })
}

/// Whether a tier denies.
pub const fn is_denied_by_tier(verdict: &DirectionVerdict<'_>) -> bool {
    matches!(verdict, DirectionVerdict::DeniedByTier { .. })
}

/// Whether it is not decided.
pub fn is_undecided(verdict: &DirectionVerdict<'_>) -> bool {
    verdict.decision() == FlowDecision::Undecided
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_below_another_one_by_its_parts() {
        assert!(is_below("spec.egress[0].to[1].podSelector", "spec.egress[0].to[1]") && is_below("a", "a") && is_below("a", ""));
        assert!(!is_below("spec.egress[0].to[10]", "spec.egress[0].to[1") && !is_below("spec.egressed", "spec.egress"));
    }
}
