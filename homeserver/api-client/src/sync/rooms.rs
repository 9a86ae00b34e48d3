//! Chooses the rooms to send, and their sections, by the user's membership at both ends of the span.

use std::collections::BTreeSet;

use ruma::{OwnedRoomId, events::room::member::MembershipState};
use weft_accounts::AccountDataChange;
use weft_http::errors::ApiResult;
use weft_room::RoomMembership;
use weft_store::Lane;

use super::{IgnoredUsers, SyncRequest, body::Rooms};

/// Reading this many events of the stream costs as much as checking one room for changes.
const EVENTS_FOR_A_ROOM: usize = 2;

/// A user's membership of a room at both ends of the span.
pub(super) struct Span {
    /// At the client's token; `None` in an initial sync, or if the user had no membership.
    pub(super) before: Option<MembershipState>,
    /// At the end.
    pub(super) after: MembershipState,
    /// It changed (or was renewed) in between.
    pub(super) changed: bool,
    /// Nothing was committed to the room in between.
    pub(super) quiet: bool,
}

impl Span {
    pub(super) fn was_joined(&self) -> bool {
        self.before == Some(MembershipState::Join)
    }
}

impl SyncRequest<'_> {
    pub(super) async fn rooms(&self, account_data: &[AccountDataChange], ignored: &IgnoredUsers) -> ApiResult<Rooms> {
        let mut rooms = Rooms::default();
        let rows = self.reader.rooms_of(self.user).await?;
        rooms.lanes = rows.iter().map(|row| self.reader.lane_of(&row.room)).collect();
        let changed = self.changed_rooms(&rooms.lanes, rows.len()).await?;
        for row in rows {
            // A user may be in many rooms, and other tasks need the thread.
            tokio::task::consume_budget().await;
            if !self.wants_room(&row) {
                continue;
            }
            let Some(mut span) = self.span(&row).await? else {
                continue;
            };
            span.quiet = changed.as_ref().is_some_and(|changed| !changed.contains(&row.room));
            let room = row.room.clone();
            match span.after {
                MembershipState::Join => {
                    let joined = self.joined(&room, &span, account_data, &ignored.users).await?;
                    rooms.join.extend(joined.map(|joined| (room, joined)));
                }
                MembershipState::Invite => {
                    rooms
                        .invite
                        .extend(self.invited(&row, &span, ignored).await?.map(|invited| (room, invited)));
                }
                MembershipState::Knock => {
                    rooms
                        .knock
                        .extend(self.knocked(&row, &span).await?.map(|knocked| (room, knocked)));
                }
                _ => rooms
                    .leave
                    .extend(self.left(&row, &span, &ignored.users).await?.map(|left| (room, left))),
            }
        }
        Ok(rooms)
    }

    /// The rooms of the server that changed since the client's token, if reading the stream is less work than checking
    /// this number of rooms.
    async fn changed_rooms(&self, lanes: &BTreeSet<Lane>, rooms: usize) -> ApiResult<Option<BTreeSet<OwnedRoomId>>> {
        let Some(since) = &self.since else { return Ok(None) };
        let most = rooms.saturating_mul(EVENTS_FOR_A_ROOM);
        let spans: Vec<(Lane, u64, u64)> = lanes
            .iter()
            .map(|lane| (*lane, since.in_lane(*lane), self.now.in_lane(*lane)))
            .collect();
        Ok(self.reader.moved(spans, most).await?)
    }

    fn wants_room(&self, row: &RoomMembership) -> bool {
        let filter = &self.filter.room;
        // A forgotten room must be removed from the lists of the user's other devices, which have not received the leave yet.
        let is_news = self.since_in(&row.room).is_some_and(|since| row.row.position > since);
        (!row.row.forgotten || is_news)
            && filter.rooms.as_ref().is_none_or(|rooms| rooms.contains(&row.room))
            && !filter.not_rooms.contains(&row.room)
    }

    /// The memberships at both ends. The row is the current one, which may be later than the end of the span.
    async fn span(&self, row: &RoomMembership) -> ApiResult<Option<Span>> {
        let changed_at = row.row.position;
        let (since, now) = (self.since_in(&row.room), self.now_in(&row.room));
        if since.is_some_and(|since| changed_at <= since) {
            let membership = row.membership.clone();
            return Ok(Some(Span {
                before: Some(membership.clone()),
                after: membership,
                changed: false,
                quiet: false,
            }));
        }
        let before = match since {
            Some(since) => self.membership_at(&row.room, since).await?,
            None => None,
        };
        let after = if changed_at <= now {
            Some(row.membership.clone())
        } else {
            // A commit after the end of the span: the next answer contains it.
            self.membership_at(&row.room, now).await?
        };
        Ok(after.map(|after| {
            let changed = changed_at <= now || before.as_ref() != Some(&after);
            Span {
                before,
                after,
                changed,
                quiet: false,
            }
        }))
    }
}
