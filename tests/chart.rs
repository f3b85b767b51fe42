//! The Helm chart: most of its templates are generated from the manifests that kustomize uses, and its version is that of Cargo.toml.
//!
//! A template is the text of a manifest, with the names, the namespace and the constants of components as values. `GOLDEN=accept` writes the
//! templates. The suite `helm` compares what Helm and kustomize make of both, object by object.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use serde_json::Value;

const CHART: &str = "manifests/helm";
const NAMESPACE: &str = "policy-baseline-system";
const NAME: &str = "policy-baseline";
/// Helm keeps an object with this annotation when the release is uninstalled, and when the object leaves the chart.
const KEEP: &str = "metadata:\n  annotations:\n    helm.sh/resource-policy: keep\n";

/// What the platform sets in a component: the name of the constant in its policies, and the key below the component in the values.
const CONSTANTS: [(&str, &[(&str, &str)]); 5] = [
    ("label-hygiene", &[("labels", "labels"), ("controllers", "controllers"), ("maxGracePeriod", "maxGracePeriod")]),
    ("no-host-network", &[("serviceAccounts", "serviceAccounts")]),
    (
        "opt-out-rules",
        &[("maxDuration", "maxDuration"), ("allowedPolicies", "allowedPolicies"), ("approverRequired", "approverRequired")],
    ),
    ("protect", &[("controllers", "finalizerDomains")]),
    ("required-labels", &[("labels", "labels"), ("owner", "owner")]),
];
/// Templates that have more values than names. They are written by hand.
const BY_HAND: [&str; 4] = ["NOTES.txt", "_helpers.tpl", "deployment.yaml", "network_policy.yaml"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|why| panic!("{path}: {why}"))
}

/// The files of a kustomization, as paths from the root. Its other resources are folders elsewhere.
fn resources(dir: &str) -> Vec<String> {
    let file = if dir == "crds" { "Kustomization" } else { "kustomization.yaml" };
    let kustomization: Value = serde_yaml::from_str(&read(&format!("{dir}/{file}"))).unwrap();
    let names = kustomization["resources"].as_array().unwrap().iter().map(|name| name.as_str().unwrap());
    names.filter(|name| !name.starts_with("..")).map(|name| format!("{dir}/{name}")).collect()
}

/// The key of a component in the values: `no-gap` is `noGap`.
fn key(component: &str) -> String {
    let (first, rest) = component.split_once('-').unwrap_or((component, ""));
    let rest = rest.split('-').filter(|word| !word.is_empty()).map(|word| word[..1].to_uppercase() + &word[1..]);
    format!("components.{first}{}", rest.collect::<String>())
}

/// A line of a manifest, with the names and the namespace as values.
fn named(line: &str, kind: &str) -> String {
    let account = "{{ include \"policy-baseline.serviceAccount\" . | quote }}";
    let line = line.replace(&format!("system:serviceaccount:{NAMESPACE}:{NAME}"), "{{ include \"policy-baseline.user\" . }}");
    let line = match line.strip_suffix(&format!(": {NAMESPACE}")) {
        Some(before) => format!("{before}: {{{{ .Release.Namespace | quote }}}}"),
        None => line.replace(NAMESPACE, "{{ .Release.Namespace }}"),
    };
    for field in ["  name: ", "  policyName: "] {
        let Some(suffix) = line.strip_prefix(field).and_then(|name| name.strip_prefix(NAME)) else { continue };
        return if kind == "ServiceAccount" {
            format!("{field}{account}")
        } else if suffix.is_empty() {
            format!("{field}{{{{ include \"policy-baseline.name\" . | quote }}}}")
        } else {
            format!("{field}{{{{ include \"policy-baseline.name\" . }}}}{suffix}")
        };
    }
    if line != format!("    name: {NAME}") {
        line
    } else if kind == "FlowSchema" {
        // Its priority level.
        "    name: {{ include \"policy-baseline.name\" . | quote }}".to_owned()
    } else {
        // The subject of a binding.
        format!("    name: {account}")
    }
}

/// A line of a component, with what the platform may set as values.
fn with_settings(line: &str, component: &str, source: &str) -> String {
    const WARNS: &str = "  validationActions: [Warn, Audit]";
    const LABELLED: &str = "- { key: policybaseline.io/host-network, operator: In, values: [forbidden] }";
    const NEVER: &str = "values: [kube-system, kube-public, kube-node-lease, {{ .Release.Namespace }}]";
    let (values, check) = (format!(".Values.{}", key(component)), source.rsplit('/').next().unwrap().trim_end_matches(".yaml"));
    let system = "(list \"kube-system\" \"kube-public\" \"kube-node-lease\" .Release.Namespace)";
    match (line.trim_start(), check) {
        // Nobody makes the check of a workload's template deny: its controller could not create the workload again.
        _ if line == WARNS && check == "templates" => line.to_owned(),
        _ if line == WARNS && component == "sane-policies" => {
            format!("  validationActions: {{{{ toJson {values}.validationActions.{check} }}}}")
        }
        _ if line == WARNS => format!("  validationActions: {{{{ toJson {values}.validationActions }}}}"),
        (LABELLED, _) => format!("        {{{{- with {values}.matchExpressions }}}}{{{{ toYaml . | nindent 8 }}}}{{{{- end }}}}"),
        _ => line.replace(NEVER, &format!("values: {{{{ concat {system} {values}.exemptNamespaces | toJson }}}}")),
    }
}

/// The text of a manifest as a template. Comments stay in the manifest.
fn template(source: &str, component: Option<&str>) -> String {
    let text = read(source);
    assert!(!text.contains("{{"), "{source} has braces, which Helm would take for an action");
    let constants: BTreeMap<&str, &str> =
        CONSTANTS.iter().filter(|(of, _)| Some(*of) == component).flat_map(|(_, all)| all.iter().copied()).collect();
    let kinds: BTreeMap<usize, &str> = text
        .split("\n---\n")
        .map(|document| document.lines().find_map(|line| line.strip_prefix("kind: ")).unwrap())
        .enumerate()
        .collect();
    let (mut document, mut in_variables, mut skips) = (0, false, false);
    let mut lines = Vec::new();
    for line in text.lines().filter(|line| !line.trim_start().starts_with('#')) {
        let indent = line.len() - line.trim_start().len();
        // The expression of a constant that was replaced.
        skips = skips && indent > 4;
        if skips {
            continue;
        }
        document += usize::from(line == "---");
        if indent <= 2 {
            in_variables = line == "  variables:";
        }
        let mut line = named(line, kinds[&document]);
        if let Some(component) = component {
            line = with_settings(&line, component, source);
        }
        let constant = line.strip_prefix("    - name: ").filter(|_| in_variables).and_then(|name| constants.get(name));
        lines.push(line.clone());
        if let Some(constant) = constant {
            let value = format!("{}.{constant}", key(component.unwrap()));
            lines.push(format!("      expression: {{{{ include \"policy-baseline.cel\" .Values.{value} | toJson }}}}"));
            skips = true;
        }
    }
    lines.join("\n") + "\n"
}

fn generated(source: &str, condition: Option<&str>, body: &str) -> String {
    let head = format!("{{{{- /* Generated from {source} by make generate; do not edit. */ -}}}}\n");
    match condition {
        Some(value) => format!("{head}{{{{- if .Values.{value} }}}}\n{body}{{{{- end }}}}\n"),
        None => head + body,
    }
}

/// The generated templates, by their path in the folder of templates.
fn templates() -> BTreeMap<String, String> {
    let mut all = BTreeMap::new();
    let file = |source: &str| source.rsplit('/').next().unwrap().to_owned();
    for source in resources("crds") {
        let text = read(&source);
        assert!(!text.contains("{{"), "{source}");
        let body = text.split_once('\n').unwrap().1.replacen("metadata:\n", KEEP, 1);
        all.insert(format!("crds/{}", file(&source)), generated(&source, Some("crds.install"), &body));
    }
    for source in [resources("manifests/base"), resources("manifests/default")].concat() {
        if BY_HAND.contains(&&*file(&source)) {
            continue;
        }
        let body = template(&source, None);
        let template = if file(&source) == "namespace.yaml" {
            generated(&source, Some("namespace.create"), &body.replacen("metadata:\n", KEEP, 1))
        } else {
            generated(&source, None, &body)
        };
        all.insert(file(&source), template);
    }
    for component in fs::read_dir(root().join("manifests/components")).unwrap().map(|entry| entry.unwrap().file_name()) {
        let component = component.to_str().unwrap();
        for source in resources(&format!("manifests/components/{component}")) {
            let body = template(&source, Some(component));
            let condition = format!("{}.enabled", key(component));
            all.insert(format!("components/{component}-{}", file(&source)), generated(&source, Some(&condition), &body));
        }
    }
    all
}

/// Every file in this folder and below, by its path in it.
fn files(dir: &Path, prefix: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for entry in fs::read_dir(dir).unwrap().map(Result::unwrap) {
        let name = format!("{prefix}{}", entry.file_name().to_str().unwrap());
        if entry.path().is_dir() {
            found.extend(files(&entry.path(), &format!("{name}/")));
        } else {
            found.insert(name);
        }
    }
    found
}

#[test]
fn the_templates_are_those_of_the_manifests() {
    let dir = root().join(CHART).join("templates");
    let templates = templates();
    if std::env::var("GOLDEN").as_deref() == Ok("accept") {
        for old in files(&dir, "").iter().filter(|file| !BY_HAND.contains(&&***file)) {
            fs::remove_file(dir.join(old)).unwrap();
        }
        for (path, text) in &templates {
            fs::create_dir_all(dir.join(path).parent().unwrap()).unwrap();
            fs::write(dir.join(path), text).unwrap();
        }
        return;
    }
    let expected: BTreeSet<String> = templates.keys().cloned().chain(BY_HAND.map(str::to_owned)).collect();
    assert_eq!(files(&dir, ""), expected, "run make generate");
    for (path, text) in templates {
        assert!(read(&format!("{CHART}/templates/{path}")) == text, "{path} differs: run make generate");
    }
}

#[test]
fn the_version_of_the_chart_is_that_of_the_package() {
    let chart: Value = serde_yaml::from_str(&read(&format!("{CHART}/Chart.yaml"))).unwrap();
    for field in ["version", "appVersion"] {
        assert_eq!(chart[field], env!("CARGO_PKG_VERSION"), "{field} of {CHART}/Chart.yaml");
    }
}

/// Each value has a comment in values.yaml, and each is in the schema: what the schema does not know is refused.
#[test]
fn every_value_has_a_comment_and_a_schema() {
    let schema: Value = serde_json::from_str(&read(&format!("{CHART}/values.schema.json"))).unwrap();
    let values: Value = serde_yaml::from_str(&read(&format!("{CHART}/values.yaml"))).unwrap();
    let text = read(&format!("{CHART}/values.yaml"));
    compare(&values, &schema, "");
    let mut above = "";
    for line in text.lines() {
        let is_key = line.trim_start().split_once(':').is_some_and(|(key, _)| key.chars().all(char::is_alphanumeric));
        if is_key && line.trim_start() == line {
            assert!(above.starts_with('#'), "no comment above {line}");
        }
        above = line;
    }
}

/// The keys of the values are those of the schema, and everywhere the schema refuses others. `global` belongs to Helm.
fn compare(values: &Value, schema: &Value, at: &str) {
    let Some(properties) = schema["properties"].as_object() else { return };
    assert_eq!(schema["additionalProperties"], false, "{at}: other keys are refused");
    let known: BTreeSet<&String> = properties.keys().filter(|key| *key != "global").collect();
    assert_eq!(values.as_object().unwrap().keys().collect::<BTreeSet<_>>(), known, "{at}");
    for (name, property) in properties {
        compare(&values[name], property, &format!("{at}/{name}"));
    }
}
