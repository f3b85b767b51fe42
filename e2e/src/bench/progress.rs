//! Prints how far the bench is, so that the user sees that it is still running.

use std::time::Duration;

use tokio::time::Instant;

/// During a step, a line is printed after this much silence.
const SILENCE: Duration = Duration::from_secs(10);

pub struct Progress {
    say: Box<dyn Fn(&str) + Send + Sync>,
    started: Instant,
    steps: usize,
    step: usize,
    what: String,
    said: Instant,
}

impl Progress {
    pub fn new(steps: usize, say: impl Fn(&str) + Send + Sync + 'static) -> Self {
        let now = Instant::now();
        Self { say: Box::new(say), started: now, steps, step: 0, what: String::new(), said: now }
    }

    /// Begins the next step.
    pub fn step(&mut self, what: impl Into<String>) {
        self.step += 1;
        self.what = what.into();
        self.tell("");
    }

    /// Prints a remark about the current step.
    pub fn note(&mut self, text: &str) {
        self.tell(&format!(": {text}"));
    }

    /// Reports that `done` of `all` are done. Prints only from time to time.
    pub fn done(&mut self, done: usize, all: usize) {
        if self.said.elapsed() >= SILENCE {
            self.tell(&format!(": {done} of {all}"));
        }
    }

    /// The time since the start of the bench.
    pub fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    fn tell(&mut self, more: &str) {
        self.said = Instant::now();
        let seconds = self.started.elapsed().as_secs();
        (self.say)(&format!("[{:2}:{:02}] {:2}/{} {}{more}", seconds / 60, seconds % 60, self.step, self.steps, self.what));
    }
}
