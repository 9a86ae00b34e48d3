//! Room versions: which of them this server supports, and the rules that follow from each.
//!
//! Must not decide anything by comparing version numbers: every difference is a named rule.

use ruma::{RoomVersionId, room_version_rules::RoomVersionRules};

/// A supported room version (6 to 12) with its rules.
///
/// Older versions have lenient JSON and other event ids and are refused; see the Matrix specification, "Room versions".
#[derive(Clone, Debug)]
pub struct RoomVersion {
    id: RoomVersionId,
    rules: RoomVersionRules,
}

/// The room version is unknown or too old.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("room version {0} is not supported")]
pub struct UnsupportedRoomVersion(pub RoomVersionId);

impl RoomVersion {
    /// All versions, oldest first.
    pub const ALL: [RoomVersionId; 7] = [
        RoomVersionId::V6,
        RoomVersionId::V7,
        RoomVersionId::V8,
        RoomVersionId::V9,
        RoomVersionId::V10,
        RoomVersionId::V11,
        RoomVersionId::V12,
    ];

    /// The rules of `id`.
    ///
    /// # Errors
    /// The version is not one of 6 to 12.
    pub fn new(id: &RoomVersionId) -> Result<Self, UnsupportedRoomVersion> {
        if !Self::ALL.contains(id) {
            return Err(UnsupportedRoomVersion(id.clone()));
        }
        match id.rules() {
            Some(rules) => Ok(Self { id: id.clone(), rules }),
            None => Err(UnsupportedRoomVersion(id.clone())),
        }
    }

    /// The version's identifier.
    #[must_use]
    pub fn id(&self) -> &RoomVersionId {
        &self.id
    }

    /// The rules of this version.
    #[must_use]
    pub fn rules(&self) -> &RoomVersionRules {
        &self.rules
    }

    /// Whether the room id is the hash of the create event (version 12), so that the create event has no room id of its
    /// own and no event has it in its auth events.
    #[must_use]
    pub fn room_id_is_create_hash(&self) -> bool {
        self.rules.authorization.room_create_event_id_as_room_id
    }

    /// Whether an event is dropped if its type or state key has more than 255 bytes (from version 11 on). The
    /// specification measures in bytes in all versions (client-server API, "Size limits"). Synapse measured in
    /// characters; since it measures in bytes, it keeps such an event of an older version as rejected.
    #[must_use]
    pub fn drops_long_names(&self) -> bool {
        let older = [
            RoomVersionId::V6,
            RoomVersionId::V7,
            RoomVersionId::V8,
            RoomVersionId::V9,
            RoomVersionId::V10,
        ];
        !older.contains(&self.id)
    }

    /// Whether creators rank above every power level (version 12).
    #[must_use]
    pub fn creators_are_above_all(&self) -> bool {
        self.rules.authorization.explicitly_privilege_room_creators
    }
}
