//! The release guard: by the change of which baseline a namespace would be opened. It is opened if it loses a default-deny, or if a policy
//! of ours begins to open a closed direction to everybody, or opens it further.
//! One file: most of it is the tables of changes that wait and of those that do not.

use std::{collections::BTreeSet, sync::Arc};

use super::{
    Baseline, Namespace,
    assign::{Baselines, Candidates, Holdings, Known},
};
use crate::{api::Role, policy::netpol::Wide};

/// What changes of baselines mean for one namespace.
#[derive(Debug, Default)]
pub struct ChangeEffects {
    /// The baselines by whose change the namespace would be opened, whatever the change is: a baseline selects the namespace no more, plans
    /// less, opens more, takes over and plans less than the former one, or is being deleted with its policies. Empty if it stays closed.
    pub opened_by: BTreeSet<Arc<str>>,
    /// The baselines by whose change the namespace could be opened: those that closed it, and the one that applies.
    pub concerned: BTreeSet<Arc<str>>,
    /// An invalid or suspended baseline keeps the namespace as it is for now. The other fields say what follows when it does so no more.
    pub is_frozen: bool,
}

impl Baselines {
    /// Finds out what changes of baselines mean for a namespace. One that is being deleted is opened by none.
    pub fn effects_of_changes(&self, ns: &Namespace, holdings: &Holdings) -> ChangeEffects {
        let Candidates { enforcing, frozen_by, .. } = self.candidates(ns, holdings);
        let is_frozen = frozen_by.is_some();
        // Which baseline applies when a suspended one does not keep its place any more.
        let winner = enforcing.iter().find(|baseline| !is_frozen || !baseline.suspended);
        let closed_by = holdings.denies.iter().map(|(_, owner)| owner.clone());
        let concerned = closed_by.chain(winner.map(|winner| winner.name.clone())).collect();
        let opened_by = if ns.terminating {
            BTreeSet::new()
        } else {
            self.openers_when(|owner| self.may_remove(owner) || (is_frozen && self.may_remove_later(owner)), ns, holdings, winner)
        };
        ChangeEffects { opened_by, concerned, is_frozen }
    }

    /// The baselines by whose change the namespace is opened, if `winner` applies there from now on. An opt-out is no change of a baseline.
    pub(super) fn openers(&self, ns: &Namespace, holdings: &Holdings, winner: Option<&Arc<Baseline>>) -> BTreeSet<Arc<str>> {
        self.openers_when(|owner| self.may_remove(owner), ns, holdings, winner)
    }

    /// The same, if what the policies of these owners close may be removed.
    fn openers_when(
        &self,
        may_remove: impl Fn(&str) -> bool,
        ns: &Namespace,
        holdings: &Holdings,
        winner: Option<&Arc<Baseline>>,
    ) -> BTreeSet<Arc<str>> {
        let is_lost =
            |(role, owner): &&(Role, Arc<str>)| may_remove(owner) && !winner.is_some_and(|winner| winner.closes_by(*role, ns));
        // The owner of a lost default-deny changed, unless it would still close the namespace: then the winner took it over.
        let to_blame = |(role, owner): &(Role, Arc<str>)| {
            let taken_over = winner.filter(|_| self.may_still_close(owner, *role, ns));
            taken_over.map_or_else(|| owner.clone(), |winner| winner.name.clone())
        };
        let losses = holdings.denies.iter().filter(is_lost).map(to_blame);
        losses.chain(winner.filter(|winner| winner.opens_more(ns, holdings)).map(|winner| winner.name.clone())).collect()
    }

    /// Whether a baseline would close this direction of the namespace if no other one had precedence. Of an invalid one, nobody knows.
    fn may_still_close(&self, name: &str, role: Role, ns: &Namespace) -> bool {
        match self.known(name) {
            Known::Valid(baseline) => !baseline.deleting && baseline.selects(ns) && baseline.closes_by(role, ns),
            Known::Invalid => true,
            Known::Gone => false,
        }
    }
}

impl Baseline {
    /// Whether a policy that it plans here opens a closed direction to everybody, further than the one that is there: on more ports, to more
    /// peers, or for other pods.
    fn opens_more(&self, ns: &Namespace, holdings: &Holdings) -> bool {
        if self.policies.iter().all(|policy| policy.wide.is_none()) {
            return false;
        }
        let nothing = Wide::default();
        let is_closed = |role: Role| holdings.denies.iter().any(|(closed, _)| *closed == role);
        let (ingress, egress) = (is_closed(Role::DefaultDenyIngress), is_closed(Role::DefaultDenyEgress));
        self.planned(ns).filter(|(_, policy)| !policy.wide.is_none()).any(|(_, policy)| {
            // With another prefix, it is still the same policy.
            let suffix = policy.purpose.suffix();
            let has_prefix = |rest: &str| holdings.prefixes.iter().any(|prefix| **prefix == *rest);
            let is_same = |name: &str| name == policy.name || name.strip_suffix(&*suffix).is_some_and(has_prefix);
            let held = holdings.wide.iter().filter(|(name, _)| is_same(name)).map(|(_, wide)| &**wide);
            // Where it is not yet, all that it opens is new.
            let held: Vec<&Wide> = held.chain([&nothing]).collect();
            (ingress && !held.iter().any(|held| policy.wide.has_ingress_within(held)))
                || (egress && !held.iter().any(|held| policy.wide.has_egress_within(held)))
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;
    use crate::{
        api::names::DENIES,
        policy::plan::Decision,
        testkit::{checked, checked_at, deleting, namespace, observed},
    };

    const OLD: i64 = 100;
    const NEW: i64 = 300;

    fn all(baselines: Vec<Baseline>) -> Baselines {
        let mut all = Baselines::default();
        for baseline in baselines {
            all.insert(Arc::new(baseline));
        }
        all
    }

    fn tell(decision: &Decision) -> String {
        match decision {
            Decision::Frozen(name) => format!("frozen {name}"),
            other => format!("{other:?}"),
        }
    }

    fn held_by(name: &str) -> Holdings {
        holds(&[(Role::DefaultDenyIngress, name), (Role::DefaultDenyEgress, name)])
    }

    /// The baselines by whose change a namespace is opened that no baseline freezes.
    fn opened_by(baselines: &Baselines, ns: &Namespace, held: &Holdings) -> BTreeSet<Arc<str>> {
        Some(baselines.effects_of_changes(ns, held))
            .filter(|effects| !effects.is_frozen)
            .map(|effects| effects.opened_by)
            .unwrap_or_default()
    }

    fn holds(denies: &[(Role, &str)]) -> Holdings {
        let denies: Vec<(Role, Arc<str>)> = denies.iter().map(|(role, owner)| (*role, Arc::from(*owner))).collect();
        Holdings {
            any: true,
            baselines: denies.iter().map(|(_, owner)| (owner.clone(), 0)).collect(),
            denies,
            ..Holdings::default()
        }
    }

    fn suspended(name: &str) -> Baseline {
        let mut baseline = checked_at(name, OLD, json!({}));
        baseline.suspended = true;
        baseline
    }

    fn names(names: &[&str]) -> BTreeSet<Arc<str>> {
        names.iter().map(|name| Arc::from(*name)).collect()
    }

    #[test]
    fn each_lost_default_deny_counts_for_the_baseline_that_changed() {
        let ns = namespace("a", &[]);
        // `a` left the namespace, and what `b` planned there is taken over by one that plans less.
        let less = checked_at("less", OLD, json!({"policies": ["MonitoringCarveout"], "priority": 1}));
        let left = checked_at("a", OLD, json!({"excludeNamespaces": ["a"]}));
        let baselines = all(vec![left, checked_at("b", OLD, json!({})), less]);
        let held = holds(&[(Role::DefaultDenyIngress, "a"), (Role::DefaultDenyEgress, "b")]);
        assert_eq!(opened_by(&baselines, &ns, &held), names(&["a", "less"]));
        let mut waiting = baselines.clone();
        waiting.await_confirmation(&"less".into(), true);
        assert_eq!(tell(&waiting.decide(&ns, &held).decision), "frozen less");
    }

    /// What a namespace holds after the baseline has written its policies there.
    fn holdings_of(baseline: &Baseline, ns: &Namespace) -> Holdings {
        let mut holdings = held_by(&baseline.name);
        for (_, policy) in baseline.planned(ns) {
            let wide = Wide::of(observed(policy, ns.name.as_str()).spec.as_ref().unwrap());
            if !wide.is_none() {
                holdings.wide.push((policy.name.as_str().into(), Arc::new(wide)));
            }
            let is_deny = policy.role().is_some_and(|role| DENIES.contains(&role));
            holdings.prefixes.extend(policy.name.strip_suffix(&*policy.purpose.suffix()).filter(|_| is_deny).map(Arc::from));
        }
        holdings
    }

    /// Whether an edit counts in a namespace that the baseline closed before.
    fn is_counted(what: &str, before: Value, after: Value, counts: bool) {
        let ns = namespace("a", &[]);
        let held = holdings_of(&checked_at("b", OLD, before), &ns);
        let mut baselines = all(vec![checked_at("b", OLD, after)]);
        assert_eq!(opened_by(&baselines, &ns, &held), names(if counts { &["b"] } else { &[] }), "{what}");
        baselines.await_confirmation(&"b".into(), true);
        let decision = tell(&baselines.decide(&ns, &held).decision);
        assert_eq!(decision == "frozen b", counts, "{what}: {decision}");
    }

    #[test]
    fn an_allow_is_not_another_one_whose_name_ends_alike() {
        let allow = |name: &str| json!({"name": name, "ingress": [{"from": [{"ipBlock": {"cidr": "0.0.0.0/0"}}]}], "acknowledgeOpen": true});
        let with = |prefix: &str, names: &[&str]| {
            let allows: Vec<Value> = names.iter().map(|name| allow(name)).collect();
            json!({"allows": allows, "metadata": {"namePrefix": prefix}})
        };
        for (what, before, after, counts) in [
            ("a shorter name", with("p-", &["x-allow-web"]), with("p-", &["x-allow-web", "web"]), true),
            ("a longer name", with("p-", &["web"]), with("p-", &["web", "x-allow-web"]), true),
            ("a longer prefix", with("p-", &["web"]), with("more-p-", &["web"]), false),
            ("a shorter prefix", with("more-p-", &["web"]), with("p-", &["web"]), false),
        ] {
            is_counted(what, before, after, counts);
        }
    }

    const V4: &str = r#"[{"ipBlock": {"cidr": "0.0.0.0/0"}}]"#;
    const V6: &str = r#"[{"ipBlock": {"cidr": "::/0"}}]"#;
    const BOTH: &str = r#"[{"ipBlock": {"cidr": "0.0.0.0/0"}}, {"ipBlock": {"cidr": "::/0"}}]"#;
    const PODS: &str = r#"[{"namespaceSelector": {}}]"#;

    /// A baseline with one allow in this direction.
    fn with_allow(direction: &str, (selector, peers, ports): &(Value, &str, Value)) -> Value {
        let peers: Value = serde_json::from_str(peers).unwrap();
        let mut rule = if direction == "ingress" { json!({"from": peers}) } else { json!({"to": peers}) };
        if !ports.is_null() {
            rule["ports"] = ports.clone();
        }
        let mut allow = json!({"name": "web", "podSelector": selector, "acknowledgeOpen": true});
        allow[direction] = json!([rule]);
        json!({"allows": [allow]})
    }

    #[test]
    fn an_allow_that_is_widened_counts_although_it_was_open_to_everybody_and_one_that_is_narrowed_does_not() {
        let some = || json!({"matchLabels": {"expose": "web"}});
        let other = || json!({"matchLabels": {"app": "db"}});
        let https = || json!([{"port": 443}]);
        let range = |first: i32, last: i32| json!([{"port": first, "endPort": last}]);
        let wider = [
            ("no podSelector", (some(), PODS, https()), (json!({}), PODS, https())),
            ("no ports", (some(), PODS, https()), (some(), PODS, Value::Null)),
            ("one more port", (some(), PODS, https()), (some(), PODS, json!([{"port": 80}, {"port": 443}]))),
            ("a longer range of ports", (some(), V4, range(80, 90)), (some(), V4, range(80, 91))),
            ("everybody", (some(), PODS, https()), (some(), BOTH, https())),
            ("both families", (some(), V4, https()), (some(), BOTH, https())),
        ];
        let others = [
            ("another podSelector", (some(), PODS, https()), (other(), PODS, https())),
            ("another port", (some(), PODS, https()), (some(), PODS, json!([{"port": 22}]))),
            ("the other family", (some(), V4, https()), (some(), V6, https())),
        ];
        for direction in ["ingress", "egress"] {
            for (what, before, after) in &wider {
                let (narrow, wide) = (with_allow(direction, before), with_allow(direction, after));
                is_counted(what, narrow.clone(), wide.clone(), true);
                is_counted(&format!("{what}, taken back"), wide.clone(), narrow.clone(), false);
                is_counted(&format!("{what}, no change"), wide.clone(), wide.clone(), false);
                let mut renamed = narrow.clone();
                renamed["metadata"] = json!({"namePrefix": "new-"});
                is_counted(&format!("{what}, taken back with another prefix"), wide, renamed, false);
                // A rule for others opens nothing to everybody.
                let mut more = narrow.clone();
                let rule = with_allow(direction, &(json!({}), r#"[{"sameNamespace": {}}]"#, Value::Null));
                let rule = rule["allows"][0][direction][0].clone();
                more["allows"][0][direction].as_array_mut().unwrap().push(rule);
                is_counted(&format!("{what}, and a narrow rule"), narrow, more, false);
            }
            for (what, one, other) in &others {
                let (one, other) = (with_allow(direction, one), with_allow(direction, other));
                is_counted(what, one.clone(), other.clone(), true);
                is_counted(&format!("{what}, reversed"), other, one, true);
            }
        }
    }

    #[test]
    fn dns_that_is_widened_counts_although_it_was_open_to_every_address() {
        let dns = |peers: &str, ports: &[i32]| {
            let peers: Value = serde_json::from_str(peers).unwrap();
            json!({"dns": {"peers": peers, "ports": ports}})
        };
        for (what, before, after, counts) in [
            ("the other family too", dns(V4, &[]), dns(BOTH, &[]), true),
            ("one family only", dns(BOTH, &[]), dns(V4, &[]), false),
            ("one more port", dns(V4, &[5353]), dns(V4, &[5353, 8053]), true),
            ("one port less", dns(V4, &[5353, 8053]), dns(V4, &[5353]), false),
        ] {
            is_counted(what, before, after, counts);
        }
    }

    #[test]
    fn an_allow_that_opens_to_everybody_counts_until_the_namespace_holds_it() {
        let ns = namespace("a", &[]);
        let allow = |peer: Value| json!({"allows": [{"name": "web", "ingress": [{"from": [peer]}], "acknowledgeOpen": true}]});
        let everybody = || json!({"ipBlock": {"cidr": "0.0.0.0/0"}});
        let dns = |cidr: &str| json!({"dns": {"peers": [{"ipBlock": {"cidr": cidr}}]}});
        let with = |mut spec: Value, key: &str, value: Value| {
            spec[key] = value;
            spec
        };
        for (what, before, after, counts) in [
            ("an allow", json!({}), allow(everybody()), true),
            ("an allow that was narrow", allow(json!({"ipBlock": {"cidr": "10.0.0.0/8"}})), allow(everybody()), true),
            ("an allow that names its peers", json!({}), allow(json!({"sameNamespace": {}})), false),
            ("no change", allow(everybody()), allow(everybody()), false),
            ("its prefix", allow(everybody()), with(allow(everybody()), "metadata", json!({"namePrefix": "new-"})), false),
            ("less of it", allow(everybody()), json!({}), false),
            ("DNS anywhere", json!({}), dns("0.0.0.0/0"), true),
            ("DNS anywhere, by IPv6", dns("10.0.0.0/8"), dns("::/0"), true),
            ("DNS of a network", json!({}), dns("10.0.0.0/8"), false),
            (
                "a narrow allow beside DNS anywhere",
                dns("0.0.0.0/0"),
                with(dns("0.0.0.0/0"), "allows", json!([{"name": "web", "egress": [{"to": [{"sameNamespace": {}}]}]}])),
                false,
            ),
        ] {
            is_counted(what, before, after, counts);
        }
        // Where nothing is closed, nothing is opened.
        let open = all(vec![checked_at("b", OLD, allow(everybody()))]);
        assert_eq!(opened_by(&open, &ns, &Holdings::default()), names(&[]));
    }

    #[test]
    fn whatever_takes_a_default_deny_away_counts_and_the_baseline_that_changed_is_named() {
        let ns = || namespace("a", &[("app", "prometheus")]);
        let less = |policies: &[&str]| json!({"policies": policies, "priority": 100});
        let scrapes =
            json!({"monitoring": {"from": [{"namespaceSelector": {"matchLabels": {"app": "prometheus"}}, "podSelector": {}}]}});
        let to_delete = |policy: &str| deleting(checked("b", json!({"deletionPolicy": policy})));
        let carveout = || checked_at("less", OLD, less(&["MonitoringCarveout"]));
        for (what, baselines, expected) in [
            ("nothing", vec![checked_at("b", OLD, json!({}))], None),
            ("its exclusions", vec![checked_at("b", OLD, json!({"excludeNamespaces": ["a"]}))], Some("b")),
            ("its policies", vec![checked_at("b", OLD, less(&["DefaultDenyIngress"]))], Some("b")),
            ("its sources of scrapes", vec![checked_at("b", OLD, scrapes)], Some("b")),
            ("its mode", vec![checked_at("b", OLD, json!({"mode": "Audit"}))], None),
            ("its claims", vec![checked_at("b", NEW, json!({"existingNamespaces": "Report"}))], None),
            ("its names", vec![checked_at("b", OLD, json!({"metadata": {"namePrefix": "new-"}}))], None),
            ("its deletion", vec![to_delete("Delete")], Some("b")),
            ("its deletion, which keeps them", vec![to_delete("Orphan")], None),
            ("another that takes over and plans less", vec![checked_at("b", OLD, json!({})), carveout()], Some("less")),
            (
                "another that plans as much",
                vec![checked_at("b", OLD, json!({})), checked_at("c", OLD, json!({"priority": 1}))],
                None,
            ),
            ("its deletion, and another that plans less", vec![to_delete("Delete"), carveout()], Some("b")),
            (
                "its exclusions, and another that plans less",
                vec![checked_at("b", OLD, json!({"excludeNamespaces": ["a"]})), carveout()],
                Some("b"),
            ),
            (
                "its policies, and another that plans less",
                vec![checked_at("b", OLD, less(&["MonitoringCarveout"])), carveout()],
                Some("b"),
            ),
            ("another, while it is suspended", vec![suspended("b"), carveout()], None),
        ] {
            let baselines = all(baselines);
            let opened = opened_by(&baselines, &ns(), &held_by("b"));
            assert!(opened.len() < 2, "{what}: {opened:?}");
            let opened = opened.into_iter().next();
            let is_frozen = matches!(baselines.decide(&ns(), &held_by("b")).decision, Decision::Frozen(_));
            assert_eq!(opened.as_deref().filter(|_| !is_frozen), expected.filter(|_| !is_frozen), "{what}");
            if let Some(name) = opened.filter(|_| !is_frozen) {
                let mut waiting = baselines;
                waiting.await_confirmation(&name, true);
                assert_eq!(tell(&waiting.decide(&ns(), &held_by("b")).decision), format!("frozen {name}"), "{what}");
            }
        }
        // Neither what an opt-out took away, nor what is being deleted anyway.
        let gone = all(vec![checked_at("b", OLD, json!({"excludeNamespaces": ["a"]}))]);
        let opted_out = Holdings { any: true, baselines: [(Arc::from("b"), 0)].into(), ..Holdings::default() };
        assert!(opened_by(&gone, &ns(), &opted_out).is_empty());
        assert!(opened_by(&gone, &Namespace { terminating: true, ..ns() }, &held_by("b")).is_empty());
        assert_eq!(gone.effects_of_changes(&ns(), &held_by("b")).concerned, [Arc::from("b")].into());
    }

    #[test]
    fn what_is_frozen_is_opened_by_the_baseline_that_would_open_it_afterwards() {
        let ns = namespace("a", &[]);
        let less = |policies: &[&str]| checked_at("less", OLD, json!({"policies": policies, "priority": 1}));
        let carveout = || less(&["MonitoringCarveout"]);
        let closing = || less(&["DefaultDenyIngress", "DefaultDenyEgress"]);
        let suspended_with = |mut spec: Value, name: &str| {
            spec["suspend"] = json!(true);
            checked_at(name, OLD, spec)
        };
        let first = || suspended_with(json!({"priority": 9}), "first");
        let elsewhere = || json!({"excludeNamespaces": ["a"]});
        for (what, baselines, invalid, expected) in [
            ("an invalid owner", vec![carveout()], Some("b"), Some("less")),
            ("an invalid owner, and one that closes as much", vec![closing()], Some("b"), None),
            ("a suspended owner", vec![suspended("b"), carveout()], None, Some("less")),
            ("a suspended owner, and one that closes as much", vec![suspended("b"), closing()], None, None),
            ("a suspended owner in Audit", vec![suspended_with(json!({"mode": "Audit"}), "b"), carveout()], None, None),
            ("another that is suspended", vec![checked_at("b", OLD, json!({})), carveout(), first()], None, Some("less")),
            ("an owner that left", vec![checked_at("b", OLD, elsewhere()), first()], None, Some("b")),
            ("no change", vec![checked_at("b", OLD, json!({})), first()], None, None),
        ] {
            let mut baselines = all(baselines);
            if let Some(name) = invalid {
                baselines.insert_invalid(name.into());
            }
            let effects = baselines.effects_of_changes(&ns, &held_by("b"));
            assert_eq!((effects.is_frozen, effects.opened_by), (true, expected.map(Arc::from).into_iter().collect()), "{what}");
            assert!(expected.is_none_or(|name| effects.concerned.contains(name)), "{what}");
        }
    }

    /// A baseline of this name that a change may have left with anything. `None`: it is gone.
    fn changed(name: &'static str) -> impl Strategy<Value = Option<Baseline>> {
        let policies =
            proptest::sample::subsequence(vec!["DefaultDenyIngress", "DefaultDenyEgress", "MonitoringCarveout"], 1..=3);
        let flags = (any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>());
        let all = (policies, -1..2, proptest::sample::select(vec!["Enforce", "Enforce", "Audit"]), flags);
        proptest::option::weighted(
            0.9,
            all.prop_map(move |(policies, priority, mode, (excluded, suspended, removed, keeps))| {
                let mut spec = json!({"policies": policies, "priority": priority, "mode": mode});
                spec["deletionPolicy"] = json!(if keeps { "Orphan" } else { "Delete" });
                if excluded {
                    spec["excludeNamespaces"] = json!(["a"]);
                }
                let mut baseline = checked_at(name, OLD, spec);
                (baseline.suspended, baseline.deleting) = (suspended && !removed, removed);
                baseline
            }),
        )
    }

    proptest! {
        #[test]
        fn no_change_takes_a_default_deny_away_while_it_awaits_confirmation(b in changed("b"), c in changed("c")) {
            let baselines = all([b, c].into_iter().flatten().collect());
            let (ns, held) = (namespace("a", &[]), held_by("b"));
            let before = baselines.decide(&ns, &held).decision;
            let keeps = |baselines: &Baselines, decision: &Decision| match decision {
                Decision::Frozen(_) => true,
                Decision::Protected(winner) => {
                    held.denies.iter().all(|(role, owner)| winner.closes_by(*role, &ns) || !baselines.may_remove(owner))
                }
                _ => !baselines.may_remove("b"),
            };
            let opened = opened_by(&baselines, &ns, &held);
            prop_assert!(opened.is_empty() == keeps(&baselines, &before), "{before:?}");
            for name in opened {
                let mut baselines = baselines.clone();
                baselines.await_confirmation(&name, true);
                let decision = baselines.decide(&ns, &held).decision;
                prop_assert!(matches!(&decision, Decision::Frozen(by) if *by == name), "{decision:?}");
            }
        }
    }
}
