//! `e2e-up [--json] [--until-eof]`: a control plane for a person or a script, until Ctrl-C, SIGTERM, or the end of stdin.

use std::io::{self, Read, Write};
use std::thread;

use anyhow::{Context, Result, bail};
use policy_baseline_e2e::{ControlPlane, Options};
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let mut json = false;
    let mut until_eof = false;
    for arg in std::env::args().skip(1) {
        match arg.as_str() {
            "--json" => json = true,
            "--until-eof" => until_eof = true,
            _ => bail!("unknown argument {arg} (there are --json and --until-eof)"),
        }
    }
    // Registered before the start, so that an early signal is not lost.
    let mut interrupt = signal(SignalKind::interrupt()).context("listen for SIGINT")?;
    let mut terminate = signal(SignalKind::terminate()).context("listen for SIGTERM")?;
    let (closed, eof) = oneshot::channel();
    let mut never = Some(closed);
    if until_eof && let Some(closed) = never.take() {
        thread::spawn(move || {
            let _ = io::stdin().read_to_end(&mut Vec::new());
            let _ = closed.send(());
        });
    }

    let plane = tokio::select! {
        plane = ControlPlane::start(Options::default()) => plane?,
        _ = interrupt.recv() => return Ok(()),
        _ = terminate.recv() => return Ok(()),
    };
    let kubeconfig = plane.admin_kubeconfig().display().to_string();
    let mut out = io::stdout().lock();
    if json {
        let about = json!({ "kubeconfig": kubeconfig, "stateDir": plane.state_dir(), "pids": plane.pids() });
        writeln!(out, "{about}")?;
    } else {
        writeln!(out, "# up in {:.1} s; ends with Ctrl-C", plane.start_time().as_secs_f32())?;
        writeln!(out, "export KUBECONFIG={kubeconfig}")?;
    }
    out.flush()?;
    drop(out);

    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
        _ = eof => {}
    }
    drop(never);
    Ok(())
}
