//! What is to be written, and when. `pending.rs` is the write that waits; the others say what is to be written.

pub mod baseline_status;
pub mod flapping;
pub mod namespace_labels;
pub mod opt_outs;
pub mod pending;
pub mod policies;
pub mod retry;
pub mod revisions;
