//! The trait through which cluster code reports what happened. This code does not know the metrics.

use std::fmt::Debug;

use strum::{IntoStaticStr, VariantArray};

use crate::{api::reason::Failure, engine::writes::WriteError};

/// Receives reports from cluster code. No call blocks, and none fails (I9).
pub trait Telemetry: Debug + Send + Sync {
    /// A write was sent and ended with this result.
    fn write_ended(&self, verb: Verb, answer: WriteOutcome);
    /// An event was dropped because the queue was full.
    fn event_dropped(&self);
    /// A watch started a new list.
    fn watch_restarted(&self, watch: &'static str);
}

/// The kinds of write requests.
#[derive(Clone, Copy, Debug, Eq, IntoStaticStr, PartialEq, VariantArray)]
#[strum(const_into_str, serialize_all = "snake_case")]
pub enum Verb {
    /// Apply of a policy.
    Apply,
    /// Patch of a policy, to remove what an apply leaves.
    Patch,
    /// Delete of a policy.
    Delete,
    /// Status of a baseline.
    Status,
    /// Finalizers of a baseline, or of a policy that was deleted.
    Finalizer,
    /// Status or label of an opt-out.
    OptOut,
    /// Label of a namespace.
    Namespace,
    /// Create or delete of a stored revision.
    Revision,
    /// Create of an event.
    Event,
}

/// The result of a write.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum WriteOutcome {
    /// It succeeded.
    Ok,
    /// The object or its namespace no longer exists.
    Gone,
    /// It failed for this reason.
    Failed(Failure),
}

impl WriteOutcome {
    /// The result as the value of a metric label.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "Ok",
            Self::Gone => "Gone",
            Self::Failed(reason) => reason.into_str(),
        }
    }
}

impl WriteError {
    /// The result to count; `None` if nothing was sent.
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

    /// Keeps all reports, one line for each.
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
