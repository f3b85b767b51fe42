//! The objects that are linted, and what the rules know of the objects around a policy.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use k8s_openapi::{api::networking::v1::NetworkPolicySpec, apimachinery::pkg::apis::meta::v1::LabelSelector};
use kube::core::{Selector as Matcher, SelectorExt as _};

use super::{
    found::RuleHit,
    tree::{TextPlace, YamlNode, YamlValue},
};
use crate::{
    api::{names::group_of, peers::Protocol},
    policy::netpol::NAME_LABEL,
};

/// An object of a file.
#[derive(Clone, Debug)]
pub struct LintDocument {
    /// The number of its file.
    pub source: usize,
    pub node: YamlNode,
    pub api_version: String,
    pub kind: String,
}

impl LintDocument {
    /// Its group, such as `networking.k8s.io`.
    pub fn group(&self) -> &str {
        group_of(&self.api_version)
    }

    /// Its name; none if somebody generates it.
    pub fn name(&self) -> Option<&str> {
        self.node.get("metadata")?.text("name")
    }

    /// Its namespace; none if it names none.
    pub fn namespace(&self) -> Option<&str> {
        self.node.get("metadata")?.text("namespace")
    }

    /// Where a hit is.
    pub fn place(&self, hit: &RuleHit) -> TextPlace {
        let key = hit.is_key.then(|| hit.path.rsplit_once('.').unwrap_or(("", &hit.path)));
        let of_key = key.and_then(|(path, key)| self.node.key_place(path, key));
        of_key.unwrap_or_else(|| self.node.place_of(&hit.path))
    }

    /// Whether a NetworkPolicy is meant by a kind that no API server has.
    pub fn is_meant_as_policy(&self) -> bool {
        /// What else is of this group.
        const OTHERS: [&str; 4] = ["Ingress", "IngressClass", "IPAddress", "ServiceCIDR"];
        let is_near = strsim::levenshtein(&self.kind.to_lowercase(), "networkpolicy") <= 3;
        match self.group() {
            "networking.k8s.io" => self.kind != "NetworkPolicy" && !OTHERS.contains(&&*self.kind),
            group => is_near && !group.contains('.'),
        }
    }

    /// Its kind, namespace and name, for people.
    pub fn shown(&self) -> String {
        let name = self.name().unwrap_or("without a name");
        match self.namespace() {
            Some(namespace) => format!("{} {namespace}/{name}", self.kind),
            None => format!("{} {name}", self.kind),
        }
    }
}

/// The objects in a document: itself, or what its List has.
pub fn objects(source: usize, node: YamlNode) -> Vec<LintDocument> {
    let text = |key: &str| node.text(key).unwrap_or_default().to_owned();
    let (api_version, kind) = (text("apiVersion"), text("kind"));
    let is_list = node.get("items").is_some_and(|items| matches!(items.value, YamlValue::List(_)));
    let Some(of) = kind.strip_suffix("List").filter(|_| is_list) else {
        return vec![LintDocument { source, node, api_version, kind }];
    };
    let item = |node: YamlNode| {
        // In a list of one kind, the objects may not name their kind.
        let inner = node.text("kind").unwrap_or(of).to_owned();
        let version = node.text("apiVersion").unwrap_or(&api_version).to_owned();
        LintDocument { source, node, api_version: version, kind: inner }
    };
    let YamlValue::Map(entries) = node.value else { return vec![] };
    let items = entries.into_iter().find(|entry| entry.key == "items").map(|entry| entry.value.value);
    let Some(YamlValue::List(items)) = items else { return vec![] };
    items.into_iter().map(item).collect()
}

/// A NetworkPolicy that can be judged.
#[derive(Debug)]
pub struct LintPolicy {
    /// The number of its document.
    pub document: usize,
    pub namespace: Option<String>,
    pub name: String,
    pub spec: NetworkPolicySpec,
}

/// Pods, as a pod or a template of pods describes them.
#[derive(Debug)]
pub struct LintWorkload {
    /// The number of its document.
    pub document: usize,
    pub namespace: Option<String>,
    pub labels: BTreeMap<String, String>,
    /// The names of its container ports.
    pub port_names: BTreeSet<(String, Protocol)>,
    /// The path of the field that puts it on the host network.
    pub host_network: Option<String>,
}

/// What is given together.
#[derive(Debug, Default)]
pub struct GivenObjects {
    pub policies: Vec<LintPolicy>,
    pub workloads: Vec<LintWorkload>,
    /// The labels of the namespaces, by name.
    pub namespaces: BTreeMap<String, BTreeMap<String, String>>,
    /// The addresses of pods and Services, with the object that has each.
    pub addresses: Vec<(IpAddr, String)>,
}

/// Where the templates of pods are.
const TEMPLATES: [&str; 2] = ["spec.template", "spec.jobTemplate.spec.template"];

impl GivenObjects {
    /// Notes what a document says of the objects around policies.
    pub fn note(&mut self, number: usize, document: &LintDocument) {
        let node = &document.node;
        match (document.group(), &*document.kind) {
            ("", "Namespace") => {
                if let Some(name) = document.name() {
                    let mut labels = node.labels("metadata.labels");
                    labels.entry(NAME_LABEL.into()).or_insert_with(|| name.into());
                    self.namespaces.insert(name.into(), labels);
                }
            }
            ("", "Pod") => {
                let has_ended = node.at("status").and_then(|status| status.text("phase"));
                if !has_ended.is_some_and(|phase| ["Succeeded", "Failed"].contains(&phase)) {
                    self.workloads.push(workload(number, document, ""));
                    self.note_addresses(document, "status.podIP", "status.podIPs");
                }
            }
            ("", "Service") => self.note_addresses(document, "spec.clusterIP", "spec.clusterIPs"),
            _ => {
                if let Some(template) = TEMPLATES.iter().find(|path| node.at(&format!("{path}.spec.containers")).is_some()) {
                    self.workloads.push(workload(number, document, &format!("{template}.")));
                }
            }
        }
    }

    fn note_addresses(&mut self, document: &LintDocument, single: &str, list: &str) {
        // The address of a pod on the host network is that of its node.
        if document.node.at("spec.hostNetwork").is_some_and(|node| matches!(node.value, YamlValue::Bool(true))) {
            return;
        }
        let listed = document.node.at(list).map(YamlNode::items).unwrap_or_default();
        let texts = listed.iter().map(|item| item.get("ip").unwrap_or(item)).chain(document.node.at(single));
        let parsed = texts.filter_map(|node| if let YamlValue::Text(text) = &node.value { text.parse().ok() } else { None });
        let parsed: BTreeSet<IpAddr> = parsed.collect();
        self.addresses.extend(parsed.into_iter().map(|address| (address, document.shown())));
    }

    /// The workloads of a namespace. Objects without a namespace are applied together, into the same one.
    pub fn workloads_of<'a>(&'a self, namespace: Option<&'a str>) -> impl Iterator<Item = &'a LintWorkload> {
        self.workloads.iter().filter(move |workload| workload.namespace.as_deref() == namespace)
    }

    /// The labels of a namespace: those that are given, or its name.
    pub fn labels_of(&self, namespace: &str) -> BTreeMap<String, String> {
        let named = || [(NAME_LABEL.to_owned(), namespace.to_owned())].into();
        self.namespaces.get(namespace).cloned().unwrap_or_else(named)
    }

    /// The policies of a namespace.
    pub fn policies_of<'a>(&'a self, namespace: Option<&'a str>) -> impl Iterator<Item = &'a LintPolicy> {
        self.policies.iter().filter(move |policy| policy.namespace.as_deref() == namespace)
    }
}

fn workload(number: usize, document: &LintDocument, template: &str) -> LintWorkload {
    let node = &document.node;
    let containers = |kind: &str| node.at(&format!("{template}spec.{kind}")).map(YamlNode::items).unwrap_or_default();
    // An init container that always restarts runs beside the others.
    let sidecars = containers("initContainers").iter().filter(|container| container.text("restartPolicy") == Some("Always"));
    let ports = containers("containers").iter().chain(sidecars);
    let ports = ports.flat_map(|container| container.get("ports").map(YamlNode::items).unwrap_or_default());
    let named = |port: &YamlNode| Some((port.text("name")?.to_owned(), Protocol::named(port.text("protocol"))?));
    let host_network = format!("{template}spec.hostNetwork");
    let is_on_host = node.at(&host_network).is_some_and(|node| matches!(node.value, YamlValue::Bool(true)));
    LintWorkload {
        document: number,
        namespace: document.namespace().map(Into::into),
        labels: node.labels(&format!("{template}metadata.labels")),
        port_names: ports.filter_map(named).collect(),
        host_network: is_on_host.then_some(host_network),
    }
}

/// A test whether a selector selects labels. One that cannot be read selects nothing.
pub fn label_test(selector: Option<&LabelSelector>) -> impl Fn(&BTreeMap<String, String>) -> bool + use<> {
    let matcher = Matcher::try_from(selector.cloned().unwrap_or_default()).ok();
    move |labels| matcher.as_ref().is_some_and(|matcher| matcher.matches(labels))
}

/// Whether a selector selects these labels.
pub fn selects(selector: Option<&LabelSelector>, labels: &BTreeMap<String, String>) -> bool {
    label_test(selector)(labels)
}

/// Whether a selector is empty, so that it selects everything.
pub fn is_empty(selector: &LabelSelector) -> bool {
    selector.match_labels.as_ref().is_none_or(BTreeMap::is_empty) && selector.match_expressions.as_ref().is_none_or(Vec::is_empty)
}
