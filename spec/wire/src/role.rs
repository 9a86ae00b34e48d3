//! Roles in a document and the power levels they stand for (`spec/docs/events.md`, "Roles").
//!
//! A role is nothing of its own: it is read from the room's power levels, so that every server of the room decides
//! alike. This file must not hold rules about single endpoints.

use serde::{Deserialize, Serialize};

/// What a member may do in a document. Ordered: each role may do what the one before may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Reads. Power level 0.
    Viewer,
    /// Reads, chats and comments. Power level 10.
    Commenter,
    /// Also edits the text. Power level 25.
    Editor,
    /// Also invites, removes people and changes the title. Power level 50.
    Manager,
    /// Also gives and takes every role. Power level 100, and the creators of a room of version 12.
    Owner,
}

impl Role {
    /// All roles, lowest first.
    pub const ALL: [Self; 5] = [Self::Viewer, Self::Commenter, Self::Editor, Self::Manager, Self::Owner];

    /// The power level that the role stands for.
    #[must_use]
    pub const fn power(self) -> i64 {
        match self {
            Self::Viewer => 0,
            Self::Commenter => 10,
            Self::Editor => 25,
            Self::Manager => 50,
            Self::Owner => 100,
        }
    }

    /// The highest role whose power level is reached. Negative levels are viewers: they can still read.
    #[must_use]
    pub fn from_power(power: i64) -> Self {
        Self::ALL
            .into_iter()
            .rev()
            .find(|role| power >= role.power())
            .unwrap_or(Self::Viewer)
    }

    /// May send chat and comments.
    #[must_use]
    pub fn can_comment(self) -> bool {
        self >= Self::Commenter
    }

    /// May send `dev.weft.update`.
    #[must_use]
    pub fn can_edit(self) -> bool {
        self >= Self::Editor
    }

    /// May invite, remove and rename.
    #[must_use]
    pub fn can_manage(self) -> bool {
        self >= Self::Manager
    }

    /// The lower-case name that the document API uses.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Commenter => "commenter",
            Self::Editor => "editor",
            Self::Manager => "manager",
            Self::Owner => "owner",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_role_is_read_from_the_power_it_stands_for() {
        for role in Role::ALL {
            assert_eq!(Role::from_power(role.power()), role);
        }
    }

    #[test]
    fn powers_between_two_roles_count_as_the_lower_one() {
        for (power, role) in [
            (i64::MIN, Role::Viewer),
            (-1, Role::Viewer),
            (9, Role::Viewer),
            (24, Role::Commenter),
            (49, Role::Editor),
            (99, Role::Manager),
            (i64::MAX, Role::Owner),
        ] {
            assert_eq!(Role::from_power(power), role, "power {power}");
        }
    }

    #[test]
    fn names_are_those_of_the_api() {
        for role in Role::ALL {
            assert_eq!(serde_json::to_value(role).unwrap(), serde_json::json!(role.name()));
        }
        assert!(serde_json::from_str::<Role>("\"admin\"").is_err());
    }
}
