//! One state of the model: the cluster, its replicas, and which rules were broken on the way.

use super::{
    cluster::{Cluster, Write},
    replica::Replica,
    setup::Budget,
};

/// What an instance did that it must not do, by what it had been shown itself.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Rule {
    /// I3: it deleted what it plans.
    DeletedPlanned,
    /// I3: its repair made another object.
    MadeAnother,
    /// I3: by its removal the namespace was open for a moment.
    Opened,
    /// I4: it wrote to, or deleted, what is not ours.
    TouchedForeign,
    /// I5: it wrote to a namespace that is going or gone.
    WroteToGoing,
    /// I6: it sent a write with its gate closed.
    SentUnelected,
    /// Removal rules: something planned was not confirmed.
    RemovedEarly,
    /// Removal rules, I7: no living and valid baseline asked for it.
    RemovedUnasked,
    /// Removal rules: not everything was listed.
    Unlisted,
}

#[derive(Clone, Debug)]
pub struct World {
    pub cluster: Cluster,
    pub sides: Vec<Replica>,
    /// Requests that nobody waits for, and that may still take effect.
    pub strays: Vec<Write>,
    pub budget: Budget,
    /// Writes since something happened that nobody but the operator did.
    pub writes: u8,
    /// Only the baseline was edited so far.
    pub calm: bool,
    pub broke: Vec<Rule>,
}
