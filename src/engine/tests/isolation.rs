//! Events in one namespace have no effect on another one (I7). Whatever happens to the first namespace and its policies, nothing is
//! written to the other one, and its findings stay the same.

use k8s_openapi::{api::networking::v1::NetworkPolicyIngressRule, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use proptest::prelude::*;
use serde_json::json;

use super::harness::EngineHarness;
use crate::{
    api::reason::Failure,
    engine::facts::event::{Change, Event},
};

const HERE: &str = "here";
const THERE: &str = "there";

/// An event in the one namespace.
#[derive(Clone, Debug)]
enum Deed {
    Open(usize),
    Relabel(usize),
    Delete(usize),
    /// A tenant's policy is created or changed.
    Foreign(String, bool),
    ForeignGone(String),
    Label(bool),
    Terminate,
    Gone,
    Comes,
}

/// How the API server answers the writes to that namespace.
#[derive(Clone, Copy, Debug)]
enum Answers {
    None,
    Ok,
    Refuses,
}

fn deed() -> impl Strategy<Value = Deed> {
    let policy = 0usize..3;
    prop_oneof![
        policy.clone().prop_map(Deed::Open),
        policy.clone().prop_map(Deed::Relabel),
        policy.prop_map(Deed::Delete),
        ("[a-c]", any::<bool>()).prop_map(|(name, as_ours)| Deed::Foreign(name, as_ours)),
        "[a-c]".prop_map(Deed::ForeignGone),
        any::<bool>().prop_map(Deed::Label),
        Just(Deed::Terminate),
        Just(Deed::Gone),
        Just(Deed::Comes),
    ]
}

fn meta(uid: usize, labelled: bool, terminating: bool) -> ObjectMeta {
    let mut meta = json!({"name": HERE, "uid": format!("uid-{uid}"), "creationTimestamp": "1970-01-01T00:10:00Z",
        "labels": {"kubernetes.io/metadata.name": HERE}});
    if !labelled {
        meta["labels"]["skip"] = "yes".into();
    }
    if terminating {
        meta["deletionTimestamp"] = "1970-01-01T00:11:00Z".into();
    }
    serde_json::from_value(meta).unwrap()
}

/// The namespace in which all events happen.
struct Here {
    sim: EngineHarness,
    uid: usize,
    labelled: bool,
}

impl Here {
    /// The name of one of the stored policies.
    fn policy(&self, which: usize) -> Option<String> {
        let mut names = self.sim.policies.keys().filter(|(ns, _)| ns == HERE).map(|(_, name)| name.clone());
        names.nth(which)
    }

    fn happens(&mut self, deed: Deed) {
        match deed {
            Deed::Open(which) => {
                if let Some(name) = self.policy(which) {
                    self.sim.tamper(HERE, &name, |p| {
                        p.spec.as_mut().unwrap().ingress = Some(vec![NetworkPolicyIngressRule::default()]);
                    });
                }
            }
            Deed::Relabel(which) => {
                if let Some(name) = self.policy(which) {
                    self.sim.tamper(HERE, &name, |p| p.metadata.labels = None);
                }
            }
            Deed::Delete(which) => {
                if let Some(name) = self.policy(which) {
                    self.sim.delete(HERE, &name);
                }
            }
            Deed::Foreign(name, as_ours) => self.foreign(&name, as_ours),
            Deed::ForeignGone(name) => {
                if self.sim.policies.contains_key(&(HERE.to_owned(), name.clone())) {
                    self.sim.delete(HERE, &name);
                }
            }
            Deed::Label(labelled) => {
                self.labelled = labelled;
                self.sim.see(Event::Namespace(Change::Applied(meta(self.uid, labelled, false).into())));
            }
            Deed::Terminate => self.sim.see(Event::Namespace(Change::Applied(meta(self.uid, self.labelled, true).into()))),
            Deed::Gone => {
                while let Some(name) = self.policy(0) {
                    self.sim.delete(HERE, &name);
                }
                self.sim.see(Event::Namespace(Change::Deleted(meta(self.uid, self.labelled, true).into())));
            }
            Deed::Comes => {
                self.uid += 1;
                self.sim.see(Event::Namespace(Change::Applied(meta(self.uid, self.labelled, false).into())));
            }
        }
    }

    /// A policy of a tenant; with `as_ours`, a copy of one of our policies from the other namespace.
    fn foreign(&mut self, name: &str, as_ours: bool) {
        let Some(mut object) = self.sim.policies.iter().find(|((ns, _), _)| ns == THERE).map(|(_, object)| object.clone()) else {
            return;
        };
        self.sim.version += 1;
        object.metadata.namespace = Some(HERE.into());
        object.metadata.name = Some(name.into());
        object.metadata.resource_version = Some(self.sim.version.to_string());
        if !as_ours {
            object.metadata.labels = None;
        }
        self.sim.policies.insert((HERE.into(), name.into()), object.clone());
        self.sim.see(Event::Policy(Change::Applied(Box::new(object))));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn i7_what_happens_in_one_namespace_leads_to_nothing_in_another(
        deeds in prop::collection::vec((deed(), prop::sample::select(vec![Answers::None, Answers::Ok, Answers::Refuses])), 1..16),
        refused in any::<bool>(),
    ) {
        let mut sim = EngineHarness::new();
        let unlabelled = json!({"matchExpressions": [{"key": "skip", "operator": "DoesNotExist"}]});
        sim.baseline(1, json!({"namespaceSelector": unlabelled, "existingNamespaces": "Enforce"}));
        sim.namespace(HERE);
        sim.namespace(THERE);
        sim.settle();
        if refused {
            // A write in the other namespace failed, and waits for its retry.
            sim.tamper(THERE, "baseline-default-deny-ingress", |p| p.metadata.labels = None);
            prop_assert_eq!(sim.answer(|_, _| Some(Failure::QuotaExceeded)), 1);
            prop_assert_eq!(sim.jobs().len(), 0);
        }
        let found = sim.engine.findings(THERE, sim.now());
        prop_assert_eq!(found.len(), 1);
        let untouched = |sim: &EngineHarness| -> Vec<_> {
            sim.policies.iter().filter(|((ns, _), _)| ns == THERE).map(|(_, p)| p.metadata.resource_version.clone()).collect()
        };
        let before = untouched(&sim);
        let mut here = Here { sim, uid: 0, labelled: true };
        for (deed, answers) in deeds {
            here.happens(deed);
            let mut written_to = Vec::new();
            let mut note = |ns: &str, answer| {
                written_to.push(ns.to_owned());
                answer
            };
            match answers {
                Answers::None => while here.sim.engine.assess_dirty(here.sim.now()) {},
                Answers::Ok => drop(here.sim.answer(|job, _| note(job.namespace.as_str(), None))),
                Answers::Refuses => drop(here.sim.answer(|job, _| note(job.namespace.as_str(), Some(Failure::DeniedByAdmission)))),
            }
            prop_assert!(written_to.iter().all(|ns| ns == HERE), "{:?}", written_to);
            prop_assert_eq!(&here.sim.engine.findings(THERE, here.sim.now()), &found);
        }
        prop_assert_eq!(untouched(&here.sim), before);
    }
}
