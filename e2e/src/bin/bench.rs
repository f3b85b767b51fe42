//! `e2e-bench`: compares the operator with the raw API server on a control plane of its own. It prints tables and writes report.json,
//! report.md and performance.svg to target/bench. `BENCH_NAMESPACES` sets the number of namespaces, `BENCH_ROUNDS` the number of
//! rounds. `BENCH_ONLY=rest` measures only what the operator needs at rest, `BENCH_ONLY=start` only
//! the cold starts.

use std::env;
use std::io::{self, Write};
use std::ops::RangeInclusive;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use policy_baseline_e2e::bench;

#[tokio::main]
async fn main() -> ExitCode {
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(err) => {
            let _ = writeln!(io::stderr(), "The bench failed: {err:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run() -> Result<()> {
    let namespaces = number("BENCH_NAMESPACES", 1000, 1..=10_000)?;
    let rounds = number("BENCH_ROUNDS", 3, 1..=20)?;
    let report = bench::run(bench::Extent { namespaces, rounds, only: only()? }, |line| {
        let _ = writeln!(io::stderr(), "{line}");
    })
    .await?;
    bench::save(&report)?;
    writeln!(io::stdout(), "\n{}", report.table())?;
    Ok(())
}

fn only() -> Result<Option<bench::Only>> {
    match env::var("BENCH_ONLY").as_deref() {
        Err(_) => Ok(None),
        Ok("rest") => Ok(Some(bench::Only::Rest)),
        Ok("start") => Ok(Some(bench::Only::Start)),
        Ok(text) => bail!("BENCH_ONLY={text}: write rest or start, or leave it out to measure everything"),
    }
}

fn number(name: &str, default: usize, allowed: RangeInclusive<usize>) -> Result<usize> {
    let Ok(text) = env::var(name) else { return Ok(default) };
    let found = text.parse().ok().filter(|number| allowed.contains(number));
    found.with_context(|| format!("{name}={text}: write a number from {} to {}", allowed.start(), allowed.end()))
}
