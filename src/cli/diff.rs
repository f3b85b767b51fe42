//! `policy-baseline diff`: shows which flows two versions of policies, or of a baseline, decide differently.

use std::{collections::BTreeSet, time::Instant};

use clap::{Args as ClapArgs, ValueEnum};

use super::{
    cluster::{self, OperatorNamespace},
    exit,
    flow_input::{self, FlowInput},
    manifest_files::{self, ReadFiles},
    output::{self, Output},
};
use crate::{
    api::label_query::LabelQuery,
    policy::{
        diff::{DiffSide, FlowDiff, MarkdownDiff, WorkloadManifests, compare, worlds},
        flow::{FlowDump, FlowSnapshot},
        lint::passed_over,
        preview::{ManifestText, PreviewedBaseline},
    },
};

#[derive(Debug, ClapArgs)]
pub struct DiffArgs {
    /// What was, and then what will be: -f OLD -f NEW. Each is a file or a folder with NetworkPolicies, or with a baseline (- is standard input).
    #[arg(long, short = 'f', value_name = "PATH", required = true)]
    filename: Vec<String>,

    /// Read no cluster, but take the pods from these files or folders with Deployments and other workloads.
    #[arg(long, value_name = "PATH", conflicts_with_all = ["dump", "context", "kubeconfig"])]
    workloads: Vec<String>,

    /// The namespace of objects in manifests that name none.
    #[arg(long, short = 'n', value_name = "NAME", default_value = "default", value_parser = cluster::namespace)]
    namespace: String,

    /// Only workloads whose pods have these labels, such as -l app=web or -l 'app in (web,api),!canary'.
    #[arg(long, short = 'l', value_name = "SELECTOR")]
    selector: Option<LabelQuery>,

    #[command(flatten)]
    input: FlowInput,

    #[command(flatten)]
    operator: OperatorNamespace,

    /// The most rows that are shown of what is newly allowed, and of what is newly denied.
    #[arg(long, value_name = "ROWS", default_value_t = 50)]
    limit: usize,

    /// The format of the output.
    #[arg(long, short, value_name = "FORMAT", default_value = "text")]
    output: DiffOutput,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum DiffOutput {
    /// For people.
    Text,
    /// For machines.
    Json,
    /// For pull requests.
    Markdown,
}

/// Runs the subcommand. Returns the exit code.
pub fn run(args: &DiffArgs) -> Result<u8, String> {
    let [old, new] = &*args.filename else {
        return Err("write -f twice: first what was, and then what will be".into());
    };
    let inputs = args.filename.iter().chain(&args.workloads).map(|path| &**path).chain(args.input.dump());
    flow_input::one_stdin(inputs, "-f, --workloads and --dump")?;
    let (mut old, mut new) = (side(args, old)?, side(args, new)?);
    let has_baseline = old.baseline.is_some() || new.baseline.is_some();
    let world = world(args, has_baseline)?;
    let mut warnings: Vec<String> = [&old, &new].iter().flat_map(|side| side.warnings.clone()).chain(world.warnings).collect();
    for side in [&mut old, &mut new] {
        side.baseline = side.baseline.take().map(|baseline| baseline.in_cluster(&world.facts, Instant::now()));
    }
    let snapshot: FlowSnapshot = world.objects.into_iter().collect();
    flow_input::some_selected(args.selector.as_ref(), &snapshot)?;
    let replaced: Vec<String> = [&old, &new].iter().filter_map(|side| side.baseline.as_ref()?.replaces(&snapshot)).collect();
    let [before, after] = worlds(snapshot, &old, &new);
    let mut gaps: BTreeSet<String> =
        [&old, &new].iter().filter_map(|side| side.baseline.as_ref()).flat_map(PreviewedBaseline::gaps).collect();
    gaps.extend(replaced);
    gaps.extend(after.namespace_gap());
    let diff = compare(&before, &after, args.limit, args.selector.as_ref()).map_err(|error| error.to_string())?;
    gaps.extend(diff.warnings);
    warnings.extend(gaps);
    let mut said = BTreeSet::new();
    warnings.retain(|warning| said.insert(warning.clone()));
    for warning in &warnings {
        output::warn(warning);
    }
    let diff = FlowDiff { warnings, ..diff };
    output::print(&match args.output {
        DiffOutput::Text => Output::Text.of(&diff)?,
        DiffOutput::Json => Output::Json.of(&diff)?,
        DiffOutput::Markdown => MarkdownDiff(&diff).to_string(),
    })?;
    Ok(if diff.has_changes() { exit::FINDINGS } else { 0 })
}

/// Reads one version.
fn side(args: &DiffArgs, path: &str) -> Result<DiffSide, String> {
    let mut side = DiffSide::default();
    let texts = texts(&[path.to_owned()])?;
    side.warnings = passed_over(&texts, &args.namespace, DiffSide::reads);
    for ManifestText { name, text } in texts {
        side.add(&text, &args.namespace, args.operator.or_default()).map_err(|error| format!("{name}: {error}"))?;
    }
    let shown = flow_input::shown(path);
    if side.is_empty() {
        output::note(&format!("{shown} has neither a NetworkPolicy nor a baseline"));
    }
    if side.baseline.as_ref().is_some_and(|baseline| !baseline.writes()) {
        output::note(&format!("the baseline of {shown} is in mode Audit: with it, the operator writes no policy"));
    }
    Ok(side)
}

/// The manifests in files and folders.
fn texts(paths: &[String]) -> Result<Vec<ManifestText>, String> {
    let ReadFiles { texts, notes, errors } = manifest_files::read(paths);
    for note in &notes {
        output::note(note);
    }
    errors.into_iter().next().map_or(Ok(texts), Err)
}

/// The pods, from the cluster, from a dump, or from manifests.
fn world(args: &DiffArgs, has_baseline: bool) -> Result<FlowDump, String> {
    if args.workloads.is_empty() {
        return if has_baseline { args.input.read_for_a_baseline() } else { args.input.read() };
    }
    let texts = texts(&args.workloads)?;
    let mut workloads = WorkloadManifests::default();
    for ManifestText { name, text } in &texts {
        workloads.add(text, &args.namespace).map_err(|error| format!("{name}: {error}"))?;
    }
    let none = || format!("there is no workload in {}: without pods there are no flows", args.workloads.join(" and "));
    let mut dump = workloads.dump().ok_or_else(none)?;
    dump.warnings = passed_over(&texts, &args.namespace, WorkloadManifests::reads);
    Ok(dump)
}
