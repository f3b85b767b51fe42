//! `e2e-bench`: measures the operator beside the raw apiserver on a control plane of its own, prints a table and writes
//! target/bench/report.json. `BENCH_NAMESPACES` says how many namespaces a burst has.

use std::env;
use std::io::{self, Write};
use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
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
    let namespaces = match env::var("BENCH_NAMESPACES") {
        Ok(text) => {
            text.parse().with_context(|| format!("BENCH_NAMESPACES={text}: write a number of namespaces, such as 200"))?
        }
        Err(_) => 200,
    };
    ensure!((1..=10_000).contains(&namespaces), "BENCH_NAMESPACES={namespaces}: write a number from 1 to 10000");
    let report = bench::run(namespaces, |line| {
        let _ = writeln!(io::stderr(), "{line}");
    })
    .await?;
    bench::save(&report)?;
    writeln!(io::stdout(), "\n{}", report.table())?;
    Ok(())
}
