//! Why everything must be forgotten and listed again, although no watch asks for it.

/// Why everything must be forgotten and listed again.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum WhyListAgain {
    /// What is known was read through a CRD that cut fields off. The objects did not change, so no event comes.
    #[error("the CRDs have all fields again")]
    CrdsComplete,
    /// A complete list of baselines, or the answer to a write, is the truth. It shows an older version than was known before.
    #[error("the API server went back to an older state: {kind} {name} had resourceVersion {seen} before, and has {found} now")]
    WentBack {
        /// The kind of the object.
        kind: &'static str,
        /// The name of the object, after its namespace if it has one.
        name: String,
        /// Seen before.
        seen: u64,
        /// In the list or the answer.
        found: u64,
    },
    /// A CRD cuts fields off or adds defaults, or the API server went back to an older state and the object was edited again. A spec has
    /// only one meaning for each generation otherwise.
    #[error(
        "{kind} {name} has another spec than before at the same generation {generation}: its CRD changed, or the cluster's data was restored"
    )]
    SpecChanged {
        /// The kind of the object.
        kind: &'static str,
        /// The name of the object, after its namespace if it has one.
        name: String,
        /// Its generation, before and now.
        generation: i64,
    },
}
