//! The demo: what the operator does, shown on a control plane of its own in less time than a coffee takes.
//!
//! Every number on the page was measured while it ran, and every state was read: what does not come true ends the demo.

mod page;
mod stage;
mod story;
mod witness;

pub use page::{Page, is_unread};
pub use stage::Stage;
pub use story::{goodbye, now_you, play, stay};
