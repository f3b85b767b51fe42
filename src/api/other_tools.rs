//! The marks of other tools on the operator's policies: keys by which a tool finds what it may delete. Most are judged by their domains,
//! because a tool invents further names of its domain. A domain holds for its subdomains too.

use super::names::is_dns_label;

/// Tools that delete what they track and no longer find in their sources.
const TRACKING_DOMAINS: [&str; 8] = [
    "applyset.kubernetes.io",
    "configsync.gke.io",
    "fleet.cattle.io",
    "kapp.k14s.io",
    "meta.helm.sh",
    "objectset.rio.cattle.io",
    "projectsveltos.io",
    "toolkit.fluxcd.io",
];

/// Such keys of other domains: they track what a tool may delete, or say when it deletes. Further keys of these domains are harmless, or
/// even say that nothing is to be deleted.
const TRACKING_KEYS: [&str; 14] = [
    "app.kubernetes.io/instance",
    "argocd.argoproj.io/installation-id",
    "argocd.argoproj.io/instance",
    "argocd.argoproj.io/tracking-id",
    // Capsule deletes policies with this label that its tenant does not list.
    "capsule.clastix.io/network-policy",
    "cleanup.kyverno.io/ttl",
    "config.k8s.io/owning-inventory",
    // The first version of Flux.
    "fluxcd.io/sync-gc-mark",
    // The Hierarchical Namespace Controller deletes copies whose original it does not find.
    "hnc.x-k8s.io/inherited-from",
    // kube-janitor.
    "janitor/expires",
    "janitor/ttl",
    "k8s-ttl-controller.twin.sh/ttl",
    // Gardener deletes the policies of a Service that is gone.
    "networking.resources.gardener.cloud/service-name",
    "networking.resources.gardener.cloud/service-namespace",
];

/// Domains that many tools use, the operator among them.
const SHARED: [&str; 4] = ["app.kubernetes.io", "k8s.io", "kubernetes.io", "policybaseline.io"];

/// Other tools: those that everybody may have, and those that the flag names.
#[derive(Clone, Debug, Default)]
pub struct OtherTools {
    /// The domains of further tools that track what they may delete.
    pub tracking: DomainList,
}

impl OtherTools {
    /// Whether a tool finds what it may delete by this key. With such a key on our policies, that tool could delete them.
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

    #[test]
    fn a_flag_extends_the_keys_that_are_taken_off() {
        let (known, tools) = (OtherTools::default(), OtherTools { tracking: "gitops.example.com".parse().unwrap() });
        for key in ["gitops.example.com/owner", "v2.gitops.example.com/owner", "meta.helm.sh/release-name"] {
            assert!(tools.track_by(key), "{key}");
        }
        assert!(!known.track_by("gitops.example.com/owner"));
        for other in ["example.com/x", "notgitops.example.com/x", "gitops.example.com", "x.gitops.example.com.evil.org/owner"] {
            assert!(!tools.track_by(other), "{other}");
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
    fn the_tools_that_prune_or_delete_by_a_time_are_known() {
        for key in [
            "app.kubernetes.io/instance",
            "applyset.kubernetes.io/part-of",
            "argocd.argoproj.io/instance",
            "argocd.argoproj.io/tracking-id",
            "config.k8s.io/owning-inventory",
            "argocd.argoproj.io/installation-id",
            "capsule.clastix.io/network-policy",
            "cleanup.kyverno.io/ttl",
            "configsync.gke.io/resource-id",
            "fleet.cattle.io/bundle-id",
            "fluxcd.io/sync-gc-mark",
            "helm.toolkit.fluxcd.io/name",
            "hnc.x-k8s.io/inherited-from",
            "janitor/expires",
            "janitor/ttl",
            "k8s-ttl-controller.twin.sh/ttl",
            "kapp.k14s.io/app",
            "kapp.k14s.io/association",
            "kustomize.toolkit.fluxcd.io/name",
            "meta.helm.sh/release-name",
            "networking.resources.gardener.cloud/service-name",
            "objectset.rio.cattle.io/hash",
            "projectsveltos.io/reference-name",
        ] {
            assert!(OtherTools::default().track_by(key), "{key}");
        }
        for key in [
            "app.kubernetes.io/name",
            "argocd.argoproj.io/compare-options",
            "cleanup.kyverno.io/propagation-policy",
            "janitor",
            "propagate.hnc.x-k8s.io/none",
            "ttl",
            "kubernetes.io/metadata.name",
            "notmeta.helm.sh/x",
            "meta.helm.sh",
            "team",
            LABEL_ID,
        ] {
            assert!(!OtherTools::default().track_by(key), "{key}");
        }
    }
}
