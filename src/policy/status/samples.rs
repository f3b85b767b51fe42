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

/// The worst entries that were added, and the number of all. Each namespace gets one entry before any gets a second one.
pub struct Samples<'a, R> {
    most: usize,
    kept: Vec<Sample<'a, R>>,
    added: usize,
}

/// So many times the shown entries are kept before those that are not shown are dropped.
const SLACK: usize = 8;

impl<'a, R: Copy + Ord> Samples<'a, R> {
    /// Keeps at most `most` entries.
    pub const fn new(most: usize) -> Self {
        Self { most, kept: vec![], added: 0 }
    }

    /// Adds the entries of a namespace for which `pick` returns a reason. Namespaces come in the order of their names.
    pub fn add(&mut self, ns: &'a NamespaceName, problems: &'a [ProblemSince], pick: impl Fn(FindingReason) -> Option<R>) {
        let begin = self.kept.len();
        let picked = problems.iter().filter_map(|told| Some((pick(told.problem.reason)?, told)));
        self.kept.extend(picked.map(|(reason, told)| Sample { place: 0, reason, ns, told }));
        let own = &mut self.kept[begin..];
        own.sort_by_key(|sample| sample.reason);
        own.iter_mut().enumerate().for_each(|(place, sample)| sample.place = place);
        self.added += own.len();
        if self.kept.len() > self.most * SLACK {
            self.drop_surplus();
        }
    }

    /// The worst entries, and how many are left out.
    pub fn take(mut self) -> (Vec<Sample<'a, R>>, u32) {
        self.drop_surplus();
        let omitted = self.added - self.kept.len();
        self.kept.sort_by_key(|sample| (sample.reason, sample.ns, sample.place));
        (self.kept, u32::try_from(omitted).unwrap_or(u32::MAX))
    }

    /// The order is kept among equals, so it is that of the names.
    fn drop_surplus(&mut self) {
        self.kept.sort_by_key(|sample| (sample.place, sample.reason));
        self.kept.truncate(self.most);
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
