//! The checked allows of a baseline: which namespaces and directions each is for, and the rules that it adds. A checked allow never has a
//! rule without peers, because that would mean everybody.
//! One file: the table of what is refused is beside the checks, and more than half of the file is tests.

use k8s_openapi::api::networking::v1::{
    NetworkPolicyEgressRule, NetworkPolicyIngressRule, NetworkPolicyPeer, NetworkPolicyPort, NetworkPolicySpec,
};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::{
    Closed,
    checks::{check_ip_block, check_optional_selector, matcher, port_is_valid},
    error::BaselineError,
    labels::{Labels, Matcher},
};
use crate::{
    api::{
        AllowName,
        allows::{Allow, AllowPeer, EgressAllow, IngressAllow},
        peers::Port,
        selector::Selector,
    },
    policy::netpol::{Opening, Openings, Wide},
};

/// A checked allow.
#[derive(Clone, Debug)]
pub struct CheckedAllow {
    /// Its name.
    pub name: AllowName,
    /// The pods that it selects.
    pub pods: Selector,
    /// Who may connect; empty if it is not about ingress.
    pub ingress: Vec<AllowRule>,
    /// To whom pods may connect; empty if it is not about egress.
    pub egress: Vec<AllowRule>,
    /// What it opens to everybody, in words; `None` if it names who may talk.
    pub opening: Option<String>,
    /// What it opens to everybody, and for which pods.
    pub wide: Wide,
    namespaces: Matcher,
    acknowledged: bool,
}

/// A rule of an allow.
#[derive(Clone, Debug)]
pub struct AllowRule {
    /// The peers; empty only if `to_api` is true.
    pub peers: Vec<NetworkPolicyPeer>,
    /// The API server is a peer too.
    pub to_api: bool,
    /// The ports, at least one; `None` means every port.
    pub ports: Option<Vec<NetworkPolicyPort>>,
}

/// The directions of traffic that a policy is about.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Directions {
    /// Into the pods.
    pub ingress: bool,
    /// Out of the pods.
    pub egress: bool,
}

impl From<Closed> for Directions {
    fn from(Closed { ingress, egress }: Closed) -> Self {
        Self { ingress, egress }
    }
}

impl Directions {
    /// The directions of both.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self { ingress: self.ingress && other.ingress, egress: self.egress && other.egress }
    }

    /// Whether there is none.
    pub const fn is_none(self) -> bool {
        !self.ingress && !self.egress
    }

    /// Every choice of at least one of these directions, the widest first.
    pub fn parts(self) -> impl Iterator<Item = Self> {
        let both = Self { ingress: true, egress: true };
        let all = [both, Self { egress: false, ..both }, Self { ingress: false, ..both }];
        all.into_iter().filter(move |part| part.and(self) == *part)
    }
}

impl CheckedAllow {
    /// Checks the form of all allows of a spec.
    pub fn all(allows: &[Allow]) -> Result<Vec<Self>, BaselineError> {
        let mut checked: Vec<Self> = Vec::with_capacity(allows.len());
        for allow in allows {
            let allow = Self::check(allow)?;
            if checked.iter().any(|other| other.name == allow.name) {
                return Err(invalid(field(allow.name.as_str()), "there are two allows of this name: give one of them another"));
            }
            checked.push(allow);
        }
        Ok(checked)
    }

    fn check(allow: &Allow) -> Result<Self, BaselineError> {
        let field = field(&allow.name);
        let name = AllowName::parse(&allow.name).ok_or_else(|| {
            invalid(
                field.clone(),
                "name: use at most 30 lower-case letters, digits and '-', and not the name of a policy of the baseline",
            )
        })?;
        let namespaces = allow.namespace_selector.clone().unwrap_or_default();
        let pods = allow.pod_selector.clone().unwrap_or_default();
        check_optional_selector(&format!("{field}.podSelector"), Some(&pods))?;
        let mut checked = Self {
            name,
            pods,
            ingress: rules(&format!("{field}.ingress"), allow.ingress.as_deref(), ingress_rule)?,
            egress: rules(&format!("{field}.egress"), allow.egress.as_deref(), egress_rule)?,
            opening: None,
            wide: Wide::default(),
            namespaces: matcher(&format!("{field}.namespaceSelector"), &namespaces)?,
            acknowledged: allow.acknowledge_open,
        };
        if checked.directions().is_none() {
            return Err(invalid(field, "write ingress rules, egress rules, or both: an allow without rules allows nothing"));
        }
        let rules = checked.rules_without_api();
        checked.opening = checked.words_of(Openings::of(&rules));
        checked.wide = Wide::of(&NetworkPolicySpec { pod_selector: Some((&checked.pods).into()), ..rules });
        Ok(checked)
    }

    /// Refuses an allow that opens to everybody although nobody has confirmed that this is meant.
    pub fn check_openings(&self) -> Result<(), BaselineError> {
        match &self.opening {
            Some(opening) if !self.acknowledged => {
                Err(BaselineError::UnacknowledgedOpening { field: field(self.name.as_str()), opening: opening.clone() })
            }
            _ => Ok(()),
        }
    }

    /// The directions that it is about.
    pub const fn directions(&self) -> Directions {
        Directions { ingress: !self.ingress.is_empty(), egress: !self.egress.is_empty() }
    }

    /// Whether it is for namespaces with these labels.
    pub fn is_for(&self, labels: &Labels) -> bool {
        labels.are_selected_by(&self.namespaces)
    }

    /// Whether one of its peers is the API server.
    pub fn needs_api(&self) -> bool {
        self.egress.iter().any(|rule| rule.to_api)
    }

    /// Its rules, as a policy for every pod. The API server is left out, because nobody else is there.
    fn rules_without_api(&self) -> NetworkPolicySpec {
        NetworkPolicySpec {
            pod_selector: None,
            policy_types: Some(vec!["Ingress".into(), "Egress".into()]),
            ingress: Some(self.ingress.iter().filter(|rule| !rule.peers.is_empty()).map(AllowRule::ingress).collect()),
            egress: Some(self.egress.iter().filter(|rule| !rule.peers.is_empty()).map(AllowRule::egress).collect()),
        }
    }

    /// What it opens to everybody. The same judgement finds bypasses in policies of others, but there only policies for all pods count.
    fn words_of(&self, openings: Openings) -> Option<String> {
        let Openings { ingress, egress, is_ingress_too_large, is_egress_too_large } = openings;
        let pods = if self.pods.is_empty() { "every pod" } else { "the pods that it selects" };
        let inwards = |o: Opening| format!("lets {} reach {pods} on {}", o.peers, o.ports);
        let outwards = |o: Opening| format!("lets {pods} reach {} on {}", o.peers, o.ports);
        let large = |is: bool, rules: &str| is.then(|| format!("has too many {rules} rules to find out whom they let in"));
        let words = [
            ingress.map(inwards).or_else(|| large(is_ingress_too_large, "ingress")),
            egress.map(outwards).or_else(|| large(is_egress_too_large, "egress")),
        ];
        let words: Vec<String> = words.into_iter().flatten().collect();
        (!words.is_empty()).then(|| words.join(", and "))
    }
}

impl AllowRule {
    /// The rule in a policy, without the API server.
    pub fn ingress(&self) -> NetworkPolicyIngressRule {
        NetworkPolicyIngressRule { from: Some(self.peers.clone()), ports: self.ports.clone() }
    }

    /// The rule in a policy, without the API server.
    pub fn egress(&self) -> NetworkPolicyEgressRule {
        NetworkPolicyEgressRule { to: Some(self.peers.clone()), ports: self.ports.clone() }
    }
}

fn field(name: &str) -> String {
    format!("spec.allows[{name}]")
}

fn invalid(field: impl Into<String>, message: &'static str) -> BaselineError {
    BaselineError::InvalidAllow { field: field.into(), message }
}

fn rules<T>(
    field: &str,
    rules: Option<&[T]>,
    rule: impl Fn(&str, &T) -> Result<AllowRule, BaselineError>,
) -> Result<Vec<AllowRule>, BaselineError> {
    if rules.is_some_and(<[T]>::is_empty) {
        return Err(invalid(field, "write at least one rule, or leave the field out: an empty list allows nothing"));
    }
    let rules = rules.unwrap_or_default().iter().enumerate();
    rules.map(|(i, one)| rule(&format!("{field}[{i}]"), one)).collect()
}

fn ingress_rule(field: &str, rule: &IngressAllow) -> Result<AllowRule, BaselineError> {
    let from = rule
        .from
        .as_deref()
        .filter(|from| !from.is_empty())
        .ok_or_else(|| invalid(format!("{field}.from"), "name who may connect: an empty list would let everybody in"))?;
    if from.iter().any(|peer| peer.kubernetes_api.is_some()) {
        return Err(invalid(
            format!("{field}.from"),
            "kubernetesAPI is for egress only: write the addresses from which the API server calls as ipBlock",
        ));
    }
    assembled(field, "from", from, rule.ports.as_deref())
}

fn egress_rule(field: &str, rule: &EgressAllow) -> Result<AllowRule, BaselineError> {
    let to = rule.to.as_deref().filter(|to| !to.is_empty()).ok_or_else(|| {
        invalid(format!("{field}.to"), "name to whom pods may connect: an empty list would let them connect to everybody")
    })?;
    let has_name = |port: &Port| matches!(port.port, IntOrString::String(_));
    if rule.ports.iter().flatten().any(has_name) {
        return Err(invalid(
            format!("{field}.ports"),
            "egress rules need numbers, such as ports: [{port: 443}]: network plugins do not agree on what a named port means there",
        ));
    }
    let assembled = assembled(field, "to", to, rule.ports.as_deref())?;
    if assembled.to_api && assembled.ports.is_some() {
        return Err(invalid(
            format!("{field}.ports"),
            "leave them out beside kubernetesAPI, because its ports are found with its addresses: write other peers as a rule of their own",
        ));
    }
    Ok(assembled)
}

fn assembled(field: &str, list: &str, peers: &[AllowPeer], ports: Option<&[Port]>) -> Result<AllowRule, BaselineError> {
    if ports.is_some_and(<[Port]>::is_empty) {
        let message = "name at least one port, or leave the field out for every port: an empty list would open every port";
        return Err(invalid(format!("{field}.ports"), message));
    }
    for (i, port) in ports.into_iter().flatten().enumerate() {
        if !port_is_valid(port) {
            return Err(BaselineError::InvalidPort(format!("{field}.ports[{i}]")));
        }
    }
    let mut rule = AllowRule { peers: vec![], to_api: false, ports: ports.map(|ports| ports.iter().map(Into::into).collect()) };
    for (i, peer) in peers.iter().enumerate() {
        match checked_peer(&format!("{field}.{list}[{i}]"), peer)? {
            Some(peer) if rule.peers.contains(&peer) => {}
            Some(peer) => rule.peers.push(peer),
            None => rule.to_api = true,
        }
    }
    Ok(rule)
}

/// The peer in a policy; `None` for the API server.
fn checked_peer(field: &str, peer: &AllowPeer) -> Result<Option<NetworkPolicyPeer>, BaselineError> {
    let selectors = |pods: Option<&Selector>| check_optional_selector(&format!("{field}.podSelector"), pods);
    match peer {
        AllowPeer {
            same_namespace: Some(same),
            kubernetes_api: None,
            namespace_selector: None,
            pod_selector: None,
            ip_block: None,
        } => {
            check_optional_selector(&format!("{field}.sameNamespace.podSelector"), same.pod_selector.as_ref())?;
            Ok(Some(same.into()))
        }
        AllowPeer {
            same_namespace: None,
            kubernetes_api: Some(_),
            namespace_selector: None,
            pod_selector: None,
            ip_block: None,
        } => Ok(None),
        AllowPeer {
            same_namespace: None,
            kubernetes_api: None,
            namespace_selector: Some(namespaces),
            pod_selector,
            ip_block: None,
        } => {
            check_optional_selector(&format!("{field}.namespaceSelector"), Some(namespaces))?;
            selectors(pod_selector.as_ref())?;
            Ok(Some(NetworkPolicyPeer {
                namespace_selector: Some(namespaces.into()),
                pod_selector: pod_selector.as_ref().map(Into::into),
                ip_block: None,
            }))
        }
        AllowPeer {
            same_namespace: None,
            kubernetes_api: None,
            namespace_selector: None,
            pod_selector: None,
            ip_block: Some(block),
        } => {
            check_ip_block(&format!("{field}.ipBlock"), block)?;
            Ok(Some(NetworkPolicyPeer { ip_block: Some(block.into()), ..NetworkPolicyPeer::default() }))
        }
        AllowPeer {
            same_namespace: None,
            kubernetes_api: None,
            namespace_selector: None,
            pod_selector: Some(_),
            ip_block: None,
        } => Err(invalid(
            field,
            "podSelector needs namespaceSelector beside it; for pods of the namespace itself, write sameNamespace: {podSelector: ...}",
        )),
        _ => Err(invalid(
            field,
            "a peer is exactly one of sameNamespace, kubernetesAPI, namespaceSelector (with or without podSelector) and ipBlock; write each further one as an entry of its own",
        )),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use crate::{
        api::{Purpose, Role},
        policy::{
            dns::ClusterDns,
            kubernetes_api::{ApiDestination, ApiEvent, ApiObject, ApiSources, ClusterApi},
            plan::{Baseline, BaselineError, Namespace, OptOut, PolicyScope},
        },
        testkit::{baseline_object, checked, golden, namespace},
    };

    fn check(allow: Value) -> Result<Baseline, BaselineError> {
        Baseline::check(&baseline_object("b", json!({"allows": [allow]})), "operator")
    }

    fn refused(allow: Value) -> String {
        check(allow.clone()).map_or_else(|error| error.to_string(), |_| panic!("{allow} is valid"))
    }

    /// An allow with this peer of an egress rule.
    fn to(peer: Value) -> Value {
        json!({"name": "x", "egress": [{"to": [peer]}]})
    }

    fn from(peer: Value) -> Value {
        json!({"name": "x", "ingress": [{"from": [peer]}]})
    }

    fn api(service: [u8; 4]) -> ClusterApi {
        let (mut sources, now) = (ApiSources::default(), std::time::Instant::now());
        for (object, address, port) in [(ApiObject::Service, service, 443), (ApiObject::Slice, [192, 0, 2, 7], 6443)] {
            let destination = ApiDestination { address: address.into(), port };
            sources.hear(ApiEvent::Seen(object, [destination].into()), now);
        }
        sources.derive(now)
    }

    fn in_cluster(spec: Value) -> Baseline {
        checked("platform", spec).with_cluster(&ClusterDns::default(), &api([10, 96, 0, 1]))
    }

    fn names(baseline: &Baseline, ns: &Namespace) -> Vec<String> {
        baseline.planned(ns).map(|(_, policy)| policy.name.trim_start_matches("baseline-").to_owned()).collect()
    }

    #[test]
    fn the_policies_of_allows_are_as_published() {
        let spec: Value = serde_json::from_str(include_str!("golden/allows.json")).unwrap();
        let baseline = in_cluster(spec);
        let ns = namespace("team-a", &[("tier", "prod")]);
        let documents = baseline.planned(&ns).map(|(_, p)| serde_yaml::to_string(&p.object("team-a", None)).unwrap());
        golden("src/policy/plan/golden/allows.yaml", &documents.collect::<Vec<_>>().join("---\n"));
    }

    #[test]
    fn an_allow_is_planned_in_the_namespaces_that_it_is_for() {
        let spec: Value = serde_json::from_str(include_str!("golden/allows.json")).unwrap();
        let baseline = in_cluster(spec);
        let of = |labels: &[(&str, &str)]| names(&baseline, &namespace("team-a", labels));
        let roles = ["default-deny-ingress", "default-deny-egress", "monitoring-carveout"];
        assert_eq!(of(&[]), [&roles[..], &["allow-same-namespace", "allow-kubernetes-api"]].concat());
        assert!(of(&[("tier", "prod")]).contains(&"allow-ingress-controller".to_owned()));
        let (purpose, is_partly_planned, why) = baseline.unplanned_allows(&namespace("team-a", &[])).next().unwrap();
        assert_eq!((purpose.to_string().as_str(), is_partly_planned), ("allow ingress-controller", false));
        assert_eq!(why, "the namespace does not match spec.allows[ingress-controller].namespaceSelector");
    }

    const BOTH: &str =
        r#"{"name": "both", "ingress": [{"from": [{"sameNamespace": {}}]}], "egress": [{"to": [{"sameNamespace": {}}]}]}"#;

    /// The types of the policy of the allow `both` in a namespace; `None` if it is not planned.
    fn types(baseline: &Baseline, ns: &Namespace) -> Option<Vec<String>> {
        let found = baseline.planned(ns).find(|(_, policy)| matches!(policy.scope, PolicyScope::Allow(..)));
        found.map(|(_, policy)| policy.spec.policy_types.clone().unwrap())
    }

    #[test]
    fn an_allow_is_never_written_where_its_direction_is_not_closed() {
        let both: Value = serde_json::from_str(BOTH).unwrap();
        let with = |policies: Value| checked("b", json!({"policies": policies, "allows": [both.clone()]}));
        let ns = namespace("a", &[]);
        let of = |policies: Value| types(&with(policies), &ns).unwrap_or_default().join(" ");
        assert_eq!(of(json!(["DefaultDenyIngress", "DefaultDenyEgress"])), "Ingress Egress");
        assert_eq!(of(json!(["DefaultDenyIngress", "MonitoringCarveout"])), "Ingress");
        assert_eq!(of(json!(["DefaultDenyEgress"])), "Egress");
        assert_eq!(names(&with(json!(["MonitoringCarveout"])), &ns), [""; 0], "the carve-out would close too");
        let why = |policies: Value, purpose: &Purpose| with(policies).why_not_planned(purpose, &ns);
        let allow = with(json!(["MonitoringCarveout"])).unplanned_allows(&ns).next().unwrap().0;
        assert_eq!(
            why(json!(["MonitoringCarveout"]), &allow).unwrap(),
            "DefaultDenyIngress is not planned here (spec.policies does not name it), and without it this policy would close the pods that it selects; DefaultDenyEgress is not planned here (spec.policies does not name it), and without it this policy would close the pods that it selects"
        );
        assert!(
            why(json!(["MonitoringCarveout"]), &Role::MonitoringCarveout.into())
                .unwrap()
                .starts_with("DefaultDenyIngress is not planned here")
        );
        assert_eq!(why(json!(["DefaultDenyEgress"]), &allow), None, "one direction is planned");
        // The namespace of the monitoring pods keeps its egress.
        let default = with(json!(["DefaultDenyIngress", "DefaultDenyEgress", "MonitoringCarveout"]));
        assert_eq!(types(&default, &namespace("monitoring", &[])).unwrap(), ["Ingress"]);
        // The API server calls a Service there, so the namespace is left alone.
        let mut held = namespace("a", &[]);
        held.serves = Some(std::sync::Arc::new("a webhook is".into()));
        assert_eq!(names(&default, &held), [""; 0]);
    }

    #[test]
    fn an_opt_out_takes_the_allows_of_its_direction_away_too() {
        let both: Value = serde_json::from_str(BOTH).unwrap();
        let baseline = checked("b", json!({"allows": [both]}));
        let opted_out = |roles: Value| {
            let object = json!({"apiVersion": "policybaseline.io/v1alpha1", "kind": "BaselineOptOut",
                "metadata": {"name": "o", "namespace": "a", "creationTimestamp": "1970-01-01T00:00:00Z"},
                "spec": {"policies": roles, "reason": "a reason of twenty characters", "expiresAt": "1970-01-02T00:00:00Z"}});
            let opt_out = OptOut::check(&serde_json::from_value(object).unwrap()).unwrap();
            Namespace { opt_outs: [opt_out].into_iter().collect(), ..namespace("a", &[]) }
        };
        let ns = opted_out(json!(["DefaultDenyIngress"]));
        assert_eq!(names(&baseline, &ns), ["default-deny-egress", "allow-both"], "the carve-out would close ingress");
        assert_eq!(types(&baseline, &ns).unwrap(), ["Egress"]);
        assert!(baseline.unplanned_allows(&ns).next().unwrap().2.contains("opt-out o until"));
        let ns = opted_out(json!(["DefaultDenyEgress"]));
        assert_eq!(types(&baseline, &ns).unwrap(), ["Ingress"]);
        assert_eq!(types(&baseline, &opted_out(json!(["DefaultDenyEgress", "DefaultDenyIngress"]))), None);
    }

    #[test]
    fn i8_every_allow_of_egress_allows_dns_first_also_where_no_other_egress_policy_is_left() {
        let spec: Value = serde_json::from_str(include_str!("golden/allows.json")).unwrap();
        let baseline = in_cluster(spec);
        let dns =
            baseline.policies.iter().find(|p| p.role() == Some(Role::DefaultDenyEgress)).unwrap().spec.egress.clone().unwrap();
        let is_of_egress = |types: &[String]| types.iter().any(|kind| kind == "Egress");
        let mut seen = 0;
        for policy in baseline.policies.iter().filter(|p| is_of_egress(p.spec.policy_types.as_deref().unwrap())) {
            assert_eq!(policy.spec.egress.as_ref().unwrap()[..dns.len()], dns[..], "{}", policy.name);
            seen += 1;
        }
        assert_eq!(seen, 4);
    }

    #[test]
    fn where_the_api_server_is_changes_the_allows_that_need_it_and_nothing_else() {
        let spec: Value = serde_json::from_str(include_str!("golden/allows.json")).unwrap();
        let (one, other) = (in_cluster(spec.clone()), checked("platform", spec));
        let other = other.with_cluster(&ClusterDns::default(), &api([10, 43, 0, 1]));
        let changed: Vec<&str> = one
            .policies
            .iter()
            .zip(&other.policies)
            .filter(|(a, b)| a.stamp.plan != b.stamp.plan)
            .map(|(a, _)| &*a.name)
            .collect();
        assert_eq!(changed, ["baseline-allow-kubernetes-api"]);
        assert!(
            one.policies.iter().zip(&other.policies).all(|(a, b)| a.stamp.asked == b.stamp.asked),
            "nobody asked for anything else"
        );
        // While it is not known, the allow lets pods reach DNS, and nothing is open to everybody.
        let unknown = checked("b", json!({"allows": [to(json!({"kubernetesAPI": {}}))]}));
        let rules = unknown.policies.last().unwrap().spec.egress.clone().unwrap();
        assert_eq!(rules, unknown.policies[1].spec.egress.clone().unwrap());
        assert_eq!(unknown.allow_facts().api_gap.unwrap().reason, "KubernetesAPINotFound");
        assert_eq!(checked("b", json!({})).allow_facts().api, None);
    }

    #[test]
    fn what_is_wrong_with_an_allow_is_said_with_its_field_and_what_to_write() {
        let everybody_in = "spec.allows[x].ingress[0].from: name who may connect: an empty list would let everybody in";
        let everybody_out =
            "spec.allows[x].egress[0].to: name to whom pods may connect: an empty list would let them connect to everybody";
        let one_kind = "spec.allows[x].egress[0].to[0]: a peer is exactly one of sameNamespace, kubernetesAPI, namespaceSelector (with or without podSelector) and ipBlock; write each further one as an entry of its own";
        let same = json!({"sameNamespace": {}});
        for (allow, says) in [
            (
                json!({"name": "x"}),
                "spec.allows[x]: write ingress rules, egress rules, or both: an allow without rules allows nothing",
            ),
            (
                json!({"name": "x", "ingress": []}),
                "spec.allows[x].ingress: write at least one rule, or leave the field out: an empty list allows nothing",
            ),
            (json!({"name": "x", "ingress": [{}]}), everybody_in),
            (json!({"name": "x", "ingress": [{"from": []}]}), everybody_in),
            (json!({"name": "x", "egress": [{}]}), everybody_out),
            (json!({"name": "x", "egress": [{"to": [], "ports": [{"port": 443}]}]}), everybody_out),
            (
                json!({"name": "x", "egress": [{"to": [same], "ports": []}]}),
                "spec.allows[x].egress[0].ports: name at least one port, or leave the field out for every port: an empty list would open every port",
            ),
            (
                json!({"name": "x", "egress": [{"to": [same], "ports": [{"port": "http"}]}]}),
                "spec.allows[x].egress[0].ports: egress rules need numbers, such as ports: [{port: 443}]: network plugins do not agree on what a named port means there",
            ),
            (
                json!({"name": "x", "egress": [{"to": [{"kubernetesAPI": {}}], "ports": [{"port": 443}]}]}),
                "spec.allows[x].egress[0].ports: leave them out beside kubernetesAPI, because its ports are found with its addresses: write other peers as a rule of their own",
            ),
            (
                from(json!({"kubernetesAPI": {}})),
                "spec.allows[x].ingress[0].from: kubernetesAPI is for egress only: write the addresses from which the API server calls as ipBlock",
            ),
            (to(json!({})), one_kind),
            (to(json!({"sameNamespace": {}, "ipBlock": {"cidr": "10.0.0.0/8"}})), one_kind),
            (to(json!({"podSelector": {}, "kubernetesAPI": {}})), one_kind),
            (
                to(json!({"podSelector": {}})),
                "spec.allows[x].egress[0].to[0]: podSelector needs namespaceSelector beside it; for pods of the namespace itself, write sameNamespace: {podSelector: ...}",
            ),
            (
                to(json!({"ipBlock": {"cidr": "10.0.0.1/8"}})),
                "spec.allows[x].egress[0].to[0].ipBlock.cidr: \"10.0.0.1/8\" is not a range that Kubernetes accepts: write 10.0.0.0/8",
            ),
            (
                to(json!({"ipBlock": {"cidr": "10.0.0.0/8", "except": ["11.0.0.0/16"]}})),
                "spec.allows[x].egress[0].to[0].ipBlock.except: \"11.0.0.0/16\" must be a smaller range inside 10.0.0.0/8",
            ),
            (
                to(json!({"ipBlock": {"cidr": "10.0.0.0/8", "except": ["fd00::/16"]}})),
                "spec.allows[x].egress[0].to[0].ipBlock.except: \"fd00::/16\" must be a smaller range inside 10.0.0.0/8",
            ),
            (
                to(json!({"sameNamespace": {"podSelector": {"matchLabels": {"Bad Key": "x"}}}})),
                "spec.allows[x].egress[0].to[0].sameNamespace.podSelector: \"Bad Key\" is no label key: use letters, digits, '-', '_' and '.', at most 63, with a letter or digit at both ends",
            ),
            (
                json!({"name": "x", "ingress": [{"from": [same], "ports": [{"port": 0}]}]}),
                "spec.allows[x].ingress[0].ports[0]: a port is a number from 1 to 65535 or a name of at most 15 lower-case letters, digits and '-'; endPort needs a number not above it",
            ),
            (
                json!({"name": "X", "ingress": [{"from": [same]}]}),
                "spec.allows[X]: name: use at most 30 lower-case letters, digits and '-', and not the name of a policy of the baseline",
            ),
            (
                json!({"name": "my-default-deny-ingress", "ingress": [{"from": [same]}]}),
                "spec.allows[my-default-deny-ingress]: name: use at most 30 lower-case letters, digits and '-', and not the name of a policy of the baseline",
            ),
        ] {
            assert_eq!(refused(allow.clone()), says, "{allow}");
        }
        let twice = json!({"allows": [from(same.clone()), to(same)]});
        let error = Baseline::check(&baseline_object("b", twice), "operator").unwrap_err();
        assert_eq!(error.to_string(), "spec.allows[x]: there are two allows of this name: give one of them another");
    }

    #[test]
    fn an_allow_that_opens_to_everybody_must_say_so_and_then_it_is_told_in_words() {
        let cluster = json!({"namespaceSelector": {}});
        let exists =
            json!({"namespaceSelector": {"matchExpressions": [{"key": "kubernetes.io/metadata.name", "operator": "Exists"}]}});
        let block = |cidr: &str| json!({"ipBlock": {"cidr": cidr}});
        let halves = json!({"name": "x", "egress": [{"to": [block("0.0.0.0/1")]}, {"to": [block("128.0.0.0/1")]}]});
        let large_except = json!({"ipBlock": {"cidr": "0.0.0.0/0", "except": ["203.0.113.7/32"]}});
        for (mut allow, opens) in [
            (from(cluster.clone()), "lets every pod of the cluster reach every pod on all ports"),
            (from(exists), "lets every pod of the cluster reach every pod on all ports"),
            (to(block("0.0.0.0/0")), "lets every pod reach every IPv4 address on all ports"),
            (to(large_except), "lets every pod reach every IPv4 address on all ports"),
            (halves, "lets every pod reach every IPv4 address on all ports"),
            (
                json!({"name": "x", "podSelector": {"matchLabels": {"expose": "web"}},
                    "ingress": [{"from": [block("0.0.0.0/0"), block("::/0")], "ports": [{"port": 443}]}], "egress": [{"to": [cluster]}]}),
                "lets everybody reach the pods that it selects on some ports, and lets the pods that it selects reach every pod of the cluster on all ports",
            ),
        ] {
            assert_eq!(
                refused(allow.clone()),
                format!(
                    "spec.allows[x]: it {opens}: name who may talk. If everybody is meant, set acknowledgeOpen: true; then status and explain report it"
                )
            );
            allow["acknowledgeOpen"] = true.into();
            let baseline = check(allow).unwrap();
            assert_eq!(baseline.allow_facts().openings, [format!("x {opens}")]);
            assert_eq!(baseline.opening(baseline.policies.last().unwrap()), Some(opens));
        }
        let private = json!({"ipBlock": {"cidr": "0.0.0.0/0", "except": ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"]}});
        let named = json!({"namespaceSelector": {}, "podSelector": {"matchLabels": {"app": "prometheus"}}});
        for allow in [to(private), from(named), to(json!({"kubernetesAPI": {}})), to(json!({"sameNamespace": {}}))] {
            assert_eq!(check(allow.clone()).unwrap().allow_facts().openings, [""; 0], "{allow}");
        }
    }

    #[test]
    fn a_stored_revision_with_an_allow_that_would_open_everything_is_refused() {
        let target = checked("b", json!({}));
        let at = |allow: Value| {
            let revision = crate::policy::plan::Revision::of(&baseline_object("b", json!({"allows": [allow]})).spec);
            target.at(&revision, "operator")
        };
        assert!(at(json!({"name": "x", "egress": [{"to": []}]})).is_err());
        assert!(at(to(json!({"ipBlock": {"cidr": "0.0.0.0/0"}}))).is_ok(), "only the target must acknowledge");
        let former = at(to(json!({"sameNamespace": {}}))).unwrap();
        assert!(target.differs_from(&former, &namespace("a", &[])));
    }
}
