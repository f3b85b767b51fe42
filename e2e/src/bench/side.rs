//! Who writes the policies, and which namespaces are whose.

use super::eye::{Kind, Wanted};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    Ours,
    Raw,
}

impl Side {
    pub const BOTH: [Self; 2] = [Self::Ours, Self::Raw];
}

/// Namespaces that are selected together, and edited together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Group {
    /// The N namespaces of a size, under one baseline.
    All,
    /// Our side of the slices, under a baseline of its own: its edit concerns as many policies as that of raw.
    Slice,
    /// What the raw client writes to. No baseline selects it.
    Raw,
}

impl Group {
    /// Those with a baseline.
    pub const OURS: [Self; 2] = [Self::All, Self::Slice];

    pub const fn label(self) -> &'static str {
        match self {
            Self::All => "ours",
            Self::Slice => "slice",
            Self::Raw => "raw",
        }
    }

    pub const fn side(self) -> Side {
        match self {
            Self::All | Self::Slice => Side::Ours,
            Self::Raw => Side::Raw,
        }
    }

    /// Who is compared with raw, at the same number of namespaces.
    pub const fn of(side: Side) -> Self {
        match side {
            Side::Ours => Self::Slice,
            Side::Raw => Self::Raw,
        }
    }
}

/// How often each group has been edited. An edit always brings what the group has not had before.
#[derive(Clone, Copy, Debug, Default)]
pub struct Edits {
    all: u16,
    slice: u16,
    raw: u16,
}

impl Edits {
    pub const fn of(self, group: Group) -> u16 {
        match group {
            Group::All => self.all,
            Group::Slice => self.slice,
            Group::Raw => self.raw,
        }
    }

    /// One more.
    pub const fn next(&mut self, group: Group) -> u16 {
        let edits = match group {
            Group::All => &mut self.all,
            Group::Slice => &mut self.slice,
            Group::Raw => &mut self.raw,
        };
        *edits += 1;
        *edits
    }
}

/// Namespaces that are made and removed together. No name comes twice in a run.
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

    /// An event of that kind, newer than that, of each of its policies.
    pub fn wanted<'a>(&'a self, names: &'a [String], kind: Kind, after: u64) -> Wanted<'a> {
        Wanted { prefix: &self.prefix, names, kind, after, count: self.count * names.len() }
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
        assert_eq!(Group::OURS.map(Group::side), [Side::Ours; 2]);
    }
}
