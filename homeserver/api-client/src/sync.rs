//! GET /_matrix/client/v3/sync: everything that changed since the client's token.
//!
//! A token is a position in each lane: everything committed at or below it was sent, nothing above it was.
//! The watch is registered before anything is read, and reads are limited to the positions that were visible
//! then. Must not lose an event between two answers or send one twice.

mod body;
mod joined;
mod outside;
mod rooms;
mod states;
mod summary;
mod timeline;
mod waiting;

pub(super) use waiting::Waiting;

use std::{
    collections::BTreeSet,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::{Json, Router, extract::State};
use futures_util::{future, try_join};
use ruma::{
    OwnedUserId, RoomId, UserId,
    api::client::{
        filter::{Filter as EventFilter, FilterDefinition},
        sync::sync_events::v3::{self, Filter},
    },
    push::Ruleset,
};
use serde_json::{Value, json};
use tokio::time::Instant;
use weft_accounts::{AccountDataChange, Accounts, Session};
use weft_fanout::{Ephemeral, Fanout, Presence, Unread, Wake, presence::UserPresence};
use weft_http::{
    authentication::Authenticated,
    errors::{ApiError, ApiResult},
    ruma_json::{Ruma, RumaRoutes},
};
use weft_room_api::Clock;
use weft_room_read::Reader;
use weft_store::{Lane, LanePositions, VisiblePositions};
use weft_wire::{limits::MAX_SYNC_TIMEOUT_MS, presence};

use self::{
    body::{Body, Events},
    waiting::Waiter,
};
use super::{
    Ports,
    events::matches_type,
    filters,
    ignored::{IGNORED_USER_LIST, Ignored, ignored_users},
    keys, push_rules,
    tokens::{self, SyncToken, Unstored},
};

/// Events of the stream that are read before the number of the user's rooms is known.
const MOVED_AT_ONCE: usize = 200;
/// Maximum events that one answer reads in all rooms together, beyond the first batch of each, to find events that pass the filter.
const MAX_SCANS: usize = 5_000;

pub(super) fn routes() -> Router<Ports> {
    Router::new().endpoint::<v3::Request, _, _>(sync)
}

async fn sync(
    State(ports): State<Ports>,
    caller: Authenticated,
    Ruma(request): Ruma<v3::Request>,
) -> ApiResult<Json<Body>> {
    let user = &*caller.user_id;
    let filter = filter(&ports.accounts, user, request.filter).await?;
    let positions: &LanePositions = &ports.positions;
    let token = token(request.since.as_deref(), positions)?;
    let timeout = request
        .timeout
        .unwrap_or_default()
        .min(Duration::from_millis(MAX_SYNC_TIMEOUT_MS));
    if let Some(presence) = presence::known(request.set_presence) {
        let timeout_ms = u64::try_from(timeout.as_millis()).unwrap_or(MAX_SYNC_TIMEOUT_MS);
        ports
            .presence
            .record_activity(user, &caller.device_id, presence, timeout_ms)
            .await;
    }
    let deadline = Instant::now() + timeout;
    let fanout: &Fanout = &ports.fanout;
    let clock: &Arc<dyn Clock> = &ports.clock;
    let mut watch = fanout.user_watch(user);
    let waiter = ports.waiting.begin(&caller);
    loop {
        let woken = watch.borrow_and_update().clone();
        let typing_serial = ports.ephemeral.typing_serial();
        let now = positions.visible();
        if let Some(ahead) = token.as_ref().and_then(|token| token.ahead_of(&now)) {
            // Nothing was lost: this process can't read it yet.
            if !woken.stopping && wait_for(positions, ahead, (deadline, &waiter)).await {
                continue;
            }
            let token = token.as_ref().map(ToString::to_string).unwrap_or_default();
            return Ok(Json(Body::unchanged(token, keys::one_time_key_counts())));
        }
        // For this answer only: rows that are read after `now` contain everything up to it.
        let reader = ports.reader.for_request();
        let request = SyncRequest {
            reader: &reader,
            accounts: &ports.accounts,
            ephemeral: &ports.ephemeral,
            presence: &ports.presence,
            unread: &ports.unread,
            push_rules: OnceLock::new(),
            user,
            session: &caller,
            since: token.clone(),
            now: now.clone(),
            positions,
            own_lane: positions.lanes().of(user),
            incarnation: positions.incarnation(),
            typing_serial,
            is_typing_shown: AtomicBool::new(false),
            filter: &filter,
            full_state: request.full_state,
            state_after: request.use_state_after,
            now_ms: clock.now().get().into(),
            scans: AtomicUsize::new(MAX_SCANS),
        };
        // The end of a session wakes its syncs. If it ended before the watch was registered, this check finds it.
        let (session, body) = future::join(ports.accounts.recheck(&caller), request.body()).await;
        session?;
        let body = body?;
        // On shutdown the server answers with the current results; the client continues with the same token.
        let answer_now = woken.stopping || request.since.is_none() || request.full_state || !body.is_empty();
        if answer_now {
            // Again, after all reads: what happened after the session ended must not be sent to it. Without content this
            // would be one more round trip for nothing.
            ports.accounts.recheck(&caller).await?;
            return Ok(Json(body));
        }
        if !wait(&mut watch, positions, &woken, &now, (deadline, &waiter)).await {
            return Ok(Json(body));
        }
    }
}

/// The client's token without what means nothing any more: the client begins anew there.
fn token(since: Option<&str>, positions: &LanePositions) -> ApiResult<Option<SyncToken>> {
    let Some(since) = since else { return Ok(None) };
    let token = SyncToken::parse(since)?;
    let is_accepted = tokens::accepts(since, positions.lanes());
    Ok(Some(token)
        .filter(|_| is_accepted)
        .and_then(|token| token.still_valid(positions)))
}

/// Waits until there may be changes; false on timeout, or if a newer sync of the device replaces this one.
async fn wait(
    watch: &mut tokio::sync::watch::Receiver<Wake>,
    positions: &LanePositions,
    woken: &Wake,
    now: &VisiblePositions,
    (deadline, waiter): (Instant, &Waiter),
) -> bool {
    let mut newest = woken.positions.iter();
    let ahead = newest.find(|(lane, position)| **position > now.in_lane(**lane));
    let change = async {
        if let Some((lane, position)) = ahead {
            // Committed already, but an earlier commit of another room is still in progress.
            let mut visible = positions.in_lane(*lane).watch();
            tokio::select! {
                reached = visible.wait_for(|visible| visible >= position) => reached.is_ok(),
                woken = watch.changed() => woken.is_ok(),
            }
        } else {
            watch.changed().await.is_ok()
        }
    };
    tokio::select! {
        changed = tokio::time::timeout_at(deadline, change) => changed.unwrap_or(false),
        () = waiter.ended() => false,
    }
}

/// Waits until a position of a lane is visible; false on timeout, or if a newer sync of the device replaces this one.
async fn wait_for(
    positions: &LanePositions,
    (lane, position): (Lane, u64),
    (deadline, waiter): (Instant, &Waiter),
) -> bool {
    let mut visible = positions.in_lane(lane).watch();
    tokio::select! {
        reached = tokio::time::timeout_at(deadline, visible.wait_for(|visible| *visible >= position)) => {
            reached.is_ok_and(|reached| reached.is_ok())
        }
        () = waiter.ended() => false,
    }
}

async fn filter(accounts: &Accounts, user: &UserId, filter: Option<Filter>) -> ApiResult<FilterDefinition> {
    match filter {
        None => Ok(FilterDefinition::default()),
        Some(Filter::FilterDefinition(filter)) => filters::checked(filter),
        Some(Filter::FilterId(id)) => filters::stored(accounts, user, &id).await,
        Some(_) => Err(ApiError::invalid_param("The filter is not valid.")),
    }
}

/// One attempt to answer: the session, the filter and the span.
struct SyncRequest<'a> {
    reader: &'a Reader,
    accounts: &'a Accounts,
    ephemeral: &'a Ephemeral,
    presence: &'a Presence,
    unread: &'a Unread,
    /// The user's push rules, once a room has changes.
    push_rules: OnceLock<Ruleset>,
    user: &'a UserId,
    /// The session of the requesting device.
    session: &'a Session,
    since: Option<SyncToken>,
    /// The end of the span.
    now: VisiblePositions,
    positions: &'a LanePositions,
    /// The lane of the user's account data.
    own_lane: Lane,
    /// The start of this process, whose serials these are.
    incarnation: u64,
    typing_serial: u64,
    /// A list of typing users is not empty.
    is_typing_shown: AtomicBool,
    filter: &'a FilterDefinition,
    full_state: bool,
    /// Send the state at the end of the timeline, not at its beginning (`use_state_after`).
    state_after: bool,
    now_ms: u64,
    /// Remaining events to read beyond the first batch of each room, to find events that pass the filter.
    scans: AtomicUsize,
}

impl SyncRequest<'_> {
    /// The position after which changes of a room are sent; 0 in an initial sync, and for a room in whose lane the client
    /// begins anew.
    fn after(&self, room: &RoomId) -> u64 {
        self.since_in(room).unwrap_or(0)
    }

    /// The position of the client's token in the lane of a room; `None` in an initial sync.
    fn since_in(&self, room: &RoomId) -> Option<u64> {
        let lane = self.reader.lane_of(room);
        self.since.as_ref().map(|since| since.in_lane(lane))
    }

    /// The end of the span in the lane of a room.
    fn now_in(&self, room: &RoomId) -> u64 {
        self.now.in_lane(self.reader.lane_of(room))
    }

    async fn body(&self) -> ApiResult<Body> {
        let after = self.since.as_ref().map_or(0, |since| since.in_lane(self.own_lane));
        let now = self.now.in_lane(self.own_lane);
        let account_data = async {
            let since = self.accounts.account_data_since(self.user, after, now);
            Ok::<_, ApiError>(since.await?)
        };
        let rooms = async { Ok::<_, ApiError>(self.reader.rooms_of(self.user).await?) };
        let (account_data, ignored, rooms, moved) = try_join!(
            account_data,
            ignored_users(self.accounts, self.user),
            rooms,
            self.moved_in_one_lane(),
        )?;
        let ignored = IgnoredUsers {
            users: ignored,
            changed: account_data
                .iter()
                .any(|change| change.room.is_none() && change.kind == IGNORED_USER_LIST && change.position > after),
        };
        // Of another process the client gets all that changed since the start of this one.
        let sent = |since: &SyncToken| match since.unstored {
            sent if sent.incarnation == self.incarnation => sent.presence,
            _ => 0,
        };
        let changes = self.presence.changes_since(self.user, self.since.as_ref().map(sent));
        let rooms = self.rooms(rooms, moved, &account_data, &ignored);
        let (rooms, (changes, up_to)) = future::join(rooms, changes).await;
        let mut rooms = rooms?;
        let presence = self.presence(changes, &rooms.newcomers());
        let unstored = Unstored {
            incarnation: self.incarnation,
            typing: self.typing_serial,
            presence: up_to,
            is_typing_shown: self.is_typing_shown.load(Ordering::Relaxed),
        };
        let lanes = std::mem::take(&mut rooms.lanes).into_iter().chain([self.own_lane]);
        let next = SyncToken::new(self.positions, &self.now, lanes, unstored);
        Ok(Body::new(
            next.to_string(),
            rooms,
            self.global_account_data(&account_data),
            presence,
            keys::one_time_key_counts(),
        ))
    }

    /// Presence changes of other users, including users who now share a room with the user.
    fn presence(&self, mut changes: Vec<(OwnedUserId, UserPresence)>, newcomers: &BTreeSet<OwnedUserId>) -> Events {
        let known: BTreeSet<OwnedUserId> = changes.iter().map(|(user, _)| user.clone()).collect();
        let newcomers = self.presence.present(newcomers).into_iter();
        changes.extend(newcomers.filter(|(user, _)| !known.contains(user)));
        if !wanted(&self.filter.presence, "m.presence") {
            return Events::default();
        }
        let event = |(user, seen): &(OwnedUserId, UserPresence)| json!({"type": "m.presence", "sender": user, "content": self.presence.content(seen)});
        Events::from_values(changes.iter().map(event).collect())
    }

    fn global_account_data(&self, all: &[AccountDataChange]) -> Events {
        let filter = &self.filter.account_data;
        let changed = all.iter().filter(|change| change.room.is_none());
        let mut events: Vec<Value> = changed
            .filter(|change| wanted(filter, &change.kind))
            .map(|change| json!({"type": change.kind, "content": change.content}))
            .collect();
        if self.since.is_none() && wanted(filter, "m.push_rules") {
            events.push(json!({"type": "m.push_rules", "content": push_rules::default_rules(self.user)}));
        }
        Events::from_values(events)
    }
}

/// Users whose messages and invitations are not sent.
struct IgnoredUsers {
    users: Ignored,
    /// The list changed since the client's token.
    changed: bool,
}

/// Whether a filter accepts events of this type.
fn wanted(filter: &EventFilter, kind: &str) -> bool {
    let named = |types: &[String]| types.iter().any(|pattern| matches_type(pattern, kind));
    filter.types.as_deref().is_none_or(named) && !named(&filter.not_types)
}
