//! Opt-outs, event by event.
