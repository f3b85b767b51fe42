//! What is explored: how much may happen, and what is broken on purpose.

/// What is broken on purpose, to see that the model finds it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Broken {
    /// Nothing is sent through the gate.
    IgnoresGate,
    /// Removals do not wait for what comes before them.
    RemovesAtOnce,
    /// A repair deletes, to create anew.
    Recreates,
    /// A repair does not say which object it means.
    AppliesByName,
    /// The API server does not look at what a removal asks for.
    DeletesByName,
    /// A copy is taken for ours.
    BelievesLabels,
    /// That a namespace is going is not seen.
    SeesNoTermination,
    /// That a policy is gone is not seen.
    LosesDeletions,
    /// Another plugin makes a hole into everything that is written.
    AdmissionOpens,
    /// A baseline that is invalid is read as the second plan.
    PlansInvalid,
    /// What the second plan writes is said to be stored, and is not.
    StoresNothing,
    /// All lists are taken for complete when the first one is.
    ListsTooEarly,
}

/// How much may happen.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub struct Budget {
    /// Deeds of tenants.
    pub tenant: u8,
    /// Edits of the baseline.
    pub edits: u8,
    /// Changes of the namespace.
    pub namespace: u8,
    /// Answers and requests that are lost, crashes, watches that begin anew.
    pub faults: u8,
    /// Terms that end.
    pub terms: u8,
    /// Waits that end before the watches have told what they have to.
    pub lags: u8,
}

/// What is explored.
#[derive(Clone, Copy, Debug)]
pub struct Setup {
    pub sides: usize,
    pub roles: u8,
    /// It begins at rest, with everything listed and the first plan in place; else with nothing.
    pub settled: bool,
    pub budget: Budget,
    pub broken: Option<Broken>,
}
