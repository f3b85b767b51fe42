//! Finds the number of namespaces in flight at which the raw client is fastest on this machine.

use anyhow::{Context, Result};
use tokio::time::Instant;

use super::numbers::count;
use super::progress::Progress;
use super::raw::{Raw, baseline, each, render};
use super::side::{Group, Population};

/// Candidates for the number of namespaces in flight. Each namespace needs three requests.
const CANDIDATES: [usize; 5] = [2, 4, 8, 16, 32];
/// The number of namespaces for one try.
const NAMESPACES: usize = 200;
/// The number of tries for each candidate. The best try counts.
const TRIES: u16 = 2;

/// The number of namespaces in flight with the most applies a second.
pub async fn calibrate(raw: &Raw, namespaces: usize, progress: &mut Progress) -> Result<usize> {
    let population = Population { prefix: "calibration-".to_owned(), group: Group::Raw, count: namespaces.min(NAMESPACES) };
    let names: Vec<String> = population.names().collect();
    each(&names, CANDIDATES[2], async |name| raw.create(name, Group::Raw).await).await?;
    let mut rates = [(0.0, 0); CANDIDATES.len()];
    // Every try changes the policies. The first run only creates them and is not measured.
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
