//! `policy-baseline would-break`: says which recorded flows a baseline, or the policies that exist, would deny.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, Read as _},
    time::Instant,
};

use clap::Args as ClapArgs;

use super::{
    cluster::OperatorNamespace,
    exit,
    flow_input::{self, FlowInput},
    output::{self, Output},
};
use crate::{
    api::label_query::LabelQuery,
    policy::{
        flow::{CompiledPolicies, FlowSnapshot},
        preview::PreviewedBaseline,
        would_break::Recording,
    },
};

/// The longest line of a recording.
const LONGEST: u64 = 1 << 20;

#[derive(Debug, ClapArgs)]
pub struct WouldBreakArgs {
    /// A recording (- is standard input); several are read as one. Its lines are JSON of Hubble (hubble observe -o jsonpb), flow logs of
    /// Calico, {"from": "shop/web-0", "to": "10.0.0.1", "port": "UDP/53"}, or CSV with the head from,to,port.
    #[arg(long, value_name = "FILE", required = true, num_args = 1..)]
    flows: Vec<String>,

    /// A manifest with a baseline. Without it, the policies that exist are judged.
    #[arg(long, short = 'f', value_name = "FILE")]
    filename: Option<String>,

    /// Only flows of workloads whose pods have these labels, such as -l app=web or -l 'app in (web,api),!canary'.
    #[arg(long, short = 'l', value_name = "SELECTOR")]
    selector: Option<LabelQuery>,

    #[command(flatten)]
    input: FlowInput,

    #[command(flatten)]
    operator: OperatorNamespace,

    /// The format of the output.
    #[arg(long, short, value_name = "FORMAT", default_value = "text")]
    output: Output,
}

/// Runs the subcommand. Returns the exit code.
pub fn run(args: &WouldBreakArgs) -> Result<u8, String> {
    let inputs = args.flows.iter().map(|file| &**file).chain(args.filename.as_deref()).chain(args.input.dump());
    flow_input::one_stdin(inputs, "--flows, --filename and --dump")?;
    let baseline = |file| flow_input::baseline(file, args.operator.or_default());
    let manifest = args.filename.as_deref().map(baseline).transpose()?;
    let mut dump = if manifest.is_some() { args.input.read_for_a_baseline()? } else { args.input.read()? };
    let warnings = std::mem::take(&mut dump.warnings);
    let baseline = manifest.map(|baseline| baseline.in_cluster(&dump.facts, Instant::now()));
    let snapshot: FlowSnapshot = dump.objects.into_iter().collect();
    flow_input::some_selected(args.selector.as_ref(), &snapshot)?;
    let refused = CompiledPolicies::of(&snapshot).refused_parts();
    baseline.iter().flat_map(PreviewedBaseline::gaps).for_each(|gap| output::warn(&gap));
    // With a baseline, it makes the policies, and the answer says which namespaces are missing.
    let gaps = if baseline.is_some() { vec![] } else { snapshot.gaps() };
    for warning in warnings.into_iter().chain(gaps).chain(refused) {
        output::warn(&warning);
    }
    let mut recording = Recording::new(snapshot, baseline.as_ref()).only(args.selector.clone());
    for file in &args.flows {
        recording.begin_file();
        match &**file {
            "-" => read(&mut recording, flow_input::shown(file), io::stdin().lock())?,
            file => read(&mut recording, file, open(file)?)?,
        }
    }
    let result = recording.judge(baseline.as_ref());
    output::print(&args.output.of(&result)?)?;
    if result.flows == 0 {
        let of = args.selector.as_ref().map(|selector| format!(" of a pod with {selector}")).unwrap_or_default();
        return Err(format!("none of {} lines is a flow{of} that could be judged", result.lines));
    }
    Ok(if result.not_allowed == 0 { 0 } else { exit::FINDINGS })
}

fn open(file: &str) -> Result<BufReader<File>, String> {
    File::open(file).map(BufReader::new).map_err(|error| format!("cannot read {file}: {error}"))
}

/// Reads a recording line by line. Of a line that is too long, only the beginning is kept in memory.
fn read(recording: &mut Recording, name: &str, mut from: impl BufRead) -> Result<(), String> {
    let mut line = Vec::new();
    for number in 1_u64.. {
        line.clear();
        let count = from.by_ref().take(LONGEST).read_until(b'\n', &mut line);
        if count.map_err(|error| format!("cannot read {name}: {error}"))? == 0 {
            break;
        }
        let place = || format!("{name}, line {number}");
        if line.len() as u64 == LONGEST && line.last() != Some(&b'\n') {
            from.skip_until(b'\n').map_err(|error| format!("cannot read {name}: {error}"))?;
            recording.unreadable(&format!("{}: it is longer than {LONGEST} bytes", place()));
            continue;
        }
        recording.line(&String::from_utf8_lossy(&line), place).map_err(|why| format!("{}: {why}", place()))?;
    }
    Ok(())
}
