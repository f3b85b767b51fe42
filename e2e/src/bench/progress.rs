//! Tells people how far the bench is, so that nobody waits in the dark.

use std::time::Duration;

use tokio::time::Instant;

/// How long a step may be silent.
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

    /// The next step begins.
    pub fn step(&mut self, what: impl Into<String>) {
        self.step += 1;
        self.what = what.into();
        self.tell("");
    }

    /// Something to know about the step under way.
    pub fn note(&mut self, text: &str) {
        self.tell(&format!(": {text}"));
    }

    /// So much of the step is done. Said from time to time only.
    pub fn done(&mut self, done: usize, all: usize) {
        if self.said.elapsed() >= SILENCE {
            self.tell(&format!(": {done} of {all}"));
        }
    }

    /// How long it has been going on.
    pub fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    fn tell(&mut self, more: &str) {
        self.said = Instant::now();
        let seconds = self.started.elapsed().as_secs();
        (self.say)(&format!("[{:2}:{:02}] {:2}/{} {}{more}", seconds / 60, seconds % 60, self.step, self.steps, self.what));
    }
}
