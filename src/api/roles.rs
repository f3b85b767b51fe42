//! A set of roles in one byte, because every namespace and opt-out has such sets.

use std::fmt;

use strum::VariantArray;

use super::Role;

/// A set of roles; it may be empty.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Roles(u8);

impl Roles {
    /// The set of all roles.
    pub fn all() -> Self {
        Role::VARIANTS.iter().copied().collect()
    }

    /// Whether the set contains this role.
    pub const fn contains(self, role: Role) -> bool {
        self.0 & bit(role) != 0
    }

    /// Whether the set is empty.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The roles of this set that `others` does not contain.
    #[must_use]
    pub const fn without(self, others: Self) -> Self {
        Self(self.0 & !others.0)
    }

    /// The roles of the set, in the order in which they are planned.
    pub fn iter(self) -> impl Iterator<Item = Role> {
        Role::VARIANTS.iter().copied().filter(move |role| self.contains(*role))
    }
}

const fn bit(role: Role) -> u8 {
    match role {
        Role::DefaultDenyIngress => 1,
        Role::DefaultDenyEgress => 2,
        Role::MonitoringCarveout => 4,
    }
}

impl FromIterator<Role> for Roles {
    fn from_iter<I: IntoIterator<Item = Role>>(roles: I) -> Self {
        Self(roles.into_iter().fold(0, |all, role| all | bit(role)))
    }
}

impl fmt::Display for Roles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words: Vec<&str> = self.iter().map(Into::into).collect();
        f.write_str(&words.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_holds_what_was_put_into_it() {
        for role in Role::VARIANTS.iter().copied() {
            let one: Roles = [role, role].into_iter().collect();
            assert_eq!(one.iter().collect::<Vec<_>>(), [role]);
            assert!(!Roles::all().without(one).contains(role) && Roles::all().contains(role));
        }
        assert!(Roles::default().is_empty() && Roles::all().without(Roles::all()).is_empty());
        let two: Roles = [Role::MonitoringCarveout, Role::DefaultDenyIngress].into_iter().collect();
        assert_eq!(two.to_string(), "DefaultDenyIngress, MonitoringCarveout");
    }
}
