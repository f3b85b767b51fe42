//! One state of the model: the cluster, its replicas, and the rules that were broken so far.

use super::{
    cluster::{Cluster, Write},
    replica::Replica,
    setup::Budget,
};

/// A rule that an instance broke, judged by what it was shown itself.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Rule {
    /// I3: it deleted a policy that it plans.
    DeletedPlanned,
    /// I3: its repair created another object.
    MadeAnother,
    /// I3: its removal opened the namespace for a moment.
    Opened,
    /// I4: it changed or deleted a policy that is not ours.
    TouchedForeign,
    /// I5: it created or removed a policy in a namespace that was being deleted, or wrote to one that was gone.
    WroteToGoing,
    /// I6: it sent a write while its gate was closed.
    SentUnelected,
    /// Removal rules: a planned policy was not confirmed.
    RemovedEarly,
    /// Removal rules, I7: no existing and valid baseline asked for it.
    RemovedUnasked,
    /// Release guard: it took the last policy of a role away, because of an edit that nobody confirmed.
    OpenedUnconfirmed,
    /// Order of writes: it closed the namespace before the allow was confirmed.
    ClosedWithoutAllow,
    /// Order of writes: it took the allow away while the namespace was closed.
    LeftWithoutAllow,
    /// Removal rules: not everything was listed.
    Unlisted,
}

#[derive(Clone, Debug)]
pub struct World {
    pub cluster: Cluster,
    pub sides: Vec<Replica>,
    /// Requests whose sender no longer waits. They may still take effect.
    pub strays: Vec<Write>,
    pub budget: Budget,
    /// As in the setup.
    pub in_order: bool,
    /// Writes since anything but the operator changed something.
    pub writes: u8,
    /// So far only the baseline was edited.
    pub calm: bool,
    pub broke: Vec<Rule>,
}
