//! The model with a clock: the real engine, woken when it asks for it, and tenants who act at all kinds of moments. The other model says
//! nothing about how long something takes.

mod contest;
mod write_budget;

use std::time::Duration;

use super::harness::EngineHarness;

/// The engine, and an operator that sleeps until the engine asks to be woken.
#[derive(Clone)]
pub struct Clocked {
    pub sim: EngineHarness,
}

impl Clocked {
    /// Does all that is due now. Returns the writes of policies, as pairs of namespace and name.
    pub fn work(&mut self) -> Vec<(String, String)> {
        let mut written = Vec::new();
        loop {
            let jobs = self.sim.answer(|job, policy| {
                written.push((job.namespace.as_str().to_owned(), policy.to_owned()));
                None
            });
            if jobs == 0 {
                break;
            }
        }
        self.sim.status();
        self.sim.engine.take_announcements();
        self.sim.engine.take_samples();
        written
    }

    /// Until when the operator sleeps: until the engine asks to be woken, but not longer than `end`.
    pub fn sleeps_until(&self, end: Duration) -> Duration {
        let wake = self.sim.engine.next_wake(self.sim.now());
        wake.map_or(end, |at| at.saturating_duration_since(self.sim.start).min(end))
    }
}
