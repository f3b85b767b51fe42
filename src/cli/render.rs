//! `policy-baseline render`: writes the policies that a baseline plans, for people who apply them themselves.

use std::{collections::BTreeSet, time::Instant};

use clap::{Args as ClapArgs, ValueEnum};
use serde_json::{Value, json};

use super::{
    cluster::OperatorNamespace,
    flow_input::{self, FlowInput},
    output,
};
use crate::{
    api::label_query::LabelQuery,
    policy::{
        flow::FlowNamespace,
        preview::{PreviewedBaseline, namespace_named, namespaces_in},
    },
};

#[derive(Debug, ClapArgs)]
pub struct RenderArgs {
    /// A manifest with a baseline (- is standard input).
    #[arg(long, short = 'f', value_name = "FILE")]
    filename: String,

    /// A namespace to write policies for; several are allowed. Of its labels, only that with its name is known.
    #[arg(long, short = 'n', value_name = "NAME", value_delimiter = ',', conflicts_with_all = ["namespaces", "dump", "context", "kubeconfig"])]
    namespace: Vec<String>,

    /// A file with namespaces and their labels: manifests, or what kubectl get namespaces -o yaml writes.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["dump", "context", "kubeconfig"])]
    namespaces: Option<String>,

    /// Only namespaces with these labels, such as -l team=shop or -l 'tier in (prod,stage),!legacy'.
    #[arg(long, short = 'l', value_name = "SELECTOR", conflicts_with = "namespace")]
    selector: Option<LabelQuery>,

    /// What to write: NetworkPolicies, or policies that Calico only tries on real traffic.
    #[arg(long = "as", value_name = "KIND", default_value = "network-policy")]
    kind: RenderedKind,

    #[command(flatten)]
    input: FlowInput,

    #[command(flatten)]
    operator: OperatorNamespace,

    /// The format of the output.
    #[arg(long, short, value_name = "FORMAT", default_value = "yaml")]
    output: RenderOutput,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum RenderedKind {
    /// NetworkPolicies, as the operator writes them.
    NetworkPolicy,
    /// StagedKubernetesNetworkPolicies of Calico: they block nothing, and flow logs show what they would do.
    CalicoStaged,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum RenderOutput {
    /// One document for each policy.
    Yaml,
    /// One List.
    Json,
}

/// Runs the subcommand.
pub fn run(args: &RenderArgs) -> Result<(), String> {
    let baseline = flow_input::baseline(&args.filename, args.operator.or_default())?;
    let (baseline, mut namespaces) = match &args.namespaces {
        Some(file) => {
            let text = flow_input::manifest(file, |group, kind| (group, kind) == ("", "Namespace"))?;
            (baseline, namespaces_in(&text).map_err(|error| format!("{file}: {error}"))?)
        }
        None if args.namespace.is_empty() => from_objects(args, baseline)?,
        None => {
            let names: BTreeSet<&String> = args.namespace.iter().collect();
            (baseline, names.into_iter().map(|name| namespace_named(name)).collect::<Result<_, _>>()?)
        }
    };
    if let Some(selector) = &args.selector {
        namespaces.retain(|namespace| selector.selects(&namespace.labels));
        if namespaces.is_empty() {
            return Err(format!("no namespace has the labels {selector}. List those that exist: kubectl get ns --show-labels"));
        }
    }
    baseline.gaps().iter().for_each(|gap| output::warn(gap));
    if !baseline.writes() {
        output::note("the baseline is in mode Audit: with it, the operator writes no policy");
    }
    let mut policies = Vec::new();
    for namespace in &namespaces {
        let planned = baseline.planned(namespace);
        if planned.is_empty() {
            let why = if args.namespace.is_empty() {
                ""
            } else {
                ". Of its labels, only that with its name is known: --namespaces or --dump give the others"
            };
            output::note(&format!("{} gets no policy from the baseline {}{why}", namespace.name, baseline.name()));
        }
        policies.extend(planned.into_iter().map(|policy| args.kind.of(policy.object(&namespace.name, None))));
    }
    output::print(&args.output.of(&policies)?)
}

/// The namespaces of a cluster or a dump, and the baseline with the DNS that was found there.
fn from_objects(args: &RenderArgs, baseline: PreviewedBaseline) -> Result<(PreviewedBaseline, Vec<FlowNamespace>), String> {
    let dump = args.input.read_for_a_baseline()?;
    dump.warnings.iter().for_each(|warning| output::warn(warning));
    let baseline = baseline.in_cluster(&dump.facts, Instant::now());
    Ok((baseline, dump.namespaces()))
}

impl RenderedKind {
    fn of(self, mut policy: Value) -> Value {
        match self {
            Self::NetworkPolicy => {}
            Self::CalicoStaged => {
                policy["apiVersion"] = "projectcalico.org/v3".into();
                policy["kind"] = "StagedKubernetesNetworkPolicy".into();
                policy["spec"]["stagedAction"] = "Set".into();
            }
        }
        policy
    }
}

impl RenderOutput {
    fn of(self, policies: &[Value]) -> Result<String, String> {
        let failed = |error: &dyn std::fmt::Display| format!("it does not serialise: {error}");
        match self {
            Self::Yaml => {
                let documents = policies.iter().map(|policy| serde_yaml::to_string(policy).map(|text| format!("---\n{text}")));
                documents.collect::<Result<_, _>>().map_err(|error| failed(&error))
            }
            Self::Json => {
                let list = json!({"apiVersion": "v1", "kind": "List", "items": policies});
                serde_json::to_string_pretty(&list).map(|text| text + "\n").map_err(|error| failed(&error))
            }
        }
    }
}
