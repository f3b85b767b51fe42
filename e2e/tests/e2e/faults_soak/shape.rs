//! The variable parts of a baseline in the soak, and the policies that follow from them.

use std::collections::{BTreeMap, BTreeSet};

use policy_baseline_e2e::Dice;
use serde_json::{Value, json};

use crate::faults::PLACE;
use crate::scene::{Plan, PlannedAllow};

const OWNER: &str = "example.com/owner";

/// The allows, each with the default-denies without which it is not planned. Every shape has the first one.
const ALLOWS: [(&str, &[&str]); 3] = [
    (SAME_NAMESPACE, &["DefaultDenyIngress", "DefaultDenyEgress"]),
    ("web", &["DefaultDenyIngress"]),
    ("kubernetes-api", &["DefaultDenyEgress"]),
];
pub const SAME_NAMESPACE: &str = "same-namespace";

/// Which baseline a namespace belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    Platform,
    Strict,
    Out,
}

impl Place {
    pub const fn label(self) -> &'static str {
        match self {
            Self::Platform => "platform",
            Self::Strict => "strict",
            Self::Out => "out",
        }
    }

    /// A random place. The first ones are more likely.
    pub fn any(dice: &mut Dice) -> Self {
        dice.pick(&[Self::Platform, Self::Platform, Self::Platform, Self::Strict, Self::Strict, Self::Out])
    }
}

/// The allows of a baseline.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Allows {
    /// Whether an ingress controller may reach pods with a label.
    web: bool,
    /// Whether pods with a label may not reach the API server.
    without_api: bool,
}

/// The variable parts of a baseline's spec.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Shape {
    other_prefix: bool,
    more_dns: bool,
    owner: Option<&'static str>,
    scraped: Option<i32>,
    without_carveout: bool,
    allows: Allows,
    /// The size of a wave, and the interval after it.
    waves: Option<(&'static str, &'static str)>,
}

impl Shape {
    /// A copy with one part changed. Name changes are rare, because they rewrite everything. It may also switch waves on or off.
    pub fn edited(mut self, dice: &mut Dice) -> Self {
        match dice.below(14) {
            0 => self.other_prefix = !self.other_prefix,
            1 => self.without_carveout = !self.without_carveout,
            10..12 => self.allows.web = !self.allows.web,
            12..14 => self.allows.without_api = !self.allows.without_api,
            2..5 => self.more_dns = !self.more_dns,
            5..8 => self.owner = dice.pick(&[None, Some("a"), Some("b")]),
            _ => self.scraped = dice.pick(&[None, Some(9100), Some(9200)]),
        }
        if dice.below(2) == 0 {
            self.waves = dice.pick(&[None, Some(("50%", "1s")), Some(("34%", "1s")), Some(("25%", "0s"))]);
        }
        self
    }

    pub const fn goes_in_waves(self) -> bool {
        self.waves.is_some()
    }

    /// Whether both give the same policies.
    pub fn writes_as(self, other: Self) -> bool {
        Self { waves: None, ..self } == Self { waves: None, ..other }
    }

    /// The spec. Leaves out unset parts, because an apply that empties a map stores null.
    pub fn spec(self, place: Place) -> Value {
        let mut spec = json!({
            "namespaceSelector": { "matchLabels": { PLACE: place.label() } }, "existingNamespaces": "Enforce",
            "dns": { "ports": if self.more_dns { json!([5353]) } else { json!([]) } },
            "metadata": { "namePrefix": if self.other_prefix { "zone-" } else { "baseline-" } },
        });
        if let Some(owner) = self.owner {
            spec["metadata"]["labels"] = json!({ OWNER: owner });
        }
        if let Some(port) = self.scraped {
            spec["monitoring"] = json!({ "ports": [{ "port": port }] });
        }
        if self.without_carveout {
            spec["policies"] = json!(["DefaultDenyIngress", "DefaultDenyEgress"]);
        }
        let mut allows = vec![json!({
            "name": SAME_NAMESPACE, "ingress": [{ "from": [{ "sameNamespace": {} }] }], "egress": [{ "to": [{ "sameNamespace": {} }] }],
        })];
        if self.allows.web {
            allows.push(json!({ "name": "web", "podSelector": labelled("expose"), "ingress": [{ "from": [controller()] }] }));
        }
        if self.needs_api() {
            let egress = json!([{ "to": [{ "kubernetesAPI": {} }] }]);
            allows.push(json!({ "name": "kubernetes-api", "podSelector": labelled("needs-api"), "egress": egress }));
        }
        spec["allows"] = json!(allows);
        if let Some((share, interval)) = self.waves {
            spec["rollout"] = json!({ "maxNamespacesPerWave": share, "interval": interval });
        }
        spec
    }

    pub const fn needs_api(self) -> bool {
        !self.allows.without_api
    }

    /// `api`: the rules by which pods reach the API server.
    pub fn plan(self, baseline: &str, api: Vec<Value>) -> Plan {
        let mut plan = Plan::of(baseline).asked_or_not();
        if self.other_prefix {
            plan = plan.prefix("zone-");
        }
        if self.more_dns {
            plan = plan.dns_port(5353);
        }
        if let Some(owner) = self.owner {
            plan = plan.label(OWNER, owner);
        }
        if let Some(port) = self.scraped {
            plan = plan.scrape_port(port);
        }
        let (everywhere, same) = (json!({}), json!([{ "podSelector": {} }]));
        let same = PlannedAllow {
            name: SAME_NAMESPACE,
            pods: everywhere,
            ingress: Some(vec![json!({ "from": same })]),
            egress: Some(vec![json!({ "to": same })]),
        };
        plan = plan.allow(same);
        if self.allows.web {
            let ingress = Some(vec![json!({ "from": [controller()] })]);
            plan = plan.allow(PlannedAllow { name: "web", pods: labelled("expose"), ingress, egress: None });
        }
        if self.needs_api() {
            let pods = labelled("needs-api");
            plan = plan.allow(PlannedAllow { name: "kubernetes-api", pods, ingress: None, egress: Some(api) });
        }
        if self.without_carveout { plan.without("MonitoringCarveout") } else { plan }
    }

    /// The names of all policies of all shapes.
    pub fn all_names() -> BTreeSet<String> {
        let [one, other] = [false, true].map(|other_prefix| Self::with_all(other_prefix).names());
        one.into_keys().chain(other.into_keys()).collect()
    }

    /// A shape with every policy.
    pub fn with_all(other_prefix: bool) -> Self {
        Self { other_prefix, allows: Allows { web: true, without_api: false }, ..Self::default() }
    }

    /// The names of this shape's policies, with their roles.
    pub fn names(self) -> Names {
        let policies = self.plan("", vec![]).policies().into_iter();
        let roles = |name: &str, role| match ALLOWS.iter().find(|(allow, _)| name.ends_with(&format!("allow-{allow}"))) {
            Some((_, roles)) => roles.to_vec(),
            None => vec![role],
        };
        policies.map(|(name, (role, _))| (name.clone(), roles(&name, role))).collect()
    }
}

/// The selector of a label.
fn labelled(key: &str) -> Value {
    json!({ "matchLabels": { key: "yes" } })
}

/// The pods of an ingress controller.
fn controller() -> Value {
    json!({
        "namespaceSelector": { "matchLabels": { "kubernetes.io/metadata.name": "ingress-nginx" } },
        "podSelector": { "matchLabels": { "app.kubernetes.io/name": "ingress-nginx" } },
    })
}

/// Names of policies, with their roles. A policy is not planned where a namespace does without all of its roles.
pub type Names = BTreeMap<String, Vec<&'static str>>;
