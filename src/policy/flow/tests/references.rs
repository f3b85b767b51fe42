//! What another engine reads differently from the API reference, where no other test here is about it. `docs/reference-engines.md` lists all.

use serde_json::{Value, json};

use super::{
    Way, policy,
    rules::{DENIED, base},
    says, snapshot, with_ports,
};

/// What the ingress of `shop/db` says about TCP 80 from `shop/web`, if a policy allows the pods of this selector.
fn from_selected(selector: Value, web_labels: Value) -> String {
    let mut objects = base();
    objects[2]["metadata"]["labels"] = web_labels;
    let spec = json!({"podSelector": {"matchLabels": {"app": "db"}}, "ingress": [{"from": [{"podSelector": selector}]}]});
    says(&snapshot(&[objects, vec![policy("shop/p", spec)]].concat()), Way::Ingress, "shop/web", "shop/db", 80)
}

const ALLOWED: &str = "allowed by shop/p rule0 peer0";

#[test]
fn not_in_selects_a_pod_that_lacks_the_label() {
    let selector = json!({"matchExpressions": [{"key": "tier", "operator": "NotIn", "values": ["back"]}]});
    assert_eq!(from_selected(selector.clone(), json!({})), ALLOWED);
    assert_eq!(from_selected(selector.clone(), json!({"tier": "front"})), ALLOWED);
    assert_eq!(from_selected(selector, json!({"tier": "back"})), DENIED);
}

#[test]
fn a_label_with_an_empty_value_is_not_an_absent_label() {
    for selector in [
        json!({"matchLabels": {"tier": ""}}),
        json!({"matchExpressions": [{"key": "tier", "operator": "In", "values": [""]}]}),
        json!({"matchExpressions": [{"key": "tier", "operator": "Exists"}]}),
    ] {
        assert_eq!(from_selected(selector.clone(), json!({"tier": ""})), ALLOWED, "{selector}");
        assert_eq!(from_selected(selector.clone(), json!({})), DENIED, "{selector}");
    }
}

#[test]
fn each_name_of_a_port_is_a_name_of_it() {
    for name in ["sql", "postgres"] {
        let mut objects = base();
        objects[3] = with_ports(objects[3].clone(), &[("sql", 5432), ("postgres", 5432), ("postgres", 5433)]);
        let spec = json!({"podSelector": {"matchLabels": {"app": "db"}}, "ingress": [{"ports": [{"port": name}]}]});
        let world = snapshot(&[objects, vec![policy("shop/p", spec)]].concat());
        let port = |number: u16| says(&world, Way::Ingress, "shop/web", "shop/db", number);
        assert_eq!(port(5432), "allowed by shop/p rule0 port0", "{name}");
        assert_eq!(port(5433), if name == "sql" { DENIED } else { "allowed by shop/p rule0 port0" }, "{name}");
    }
}
