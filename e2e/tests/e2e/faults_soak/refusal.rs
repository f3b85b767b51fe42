//! What refuses writes of the operator for a time.

/// What refuses writes of the operator now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ObstacleKind {
    /// An admission policy that refuses.
    Policy,
    /// A webhook that does not answer, with `failurePolicy: Fail`.
    Webhook,
    /// A quota of two policies in this namespace.
    Quota(String),
}

/// Something that refuses writes for a time.
#[derive(Debug)]
pub struct Obstacle {
    pub kind: ObstacleKind,
    /// The turn in which it ends.
    pub until: u64,
}
