//! Selects the few findings that a status shows; their number does not depend on the size of the cluster (I11).

use jiff::Timestamp;

use super::finding::Problem;
use crate::api::{
    NamespaceName,
    baseline::{Notice, Violation},
    reason::{FindingReason, NoticeReason, ViolationReason},
    text::cut,
    whole_seconds,
};

/// The longest message, in characters. Without a limit, a status would grow with the answer of an admission webhook.
const MAX_MESSAGE: usize = 512;

/// A problem, and the time since when it exists.
#[derive(Debug)]
#[cfg_attr(test, derive(Clone))]
pub struct ProblemSince {
    pub problem: Problem,
    pub since: Timestamp,
}

/// One entry that a status may show.
#[derive(Clone, Copy)]
pub struct Sample<'a, R> {
    /// How many entries of the same namespace are worse than this one.
    place: usize,
    reason: R,
    ns: &'a NamespaceName,
    told: &'a ProblemSince,
}

/// The entries that a status may show.
pub struct Samples<'a, R>(Vec<Sample<'a, R>>);

impl<R> Default for Samples<'_, R> {
    fn default() -> Self {
        Self(vec![])
    }
}

impl<'a, R: Copy + Ord> Samples<'a, R> {
    /// Adds the entries of a namespace for which `pick` returns a reason.
    pub fn add(&mut self, ns: &'a NamespaceName, problems: &'a [ProblemSince], pick: impl Fn(FindingReason) -> Option<R>) {
        let begin = self.0.len();
        let picked = problems.iter().filter_map(|told| Some((pick(told.problem.reason)?, told)));
        self.0.extend(picked.map(|(reason, told)| Sample { place: 0, reason, ns, told }));
        let own = &mut self.0[begin..];
        own.sort_by_key(|sample| sample.reason);
        own.iter_mut().enumerate().for_each(|(place, sample)| sample.place = place);
    }

    /// The worst entries, at most `most`, and how many are left out. Each namespace gets one entry before any gets a second one.
    pub fn take(mut self, most: usize) -> (Vec<Sample<'a, R>>, u32) {
        let omitted = self.0.len().saturating_sub(most);
        self.0.sort_by_key(|sample| (sample.place, sample.reason, sample.ns));
        self.0.truncate(most);
        self.0.sort_by_key(|sample| (sample.reason, sample.ns, sample.place));
        (self.0, u32::try_from(omitted).unwrap_or(u32::MAX))
    }
}

impl Sample<'_, ViolationReason> {
    /// The entry in the form of the status.
    pub fn violation(&self) -> Violation {
        let Self { reason, ns, told: ProblemSince { problem, since }, .. } = *self;
        let (namespace, policy, message) = (ns.to_string(), problem.policy.clone(), cut(&problem.message, MAX_MESSAGE));
        Violation { namespace, policy, reason, message, since: whole_seconds(*since) }
    }
}

impl Sample<'_, NoticeReason> {
    /// The entry in the form of the status.
    pub fn notice(&self) -> Notice {
        let Self { reason, ns, told: ProblemSince { problem, since }, .. } = *self;
        let (namespace, policy, message) = (ns.to_string(), problem.policy.clone(), cut(&problem.message, MAX_MESSAGE));
        Notice { namespace, policy, reason, message, since: whole_seconds(*since) }
    }
}
