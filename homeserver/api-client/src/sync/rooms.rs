//! Chooses the rooms to send, and their sections, by the user's membership at both ends of the span.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::{FutureExt as _, StreamExt as _, TryStreamExt as _, future::try_join, stream};
use ruma::{OwnedEventId, OwnedRoomId, events::room::member::MembershipState};
use weft_accounts::AccountDataChange;
use weft_http::errors::ApiResult;
use weft_room_read::RoomMembership;
use weft_store::{Lane, Lanes};

use super::{
    IgnoredUsers, MOVED_AT_ONCE, SyncRequest,
    body::{Invited, Knocked, Room, Rooms},
};

/// Reading this many events of the stream costs as much as checking one room for changes.
const EVENTS_FOR_A_ROOM: usize = 2;
/// Rooms that are read at a time. Their answers are held anyway; this bounds what is read for them.
const ROOMS_AT_ONCE: usize = 64;
/// New events of a room that are read ahead. More of them are read page by page.
const READ_AHEAD: usize = 20;

/// Rooms that changed, with the events.
type Moved = BTreeMap<OwnedRoomId, Vec<OwnedEventId>>;

/// What is sent about a room.
enum Section {
    Joined(Box<Room>),
    Invited(Invited),
    Knocked(Knocked),
    Left(Box<Room>),
}

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
    /// The sections of the user's rooms. Rooms are read at the same time, so that an answer about many rooms takes as long
    /// as one about the slowest of them.
    pub(super) async fn rooms(
        &self,
        rows: Vec<RoomMembership>,
        moved: Option<Moved>,
        account_data: &[AccountDataChange],
        ignored: &IgnoredUsers,
    ) -> ApiResult<Rooms> {
        let most = rows.len().saturating_mul(EVENTS_FOR_A_ROOM);
        let lanes: BTreeSet<Lane> = rows.iter().map(|row| self.reader.lane_of(&row.room)).collect();
        let is_read = self.positions.lanes() == Lanes::ONE && most <= MOVED_AT_ONCE;
        let moved = match moved {
            None if !is_read => self.moved(&lanes, most).await?,
            moved => moved,
        };
        let wanted = rows.iter().filter(|row| self.wants_room(row));
        let sections = wanted.map(|row| self.section(row, moved.as_ref(), account_data, ignored).boxed());
        let mut sections = stream::iter(sections.collect::<Vec<_>>()).buffer_unordered(ROOMS_AT_ONCE);
        let mut rooms = Rooms {
            lanes,
            ..Rooms::default()
        };
        while let Some(found) = sections.try_next().await? {
            // A user may be in many rooms, and other tasks need the thread.
            tokio::task::consume_budget().await;
            match found {
                None => {}
                Some((room, Section::Joined(joined))) => drop(rooms.join.insert(room, *joined)),
                Some((room, Section::Invited(invited))) => drop(rooms.invite.insert(room, invited)),
                Some((room, Section::Knocked(knocked))) => drop(rooms.knock.insert(room, knocked)),
                Some((room, Section::Left(left))) => drop(rooms.leave.insert(room, *left)),
            }
        }
        Ok(rooms)
    }

    /// What is sent about one room.
    async fn section(
        &self,
        row: &RoomMembership,
        moved: Option<&Moved>,
        account_data: &[AccountDataChange],
        ignored: &IgnoredUsers,
    ) -> ApiResult<Option<(OwnedRoomId, Section)>> {
        let Some(mut span) = self.span(row).await? else {
            return Ok(None);
        };
        let events = moved.map(|moved| moved.get(&row.room).map_or(&[][..], Vec::as_slice));
        span.quiet = events.is_some_and(<[_]>::is_empty);
        let section = match span.after {
            MembershipState::Join => {
                let ahead = self.read_ahead(row, &span, events.unwrap_or_default());
                let joined = self.joined(&row.room, &span, account_data, &ignored.users);
                let (_, joined) = try_join(ahead, joined).await?;
                joined.map(|joined| Section::Joined(Box::new(joined)))
            }
            MembershipState::Invite => self.invited(row, &span, ignored).await?.map(Section::Invited),
            MembershipState::Knock => self.knocked(row, &span).await?.map(Section::Knocked),
            _ => {
                let left = self.left(row, &span, &ignored.users).await?;
                left.map(|left| Section::Left(Box::new(left)))
            }
        };
        Ok(section.map(|section| (row.room.clone(), section)))
    }

    /// Reads what the section will need of these events while their timeline is read, in place of one after the other.
    async fn read_ahead(&self, row: &RoomMembership, span: &Span, events: &[OwnedEventId]) -> ApiResult<()> {
        if events.is_empty() || events.len() > READ_AHEAD || !span.was_joined() {
            return Ok(());
        }
        let asking = (self.user, &*self.session.device_id);
        let member = &row.row.event;
        Ok(self.reader.read_ahead(&row.room, asking, events, member).await?)
    }

    /// As [`SyncRequest::moved`] before the rooms of the user are known; `None` if there are several lanes.
    pub(super) async fn moved_in_one_lane(&self) -> ApiResult<Option<Moved>> {
        if self.positions.lanes() != Lanes::ONE {
            return Ok(None);
        }
        self.moved(&BTreeSet::from([self.own_lane]), MOVED_AT_ONCE).await
    }

    /// The rooms of these lanes that changed since the client's token, with the events; `None` if these are more events
    /// than `most`.
    async fn moved(&self, lanes: &BTreeSet<Lane>, most: usize) -> ApiResult<Option<Moved>> {
        let Some(since) = &self.since else { return Ok(None) };
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
