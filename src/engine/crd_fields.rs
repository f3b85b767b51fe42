//! What the engine does while a stored CRD lacks fields that this version of the operator knows: nothing. The API server has cut these fields
//! off every object, so the specs that the watches show are not what their owners wrote. And each write through such a CRD makes the
//! loss permanent. When the CRD is complete again, everything must be listed again: the objects did not change, so no event comes.

use std::time::{Duration, Instant};

use tracing::{info, warn};

use super::{Engine, clock::Now, facts::relist::WhyListAgain};
use crate::api::reason::EventReason;

/// How many fields a text names (I11).
const NAMED: usize = 10;
/// For so long an instance leads that can do nothing else than to send these Events.
const ANNOUNCING: Duration = Duration::from_secs(5);

impl Engine {
    /// Whether anything may be decided or written: all sets are known, and no field of a spec is cut off.
    pub fn may_decide(&self) -> bool {
        self.is_synced() && self.crds.missing.is_empty()
    }

    /// Whether this instance may hold the Lease. It may not while it can do nothing (I16): another one may lack no field, because it is of
    /// an older version. But it leads until it has sent the Events that name the missing fields.
    pub fn may_lead(&self, now: Now) -> bool {
        self.is_synced() && (self.crds.missing.is_empty() || self.announces_until().is_none_or(|at| now.instant < at))
    }

    /// Until when this instance leads only to send Events.
    pub(super) fn announces_until(&self) -> Option<Instant> {
        self.crds.announced.map(|at| at + ANNOUNCING)
    }

    /// How many fields the CRDs lack.
    pub fn missing_fields(&self) -> usize {
        self.crds.missing.values().map(Vec::len).sum()
    }

    /// A CRD was seen, or is gone: then it lacks nothing, because there is nothing that it could cut off.
    pub(super) fn crd_fields_seen(&mut self, crd: &str, missing: Vec<String>) {
        let before = self.crds.missing.get(crd).map(Vec::as_slice).unwrap_or_default();
        if before == missing {
            return;
        }
        self.crds.announced = None;
        if missing.is_empty() {
            self.crds.missing.remove(crd);
            info!(crd, "the CRD has all fields again");
            if self.crds.missing.is_empty() {
                self.list_again.get_or_insert(WhyListAgain::CrdsComplete);
            }
        } else {
            warn!(crd, "{}", words(crd, &missing));
            self.crds.missing.insert(crd.to_owned(), missing);
        }
    }

    /// The same in words, one line for each CRD.
    pub(super) fn missing_words(&self) -> impl Iterator<Item = String> {
        self.crds.missing.iter().map(|(crd, missing)| words(crd, missing))
    }

    /// Sends an Event about each baseline, once, while this instance leads.
    pub(super) fn announce_missing_fields(&mut self, now: Now) {
        if self.crds.missing.is_empty() || self.crds.announced.is_some() || !self.leads || !self.is_synced() {
            return;
        }
        self.crds.announced = Some(now.instant);
        let note = self.missing_words().collect::<Vec<_>>().join("; ");
        self.announce_to_baselines(EventReason::CrdFieldsMissing, &note, now);
    }
}

fn words(crd: &str, missing: &[String]) -> String {
    let named = missing.iter().take(NAMED).map(String::as_str).collect::<Vec<_>>().join(", ");
    let more = missing.len().checked_sub(NAMED).filter(|more| *more > 0).map(|more| format!(" and {more} more"));
    format!(
        "the CRD {crd} is older than the operator and lacks {named}{}: nothing is decided or written until it has them, because each write would remove what they hold. Apply the CRDs of this version",
        more.unwrap_or_default()
    )
}
