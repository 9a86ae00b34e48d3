//! Room summaries: how many are in the room, and whom to name it after (Matrix specification, "Room summary").

use ruma::{OwnedUserId, RoomId, events::room::member::MembershipState};
use serde_json::{Map, Value, json};

use super::Turn;
use crate::errors::ApiResult;

/// Heroes of a room, at most.
const HEROES: usize = 5;

impl Turn<'_> {
    pub(super) async fn summary(&self, room: &RoomId) -> ApiResult<Map<String, Value>> {
        let members = self.reader.members(room).await?;
        let count = |membership: &MembershipState| members.iter().filter(|(_, state)| state == membership).count();
        let mut summary = Map::from_iter([
            ("m.joined_member_count".to_owned(), json!(count(&MembershipState::Join))),
            (
                "m.invited_member_count".to_owned(),
                json!(count(&MembershipState::Invite)),
            ),
        ]);
        let names = self
            .reader
            .state_entries(room, &[("m.room.name", ""), ("m.room.canonical_alias", "")])
            .await?;
        if names.is_none_or(|names| names.is_empty()) {
            summary.insert("m.heroes".to_owned(), json!(self.heroes(&members)));
        }
        Ok(summary)
    }

    fn heroes<'a>(&self, members: &'a [(OwnedUserId, MembershipState)]) -> Vec<&'a OwnedUserId> {
        let others = |present: bool| {
            members.iter().filter(move |(user, state)| {
                let here = matches!(state, MembershipState::Join | MembershipState::Invite);
                *user != self.user && here == present && *state != MembershipState::Knock
            })
        };
        let here: Vec<&OwnedUserId> = others(true).map(|(user, _)| user).take(HEROES).collect();
        // Of an abandoned room at least who it was with is told.
        if here.is_empty() {
            others(false).map(|(user, _)| user).take(HEROES).collect()
        } else {
            here
        }
    }
}
