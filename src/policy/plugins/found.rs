//! What was found of network plugins, and the judgement: whether the cluster has a plugin that enforces NetworkPolicies.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use k8s_openapi::{api::apps::v1::DaemonSet, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use kube::Resource;
use serde::{Deserialize, Serialize};

use super::known::{Enforcement, of_crd, of_daemon_set, plugin_crd};
use crate::api::{backends::identity, reason::state};

/// The watched form of the DaemonSet of a network plugin.
#[derive(Clone, Debug, Deserialize, Resource)]
#[resource(inherit = "DaemonSet")]
pub struct SlimPlugin {
    #[serde(deserialize_with = "identity")]
    metadata: ObjectMeta,
    #[serde(default)]
    spec: PluginSpec,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct PluginSpec {
    template: PluginTemplate,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct PluginTemplate {
    spec: PluginPod,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct PluginPod {
    containers: Vec<PluginContainer>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct PluginContainer {
    name: String,
    command: Vec<String>,
    args: Vec<String>,
}

/// A DaemonSet of a network plugin. A DaemonSet of another name counts as one that enforces nothing.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PluginSeen {
    /// The namespace of the DaemonSet.
    pub namespace: String,
    /// The name of the DaemonSet.
    pub name: String,
    enforcement: Enforcement,
}

impl From<SlimPlugin> for PluginSeen {
    fn from(SlimPlugin { metadata, spec }: SlimPlugin) -> Self {
        let name = metadata.name.unwrap_or_default();
        let words = spec.template.spec.containers.iter();
        let words = words.flat_map(|c| std::iter::once(&c.name).chain(&c.command).chain(&c.args)).map(String::as_str);
        let enforcement = of_daemon_set(&name).map_or(Enforcement::Ignores, |plugin| plugin.enforcement(words));
        Self { namespace: metadata.namespace.unwrap_or_default(), name, enforcement }
    }
}

/// Everything that was found of network plugins.
#[derive(Clone, Debug, Default)]
pub struct PluginsFound {
    /// By name and namespace.
    daemon_sets: BTreeMap<(String, String), Enforcement>,
    crds: BTreeSet<&'static str>,
}

/// Whether the cluster has a network plugin that enforces NetworkPolicies.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct PluginJudgement {
    /// One was found that enforces them.
    pub enforces: bool,
    /// The reason of the condition.
    pub reason: &'static str,
    /// What was found, and what is known of it.
    pub message: String,
}

impl fmt::Display for PluginJudgement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "network plugin: {}\n{}", self.reason, self.message)
    }
}

/// The message names at most this many objects (I11).
const NAMED: usize = 5;
/// What no object shows.
const ONLY_PACKETS: &str = "Only a test with packets proves that policies are enforced";
/// The plugins that everybody should know to enforce nothing. The last two have no object in the cluster.
const ENFORCE_NOTHING: &str = "Flannel alone, `ptp` and `bridge` enforce nothing, and not every plugin has a DaemonSet";

impl PluginsFound {
    /// A DaemonSet was listed, created or changed.
    pub fn saw(&mut self, PluginSeen { namespace, name, enforcement }: PluginSeen) {
        self.daemon_sets.insert((name, namespace), enforcement);
    }

    /// A DaemonSet was deleted.
    pub fn gone(&mut self, PluginSeen { namespace, name, .. }: PluginSeen) {
        self.daemon_sets.remove(&(name, namespace));
    }

    /// The list of the DaemonSets of this name is complete: it has named those in these namespaces, and no others exist.
    pub fn keep(&mut self, of: &str, namespaces: impl Fn(&str) -> bool) {
        self.daemon_sets.retain(|(name, namespace), _| name != of || namespaces(namespace));
    }

    /// Whether a DaemonSet was found. If so, CRDs do not count.
    pub fn has_daemon_sets(&self) -> bool {
        !self.daemon_sets.is_empty()
    }

    /// A CRD exists, or is gone. Most CRDs belong to no network plugin.
    pub fn crd(&mut self, name: &str, exists: bool) {
        let Some(crd) = plugin_crd(name) else { return };
        if exists {
            self.crds.insert(crd);
        } else {
            self.crds.remove(crd);
        }
    }

    /// The list of CRDs is complete: it has named these, and no others exist.
    pub fn keep_crds(&mut self, named: impl Fn(&str) -> bool) {
        self.crds.retain(|crd| named(crd));
    }

    /// The judgement. One plugin that enforces is enough: it may run beside one that does not, as Calico does in Canal. CRDs alone prove
    /// nothing, because they outlive their plugin.
    pub fn judge(&self) -> PluginJudgement {
        let (reason, means) = match self.daemon_sets.values().min() {
            Some(Enforcement::Enforces) => (state::PLUGIN_ENFORCES, None),
            Some(Enforcement::Ignores) => (state::PLUGIN_IGNORES_POLICIES, Some("So policies have no effect")),
            None if self.crds.is_empty() => (state::NO_PLUGIN_KNOWN, Some("So policies may have no effect")),
            Some(Enforcement::MayIgnore) | None => (state::PLUGIN_MAY_IGNORE_POLICIES, Some("So policies may have no effect")),
        };
        let sentences = [self.facts()].into_iter().chain(means.map(str::to_owned)).chain([ONLY_PACKETS.to_owned()]);
        let message = sentences.collect::<Vec<_>>().join(". ");
        PluginJudgement { enforces: reason == state::PLUGIN_ENFORCES, reason, message }
    }

    /// What was found, in words.
    fn facts(&self) -> String {
        let of_daemon_set = |((name, namespace), enforcement): (&(String, String), &Enforcement)| {
            let known = of_daemon_set(name).map(|plugin| plugin.sentence(*enforcement)).unwrap_or_default();
            format!("DaemonSet {namespace}/{name}: {known}")
        };
        let of_crd = |crd: &&'static str| {
            let known = of_crd(crd).map(|plugin| plugin.sentence(plugin.enforcement(std::iter::empty()))).unwrap_or_default();
            format!("CRD {crd}: {known}")
        };
        // What decides comes first, because the list may be cut.
        let mut daemon_sets: Vec<_> = self.daemon_sets.iter().collect();
        daemon_sets.sort_by_key(|(_, enforcement)| **enforcement);
        let mut facts: Vec<String> = daemon_sets.into_iter().map(of_daemon_set).collect();
        if facts.is_empty() && self.crds.is_empty() {
            return format!("no network plugin was found that the operator knows. {ENFORCE_NOTHING}");
        }
        let mut ends = String::new();
        if facts.is_empty() {
            facts = self.crds.iter().map(of_crd).collect();
            ends = ". No DaemonSet of a known network plugin was found, and a CRD stays when its plugin is removed".into();
        }
        if let Some(more) = facts.len().checked_sub(NAMED).filter(|more| *more > 0) {
            facts.truncate(NAMED);
            ends = format!(" and {more} more{ends}");
        }
        format!("{}{ends}", facts.join("; "))
    }
}

impl PluginJudgement {
    /// The judgement if the DaemonSets could not be listed.
    pub fn not_listed() -> Self {
        let message = format!(
            "the DaemonSets of network plugins could not be listed, so it is not known which plugin the cluster has. {ENFORCE_NOTHING}. Apply manifests/base. {ONLY_PACKETS}"
        );
        Self { enforces: false, reason: state::NOT_LISTED, message }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::policy::status::MAX_MESSAGE;

    /// A DaemonSet whose pods have one container with these arguments.
    fn daemon_set(namespace: &str, name: &str, args: &[&str]) -> PluginSeen {
        let object = json!({
            "metadata": {"namespace": namespace, "name": name, "resourceVersion": "7", "labels": {"a": "b"}},
            "spec": {"selector": {}, "template": {"spec": {"containers": [{"name": "agent", "image": "x", "args": args}]}}},
        });
        serde_json::from_value::<SlimPlugin>(object).unwrap().into()
    }

    fn found(daemon_sets: &[(&str, &str, &[&str])], crds: &[&str]) -> PluginsFound {
        let mut found = PluginsFound::default();
        for (namespace, name, args) in daemon_sets {
            found.saw(daemon_set(namespace, name, args));
        }
        for crd in crds {
            found.crd(crd, true);
        }
        found
    }

    #[test]
    fn flannel_alone_ignores_policies_and_an_enforcer_beside_it_counts() {
        let flannel: (&str, &str, &[&str]) = ("kube-flannel", "kube-flannel-ds", &["--ip-masq"]);
        let alone = found(&[flannel], &[]).judge();
        assert_eq!((alone.enforces, alone.reason), (false, "PluginIgnoresPolicies"));
        assert!(
            alone.message.contains("DaemonSet kube-flannel/kube-flannel-ds: Flannel enforces no NetworkPolicies"),
            "{alone:?}"
        );
        assert!(alone.message.contains("So policies have no effect. Only a test with packets"), "{alone:?}");
        for beside in ["kube-router", "canal", "calico-node", "cilium"] {
            let both = found(&[flannel, ("kube-system", beside, &[])], &[]).judge();
            assert_eq!((both.enforces, both.reason), (true, "PluginEnforces"), "{beside}");
            assert!(both.message.contains(&format!("kube-system/{beside}: ")) && both.message.contains("Flannel"), "{both:?}");
        }
        let off = found(&[flannel, ("kube-system", "kube-router", &["--run-firewall=false"])], &[]).judge();
        assert_eq!(off.reason, "PluginIgnoresPolicies", "kube-router whose firewall is off: {off:?}");
    }

    #[test]
    fn what_may_ignore_policies_is_no_enforcer() {
        let may = found(&[("kube-system", "kindnet", &[])], &[]).judge();
        assert_eq!((may.enforces, may.reason), (false, "PluginMayIgnorePolicies"));
        assert!(may.message.contains("kindnet enforces NetworkPolicies from kind v0.24 on"), "{may:?}");
    }

    #[test]
    fn without_a_known_plugin_those_that_cannot_be_seen_are_named() {
        let nothing = found(&[], &["widgets.example.com"]).judge();
        assert_eq!((nothing.enforces, nothing.reason), (false, "NoPluginKnown"));
        for named in ["Flannel", "`ptp`", "`bridge`", "Only a test with packets"] {
            assert!(nothing.message.contains(named) && PluginJudgement::not_listed().message.contains(named), "{nothing:?}");
        }
        assert_eq!(PluginJudgement::not_listed().reason, "NotListed");
    }

    #[test]
    fn a_crd_alone_proves_nothing_and_counts_only_without_a_daemon_set() {
        let crds = ["ciliumnodes.cilium.io", "cninodes.eks.amazonaws.com"];
        let alone = found(&[], &crds).judge();
        assert_eq!((alone.enforces, alone.reason), (false, "PluginMayIgnorePolicies"));
        assert!(crds.iter().all(|crd| alone.message.contains(crd)) && alone.message.contains("stays when"), "{alone:?}");
        let with = found(&[("kube-flannel", "kube-flannel-ds", &[])], &crds).judge();
        assert_eq!(with.reason, "PluginIgnoresPolicies");
        assert!(!with.message.contains("cilium"), "{with:?}");
    }

    #[test]
    fn what_a_list_no_longer_names_or_what_was_deleted_counts_no_more() {
        let mut found = found(&[("a", "cilium", &[]), ("b", "cilium", &[]), ("a", "kindnet", &[])], &["ciliumnodes.cilium.io"]);
        found.keep("cilium", |namespace| namespace == "b");
        assert!(found.judge().message.contains("b/cilium") && !found.judge().message.contains("a/cilium"));
        found.gone(daemon_set("b", "cilium", &[]));
        assert_eq!(found.judge().reason, "PluginMayIgnorePolicies", "kindnet is left");
        found.keep("kindnet", |_| false);
        assert!(found.judge().message.contains("CRD ciliumnodes.cilium.io"));
        found.keep_crds(|_| false);
        assert_eq!(found.judge().reason, "NoPluginKnown");
    }

    #[test]
    fn i11_the_message_is_short_no_matter_how_many_objects_have_such_names() {
        let mut many = PluginsFound::default();
        for n in 0..700 {
            many.saw(daemon_set(&format!("{n:0>63}"), "kube-network-policies", &[]));
        }
        let message = many.judge().message;
        assert!(message.contains("and 695 more. Only a test"), "{message}");
        assert!(message.chars().count() <= MAX_MESSAGE, "{}", message.len());
    }
}
