//! Room summaries: the member counts and the heroes (Matrix specification, "Room summary").

use futures_util::future::try_join;
use ruma::{OwnedUserId, RoomId, events::room::member::MembershipState};
use serde_json::{Map, Value, json};
use weft_http::errors::ApiResult;

use super::SyncRequest;

/// Maximum number of heroes of a room.
const HEROES: usize = 5;

/// A room's summary and its heroes.
#[derive(Default)]
pub(super) struct Summary {
    pub(super) fields: Map<String, Value>,
    pub(super) heroes: Vec<OwnedUserId>,
}

impl SyncRequest<'_> {
    pub(super) async fn summary(&self, room: &RoomId) -> ApiResult<Summary> {
        let members = async { Ok(self.reader.members(room).await?) };
        let (members, has_name) = try_join(members, self.has_name(room)).await?;
        let count = |membership: &MembershipState| members.iter().filter(|(_, state)| state == membership).count();
        let mut fields = Map::from_iter([
            ("m.joined_member_count".to_owned(), json!(count(&MembershipState::Join))),
            (
                "m.invited_member_count".to_owned(),
                json!(count(&MembershipState::Invite)),
            ),
        ]);
        let mut heroes = Vec::new();
        if !has_name {
            heroes = self.heroes(&members);
            fields.insert("m.heroes".to_owned(), json!(heroes));
        }
        Ok(Summary { fields, heroes })
    }

    /// Whether the room has a name that clients show: heroes are only sent if it has none.
    async fn has_name(&self, room: &RoomId) -> ApiResult<bool> {
        const NAMES: [(&str, &str); 2] = [("m.room.name", "name"), ("m.room.canonical_alias", "alias")];
        let state = self
            .reader
            .state_entries(room, &NAMES.map(|(kind, _)| (kind, "")))
            .await?;
        let Some(state) = state else { return Ok(false) };
        let name = |(kind, field)| state.get(kind, "")?.content_text(field);
        Ok(NAMES.into_iter().any(|entry| name(entry).is_some()))
    }

    fn heroes(&self, members: &[(OwnedUserId, MembershipState)]) -> Vec<OwnedUserId> {
        let others = |present: bool| {
            members.iter().filter(move |(user, state)| {
                let here = matches!(state, MembershipState::Join | MembershipState::Invite);
                *user != self.user && here == present && *state != MembershipState::Knock
            })
        };
        let here: Vec<OwnedUserId> = others(true).map(|(user, _)| user.clone()).take(HEROES).collect();
        // In an abandoned room the former members are the heroes.
        if here.is_empty() {
            others(false).map(|(user, _)| user.clone()).take(HEROES).collect()
        } else {
            here
        }
    }
}
