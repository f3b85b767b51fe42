//! Finds mistakes in manifests before they reach a cluster: what the API server or the operator refuses, and what is allowed but does not do
//! what it seems to do. It needs only texts. Every rule is in `rule.rs`; docs/lint.md shows each with examples, which are its tests.

mod api_server;
mod baseline_rules;
mod block_rules;
mod case;
mod cel;
mod cel_text;
mod custom;
mod dns_rules;
mod entry_rules;
mod formats;
mod found;
mod given;
mod ignore;
mod in_cluster;
mod opt_out_rules;
mod output;
mod passed_over;
mod peer_rules;
mod plain;
mod rule;
mod schema;
mod shape;
mod spec_rules;
#[cfg(test)]
mod tests;
mod tree;
mod workload_rules;
mod yaml;

use std::collections::{BTreeMap, HashMap, HashSet};

use jiff::Timestamp;

use self::{
    case::LintCase,
    given::{GivenObjects, LintDocument, LintPolicy, objects},
    tree::TextPlace,
};
use super::preview::{ManifestText, PreviewedBaseline};
pub use case::{RuleView, rules_of, type_of};
pub use dns_rules::is_for_dns;
pub use found::RuleHit;
pub use given::{is_empty, selects};
pub use in_cluster::{ClusterLint, refused_in};
pub use output::LintFormat;
pub use passed_over::passed_over;
pub use rule::{LintRule, Severity};
pub use workload_rules::MUTABLE;

/// What to look for.
#[derive(Debug, Default)]
pub struct LintSettings<'a> {
    /// Only these rules, and what keeps them from being looked for; none: all.
    pub select: Vec<LintRule>,
    /// Not these rules.
    pub ignore: Vec<LintRule>,
    pub baseline: Option<&'a PreviewedBaseline>,
    pub operator_namespace: &'a str,
    /// When an opt-out would be created that is not created yet.
    pub now: Timestamp,
}

/// A mistake.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct LintFinding {
    pub rule: LintRule,
    /// The number of the text.
    pub source: usize,
    pub place: TextPlace,
    /// The kind, namespace and name of the object; empty if it is about the whole text.
    pub object: String,
    pub message: String,
}

/// What was linted.
#[derive(Debug, Default)]
pub struct LintReport {
    /// Sorted by text and place.
    pub findings: Vec<LintFinding>,
    /// How many policies, baselines and opt-outs were looked at.
    pub objects: usize,
}

/// Finds the mistakes in texts. What several texts have is taken as applied together.
pub fn lint(sources: &[ManifestText], settings: &LintSettings) -> LintReport {
    let mut report = LintReport::default();
    let is_ignored = |rule: LintRule| settings.ignore.contains(&rule);
    let is_selected = |rule: LintRule| settings.select.is_empty() || settings.select.contains(&rule);
    let mut documents: Vec<LintDocument> = Vec::new();
    for (number, source) in sources.iter().enumerate() {
        let (nodes, problems) = yaml::documents(&source.text);
        documents.extend(nodes.into_iter().flat_map(|node| objects(number, node)));
        // Of what cannot be read, no rule finds anything.
        let problems = problems.into_iter().filter(|_| !is_ignored(LintRule::UnreadableFile));
        report.findings.extend(problems.map(|problem| LintFinding {
            rule: LintRule::UnreadableFile,
            source: number,
            place: problem.place,
            object: String::new(),
            message: problem.message,
        }));
    }
    let mut hits: BTreeMap<usize, Vec<RuleHit>> = BTreeMap::new();
    let mut given = GivenObjects::default();
    let mut seen = SeenNames::default();
    for (number, document) in documents.iter().enumerate() {
        given.note(number, document);
        let Some(mut found) = whole(document, settings.operator_namespace, number, &mut given) else { continue };
        report.objects += 1;
        found.extend(twice(document, &mut seen, sources));
        hits.entry(number).or_default().extend(found);
    }
    for (number, found) in &mut hits {
        if let (Some(document), Some(baseline), []) = (documents.get(*number), settings.baseline, &**found) {
            found.extend(opt_out_rules::check(document, &given, baseline, settings.now));
        }
    }
    let mut on_host: BTreeMap<(usize, &str), Vec<&str>> = BTreeMap::new();
    for policy in &given.policies {
        let Some(document) = documents.get(policy.document) else { continue };
        let case = LintCase { policy, node: &document.node, given: &given };
        let found = hits.entry(policy.document).or_default();
        let refused: Vec<String> = found.iter().map(|hit| hit.path.clone()).collect();
        found.extend(policy_hits(&case, settings.baseline, &refused));
        if ignore::ignored(&document.node).0.contains(&LintRule::HostNetworkPod) {
            continue;
        }
        for (workload, path) in workload_rules::on_host_network(&case) {
            on_host.entry((workload.document, path)).or_default().push(&policy.name);
        }
    }
    for ((document, path), policies) in on_host {
        let hit = RuleHit::new(LintRule::HostNetworkPod, path, workload_rules::on_host_message(&policies));
        hits.entry(document).or_default().push(hit);
    }
    let judged: HashSet<usize> = given.policies.iter().map(|policy| policy.document).collect();
    for (number, found) in hits {
        let Some(document) = documents.get(number) else { continue };
        let is_judged = judged.contains(&number) || !found.iter().any(|hit| hit.rule.is_refusal());
        let is_wanted = |rule: LintRule| !is_ignored(rule) && (is_selected(rule) || (!is_judged && rule.is_refusal()));
        report.findings.extend(placed(document, found).into_iter().filter(|finding| is_wanted(finding.rule)));
    }
    report.findings.sort_by(|one, other| {
        (one.source, one.place, one.rule, &one.message).cmp(&(other.source, other.place, other.rule, &other.message))
    });
    report.findings.dedup();
    report
}

/// Each object as it was given last: by kind, namespace and name.
type SeenNames<'d> = HashMap<(&'d str, Option<&'d str>, &'d str), &'d LintDocument>;

/// An object that is given twice.
fn twice<'d>(document: &'d LintDocument, seen: &mut SeenNames<'d>, sources: &[ManifestText]) -> Option<RuleHit> {
    let (namespace, name) = (document.namespace(), document.name()?);
    let other = seen.insert((&document.kind, namespace, name), document)?;
    if other.source == document.source {
        let message = "the same object is above in this file, and only the last one counts. Remove one, or give it another name";
        return Some(RuleHit::new(LintRule::DuplicateObject, "metadata.name", message));
    }
    // Without a namespace, each file may be applied to another one. A copy does no harm.
    let is_same = namespace.is_some() && other.node.to_json() != document.node.to_json();
    let file = sources.get(other.source).map(|source| &*source.name).unwrap_or_default();
    let message = format!(
        "the same object with other content is in {file}, line {}. In one cluster only the one counts that is applied last. Remove one, or give it another name",
        other.node.place_of("metadata.name").line
    );
    is_same.then(|| RuleHit::new(LintRule::ObjectInTwoFiles, "metadata.name", message))
}

/// What is wrong with an object as a whole; none if it is of a kind that is not linted. A policy that can be judged is noted.
fn whole(document: &LintDocument, operator_namespace: &str, number: usize, given: &mut GivenObjects) -> Option<Vec<RuleHit>> {
    let refused = |path: &str, message: String| RuleHit::new(LintRule::RefusedByApiServer, path, message);
    let LintDocument { api_version, kind, node, .. } = document;
    match (document.group(), &**kind) {
        (custom::GROUP, _) => return Some(custom::check(document, operator_namespace)),
        ("networking.k8s.io" | "extensions" | "", "NetworkPolicy") => {}
        ("networking.k8s.io", "") => {
            return Some(vec![refused("apiVersion", "Object 'Kind' is missing. Write kind: NetworkPolicy".into())]);
        }
        // No group of a CRD is without a dot.
        (_, kind) if document.is_meant_as_policy() => {
            let message = format!(
                "no matches for kind {kind:?} in version {api_version:?}. Write kind: NetworkPolicy and apiVersion: networking.k8s.io/v1"
            );
            return Some(vec![refused("kind", message)]);
        }
        _ => return None,
    }
    match &**api_version {
        "networking.k8s.io/v1" => {}
        "" => return Some(vec![refused("kind", "apiVersion not set. Write apiVersion: networking.k8s.io/v1".into())]),
        "extensions/v1beta1" => {
            let message = "Kubernetes 1.16 and later do not serve extensions/v1beta1: this policy is not applied. Write networking.k8s.io/v1";
            return Some(vec![RuleHit::new(LintRule::DeprecatedApi, "apiVersion", message)]);
        }
        _ => {
            return Some(vec![refused(
                "apiVersion",
                format!("no matches for kind {kind:?} in version {api_version:?}. Write networking.k8s.io/v1"),
            )]);
        }
    }
    let mut found = shape::misshapen(node);
    if found.iter().all(|hit| hit.rule == LintRule::UnknownField) {
        let spec =
            node.get("spec").map(tree::YamlNode::to_json).filter(|spec| !spec.is_null()).unwrap_or_else(|| serde_json::json!({}));
        match serde_path_to_error::deserialize::<_, k8s_openapi::api::networking::v1::NetworkPolicySpec>(&spec) {
            Ok(spec) => {
                found.extend(api_server::refused(document, &spec));
                let namespace = document.namespace().map(str::to_owned);
                let name = document.name().unwrap_or_default().to_owned();
                given.policies.push(LintPolicy { document: number, namespace, name, spec });
            }
            Err(error) => found.push(refused(&format!("spec.{}", error.path()), error.inner().to_string())),
        }
    }
    if document.namespace().is_none() {
        let message =
            "this policy names no namespace, so it is in whichever namespace it is applied to. Write metadata.namespace";
        found.push(RuleHit::new(LintRule::NoNamespace, "metadata.name", message));
    }
    Some(found)
}

/// What the rules for policies find. `refused` are the fields that the API server refuses.
fn policy_hits(case: &LintCase, baseline: Option<&PreviewedBaseline>, refused: &[String]) -> Vec<RuleHit> {
    let mut found = peer_rules::check(case);
    let by_accident = found.iter().filter(|hit| hit.rule == LintRule::IsolatesByAccident);
    let closed_by_accident: Vec<String> =
        by_accident.filter(|hit| hit.path.starts_with("spec.policyTypes")).map(|hit| hit.path.clone()).collect();
    let about_dns = baseline_rules::check(case, baseline);
    // A direction that is closed by accident needs no rule for DNS.
    found.extend(
        about_dns.into_iter().filter(|hit| hit.rule != LintRule::EgressWithoutDns || !closed_by_accident.contains(&hit.path)),
    );
    found.extend(block_rules::check(case));
    found.extend(workload_rules::check(case));
    found.extend(entry_rules::check(case, refused));
    found
}

/// Gives each hit its place, and leaves out those that the object ignores.
fn placed(document: &LintDocument, hits: Vec<RuleHit>) -> Vec<LintFinding> {
    let (ignored, wrong) = ignore::ignored(&document.node);
    let hits = hits.into_iter().filter(|hit| !ignored.contains(&hit.rule)).chain(wrong);
    hits.map(|hit| LintFinding {
        rule: hit.rule,
        source: document.source,
        place: document.place(&hit),
        object: document.shown(),
        message: hit.message,
    })
    .collect()
}
