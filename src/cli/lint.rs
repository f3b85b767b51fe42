//! `policy-baseline lint`: finds mistakes in manifests.

use clap::{Args as ClapArgs, ValueEnum};
use jiff::Timestamp;

use super::{
    exit, flow_input,
    manifest_files::{self, ReadFiles},
    output,
};
use crate::{
    api::{names::DEFAULT_OPERATOR_NAMESPACE, text::shown},
    policy::lint::{LintFormat, LintRule, LintSettings, Severity, lint},
};

#[derive(Debug, ClapArgs)]
pub struct LintArgs {
    /// Files and folders (- is standard input). Of a folder, the files that end in .yaml, .yml or .json are read.
    #[arg(value_name = "PATH", required = true)]
    paths: Vec<String>,

    /// Look only for these rules, by id or name. What keeps an object from being judged is found too.
    #[arg(long, value_name = "RULE", value_delimiter = ',', value_parser = rule)]
    select: Vec<LintRule>,

    /// Do not look for these rules.
    #[arg(long, value_name = "RULE", value_delimiter = ',', value_parser = rule)]
    ignore: Vec<LintRule>,

    /// A manifest with a baseline: find also policies that open what it closes, cut off DNS, or take a name that it plans, and opt-outs that it does not allow.
    #[arg(long, value_name = "FILE")]
    baseline: Option<String>,

    /// The least severity that makes the exit code 1.
    #[arg(long, value_name = "SEVERITY", default_value = "warning")]
    fail_on: FailOn,

    /// The namespace of the operator; the baseline does not select it.
    #[arg(long, value_name = "NAMESPACE", default_value = DEFAULT_OPERATOR_NAMESPACE, value_parser = super::cluster::namespace)]
    operator_namespace: String,

    /// The format of the output.
    #[arg(long, short, value_name = "FORMAT", default_value = "text")]
    output: LintOutput,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum FailOn {
    /// Only for what is refused, or does not do what it says.
    Error,
    /// Also for what is most likely a mistake.
    Warning,
    /// Also for what may be meant.
    Info,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum LintOutput {
    /// For people.
    Text,
    /// For machines.
    Json,
    /// For code scanning: SARIF 2.1.0.
    Sarif,
    /// Annotations of GitHub Actions.
    Github,
    /// A test report.
    Junit,
}

impl FailOn {
    const fn severity(self) -> Severity {
        match self {
            Self::Error => Severity::Error,
            Self::Warning => Severity::Warning,
            Self::Info => Severity::Info,
        }
    }
}

impl LintOutput {
    const fn format(self) -> LintFormat {
        match self {
            Self::Text => LintFormat::Text,
            Self::Json => LintFormat::Json,
            Self::Sarif => LintFormat::Sarif,
            Self::Github => LintFormat::Github,
            Self::Junit => LintFormat::Junit,
        }
    }
}

fn rule(text: &str) -> Result<LintRule, String> {
    LintRule::named(text)
        .ok_or_else(|| "there is no such rule. docs/lint.md has all of them, such as PB101 or egress-without-dns".into())
}

/// Runs the subcommand. Returns the exit code.
pub fn run(args: &LintArgs) -> Result<u8, String> {
    flow_input::one_stdin(args.paths.iter().chain(&args.baseline).map(|path| &**path), "the paths and --baseline")?;
    let baseline = args.baseline.as_deref().map(|file| flow_input::baseline(file, &args.operator_namespace)).transpose()?;
    let ReadFiles { texts: sources, notes, errors } = manifest_files::read(&args.paths);
    for note in &notes {
        output::note(note);
    }
    let settings = LintSettings {
        select: args.select.clone(),
        ignore: args.ignore.clone(),
        baseline: baseline.as_ref(),
        operator_namespace: &args.operator_namespace,
        now: Timestamp::now(),
    };
    let report = lint(&sources, &settings);
    // Where nothing could be read, "no mistakes" would be no answer.
    if errors.is_empty() || !sources.is_empty() {
        output::print(&report.shown(&sources, args.output.format()))?;
    }
    if report.objects == 0 && report.findings.is_empty() && errors.is_empty() {
        output::note(&format!(
            "there is no NetworkPolicy, PolicyBaseline or BaselineOptOut in {}",
            shown(&args.paths.join(", "))
        ));
    }
    for error in &errors {
        output::error(error);
    }
    let is_found = report.findings.iter().any(|finding| finding.rule.severity() >= args.fail_on.severity());
    Ok(if !errors.is_empty() {
        exit::COULD_NOT_RUN
    } else if is_found {
        exit::FINDINGS
    } else {
        0
    })
}
