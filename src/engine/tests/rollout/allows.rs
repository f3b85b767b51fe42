//! Edits of `spec.allows` go out in waves, as those of the other fields that are written into policies.

use super::*;

const WEB: &str = "baseline-allow-web";
const SAME: &str = "baseline-allow-same";

/// An allow of ingress on this port, between the pods of a namespace.
fn allow(name: &str, port: u16) -> Value {
    json!({"name": name, "ingress": [{"from": [{"sameNamespace": {}}], "ports": [{"port": port}]}]})
}

fn allowing(allows: &[Value]) -> Value {
    let mut spec = spec(1);
    spec["allows"] = json!(allows);
    spec
}

/// The port that a policy opens in each namespace, `-` without the policy.
fn opened(cluster: &Cluster, policy: &str) -> String {
    let port = |ns: &str| {
        let Some(policy) = cluster.sim.policies.get(&(ns.to_owned(), policy.to_owned())) else { return "-".into() };
        serde_json::to_value(policy).unwrap()["spec"]["ingress"][0]["ports"][0]["port"].to_string()
    };
    NAMES.map(port).join(" ")
}

#[test]
fn an_edit_of_the_allows_goes_out_in_waves_and_until_then_each_namespace_keeps_its_former_ones() {
    let mut cluster = Cluster::settled(allowing(&[allow("web", 1)]));
    assert_eq!(opened(&cluster, WEB), "1 1 1 1 1");
    // One allow is changed, and one is added.
    cluster.edit(allowing(&[allow("web", 2), allow("same", 3)]));
    cluster.work();
    assert_eq!((&*opened(&cluster, WEB), &*opened(&cluster, SAME)), ("2 1 1 1 1", "3 - - - -"));
    assert_eq!(cluster.status(), ("RollingOut".into(), [1, 5, 1]));
    cluster.pass(MINUTE);
    assert_eq!((&*opened(&cluster, WEB), &*opened(&cluster, SAME)), ("2 2 1 1 1", "3 3 - - -"));

    // What somebody deletes comes back as it was assigned.
    for ns in ["b", "c"] {
        cluster.sim.delete(ns, WEB);
    }
    cluster.work();
    assert_eq!(opened(&cluster, WEB), "2 2 1 1 1");
    // A restart goes on where it was.
    let mut cluster = cluster.restart();
    cluster.work();
    assert_eq!((&*opened(&cluster, WEB), &*opened(&cluster, SAME)), ("2 2 1 1 1", "3 3 - - -"));
    for _ in 0..5 {
        cluster.pass(MINUTE);
    }
    assert_eq!((&*opened(&cluster, WEB), &*opened(&cluster, SAME)), ("2 2 2 2 2", "3 3 3 3 3"));
    assert_eq!(cluster.status().0, "Protected");
}

#[test]
fn an_allow_that_is_removed_goes_in_waves_and_comes_back_at_once_if_that_is_taken_back() {
    let both = allowing(&[allow("web", 1), allow("same", 3)]);
    let mut cluster = Cluster::settled(both.clone());
    cluster.edit(allowing(&[allow("web", 1)]));
    cluster.work();
    assert_eq!(opened(&cluster, SAME), "- 3 3 3 3");
    cluster.pass(MINUTE);
    assert_eq!(opened(&cluster, SAME), "- - 3 3 3");
    cluster.edit(both);
    cluster.work();
    assert_eq!(opened(&cluster, SAME), "3 3 3 3 3");
    assert_eq!(opened(&cluster, WEB), "1 1 1 1 1");
}

#[test]
fn without_a_rollout_an_edit_of_the_allows_reaches_every_namespace_at_once() {
    let without = |port: u16| json!({"dns": {"ports": [1]}, "allows": [allow("web", port)]});
    let mut cluster = Cluster::settled(without(1));
    cluster.edit(without(2));
    cluster.work();
    assert_eq!(opened(&cluster, WEB), "2 2 2 2 2");
}
