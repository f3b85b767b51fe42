//! `e2e-demo`: shows the operator on a control plane of its own, until Ctrl-C. With `DEMO_ONCE=1` it ends by itself.
//!
//! However it ends, it leaves nothing behind: neither a process nor a file.

use std::env;
use std::io::{self, Write};
use std::process::ExitCode;

use anyhow::{Context, Result};
use policy_baseline_e2e::demo::{self, Page};
use tokio::signal::unix::{Signal, SignalKind, signal};

const HELP: &str = "e2e-demo: shows policy-baseline at work on a control plane of its own, until Ctrl-C
Environment: DEMO_ONCE=1 ends by itself; NO_COLOR=1 shows no colours; E2E_KEEP=1 keeps all logs";

/// A program that a signal ended has this exit code plus the signal's number.
const BY_SIGNAL: u8 = 128;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match env::args().nth(1).as_deref() {
        None => {}
        Some("-h" | "--help") => {
            let _ = writeln!(io::stdout(), "{HELP}");
            return ExitCode::SUCCESS;
        }
        Some(arg) => {
            let _ = writeln!(io::stderr(), "unknown argument {arg}\n{HELP}");
            return ExitCode::from(2);
        }
    }
    let mut page = Page::stdout();
    match run(&mut page).await {
        Ok(code) => code,
        Err(err) => {
            let _ = page.finish();
            if !demo::is_unread(&err) {
                let _ = writeln!(io::stderr(), "\nThe demo failed: {err:#}");
            }
            ExitCode::FAILURE
        }
    }
}

async fn run(page: &mut Page) -> Result<ExitCode> {
    // Registered before the start, so that an early signal is not lost.
    let mut signals = Signals::new()?;
    let once = env::var("DEMO_ONCE").is_ok_and(|value| value == "1");
    let mut stage = tokio::select! {
        biased;
        code = signals.next() => {
            // After a hang-up nobody reads this line.
            let _ = demo::goodbye(page, false);
            return Ok(ExitCode::from(code));
        }
        stage = demo::play(page) => stage?,
    };
    if !once {
        demo::now_you(&stage, page)?;
        tokio::select! {
            biased;
            _ = signals.next() => {}
            Err(err) = demo::stay(&mut stage, page) => return Err(stage.explain(err)),
        }
    }
    stage.end()?;
    let _ = demo::goodbye(page, once);
    Ok(ExitCode::SUCCESS)
}

/// The signals that end the demo.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hang_up: Signal,
}

impl Signals {
    fn new() -> Result<Self> {
        let listen = |kind| signal(kind).context("listen for signals");
        Ok(Self {
            interrupt: listen(SignalKind::interrupt())?,
            terminate: listen(SignalKind::terminate())?,
            hang_up: listen(SignalKind::hangup())?,
        })
    }

    /// Waits for the next of these signals. Returns the exit code that belongs to it.
    async fn next(&mut self) -> u8 {
        let number = tokio::select! {
            _ = self.interrupt.recv() => 2,
            _ = self.terminate.recv() => 15,
            _ = self.hang_up.recv() => 1,
        };
        BY_SIGNAL + number
    }
}
