//! Rooms that the user is not joined to: invitations, knocks, and left rooms.

use ruma::{OwnedUserId, RoomId, events::room::member::MembershipState};
use serde::Deserialize;
use serde_json::value::RawValue;
use weft_dag::stripped;
use weft_http::errors::ApiResult;
use weft_room_read::RoomMembership;

use super::{
    IgnoredUsers, SyncRequest,
    body::{Events, Invited, Knocked, Room, Timeline},
    rooms::Span,
};
use crate::ignored::Ignored;

impl SyncRequest<'_> {
    /// An invitation that is new, or that may have been hidden while its sender was ignored.
    pub(super) async fn invited(
        &self,
        row: &RoomMembership,
        span: &Span,
        ignored: &IgnoredUsers,
    ) -> ApiResult<Option<Invited>> {
        if !span.changed && !ignored.changed {
            return Ok(None);
        }
        let inviter = self.inviter(row).await?;
        if inviter.is_some_and(|inviter| ignored.users.contains(&inviter)) {
            return Ok(None);
        }
        Ok(Some(Invited {
            invite_state: self.stripped(row).await?,
        }))
    }

    /// The sender of the invitation.
    async fn inviter(&self, row: &RoomMembership) -> ApiResult<Option<OwnedUserId>> {
        #[derive(Deserialize)]
        struct Stripped {
            #[serde(rename = "type")]
            kind: String,
            state_key: String,
            sender: OwnedUserId,
        }
        let stripped = row.row.stripped.iter().rev();
        let mut stripped = stripped.filter_map(|event| serde_json::from_str::<Stripped>(event.json().get()).ok());
        let member = stripped.find(|event| event.kind == "m.room.member" && event.state_key == self.user.as_str());
        if let Some(member) = member {
            return Ok(Some(member.sender));
        }
        let event = self.reader.event(Some(&row.room), &row.row.event).await?;
        Ok(event.map(|pdu| pdu.sender().to_owned()))
    }

    pub(super) async fn knocked(&self, row: &RoomMembership, span: &Span) -> ApiResult<Option<Knocked>> {
        if !span.changed {
            return Ok(None);
        }
        Ok(Some(Knocked {
            knock_state: self.stripped(row).await?,
        }))
    }

    /// The stripped state for a user outside the room: the one sent with the invitation, or, if this server is in the room, the
    /// events that the specification allows.
    async fn stripped(&self, row: &RoomMembership) -> ApiResult<Events> {
        let outside = self.reader.out_of_band_state(self.user, row).await?;
        if !outside.is_empty() {
            let events = outside
                .iter()
                .filter_map(|event| RawValue::from_string(event.json().get().to_owned()).ok());
            return Ok(Events {
                events: events.collect(),
            });
        }
        let Some(member) = self.reader.event(Some(&row.room), &row.row.event).await? else {
            return Ok(Events::default());
        };
        let state = self
            .reader
            .state_at_position(&row.room, row.row.position.min(self.now_in(&row.room)))
            .await?;
        let mut entries = state.map_or_else(Vec::new, |state| stripped::entries(&state, member.sender()));
        entries.retain(|pdu| pdu.event_id() != member.event_id());
        entries.push(member);
        Ok(Events {
            events: stripped::for_clients(&entries),
        })
    }

    /// The room up to the moment of leaving and nothing after it (T62).
    pub(super) async fn left(&self, row: &RoomMembership, span: &Span, ignored: &Ignored) -> ApiResult<Option<Room>> {
        let first_sync = self.since.is_none();
        let wanted = if first_sync {
            self.filter.room.include_leave
        } else {
            span.changed
        };
        if !wanted {
            return Ok(None);
        }
        let room: &RoomId = &row.room;
        let end = row.row.position.min(self.now_in(&row.room));
        if !row.row.stripped.is_empty() || self.reader.version(room).await?.is_none() {
            // The end of an invitation to, or a knock on, a room that this server is not in: only the membership is known.
            let events = self.stripped(row).await?.events;
            let timeline = Timeline {
                events,
                ..Timeline::default()
            };
            return Ok(Some(Room::new(timeline, Events::default(), self.state_after)));
        }
        let was_in = span.was_joined() || (first_sync && self.was_joined_before(room, end).await?);
        // A user who was not joined sees only the end of the invitation.
        let from = if was_in {
            self.after(room)
        } else {
            end.saturating_sub(1)
        };
        let mut recent = self.recent(room, span, (from, end), ignored).await?;
        let known = self.reader.group_at(room, from).await?.filter(|_| !first_sync);
        let state = if was_in {
            self.state(room, &mut recent, known, known).await?.events
        } else {
            Vec::new()
        };
        Ok(Some(self.room(room, &recent, &state, ignored).await?))
    }

    async fn was_joined_before(&self, room: &RoomId, position: u64) -> ApiResult<bool> {
        let before = self.membership_at(room, position.saturating_sub(1)).await?;
        Ok(before == Some(MembershipState::Join))
    }
}
