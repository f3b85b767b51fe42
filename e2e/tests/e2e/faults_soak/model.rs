//! What the soak has asked for: which baseline each namespace is for, and what the baselines say. What a namespace should hold follows
//! from it, and what nobody may remove there.

use std::collections::{BTreeMap, BTreeSet};

use policy_baseline_e2e::Dice;
use serde_json::{Value, json};

use crate::faults::PLACE;
use crate::scene::Plan;

const OWNER: &str = "example.com/owner";

/// Which baseline a namespace is for.
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

    /// Any of them, the first ones more often.
    pub fn any(dice: &mut Dice) -> Self {
        dice.pick(&[Self::Platform, Self::Platform, Self::Platform, Self::Strict, Self::Strict, Self::Out])
    }
}

/// What a baseline asks for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Shape {
    other_prefix: bool,
    more_dns: bool,
    owner: Option<&'static str>,
    scraped: Option<i32>,
    without_carveout: bool,
}

impl Shape {
    /// The same with one part changed. Names change seldom: then everything is written anew.
    pub fn edited(mut self, dice: &mut Dice) -> Self {
        match dice.below(10) {
            0 => self.other_prefix = !self.other_prefix,
            1 => self.without_carveout = !self.without_carveout,
            2..5 => self.more_dns = !self.more_dns,
            5..8 => self.owner = dice.pick(&[None, Some("a"), Some("b")]),
            _ => self.scraped = dice.pick(&[None, Some(9100), Some(9200)]),
        }
        self
    }

    /// What it does not ask for is left out: an apply that empties a map makes it null.
    fn spec(self, place: Place) -> Value {
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
        spec
    }

    fn plan(self, baseline: &str) -> Plan {
        let mut plan = Plan::of(baseline);
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
        if self.without_carveout { plan.without("MonitoringCarveout") } else { plan }
    }

    /// Of the policies of every shape.
    pub fn all_names() -> BTreeSet<String> {
        let [one, other] = [false, true].map(|other_prefix| Self { other_prefix, ..Self::default() }.names());
        one.union(&other).cloned().collect()
    }

    fn names(self) -> BTreeSet<String> {
        self.plan("").policies().into_keys().collect()
    }
}

/// How the strict baseline is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Health {
    #[default]
    Valid,
    /// It cannot be planned with: what it holds is frozen.
    Broken,
    /// It writes nothing.
    Audits,
}

/// What a change is about.
#[derive(Debug, Clone, Copy)]
pub enum About<'a> {
    Namespace(&'a str),
    Baseline(Place),
}

#[derive(Debug, Default)]
pub struct Model {
    /// Of each namespace that lives.
    pub places: BTreeMap<String, Place>,
    platform: Shape,
    strict: Shape,
    pub health: Health,
    /// Which namespaces were for the strict baseline when it was last valid, and have been since.
    held: BTreeSet<String>,
    /// All that was so since everything was as planned.
    lately: Lately,
}

#[derive(Debug, Default)]
struct Lately {
    places: BTreeMap<String, Vec<Place>>,
    platform: Vec<Shape>,
    strict: Vec<Shape>,
    impaired: bool,
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
    }

    pub fn strict_becomes(&mut self, health: Health) {
        self.health = health;
        self.held = self.all_in(Place::Strict);
        self.lately.impaired |= health != Health::Valid;
    }

    /// Everything is as planned, and known to everybody.
    pub fn converged(&mut self) {
        let places = self.places.iter().map(|(name, place)| (name.clone(), vec![*place])).collect();
        self.lately = Lately { places, platform: vec![self.platform], strict: vec![self.strict], impaired: false };
    }

    pub fn all_in(&self, place: Place) -> BTreeSet<String> {
        self.places.iter().filter(|(_, of)| **of == place).map(|(name, _)| name.clone()).collect()
    }

    /// The namespaces of the platform baseline that cannot be frozen by the strict one: they have not been for it lately.
    pub fn never_strict(&self) -> BTreeSet<String> {
        let mut all = self.all_in(Place::Platform);
        all.retain(|name| !self.was_lately(name, Place::Strict));
        all
    }

    fn was_lately(&self, name: &str, place: Place) -> bool {
        self.lately.places.get(name).is_some_and(|places| places.contains(&place))
    }

    /// The spec of a baseline, as it is to be applied.
    pub fn spec(&self, of: Place) -> Value {
        let mut spec = self.shape(of).spec(of);
        if of == Place::Strict {
            match self.health {
                Health::Valid => {}
                // The CRD accepts it, and no label can be so.
                Health::Broken => spec["namespaceSelector"] = json!({ "matchLabels": { "Bad Key!": "x" } }),
                Health::Audits => spec["mode"] = json!("Audit"),
            }
        }
        spec
    }

    /// What a namespace should hold once every baseline is valid.
    pub fn plan(&self, name: &str) -> Option<Plan> {
        let place = self.places[name];
        (place != Place::Out).then(|| self.shape(place).plan(place.label()))
    }

    /// The policies, with their namespaces, that nobody may remove now.
    pub fn planned(&self) -> BTreeSet<(String, String)> {
        let (platform, strict) = (self.platform.names(), self.strict.names());
        let both: BTreeSet<String> = platform.intersection(&strict).cloned().collect();
        let none = BTreeSet::new();
        let of = |name: &String, place: Place| match (place, self.health) {
            (Place::Out, _) => &none,
            (Place::Platform, Health::Broken) if self.was_lately(name, Place::Strict) => &both,
            (Place::Platform, _) => &platform,
            (Place::Strict, Health::Broken | Health::Audits) if !self.held.contains(name) => &none,
            (Place::Strict, _) => &strict,
        };
        self.places
            .iter()
            .flat_map(|(name, place)| of(name, *place).iter().map(|policy| (name.clone(), policy.clone())))
            .collect()
    }

    /// Of these, those that look planned no more to who learns of a change of that kind while another one has not reached him yet: namespaces
    /// and baselines are told apart.
    pub fn doubtful(&self, planned: &BTreeSet<(String, String)>, about: About) -> BTreeSet<(String, String)> {
        let concerns = |name: &str| match about {
            About::Namespace(of) => of == name,
            About::Baseline(of) => self.was_lately(name, of),
        };
        let lacks = |shapes: &[Shape], policy: &String| shapes.iter().any(|shape| !shape.names().contains(policy));
        let is_doubtful = |(name, policy): &&(String, String)| {
            let Some(places) = self.lately.places.get(name).filter(|_| concerns(name)) else { return false };
            places.iter().any(|place| match place {
                Place::Out => true,
                Place::Platform => lacks(&self.lately.platform, policy),
                Place::Strict => lacks(&self.lately.strict, policy) || (self.lately.impaired && places.len() > 1),
            })
        };
        planned.iter().filter(is_doubtful).cloned().collect()
    }
}
