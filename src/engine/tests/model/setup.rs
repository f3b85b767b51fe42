//! What the model explores: how much may happen, and what is broken on purpose.

/// A defect that is built in, to check that the model finds it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Broken {
    /// Writes are sent without asking the gate.
    IgnoresGate,
    /// Removals do not wait for the writes before them.
    RemovesAtOnce,
    /// A repair deletes the policy and creates it again.
    Recreates,
    /// A repair does not name the uid of the object.
    AppliesByName,
    /// The API server ignores the preconditions of a removal.
    DeletesByName,
    /// A copy counts as ours.
    BelievesLabels,
    /// An instance does not see that a namespace is being deleted.
    SeesNoTermination,
    /// An instance does not see that a policy was deleted.
    LosesDeletions,
    /// Another admission plugin opens every policy that is written.
    AdmissionOpens,
    /// An invalid baseline is read as the second plan.
    PlansInvalid,
    /// Writes of the second plan are answered as stored, but are not stored.
    StoresNothing,
    /// All lists count as complete when the first one is.
    ListsTooEarly,
    /// An instance does not notice that etcd was restored.
    NoticesNoRestore,
    /// An instance that does not lead does not notice that etcd was restored. Later it leads.
    StandbyNoticesNoRestore,
    /// An instance goes on with its writes when a list shows that etcd was restored.
    WritesOn,
    /// The owner that a policy names counts as its owner, although that baseline does not exist.
    BelievesOwners,
    /// A policy of which the owner does not exist counts as a policy of others.
    SeesNoForgery,
    /// What such a policy opens is not judged.
    JudgesNoForgery,
    /// What was known before a list was refused is believed for ever.
    BelievesOldLists,
    /// No change waits for a confirmation.
    AsksNobody,
    /// A confirmation counts for every later generation.
    BelievesConfirmations,
    /// Allows and default-denies are sent at the same time.
    SendsAllowsAtOnce,
    /// An allow is removed at the same time as its default-deny.
    RemovesAllowsAtOnce,
    /// A write that must come first may have failed.
    GoesOnAfterFailures,
}

/// How etcd is restored.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Restore {
    /// Versions are given a second time.
    Plain,
    /// Versions go on above the highest one, and a watch from a former version expires.
    Bumped,
}

impl Restore {
    pub const ALL: [Self; 2] = [Self::Plain, Self::Bumped];
}

/// How much may happen.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub struct Budget {
    /// Changes by tenants.
    pub tenant: u8,
    /// Policies to which tenants give our labels, and changes of these.
    pub forgeries: u8,
    /// Edits of the baseline.
    pub edits: u8,
    /// Edits by which the baseline selects nothing or again what it did, and confirmations of its owner.
    pub releases: u8,
    /// Changes of the namespace.
    pub namespace: u8,
    /// Lost answers and requests, crashes, and restarted watches.
    pub faults: u8,
    /// Lists that are refused.
    pub refusals: u8,
    /// Restores of etcd to the state at the beginning.
    pub restores: u8,
    /// The only kind of restore that happens; `None` for both.
    pub only: Option<Restore>,
    /// Leader terms that end.
    pub terms: u8,
    /// Waits that end before the watches have reported everything.
    pub lags: u8,
}

/// One exploration.
#[derive(Clone, Copy, Debug)]
pub struct Setup {
    pub sides: usize,
    pub roles: u8,
    /// Whether the plans have an allow.
    pub allows: bool,
    /// It begins at rest, with everything listed and the first plan in place. Otherwise it begins empty.
    pub settled: bool,
    /// The watches of an instance report in one order: first namespaces, then policies, then baselines. And no instance takes the Lease
    /// before it has listed everything. Otherwise the watches report in every order, and the Lease may come first.
    pub in_order: bool,
    pub budget: Budget,
    pub broken: Option<Broken>,
}
