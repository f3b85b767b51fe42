//! The demo: it shows on a control plane of its own what the operator does, in less time than a coffee break.
//!
//! Every number on the page was measured while the demo ran, and every state was read. If an expected state is not reached, the demo
//! ends with an error.

mod page;
mod stage;
mod story;
mod tables;
mod witness;

pub use page::{Page, is_unread};
pub use stage::Stage;
pub use story::{goodbye, now_you, play, stay};
