//! A baseline that the operator accepts is one whose policies the API server accepts: no mistake in a spec comes to light only when its
//! policies are written, once in every namespace.

use futures::{StreamExt, stream};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::{
    Api,
    api::{Patch, PatchParams},
};
use policy_baseline::{Baseline, PolicyBaseline, Rendered};
use policy_baseline_e2e::{SYSTEM_NAMESPACE, dice::Dice, world::World};
use serde_json::{Value, json};

/// So many policies are applied, in a dry run.
const POLICIES: usize = 1_000;
/// So many specs are tried at most. About every tenth is accepted.
const SPECS: u64 = 40_000;

/// A value of the second list, now and then, is one that somebody might type and that is wrong, or at a limit.
struct Specs(Dice);

impl Specs {
    fn one(&mut self, good: &[&str], odd: &[&str]) -> String {
        let among = if self.0.below(12) == 0 { odd } else { good };
        self.0.pick(among).to_owned()
    }

    fn many<T>(&mut self, most: usize, mut one: impl FnMut(&mut Self) -> T) -> Vec<T> {
        (0..self.0.below(most + 1)).map(|_| one(self)).collect()
    }

    fn key(&mut self) -> String {
        let long = format!("{}/{}", vec!["d".repeat(63); 4].join("."), "k".repeat(63));
        let longest = format!("{}/{}", vec!["d".repeat(63); 3].join("."), "k".repeat(63));
        let good = ["app", "tier", "example.com/tier", "App.kubernetes.io_x", "1", &longest];
        let odd = ["", "/", "a/", "/a", "a/b/c", "Example.com/tier", "-a", "a-", "é", "a b", "a..b/c", &"k".repeat(64), &long];
        self.one(&good, &odd)
    }

    fn value(&mut self) -> String {
        self.one(&["", "a", "A.b_c-d", "1", &"v".repeat(63)], &["-", "a b", "a/b", "é", ".a", "a.", &"v".repeat(64)])
    }

    fn labels(&mut self) -> Value {
        self.many(2, |specs| (specs.key(), Value::String(specs.value()))).into_iter().collect::<serde_json::Map<_, _>>().into()
    }

    fn selector(&mut self) -> Value {
        let expression = |specs: &mut Self| {
            let operator = specs.one(&["In", "NotIn", "Exists", "DoesNotExist"], &["in", "Gt"]);
            let most = if operator.ends_with("In") || specs.0.below(12) == 0 { 2 } else { 0 };
            json!({ "key": specs.key(), "operator": operator, "values": specs.many(most, Self::value) })
        };
        let expressions = self.many(1, expression);
        json!({ "matchLabels": self.labels(), "matchExpressions": expressions })
    }

    fn range(&mut self) -> String {
        self.one(
            &["10.0.0.0/8", "10.1.0.0/16", "10.1.2.0/24", "10.1.2.3/32", "0.0.0.0/0", "fd00::/8", "fd00::a/128", "FD00:1::/32"],
            &[
                "10.0.0.1/8",
                "010.0.0.0/8",
                "10.0.0.0/08",
                "10.0.0.0/33",
                "10.0.0.0",
                "10.0.0/8",
                "::ffff:10.0.0.0/104",
                "fd00::1/8",
                "fd00::/129",
                "fe80::1%eth0/128",
                " 10.0.0.0/8",
                "",
            ],
        )
    }

    fn peer(&mut self) -> Value {
        match self.0.below(8) {
            0..3 => json!({ "ipBlock": { "cidr": self.range(), "except": self.many(2, Self::range) } }),
            3 => json!({ "podSelector": self.selector() }),
            _ => json!({ "namespaceSelector": self.selector(), "podSelector": self.selector() }),
        }
    }

    fn number(&mut self) -> i32 {
        let among = if self.0.below(12) == 0 { [0, -1, 65536, i32::MAX] } else { [1, 53, 9090, 65535] };
        self.0.pick(&among)
    }

    fn port(&mut self) -> Value {
        let name = |specs: &mut Self| {
            let odd = ["", "8080", "Web", "web--x", "-web", "web-", "web_x", "é", "a-port-of-16-let", "*"];
            specs.one(&["web", "http-metrics", "1x", "x", "a-port-of-15-le"], &odd)
        };
        let mut port = if self.0.below(3) == 0 { json!({ "port": name(self) }) } else { json!({ "port": self.number() }) };
        if self.0.below(4) == 0 {
            port["endPort"] = self.number().into();
        }
        port
    }

    fn source(&mut self) -> Value {
        json!({ "namespaceSelector": { "matchLabels": { "a": self.value() } }, "podSelector": self.selector() })
    }

    /// A peer of an allow. Everybody is possible too, so that the operator has something to refuse.
    fn allow_peer(&mut self) -> Value {
        match self.0.below(8) {
            0 => json!({ "sameNamespace": {} }),
            1 => json!({ "sameNamespace": { "podSelector": self.selector() } }),
            2 => json!({ "kubernetesAPI": {} }),
            _ => self.peer(),
        }
    }

    fn allow(&mut self, n: usize) -> Value {
        let name = self.one(
            &[&format!("a{n}"), &format!("{n}-{}", "n".repeat(28))],
            &["", "-a", "A", "default-deny-ingress", &"n".repeat(31)],
        );
        let mut allow = json!({ "name": name, "podSelector": self.selector(), "namespaceSelector": self.selector() });
        allow["acknowledgeOpen"] = (self.0.below(2) == 0).into();
        for (direction, list) in [("ingress", "from"), ("egress", "to")] {
            let mut rule = json!({ list: self.many(2, Self::allow_peer) });
            if self.0.below(2) == 0 {
                rule["ports"] = self.many(2, Self::port).into();
            }
            if self.0.below(2) == 0 {
                allow[direction] = json!([rule]);
            }
        }
        allow
    }

    fn spec(&mut self) -> Value {
        let allows: Vec<Value> = (0..self.0.below(3)).map(|n| self.allow(n)).collect();
        let prefix = self.one(
            &["baseline-", "b-", "1-", &format!("{}-", "p".repeat(39))],
            &["", "-", "b", "B-", "b.-", "-b-", "b_-", &format!("{}-", "p".repeat(40))],
        );
        json!({
            "mode": "Enforce",
            "allows": allows,
            "dns": { "peers": self.many(2, Self::peer), "ports": self.many(2, Self::number) },
            "monitoring": {
                "from": [self.source()],
                "ports": [self.port(), self.port()],
                "podSelector": self.selector(),
                "sourceEgress": self.0.pick(&["Open", "Enforce"]),
            },
            "metadata": { "namePrefix": prefix, "labels": self.labels(), "annotations": self.labels() },
        })
    }

    /// The policies of the next baseline; none if the operator does not accept it.
    fn policies(&mut self) -> Option<Vec<Rendered>> {
        let metadata = json!({ "name": "random", "uid": "random", "creationTimestamp": "2020-01-01T00:00:00Z" });
        let baseline: PolicyBaseline = serde_json::from_value(json!({
            "apiVersion": "policybaseline.io/v1alpha1", "kind": "PolicyBaseline", "metadata": metadata, "spec": self.spec(),
        }))
        .ok()?;
        Baseline::check(&baseline, SYSTEM_NAMESPACE).ok().map(|baseline| baseline.policies)
    }
}

#[tokio::test]
async fn a_baseline_that_is_accepted_has_policies_that_the_apiserver_accepts() {
    let seed = Dice::from_env().below(usize::MAX) as u64;
    let accepted = (0..SPECS).filter_map(|n| Specs(Dice::nth(seed, n)).policies());
    let policies: Vec<Rendered> = accepted.flatten().take(POLICIES).collect();
    assert_eq!(policies.len(), POLICIES, "too few specs are accepted");

    let world = World::new().await.unwrap();
    let namespace = world.namespace("accepted", &[]).await.unwrap();
    let api: Api<NetworkPolicy> = Api::namespaced(world.admin(), &namespace);
    let params = PatchParams { dry_run: true, ..PatchParams::apply("e2e").force() };
    let refused: Vec<String> = stream::iter(&policies)
        .map(async |policy| {
            let object = policy.object(&namespace, None);
            let refused = api.patch(&policy.name, &params, &Patch::Apply(&object)).await.err();
            refused.map(|error| format!("{object}\n  {error}"))
        })
        .buffer_unordered(16)
        .filter_map(async |refused| refused)
        .collect()
        .await;
    assert!(refused.is_empty(), "{} of {POLICIES}, for example {}", refused.len(), refused[0]);
}
