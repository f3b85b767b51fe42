//! What is to be written, and when: retries, and what waits for them.

pub mod baseline_status;
pub mod flapping;
pub mod namespace_labels;
pub mod opt_outs;
pub mod policies;
pub mod retry;
pub mod revisions;
