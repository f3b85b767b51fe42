//! Which side writes the policies, and which namespaces belong to it.

use policy_baseline::Rendered;

use super::eye::{Kind, Wanted};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    Ours,
    Raw,
}

impl Side {
    pub const BOTH: [Self; 2] = [Self::Ours, Self::Raw];
}

/// Namespaces that one selector selects and one edit changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Group {
    /// All N namespaces of a size, under one baseline.
    All,
    /// The slices of our side, under a baseline of their own. So one edit changes as many policies as an edit of the raw side.
    Slice,
    /// All N namespaces once more, under a baseline with six allows.
    Allows,
    /// The namespaces that the raw client writes to. No baseline selects them.
    Raw,
}

impl Group {
    /// The groups that have a baseline.
    pub const OURS: [Self; 3] = [Self::All, Self::Slice, Self::Allows];

    pub const fn label(self) -> &'static str {
        match self {
            Self::All => "ours",
            Self::Slice => "slice",
            Self::Allows => "allows",
            Self::Raw => "raw",
        }
    }

    pub const fn side(self) -> Side {
        match self {
            Self::All | Self::Slice | Self::Allows => Side::Ours,
            Self::Raw => Side::Raw,
        }
    }

    /// The number of policies in each of its namespaces.
    pub const fn policies(self) -> usize {
        match self {
            Self::All | Self::Slice | Self::Raw => 3,
            Self::Allows => 9,
        }
    }

    /// The group that stands for this side when both sides have the same number of namespaces.
    pub const fn of(side: Side) -> Self {
        match side {
            Side::Ours => Self::Slice,
            Side::Raw => Self::Raw,
        }
    }
}

/// The number of edits of each group. Each edit sets something that the group has not had before.
#[derive(Clone, Copy, Debug, Default)]
pub struct Edits {
    all: u16,
    slice: u16,
    allows: u16,
    raw: u16,
}

impl Edits {
    pub const fn of(self, group: Group) -> u16 {
        match group {
            Group::All => self.all,
            Group::Slice => self.slice,
            Group::Allows => self.allows,
            Group::Raw => self.raw,
        }
    }

    /// Counts one more edit of this group, and returns the new number.
    pub const fn next(&mut self, group: Group) -> u16 {
        let edits = match group {
            Group::All => &mut self.all,
            Group::Slice => &mut self.slice,
            Group::Allows => &mut self.allows,
            Group::Raw => &mut self.raw,
        };
        *edits += 1;
        *edits
    }
}

/// Namespaces that are created and removed together. No name is used twice in a run.
pub struct Population {
    pub prefix: String,
    pub group: Group,
    pub count: usize,
}

impl Population {
    pub fn name(&self, number: usize) -> String {
        format!("{}{number:05}", self.prefix)
    }

    pub fn names(&self) -> impl Iterator<Item = String> {
        (0..self.count).map(|number| self.name(number))
    }

    /// A wish for one event of that kind for each policy of each namespace, newer than `after`.
    pub fn wanted<'a>(&'a self, policies: &'a [Rendered], kind: Kind, after: u64) -> Wanted<'a> {
        Wanted { prefix: &self.prefix, policies, kind, after, count: self.count * policies.len() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_edit_is_new_to_its_group_and_leaves_the_others() {
        let mut edits = Edits::default();
        assert_eq!([edits.next(Group::Raw), edits.next(Group::Slice), edits.next(Group::Raw)], [1, 1, 2]);
        assert_eq!([Group::All, Group::Slice, Group::Raw].map(|group| edits.of(group)), [0, 1, 2]);
    }

    #[test]
    fn both_sides_of_a_slice_are_different_groups() {
        assert_eq!(Side::BOTH.map(|side| Group::of(side).side()), Side::BOTH);
        assert_eq!(Group::OURS.map(Group::side), [Side::Ours; 3]);
    }
}
