//! What the work on the cluster reports to whoever counts it: a trait, so that no metric is known here.

use std::fmt::Debug;

use strum::{IntoStaticStr, VariantArray};

use crate::{api::reason::Failure, engine::writes::WriteError};

/// Where the work on the cluster reports what happened. No call blocks, and none fails (I9).
pub trait Telemetry: Debug + Send + Sync {
    /// A write was sent, and ended so.
    fn write_ended(&self, verb: Verb, answer: WriteOutcome);
    /// An event did not fit into the queue.
    fn event_dropped(&self);
    /// A watch lists again.
    fn watch_restarted(&self, watch: &'static str);
}

/// What the API server is asked to write.
#[derive(Clone, Copy, Debug, Eq, IntoStaticStr, PartialEq, VariantArray)]
#[strum(const_into_str, serialize_all = "snake_case")]
pub enum Verb {
    /// A policy, applied.
    Apply,
    /// A policy, patched to take off what an apply leaves.
    Patch,
    /// A policy, deleted.
    Delete,
    /// The status of a baseline.
    Status,
    /// The finalizers of a baseline.
    Finalizer,
    /// The status or the label of an opt-out.
    OptOut,
    /// The label of a namespace.
    Namespace,
    /// A stored revision of a baseline.
    Revision,
    /// An event.
    Event,
}

/// How a write ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum WriteOutcome {
    /// It took effect.
    Ok,
    /// The object or its namespace is gone.
    Gone,
    /// It failed, for that reason.
    Failed(Failure),
}

impl WriteOutcome {
    /// A word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "Ok",
            Self::Gone => "Gone",
            Self::Failed(reason) => reason.into_str(),
        }
    }
}

impl WriteError {
    /// The answer to count. None when nothing was sent.
    pub const fn answer(&self) -> Option<WriteOutcome> {
        match self {
            Self::NotLeading => None,
            Self::NamespaceTerminating | Self::NotFound => Some(WriteOutcome::Gone),
            Self::Failed { reason, .. } => Some(WriteOutcome::Failed(*reason)),
        }
    }
}

#[cfg(test)]
pub use recorded::Recorded;

#[cfg(test)]
mod recorded {
    use std::sync::{Mutex, PoisonError};

    use super::{Telemetry, Verb, WriteOutcome};

    /// Keeps what was reported, one line each.
    #[derive(Debug, Default)]
    pub struct Recorded(Mutex<Vec<String>>);

    impl Recorded {
        /// The lines so far.
        pub fn lines(&self) -> Vec<String> {
            self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
        }

        fn note(&self, line: String) {
            self.0.lock().unwrap_or_else(PoisonError::into_inner).push(line);
        }
    }

    impl Telemetry for Recorded {
        fn write_ended(&self, verb: Verb, answer: WriteOutcome) {
            self.note(format!("{} {}", verb.into_str(), answer.as_str()));
        }

        fn event_dropped(&self) {
            self.note("event dropped".into());
        }

        fn watch_restarted(&self, watch: &'static str) {
            self.note(format!("{watch} restarted"));
        }
    }
}
