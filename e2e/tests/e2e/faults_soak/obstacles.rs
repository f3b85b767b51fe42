//! What refuses writes of the operator for some seconds: an admission policy, a webhook that does not answer, or a quota. And three kinds of
//! objects that others write: policies with forged owners, Services and EndpointSlices of DNS, and the EndpointSlice of the API server.

use std::collections::BTreeSet;
use std::net::IpAddr;

use k8s_openapi::api::core::v1::{ResourceQuota, Service};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::ResourceExt;
use kube::api::{Api, DeleteParams, PostParams};
use policy_baseline_e2e::{Dice, TIMEOUT, World, cluster::free_port};
use serde_json::{Value, json};

use super::others::{MOST_OWN, tried};
use super::refusal::{Obstacle, ObstacleKind as Kind};
use super::shape::Place;
use super::{NAMES, Soak, all_names};
use crate::admin_port::{address_of, get, metric};
use crate::others::forged;
use crate::scene::policies_of;

/// The start of the names of forged policies.
const FORGED: &str = "forged-";
const REFUSES: &str = "soak-refuses";
const QUOTA: &str = "soak";
const KUBE_SYSTEM: &str = "kube-system";
/// Each further place of DNS rewrites all egress policies.
const MOST_DNS: usize = 3;
/// Each further address of the API server rewrites all policies of an allow.
const MOST_API: usize = 4;
const API_PORT: u16 = 6443;

/// The writes of policies by the operator in three namespaces.
fn about(names: &[&String]) -> [(&'static str, Value); 2] {
    let selector = json!({ "matchExpressions": [{ "key": "kubernetes.io/metadata.name", "operator": "In", "values": names }] });
    let by_the_operator = format!("request.userInfo.username == '{}'", World::operator_user());
    [("namespaceSelector", selector), ("matchConditions", json!([{ "name": "operator", "expression": by_the_operator }]))]
}

fn rule() -> Value {
    json!({ "apiGroups": ["networking.k8s.io"], "apiVersions": ["v1"], "operations": ["CREATE", "UPDATE"],
        "resources": ["networkpolicies"] })
}

/// An admission policy that refuses these writes, and its binding.
fn policy(names: &[&String]) -> [Value; 2] {
    let [(_, selector), (_, conditions)] = about(names);
    let head =
        |kind: &str| json!({ "apiVersion": "admissionregistration.k8s.io/v1", "kind": kind, "metadata": { "name": REFUSES } });
    let (mut policy, mut binding) = (head("ValidatingAdmissionPolicy"), head("ValidatingAdmissionPolicyBinding"));
    policy["spec"] = json!({
        "failurePolicy": "Fail", "matchConditions": conditions,
        "matchConstraints": { "namespaceSelector": selector, "resourceRules": [rule()] },
        "validations": [{ "expression": "false", "message": "not now" }],
    });
    binding["spec"] = json!({ "policyName": REFUSES, "validationActions": ["Deny"] });
    [policy, binding]
}

/// A webhook that would have to be asked about these writes, at a port where nobody listens.
fn webhook(names: &[&String]) -> Value {
    let [(_, selector), (_, conditions)] = about(names);
    let url = format!("https://127.0.0.1:{}/validate", free_port().unwrap());
    json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingWebhookConfiguration", "metadata": { "name": REFUSES },
        "webhooks": [{
            "name": "down.example.com", "clientConfig": { "url": url }, "namespaceSelector": selector, "matchConditions": conditions,
            "rules": [rule()], "failurePolicy": "Fail", "sideEffects": "None", "admissionReviewVersions": ["v1"],
            "timeoutSeconds": 1,
        }],
    })
}

/// Whether a tenant forged the policy in the name of that baseline.
pub fn is_forged(policy: &NetworkPolicy, owner: Place) -> bool {
    policy.name_any().starts_with(FORGED)
        && policy.labels().get("policybaseline.io/baseline").is_some_and(|of| of == owner.label())
}

impl Soak {
    // Obstacles.

    /// Refuses some writes of the operator for some seconds. While a change goes out in waves, nothing is refused: the rollout would
    /// pause until somebody edits the spec.
    pub async fn obstruct(&mut self, name: &str, dice: &mut Dice) {
        let in_waves = [Place::Platform, Place::Strict].into_iter().any(|of| self.model.shape(of).goes_in_waves());
        if self.obstacle.is_some() || in_waves {
            return;
        }
        let all = all_names();
        let names = [(); 3].map(|()| &all[dice.below(NAMES)]);
        let until = self.turn + 15 + dice.below(30) as u64;
        let (kind, what) = match dice.below(3) {
            0 => {
                for object in policy(&names) {
                    self.world.apply_yaml(&object.to_string()).await.unwrap();
                }
                (Kind::Policy, "writes refused by an admission policy")
            }
            1 => {
                self.world.apply_yaml(&webhook(&names).to_string()).await.unwrap();
                (Kind::Webhook, "writes refused by a webhook that is down")
            }
            _ => {
                let hard = json!({ "count/networkpolicies.networking.k8s.io": "2" });
                let quota = json!({ "metadata": { "name": QUOTA }, "spec": { "hard": hard } });
                let quotas = Api::<ResourceQuota>::namespaced(self.client.clone(), name);
                if tried(quotas.create(&PostParams::default(), &serde_json::from_value(quota).unwrap()).await).is_none() {
                    return;
                }
                (Kind::Quota(name.to_owned()), "quotas of policies")
            }
        };
        self.obstacle = Some(Obstacle { kind, until });
        self.count(what);
    }

    /// Removes the obstacle when its time is over.
    pub async fn end_obstacle(&mut self) {
        if self.obstacle.as_ref().is_some_and(|obstacle| self.turn >= obstacle.until) {
            self.remove_obstacle().await;
        }
    }

    pub async fn remove_obstacle(&mut self) {
        let Some(Obstacle { kind, .. }) = self.obstacle.take() else { return };
        let kinds: &[&str] = match &kind {
            Kind::Policy => &["validatingadmissionpolicybinding", "validatingadmissionpolicy"],
            Kind::Webhook => &["validatingwebhookconfiguration"],
            Kind::Quota(name) => {
                let quotas = Api::<ResourceQuota>::namespaced(self.client.clone(), name);
                tried(quotas.delete(QUOTA, &DeleteParams::default()).await);
                return;
            }
        };
        for kind in kinds {
            self.world.plane().run_kubectl(&["delete", kind, REFUSES]).unwrap();
        }
    }

    // Forged policies.

    /// A tenant writes a policy that says that it is the operator's. If the baseline that it names exists, the operator removes the
    /// policy. Otherwise nobody touches it.
    pub async fn forge(&mut self, name: &str, dice: &mut Dice) {
        if self.judge.space(name).theirs.len() >= MOST_OWN {
            return;
        }
        let owner = dice.pick(&[None, Some("nobody"), Some(Place::Platform.label()), Some(Place::Strict.label())]);
        let is_removed = owner.is_some_and(|owner| owner != "nobody");
        let policy = World::unique("forged");
        assert!(policy.starts_with(FORGED), "{policy}");
        if is_removed {
            self.judge.drops(name, &policy);
        }
        let made = policies_of(&self.client, name).create(&PostParams::default(), &forged(name, &policy, owner)).await;
        let Some(made) = tried(made) else { return };
        if !is_removed {
            self.judge.space(name).theirs.insert(policy, made.resource_version().unwrap());
        }
        self.count(if is_removed { "forged policies of a baseline" } else { "forged policies of nobody" });
    }

    /// Waits until the first instance counts exactly the forged policies of nobody as orphans.
    pub async fn until_orphans_told(&self) {
        let theirs = self.judge.spaces.values().flat_map(|space| space.theirs.keys());
        let count = theirs.filter(|policy| policy.starts_with(FORGED)).count();
        let instance = self.seats[0].instance.as_ref().unwrap();
        let address = address_of(&self.world, &instance.operator).await;
        let told = async || {
            let told = metric(&get(&address, "/metrics").2, "policy_baseline_orphaned_policies");
            // A whole number, as f64 prints it.
            if told.to_string() == count.to_string() { Ok(true) } else { Err(format!("{told}")) }
        };
        self.world.eventually(&format!("{count} orphans are told"), TIMEOUT, told).await.unwrap();
    }

    // DNS.

    /// One more Service of DNS, with an EndpointSlice. All egress policies allow its address from then on.
    pub async fn add_dns(&mut self) {
        let number = self.model.dns.len();
        if number >= MOST_DNS {
            return;
        }
        let name = format!("soak-dns-{number}");
        let service = json!({
            "metadata": { "name": name, "labels": { "k8s-app": "kube-dns" } },
            "spec": { "selector": { "k8s-app": "kube-dns" }, "ports": [
                { "name": "dns", "port": 53, "protocol": "UDP" }, { "name": "dns-tcp", "port": 53, "protocol": "TCP" },
            ] },
        });
        let services = Api::<Service>::namespaced(self.client.clone(), KUBE_SYSTEM);
        let made = services.create(&PostParams::default(), &serde_json::from_value(service).unwrap()).await.unwrap();
        // Nobody needs the addresses behind a Service with a selector.
        let slice = json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
            "metadata": { "name": name, "namespace": KUBE_SYSTEM, "labels": { "kubernetes.io/service-name": name } },
            "endpoints": [{ "addresses": [format!("10.255.0.{}", number + 1)] }],
            "ports": [{ "name": "dns", "port": 53, "protocol": "UDP" }],
        });
        self.world.apply_yaml(&slice.to_string()).await.unwrap();
        let address: IpAddr = made.spec.unwrap().cluster_ip.unwrap().parse().unwrap();
        self.model.dns.insert(address);
        self.count("Services of DNS made");
    }

    // The API server.

    /// The API server of the tests writes no EndpointSlice, because its address is a loopback address.
    pub async fn find_api(&mut self) {
        let services = Api::<Service>::namespaced(self.client.clone(), "default");
        let own = services.get("kubernetes").await.unwrap().spec.unwrap();
        let port = u16::try_from(own.ports.unwrap()[0].port).unwrap();
        self.model.api.insert((port, own.cluster_ip.unwrap().parse().unwrap()));
        self.add_api().await;
    }

    /// The addresses that an EndpointSlice of the API server ever named.
    pub fn api_addresses(&self) -> BTreeSet<IpAddr> {
        self.model.api.iter().filter(|(port, _)| *port == API_PORT).map(|(_, address)| *address).collect()
    }

    async fn add_api(&mut self) {
        let number = self.api_addresses().len();
        self.model.api.insert((API_PORT, format!("192.0.2.{}", number + 10).parse().unwrap()));
        self.write_api().await;
    }

    async fn write_api(&self) {
        let named = &self.api_addresses() - &self.away;
        let slice = json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
            "metadata": { "name": "kubernetes", "namespace": "default", "labels": { "kubernetes.io/service-name": "kubernetes" } },
            "endpoints": [{ "addresses": named }], "ports": [{ "name": "https", "port": API_PORT, "protocol": "TCP" }],
        });
        self.world.apply_yaml(&slice.to_string()).await.unwrap();
    }

    /// The EndpointSlice of the API server names one address more, or one less: the policies go on allowing that one. It comes back after
    /// the next rest, long before it would be forgotten.
    pub async fn move_api(&mut self, dice: &mut Dice) {
        let named = &self.api_addresses() - &self.away;
        let may_go = named.len() > 1 && !self.tellers.is_empty();
        let goes = named.iter().find(|address| self.told.contains(*address)).copied().filter(|_| may_go);
        match goes.filter(|_| dice.below(2) == 0) {
            Some(address) => {
                self.away.insert(address);
                self.write_api().await;
                self.count("addresses of the API server gone");
            }
            None if self.api_addresses().len() < MOST_API => {
                self.add_api().await;
                self.count("addresses of the API server added");
            }
            None => {}
        }
    }

    /// A baseline no longer allows the API server. When none allows it, no status names what is gone, and a restart forgets that.
    pub async fn tells_no_api(&mut self, of: Place) {
        self.tellers.retain(|teller| *teller != of);
        if self.tellers.is_empty() {
            self.bring_api_back().await;
        }
    }

    /// The addresses that are gone come back.
    pub async fn bring_api_back(&mut self) {
        if !self.away.is_empty() {
            self.away.clear();
            self.write_api().await;
        }
    }
}
