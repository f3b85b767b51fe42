//! The network plugins that the operator knows, and what each does with NetworkPolicies. From the manifests and the documentation of
//! each plugin. `manifests/base/rbac.yaml` names the same DaemonSets.

/// What a network plugin does with NetworkPolicies. If a cluster has several plugins, the first of these counts.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Enforcement {
    /// The plugin enforces them.
    Enforces,
    /// What the operator reads does not show it.
    MayIgnore,
    /// The plugin ignores them.
    Ignores,
}

/// What decides whether a plugin enforces NetworkPolicies.
#[derive(Clone, Copy, Debug)]
pub enum Decides {
    /// Nothing: it is always so.
    Always(Enforcement),
    /// It enforces them only if a container of its pods has this name or this argument.
    OnlyWith(&'static str),
    /// It enforces them unless a container of its pods has this argument.
    Unless(&'static str),
    /// Something that the operator does not read.
    Unseen(&'static str),
}

/// A network plugin, or an agent that enforces NetworkPolicies beside one.
#[derive(Debug)]
pub struct KnownPlugin {
    /// Its name for people.
    pub name: &'static str,
    /// The names that its DaemonSet has.
    pub daemon_sets: &'static [&'static str],
    /// CRDs of its own. They stay in the cluster when the plugin is removed.
    pub crds: &'static [&'static str],
    /// What decides whether it enforces NetworkPolicies.
    pub decides: Decides,
}

const ALWAYS: Decides = Decides::Always(Enforcement::Enforces);
const NEVER: Decides = Decides::Always(Enforcement::Ignores);

const fn plugin(
    name: &'static str,
    daemon_sets: &'static [&'static str],
    crds: &'static [&'static str],
    decides: Decides,
) -> KnownPlugin {
    KnownPlugin { name, daemon_sets, crds, decides }
}

/// The known plugins, by name.
pub const KNOWN: [KnownPlugin; 19] = [
    plugin("Antrea", &["antrea-agent"], &["antreaagentinfos.crd.antrea.io"], ALWAYS),
    // Assigns addresses on AKS. Azure NPM, Calico or Cilium enforce policies there, each with a DaemonSet of its own.
    plugin("Azure CNS", &["azure-cns"], &[], NEVER),
    plugin("Azure NPM", &["azure-npm"], &[], ALWAYS),
    plugin("Calico", &["calico-node"], &["felixconfigurations.crd.projectcalico.org"], ALWAYS),
    plugin("Canal", &["canal", "rke2-canal"], &[], ALWAYS),
    plugin("Cilium", &["cilium"], &["ciliumnodes.cilium.io"], ALWAYS),
    plugin(
        "EKS Auto Mode",
        &[],
        &["cninodes.eks.amazonaws.com"],
        Decides::Unseen(
            "enforces NetworkPolicies only if the ConfigMap kube-system/amazon-vpc-cni has enable-network-policy-controller: \"true\"",
        ),
    ),
    // From 0.25.5 on, Flannel can run kube-network-policies in the same pods; Talos can from 1.13 on.
    plugin("Flannel", &["kube-flannel", "kube-flannel-ds"], &[], Decides::OnlyWith("kube-network-policies")),
    plugin("GKE Dataplane V2", &["anetd"], &[], ALWAYS),
    // Calico or Dataplane V2 enforce policies on GKE, each with a DaemonSet of its own.
    plugin("GKE netd", &["netd"], &[], NEVER),
    plugin(
        "k3s",
        &[],
        &["addons.k3s.cattle.io"],
        Decides::Unseen(
            "has Flannel and a policy controller in its own process; with --disable-network-policy it enforces nothing",
        ),
    ),
    plugin("kindnet", &["kindnet"], &[], Decides::Unseen("enforces NetworkPolicies from kind v0.24 on, and ignores them before")),
    plugin("kube-network-policies", &["kube-network-policies"], &[], ALWAYS),
    plugin("Kube-OVN", &["kube-ovn-cni"], &["subnets.kubeovn.io"], ALWAYS),
    plugin("kube-router", &["kube-router"], &[], Decides::Unless("--run-firewall=false")),
    plugin("OVN-Kubernetes", &["ovnkube-node"], &["egressips.k8s.ovn.org"], ALWAYS),
    plugin(
        "Terway",
        &["terway-eniip"],
        &[],
        Decides::Unseen("enforces NetworkPolicies only if its configuration switches that on"),
    ),
    plugin(
        "the VPC CNI of Amazon",
        &["aws-node"],
        &["cninodes.vpcresources.k8s.aws", "eniconfigs.crd.k8s.amazonaws.com"],
        Decides::OnlyWith("--enable-network-policy=true"),
    ),
    plugin("Weave Net", &["weave-net"], &[], ALWAYS),
];

/// The names of all DaemonSets that the operator looks for.
pub fn daemon_set_names() -> impl Iterator<Item = &'static str> {
    KNOWN.iter().flat_map(|plugin| plugin.daemon_sets).copied()
}

/// The plugin that has a DaemonSet of this name.
pub fn of_daemon_set(name: &str) -> Option<&'static KnownPlugin> {
    KNOWN.iter().find(|plugin| plugin.daemon_sets.contains(&name))
}

/// The plugin that has this CRD.
pub fn of_crd(name: &str) -> Option<&'static KnownPlugin> {
    KNOWN.iter().find(|plugin| plugin.crds.contains(&name))
}

/// The name of this CRD, if a known plugin has it.
pub fn plugin_crd(name: &str) -> Option<&'static str> {
    KNOWN.iter().flat_map(|plugin| plugin.crds).copied().find(|crd| *crd == name)
}

impl KnownPlugin {
    /// What it does with NetworkPolicies, if the containers of its pods have these names and arguments.
    pub fn enforcement<'a>(&self, mut words: impl Iterator<Item = &'a str>) -> Enforcement {
        let enforces = match self.decides {
            Decides::Always(enforcement) => return enforcement,
            Decides::Unseen(_) => return Enforcement::MayIgnore,
            Decides::OnlyWith(word) => words.any(|found| found == word),
            Decides::Unless(word) => !words.any(|found| found == word),
        };
        if enforces { Enforcement::Enforces } else { Enforcement::Ignores }
    }

    /// The same as a sentence.
    pub fn sentence(&self, enforcement: Enforcement) -> String {
        let Self { name, decides, .. } = self;
        match (decides, enforcement) {
            (Decides::Unseen(what), _) => format!("{name} {what}"),
            (Decides::OnlyWith(word), Enforcement::Enforces) => format!("{name} enforces NetworkPolicies by {word}"),
            (Decides::OnlyWith(word), _) => format!("{name} enforces no NetworkPolicies without {word}"),
            (Decides::Unless(word), Enforcement::Ignores) => format!("{name} enforces no NetworkPolicies with {word}"),
            (_, Enforcement::Enforces) => format!("{name} enforces NetworkPolicies"),
            (_, _) => format!("{name} enforces no NetworkPolicies"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde::Deserialize;
    use serde_yaml::Value;

    use super::*;

    /// The names of the DaemonSets that the rules of a role allow.
    fn allowed(role: &Value) -> BTreeSet<String> {
        let words = |rule: &Value, field: &str| -> Vec<String> {
            rule[field].as_sequence().into_iter().flatten().filter_map(|word| Some(word.as_str()?.to_owned())).collect()
        };
        let rules = role["rules"].as_sequence().into_iter().flatten();
        let of_daemon_sets = rules.filter(|rule| words(rule, "resources").contains(&"daemonsets".to_owned()));
        of_daemon_sets.flat_map(|rule| words(rule, "resourceNames")).collect()
    }

    #[test]
    fn the_cluster_role_allows_to_read_each_known_daemon_set_by_its_name() {
        let documents = serde_yaml::Deserializer::from_str(include_str!("../../../manifests/base/rbac.yaml"));
        let documents = documents.map(|document| Value::deserialize(document).unwrap());
        let role = documents.into_iter().find(|document| document["kind"] == "ClusterRole").unwrap();
        let mut expected: BTreeSet<String> = daemon_set_names().map(str::to_owned).collect();
        expected.insert("dns-default".into());
        assert_eq!(allowed(&role), expected);
    }

    #[test]
    fn the_page_about_network_plugins_names_each_of_them() {
        let page = include_str!("../../../docs/network-plugins.md");
        let only_crds = KNOWN.iter().filter(|plugin| plugin.daemon_sets.is_empty()).flat_map(|plugin| plugin.crds).copied();
        for name in daemon_set_names().chain(only_crds) {
            assert!(page.contains(&format!("`{name}`")), "{name}");
        }
    }

    #[test]
    fn each_name_leads_to_one_plugin() {
        let daemon_sets: Vec<&str> = daemon_set_names().collect();
        let crds: Vec<&str> = KNOWN.iter().flat_map(|plugin| plugin.crds).copied().collect();
        for names in [&daemon_sets, &crds] {
            assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), names.len(), "{names:?}");
        }
        for plugin in &KNOWN {
            assert!(!(plugin.daemon_sets.is_empty() && plugin.crds.is_empty()), "{} cannot be found", plugin.name);
            assert!(plugin.daemon_sets.iter().all(|name| of_daemon_set(name).is_some_and(|of| of.name == plugin.name)));
            assert!(plugin.crds.iter().all(|crd| of_crd(crd).is_some_and(|of| of.name == plugin.name)));
        }
    }

    #[test]
    fn a_plugin_with_a_switch_is_judged_by_its_switch() {
        let judged = |name: &str, words: &[&str]| of_daemon_set(name).unwrap().enforcement(words.iter().copied());
        for (name, words, enforcement) in [
            ("cilium", &[][..], Enforcement::Enforces),
            ("kube-flannel-ds", &["kube-flannel", "--ip-masq"], Enforcement::Ignores),
            ("kube-flannel-ds", &["kube-flannel", "kube-network-policies"], Enforcement::Enforces),
            ("kube-router", &["--run-router=true"], Enforcement::Enforces),
            ("kube-router", &["--run-firewall=true"], Enforcement::Enforces),
            ("kube-router", &["--run-firewall=false"], Enforcement::Ignores),
            ("aws-node", &["--enable-network-policy=false"], Enforcement::Ignores),
            ("aws-node", &["--enable-network-policy=true"], Enforcement::Enforces),
            ("azure-cns", &[], Enforcement::Ignores),
            ("kindnet", &[], Enforcement::MayIgnore),
        ] {
            assert_eq!(judged(name, words), enforcement, "{name} {words:?}");
        }
    }
}
