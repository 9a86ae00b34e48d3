//! GET /_matrix/client/v3/sync: everything that changed since the client's token.
//!
//! A token is a position of the store's stream: everything committed at or below it was sent, nothing above it was.
//! The watch is registered before anything is read, and reads are limited to the position that was visible
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
    sync::{Arc, atomic::AtomicUsize},
    time::Duration,
};

use axum::{Json, Router, extract::State};
use ruma::{
    OwnedUserId, UserId,
    api::client::{
        filter::{Filter as EventFilter, FilterDefinition},
        sync::sync_events::v3::{self, Filter},
    },
};
use serde_json::{Value, json};
use tokio::time::Instant;
use weft_accounts::{AccountDataChange, Accounts, Session};
use weft_fanout::{Ephemeral, Fanout, Presence, Wake, presence::UserPresence};
use weft_http::{
    authentication::Authenticated,
    errors::{ApiError, ApiResult},
    ruma_json::{Ruma, RumaRoutes},
};
use weft_room::{Clock, Reader};
use weft_store::{Lane, Positions};
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
    tokens::SyncToken,
};

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
    let since = request.since.as_deref().map(SyncToken::parse).transpose()?;
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
    let positions: &Positions = ports.positions.in_lane(Lane::FIRST);
    let clock: &Arc<dyn Clock> = &ports.clock;
    let mut watch = fanout.user_watch(user);
    let waiter = ports.waiting.begin(&caller);
    loop {
        let woken = *watch.borrow_and_update();
        let typing_serial = ports.ephemeral.typing_serial();
        let now = positions.visible();
        let request = SyncRequest {
            reader: &ports.reader,
            accounts: &ports.accounts,
            ephemeral: &ports.ephemeral,
            presence: &ports.presence,
            user,
            session: &caller,
            // A token from the future is from a store that was restored from a backup: the client starts with a new initial sync.
            since: since.filter(|since| since.position <= now),
            now: SyncToken {
                position: now,
                typing: typing_serial,
                presence: since.map_or(0, |since| since.presence),
            },
            filter: &filter,
            full_state: request.full_state,
            state_after: request.use_state_after,
            now_ms: clock.now().get().into(),
            scans: AtomicUsize::new(MAX_SCANS),
        };
        let body = request.body().await?;
        // After reading: events committed after the session ended must not be sent to it.
        ports.accounts.recheck(&caller).await?;
        // On shutdown the server answers with the current results; the client continues with the same token.
        let answer_now = woken.stopping || request.since.is_none() || request.full_state || !body.is_empty();
        if answer_now || !wait(&mut watch, positions, woken, now, (deadline, &waiter)).await {
            return Ok(Json(body));
        }
    }
}

/// Waits until there may be changes; false on timeout, or if a newer sync of the device replaces this one.
async fn wait(
    watch: &mut tokio::sync::watch::Receiver<Wake>,
    positions: &Positions,
    woken: Wake,
    now: u64,
    (deadline, waiter): (Instant, &Waiter),
) -> bool {
    let mut visible = positions.watch();
    let change = async {
        if woken.position > now {
            // Committed already, but an earlier commit of another room is still in progress.
            tokio::select! {
                reached = visible.wait_for(|visible| *visible >= woken.position) => reached.is_ok(),
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
    user: &'a UserId,
    /// The session of the requesting device.
    session: &'a Session,
    since: Option<SyncToken>,
    now: SyncToken,
    filter: &'a FilterDefinition,
    full_state: bool,
    /// Send the state at the end of the timeline, not at its beginning (`use_state_after`).
    state_after: bool,
    now_ms: u64,
    /// Remaining events to read beyond the first batch of each room, to find events that pass the filter.
    scans: AtomicUsize,
}

impl SyncRequest<'_> {
    /// The position after which changes are sent; 0 in an initial sync.
    fn after(&self) -> u64 {
        self.since.map_or(0, |since| since.position)
    }

    async fn body(&self) -> ApiResult<Body> {
        let account_data = self
            .accounts
            .account_data_since(self.user, self.after(), self.now.position)
            .await?;
        let ignored = IgnoredUsers {
            users: ignored_users(self.accounts, self.user).await?,
            changed: account_data.iter().any(|change| {
                change.room.is_none() && change.kind == IGNORED_USER_LIST && change.position > self.after()
            }),
        };
        let mut rooms = self.rooms(&account_data, &ignored).await?;
        let (presence, up_to) = self.presence(&rooms.newcomers()).await;
        let next = SyncToken {
            presence: up_to,
            ..self.now
        };
        Ok(Body::new(
            next.to_string(),
            rooms,
            self.global_account_data(&account_data),
            presence,
            keys::one_time_key_counts(),
        ))
    }

    /// Presence changes of other users, including users who now share a room with the user, and the serial up to
    /// which they are complete.
    async fn presence(&self, newcomers: &BTreeSet<OwnedUserId>) -> (Events, u64) {
        let after = self.since.map(|since| since.presence);
        let (mut changes, up_to) = self.presence.changes_since(self.user, after).await;
        let known: BTreeSet<OwnedUserId> = changes.iter().map(|(user, _)| user.clone()).collect();
        let newcomers = self.presence.present(newcomers).into_iter();
        changes.extend(newcomers.filter(|(user, _)| !known.contains(user)));
        if !wanted(&self.filter.presence, "m.presence") {
            return (Events::default(), up_to);
        }
        let event = |(user, seen): &(OwnedUserId, UserPresence)| json!({"type": "m.presence", "sender": user, "content": self.presence.content(seen)});
        (Events::from_values(changes.iter().map(event).collect()), up_to)
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
