//! The model of what the soak has requested: the baseline of each namespace, the specs of the baselines, and the opt-outs. From it
//! follow the policies that a namespace should hold, and those that nobody may remove there.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use k8s_openapi::jiff::Timestamp;
use serde_json::{Value, json};

use super::shape::{Names, Place, Shape};
use crate::scene::Plan;

/// The entries that are in both.
fn common(mut names: Names, others: &Names) -> Names {
    names.retain(|name, _| others.contains_key(name));
    names
}

/// Whether an opt-out is in force under a baseline that enforces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    InForce,
    /// It ends later than the baseline allows.
    TooLong,
    Over,
}

/// One opt-out.
#[derive(Debug, Clone)]
pub struct OptOut {
    pub roles: BTreeSet<&'static str>,
    pub expires: Timestamp,
    pub standing: Standing,
}

/// The state of the strict baseline.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Health {
    #[default]
    Valid,
    /// Its spec is invalid, so the operator freezes the namespaces that it holds.
    Broken,
    /// It is in mode Audit, so the operator writes nothing.
    Audits,
}

/// The object of a change.
#[derive(Debug, Clone, Copy)]
pub enum About<'a> {
    Namespace(&'a str),
    Baseline(Place),
    /// The opt-outs of this namespace.
    OptOuts(&'a str),
}

#[derive(Debug, Default)]
pub struct Model {
    /// The place of each existing namespace.
    pub places: BTreeMap<String, Place>,
    platform: Shape,
    strict: Shape,
    pub health: Health,
    /// The namespaces that belonged to the strict baseline when it was last valid, and have not left since.
    held: BTreeSet<String>,
    /// The key is the namespace and the name.
    pub opt_outs: BTreeMap<(String, String), OptOut>,
    /// The addresses of the Services of DNS.
    pub dns: BTreeSet<IpAddr>,
    /// The ports and addresses at which the API server was ever found.
    pub api: BTreeSet<(u16, IpAddr)>,
    /// All states since the last convergence.
    lately: Lately,
}

#[derive(Debug, Default)]
struct Lately {
    places: BTreeMap<String, Vec<Place>>,
    platform: Vec<Shape>,
    strict: Vec<Shape>,
    impaired: bool,
    /// The roles that each namespace opted out of at some time.
    without: BTreeMap<String, BTreeSet<&'static str>>,
}

impl Model {
    pub fn shape(&self, of: Place) -> Shape {
        if of == Place::Strict { self.strict } else { self.platform }
    }

    pub fn edit(&mut self, of: Place, shape: Shape) {
        let (now, lately) = match of {
            Place::Strict => (&mut self.strict, &mut self.lately.strict),
            Place::Platform | Place::Out => (&mut self.platform, &mut self.lately.platform),
        };
        *now = shape;
        lately.push(shape);
    }

    pub fn place(&mut self, name: &str, place: Place) {
        self.places.insert(name.to_owned(), place);
        self.lately.places.entry(name.to_owned()).or_default().push(place);
        if place != Place::Strict {
            self.held.remove(name);
        }
    }

    pub fn remove(&mut self, name: &str) {
        self.places.remove(name);
        self.held.remove(name);
        self.opt_outs.retain(|(of, _), _| of != name);
    }

    /// Records that an opt-out was created or edited.
    pub fn opt_out(&mut self, name: &str, opt_out: &str, to: OptOut) {
        if to.standing == Standing::InForce {
            self.lately.without.entry(name.to_owned()).or_default().extend(&to.roles);
        }
        self.opt_outs.insert((name.to_owned(), opt_out.to_owned()), to);
    }

    pub fn opt_outs_of(&self, name: &str) -> Vec<(String, OptOut)> {
        let of = self.opt_outs.iter().filter(|((of, _), _)| of == name);
        of.map(|((_, opt_out), what)| (opt_out.clone(), what.clone())).collect()
    }

    /// The next end of an opt-out that is in force.
    pub fn next_end(&self) -> Option<Timestamp> {
        let in_force = self.opt_outs.values().filter(|opt_out| opt_out.standing == Standing::InForce);
        in_force.map(|opt_out| opt_out.expires).min()
    }

    /// Marks the opt-outs that have ended by `now`.
    pub fn end(&mut self, now: Timestamp) {
        for opt_out in self.opt_outs.values_mut().filter(|opt_out| opt_out.expires <= now) {
            opt_out.standing = Standing::Over;
        }
    }

    /// The roles that a namespace does without now, because of opt-outs. Where ingress is open, the carve-out would close it.
    fn without(&self, name: &str) -> BTreeSet<&'static str> {
        let in_force = self.opt_outs.iter().filter(|((of, _), opt_out)| of == name && opt_out.standing == Standing::InForce);
        let mut roles: BTreeSet<&'static str> = in_force.flat_map(|(_, opt_out)| opt_out.roles.iter().copied()).collect();
        if roles.contains("DefaultDenyIngress") {
            roles.insert("MonitoringCarveout");
        }
        roles
    }

    /// The number of namespaces of a baseline that have opted out of a role that the baseline plans.
    pub fn opted_out(&self, of: Place) -> usize {
        let roles: BTreeSet<&str> = self.shape(of).names().into_values().flatten().collect();
        self.all_in(of).iter().filter(|name| !self.without(name).is_disjoint(&roles)).count()
    }

    pub fn strict_becomes(&mut self, health: Health) {
        self.health = health;
        self.held = self.all_in(Place::Strict);
        self.lately.impaired |= health != Health::Valid;
    }

    /// Records that everything is as planned and that all instances have seen it.
    pub fn converged(&mut self) {
        let places = self.places.iter().map(|(name, place)| (name.clone(), vec![*place])).collect();
        let without = self.places.keys().map(|name| (name.clone(), self.without(name))).collect();
        self.lately = Lately { places, platform: vec![self.platform], strict: vec![self.strict], impaired: false, without };
    }

    pub fn all_in(&self, place: Place) -> BTreeSet<String> {
        self.places.iter().filter(|(_, of)| **of == place).map(|(name, _)| name.clone()).collect()
    }

    /// The namespaces of the platform baseline that the strict one cannot have frozen, because they have not belonged to it lately.
    pub fn never_strict(&self) -> BTreeSet<String> {
        let mut all = self.all_in(Place::Platform);
        all.retain(|name| !self.was_lately(name, Place::Strict));
        all
    }

    fn was_lately(&self, name: &str, place: Place) -> bool {
        self.lately.places.get(name).is_some_and(|places| places.contains(&place))
    }

    /// The spec of a baseline, to be applied.
    pub fn spec(&self, of: Place) -> Value {
        let mut spec = self.shape(of).spec(of);
        if of == Place::Strict {
            match self.health {
                Health::Valid => {}
                // The CRD accepts it, but it is not a valid label key.
                Health::Broken => spec["namespaceSelector"] = json!({ "matchLabels": { "Bad Key!": "x" } }),
                Health::Audits => spec["mode"] = json!("Audit"),
            }
        }
        spec
    }

    /// What a namespace should hold once every baseline is valid. None if it should hold nothing.
    pub fn plan(&self, name: &str) -> Option<Plan> {
        let place = self.places[name];
        let plan = (place != Place::Out).then(|| self.shape(place).plan(place.label(), self.api_rules()))?;
        let plan = self.with_dns(plan);
        Some(self.without(name).into_iter().fold(plan, Plan::without))
    }

    /// One rule for each port of the API server.
    fn api_rules(&self) -> Vec<Value> {
        let ports: BTreeSet<u16> = self.api.iter().map(|(port, _)| *port).collect();
        let rule = |port: u16| {
            let its = self.api.iter().filter(|(of, _)| *of == port);
            let peers: Vec<Value> = its.map(|(_, address)| json!({ "ipBlock": { "cidr": format!("{address}/32") } })).collect();
            json!({ "to": peers, "ports": [{ "port": port, "protocol": "TCP" }] })
        };
        ports.into_iter().map(rule).collect()
    }

    /// Whether a namespace holds a default-deny at rest: of ingress, of egress.
    pub fn closes(&self, name: &str) -> [bool; 2] {
        let without = self.without(name);
        ["DefaultDenyIngress", "DefaultDenyEgress"].map(|role| !without.contains(role))
    }

    /// The plan with the addresses of the Services of DNS.
    pub fn with_dns(&self, plan: Plan) -> Plan {
        self.dns.iter().fold(plan, |plan, address| plan.dns_peer(&json!({ "ipBlock": { "cidr": format!("{address}/32") } })))
    }

    /// The policies of a baseline that every namespace has, whatever the current wave is.
    fn names(&self, of: Place) -> Names {
        let lately = if of == Place::Strict { &self.lately.strict } else { &self.lately.platform };
        let now = self.shape(of).names();
        if !self.shape(of).goes_in_waves() {
            return now;
        }
        // A namespace may still have the policies of any shape since the last convergence.
        lately.iter().fold(now, |names, shape| common(names, &shape.names()))
    }

    /// The policies that nobody may remove now, as pairs of namespace and name.
    pub fn planned(&self) -> BTreeSet<(String, String)> {
        let (platform, strict) = (self.names(Place::Platform), self.names(Place::Strict));
        let both = common(platform.clone(), &strict);
        let none = Names::new();
        // In a frozen namespace, opt-outs have no effect.
        let of = |name: &String, place: Place| match (place, self.health) {
            (Place::Out, _) => (&none, false),
            (Place::Platform, Health::Broken) if self.was_lately(name, Place::Strict) => (&both, false),
            (Place::Platform, _) => (&platform, false),
            (Place::Strict, Health::Broken | Health::Audits) if !self.held.contains(name) => (&none, false),
            (Place::Strict, Health::Broken | Health::Audits) => (&strict, true),
            (Place::Strict, Health::Valid) => (&strict, false),
        };
        let mut all = BTreeSet::new();
        for (name, place) in &self.places {
            let (names, frozen) = of(name, *place);
            let without = if frozen { BTreeSet::new() } else { self.without(name) };
            let planned = names.iter().filter(|(_, roles)| !roles.iter().all(|role| without.contains(role)));
            all.extend(planned.map(|(policy, _)| (name.clone(), policy.clone())));
        }
        all
    }

    /// The policies of `planned` that an instance may wrongly remove. It may see this change before an earlier change to an object of
    /// another kind, because namespaces, baselines and opt-outs have separate watches.
    pub fn doubtful(&self, planned: &BTreeSet<(String, String)>, about: About) -> BTreeSet<(String, String)> {
        let concerns = |name: &str| match about {
            About::Namespace(of) | About::OptOuts(of) => of == name,
            About::Baseline(of) => self.was_lately(name, of),
        };
        let lacks = |shapes: &[Shape], policy: &String| shapes.iter().any(|shape| !shape.names().contains_key(policy));
        let is_doubtful = |(name, policy): &&(String, String)| {
            let Some(places) = self.lately.places.get(name).filter(|_| concerns(name)) else { return false };
            // An instance that does not know yet that the namespace is frozen removes it.
            let lacks_all = |without: &BTreeSet<_>| roles_of(policy).iter().all(|role| without.contains(role));
            let is_missed = || self.lately.without.get(name).is_some_and(lacks_all);
            if self.lately.impaired && is_missed() {
                return true;
            }
            // The policy is planned in all these states, so an early opt-out event cannot make an instance remove more.
            let opted_out = matches!(about, About::OptOuts(_));
            !opted_out
                && places.iter().any(|place| match place {
                    Place::Out => true,
                    Place::Platform => lacks(&self.lately.platform, policy),
                    Place::Strict => lacks(&self.lately.strict, policy) || (self.lately.impaired && places.len() > 1),
                })
        };
        planned.iter().filter(is_doubtful).cloned().collect()
    }
}

/// The roles of a policy, found by its name in any shape.
fn roles_of(policy: &str) -> Vec<&'static str> {
    let of = |other_prefix: bool| Shape::with_all(other_prefix).names().remove(policy);
    of(false).or_else(|| of(true)).unwrap()
}
