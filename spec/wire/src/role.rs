//! Roles in a document and their power levels (`spec/docs/events.md`, "Roles").
//!
//! A role is derived from the room's power levels and stored nowhere else, so that all servers in the room decide alike.
//! Must not contain rules about single endpoints.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The rights of a member of a document, in ascending order: each role includes the rights of the previous one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
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
    /// Also assigns and removes every role. Power level 100, and the creators of a room of version 12.
    Owner,
}

impl Role {
    /// All roles, lowest first.
    pub const ALL: [Self; 5] = [Self::Viewer, Self::Commenter, Self::Editor, Self::Manager, Self::Owner];

    /// The power level of the role.
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

    /// The highest role whose power level is not above `power`. Negative levels are viewers: they can still read.
    #[must_use]
    pub fn from_power(power: i64) -> Self {
        Self::ALL
            .into_iter()
            .rev()
            .find(|role| power >= role.power())
            .unwrap_or(Self::Viewer)
    }

    /// Whether the role may send chat and comments.
    #[must_use]
    pub fn can_comment(self) -> bool {
        self >= Self::Commenter
    }

    /// Whether the role may send `dev.weft.update`.
    #[must_use]
    pub fn can_edit(self) -> bool {
        self >= Self::Editor
    }

    /// Whether the role may invite, remove and rename.
    #[must_use]
    pub fn can_manage(self) -> bool {
        self >= Self::Manager
    }

    /// The lower-case name in the document API.
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
    fn a_role_equals_the_role_of_its_power_level() {
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
    fn names_are_those_of_the_document_api() {
        for role in Role::ALL {
            assert_eq!(serde_json::to_value(role).unwrap(), serde_json::json!(role.name()));
        }
        assert!(serde_json::from_str::<Role>("\"admin\"").is_err());
    }
}
