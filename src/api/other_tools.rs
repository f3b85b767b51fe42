//! The marks of other tools on the operator's policies: finalizers that may stay, and keys by which a tool tracks what it may delete. Both
//! are judged by their domains, because a tool invents further names of its domain. A domain holds for its subdomains too.

use super::names::is_dns_label;

/// Tools that delete what they track and no longer find in their sources.
const TRACKING_DOMAINS: [&str; 7] = [
    "applyset.kubernetes.io",
    "configsync.gke.io",
    "fleet.cattle.io",
    "kapp.k14s.io",
    "meta.helm.sh",
    "objectset.rio.cattle.io",
    "toolkit.fluxcd.io",
];

/// Tracking keys of other domains. Further keys of these domains are harmless, or even say that nothing is to be deleted.
const TRACKING_KEYS: [&str; 5] = [
    "app.kubernetes.io/instance",
    "argocd.argoproj.io/installation-id",
    "argocd.argoproj.io/instance",
    "argocd.argoproj.io/tracking-id",
    "config.k8s.io/owning-inventory",
];

/// Network plugins that may put a finalizer on a NetworkPolicy. The component `protect` has the same domains.
const PLUGIN_DOMAINS: [&str; 7] =
    ["antrea.io", "cilium.io", "k8s.ovn.org", "kubeovn.io", "networking.gke.io", "networking.k8s.aws", "projectcalico.org"];

/// Domains that many tools use, the operator among them.
const SHARED: [&str; 4] = ["app.kubernetes.io", "k8s.io", "kubernetes.io", "policybaseline.io"];

/// The finalizers of the garbage collector.
const COLLECTOR: [&str; 2] = ["foregroundDeletion", "orphan"];

/// Other tools: those that everybody may have, and those that the flags name.
#[derive(Clone, Debug, Default)]
pub struct OtherTools {
    /// The domains of further network plugins.
    pub finalizers: DomainList,
    /// The domains of further tools that track what they may delete.
    pub tracking: DomainList,
}

impl OtherTools {
    /// Whether a finalizer on our policies may stay: it is of the garbage collector, or of a network plugin that enforces the policies. Its
    /// controller would add it again.
    pub fn may_keep(&self, finalizer: &str) -> bool {
        COLLECTOR.contains(&finalizer) || is_of(finalizer, &PLUGIN_DOMAINS, &self.finalizers)
    }

    /// Whether a tool uses this key to track what it may delete. With such a key on our policies, that tool could delete them.
    pub fn track_by(&self, key: &str) -> bool {
        TRACKING_KEYS.contains(&key) || is_of(key, &TRACKING_DOMAINS, &self.tracking)
    }
}

/// Whether a name with a domain (`example.com/name`) is of one of these domains, or of a subdomain.
fn is_of(name: &str, known: &[&str], further: &DomainList) -> bool {
    let Some((domain, _)) = name.split_once('/') else { return false };
    let mut all = known.iter().copied().chain(further.0.iter().map(String::as_str));
    all.any(|of| domain == of || domain.strip_suffix(of).is_some_and(|rest| rest.ends_with('.')))
}

/// Domains of tools.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct DomainList(Vec<String>);

impl std::str::FromStr for DomainList {
    type Err = String;

    /// Reads domains with commas or spaces between them.
    fn from_str(text: &str) -> Result<Self, String> {
        let domains = text.split([',', ' ']).filter(|domain| !domain.is_empty());
        domains.map(|domain| check_domain(domain).map(|()| domain.to_owned())).collect::<Result<_, _>>().map(Self)
    }
}

fn check_domain(text: &str) -> Result<(), String> {
    let is_domain = text.len() <= 253 && text.contains('.') && text.split('.').all(is_dns_label);
    match text.split_once('/') {
        Some((domain, _)) => Err(format!("{text}: write only the domain before the slash, {domain}")),
        None if SHARED.contains(&text) => {
            Err(format!("{text} is not of one tool alone: write the subdomain of the tool, such as example.{text}"))
        }
        None if is_domain => Ok(()),
        None => Err(format!("{text}: write a domain in lower case, such as example.com, without * or a dot at an end")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::names::LABEL_ID;

    fn with(finalizers: &str, tracking: &str) -> OtherTools {
        OtherTools { finalizers: finalizers.parse().unwrap(), tracking: tracking.parse().unwrap() }
    }

    #[test]
    fn a_flag_extends_the_finalizers_that_may_stay_and_the_keys_that_are_taken_off_each_alone() {
        let (known, tools) = (OtherTools::default(), with("plugin.example.com", "gitops.example.com"));
        for finalizer in ["plugin.example.com/x", "crd.plugin.example.com/x", "cilium.io/x"] {
            assert!(tools.may_keep(finalizer) && !tools.track_by(finalizer), "{finalizer}");
        }
        for key in ["gitops.example.com/owner", "v2.gitops.example.com/owner", "meta.helm.sh/release-name"] {
            assert!(tools.track_by(key) && !tools.may_keep(key), "{key}");
        }
        assert!(!known.may_keep("plugin.example.com/x") && !known.track_by("gitops.example.com/owner"));
        for other in ["example.com/x", "notplugin.example.com/x", "plugin.example.com", "x.gitops.example.com.evil.org/owner"] {
            assert!(!tools.may_keep(other) && !tools.track_by(other), "{other}");
        }
    }

    #[test]
    fn a_list_holds_domains_of_one_tool_each() {
        for (text, count) in [("", 0), (" ", 0), ("example.com", 1), ("a.b, networking.k8s.aws,example.k8s.io,", 3)] {
            assert_eq!(text.parse::<DomainList>().unwrap().0.len(), count, "{text}");
        }
        for (bad, says) in [
            ("com", "such as example.com"),
            ("a.b,Example.com", "Example.com: write a domain in lower case"),
            ("*.example.com", "without *"),
            (".example.com", "a dot at an end"),
            ("example.com.", "a dot at an end"),
            ("example.com;a.b", "such as example.com"),
            ("example.com/finalizer", "before the slash, example.com"),
            ("kubernetes.io", "such as example.kubernetes.io"),
            ("k8s.io", "such as example.k8s.io"),
            ("app.kubernetes.io", "not of one tool alone"),
            ("policybaseline.io", "not of one tool alone"),
        ] {
            let error = bad.parse::<DomainList>().unwrap_err();
            assert!(error.contains(says), "{bad}: {error}");
        }
    }

    #[test]
    fn the_tools_that_prune_are_known() {
        for key in [
            "app.kubernetes.io/instance",
            "applyset.kubernetes.io/part-of",
            "argocd.argoproj.io/instance",
            "argocd.argoproj.io/tracking-id",
            "config.k8s.io/owning-inventory",
            "argocd.argoproj.io/installation-id",
            "configsync.gke.io/resource-id",
            "fleet.cattle.io/bundle-id",
            "helm.toolkit.fluxcd.io/name",
            "kapp.k14s.io/app",
            "kapp.k14s.io/association",
            "kustomize.toolkit.fluxcd.io/name",
            "meta.helm.sh/release-name",
            "objectset.rio.cattle.io/hash",
        ] {
            assert!(OtherTools::default().track_by(key), "{key}");
        }
        for key in [
            "app.kubernetes.io/name",
            "argocd.argoproj.io/compare-options",
            "kubernetes.io/metadata.name",
            "notmeta.helm.sh/x",
            "meta.helm.sh",
            "team",
            LABEL_ID,
        ] {
            assert!(!OtherTools::default().track_by(key), "{key}");
        }
    }

    #[test]
    fn a_finalizer_of_a_network_plugin_may_stay_whatever_it_is_called() {
        for finalizer in [
            "foregroundDeletion",
            "orphan",
            "networking.k8s.aws/resources",
            "networking.k8s.aws/another",
            "policy.networking.k8s.aws/resources",
            "crd.projectcalico.org/x",
        ] {
            assert!(OtherTools::default().may_keep(finalizer), "{finalizer}");
        }
        let protect = include_str!("../../manifests/components/protect/policies.yaml");
        let listed = PLUGIN_DOMAINS.map(|domain| format!("\"{domain}\"")).join(", ");
        assert!(protect.contains(&format!("[{listed}]")), "the component protect has the same domains: {listed}");
        for finalizer in ["example.com/held", "k8s.aws/x", "notcilium.io/x", "cilium.io", "kubernetes"] {
            assert!(!OtherTools::default().may_keep(finalizer), "{finalizer}");
        }
    }
}
