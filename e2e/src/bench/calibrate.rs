//! With how many namespaces in flight the raw client is the fastest here.

use anyhow::{Context, Result};
use tokio::time::Instant;

use super::numbers::count;
use super::progress::Progress;
use super::raw::{Raw, baseline, each, render};
use super::side::{Group, Population};

/// Each stands for three times as many requests.
const CANDIDATES: [usize; 5] = [2, 4, 8, 16, 32];
/// On how many namespaces it is tried.
const NAMESPACES: usize = 200;
/// How often; the best counts.
const TRIES: u16 = 2;

/// How many namespaces in flight bring the most applies a second.
pub async fn calibrate(raw: &Raw, namespaces: usize, progress: &mut Progress) -> Result<usize> {
    let population = Population { prefix: "calibration-".to_owned(), group: Group::Raw, count: namespaces.min(NAMESPACES) };
    let names: Vec<String> = population.names().collect();
    each(&names, CANDIDATES[2], async |name| raw.create(name, Group::Raw).await).await?;
    let mut rates = [(0.0, 0); CANDIDATES.len()];
    // What is there changes with each try. The first makes the policies, and counts for nobody.
    let mut edits = 0;
    each(&names, CANDIDATES[2], async |name| raw.apply(name, &render(&baseline(Group::Raw, 0)?)?).await).await?;
    for _ in 0..TRIES {
        for (rate, in_flight) in rates.iter_mut().zip(CANDIDATES) {
            edits += 1;
            let policies = render(&baseline(Group::Raw, edits)?)?;
            let started = Instant::now();
            each(&names, in_flight, async |name| raw.apply(name, &policies).await).await?;
            let found = count(3 * names.len()) / started.elapsed().as_secs_f64();
            *rate = (found.max(rate.0), in_flight);
        }
    }
    let told = rates.map(|(rate, in_flight)| format!("{rate:.0} with {}", 3 * in_flight));
    let (_, best) = rates.into_iter().max_by(|a, b| a.0.total_cmp(&b.0)).context("no candidate")?;
    progress.note(&format!("applies a second by requests in flight: {}; {} are taken", told.join(", "), 3 * best));
    each(&names, CANDIDATES[3], async |name| raw.remove(name).await).await?;
    Ok(best)
}
