//! `GET /documents/{id}/events`: what happens in a document, as server-sent events, for programs that do not edit
//! (`spec/docs/documents-api.md`, "Events").
//!
//! A reader of the same distribution as live sockets ([`weft_fanout::Fanout`]); a client that reads too slowly loses edits there,
//! and is told so. Must not send anything to a user who is not joined at that moment.

mod frame;

use std::{collections::VecDeque, convert::Infallible, fmt, sync::Arc, time::Duration};

use axum::{
    body::Body,
    extract::{Extension, FromRef, State},
    http::{HeaderMap, header},
    response::{IntoResponse, Response},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use futures_util::stream;
use ruma::OwnedUserId;
use serde_json::{Value, json};
use tokio::time::timeout;
use weft_accounts::Accounts;
use weft_budget::{Budget, Exhausted, KeyedBudget, KeyedShare};
use weft_crdt::Update;
use weft_fanout::{Change, EditFrame, RoomSubscription};
use weft_http::{
    authentication::Authenticated,
    errors::{ApiError, ApiResult},
    openapi::{Operation, Routes},
    path::InPath,
    ratelimit::UserLimiter,
    traffic::{Held, Requester},
};
use weft_room_api::{CommittedEvent, RoomError};
use weft_room_read::{Direction, EDIT, ShownEvent, Types};
use weft_wire::{
    limits::{LIVE_KEEP_ALIVE_MS, MAX_EVENT_STREAMS, MAX_EVENT_STREAMS_PER_USER, MAX_RESUMED_EVENTS},
    live::{
        awareness::Entry,
        close::{self, Close},
    },
    schema,
};

use self::frame::Point;
use super::{
    LivePorts,
    document_connection::elapsed,
    target::{self, Target},
};

/// Events up to this size are not charged: the bounds of the queue suffice for them.
const FREE_BYTES: usize = 16 * 1024;

/// Events that are read at a time, before they are charged.
const EVENTS_AT_ONCE: usize = 50;

pub(super) fn routes() -> Routes<LivePorts> {
    Routes::new("Content").get(
        "/_weft/client/v1/documents/{id}/events",
        events,
        Operation::new("streamEvents", "What happens in the document from now on")
            .note("Server-sent events: `edit`, `awareness`, `chat`, `comment`, `suggestion`, `member`, `version`, `lock`, `unlock`, \
                   `approval` and `resync`. A client that can't set headers passes its token as the parameter `access_token`.")
            .path::<schema::DocumentName>("id", "The document.")
            .takes("Last-Event-ID", None, "The id of the last event that the client has.")
            .answers(200, "The stream.")
            .media("text/event-stream")
            .refuses(404, "The document does not exist, or the caller has not joined it."),
    )
}

/// The open streams. Cheap to clone.
#[derive(Debug, Clone)]
pub struct EventStreams(Arc<KeyedBudget<OwnedUserId>>);

impl Default for EventStreams {
    fn default() -> Self {
        let (per_user, total) = (MAX_EVENT_STREAMS_PER_USER, MAX_EVENT_STREAMS);
        Self(KeyedBudget::new("event_streams", per_user, total))
    }
}

impl EventStreams {
    /// The budget of these streams, for metrics.
    #[must_use]
    pub fn budget(&self) -> &Arc<Budget> {
        self.0.total()
    }
}

impl FromRef<LivePorts> for Accounts {
    fn from_ref(ports: &LivePorts) -> Self {
        ports.accounts.clone()
    }
}

impl FromRef<LivePorts> for UserLimiter {
    fn from_ref(ports: &LivePorts) -> Self {
        ports.limiter.clone()
    }
}

/// Why a stream ends. The client connects again and goes on from its last event.
#[derive(Debug)]
struct Ended;

impl<E: fmt::Display> From<E> for Ended {
    fn from(cause: E) -> Self {
        tracing::debug!(%cause, "event stream ended");
        Self
    }
}

/// A stream under way.
struct Reading {
    ports: LivePorts,
    target: Target,
    requester: Arc<Requester>,
    subscription: RoomSubscription,
    /// How far the reader is.
    point: Point,
    /// To be sent.
    queue: VecDeque<Bytes>,
    _share: KeyedShare<OwnedUserId>,
}

/// Answers with the stream, which ends when the caller leaves the document or the server stops.
async fn events(
    State(ports): State<LivePorts>,
    InPath(name): InPath<String>,
    Authenticated(session): Authenticated,
    requester: Option<Extension<Arc<Requester>>>,
    headers: HeaderMap,
) -> ApiResult<Response> {
    let share = ports.event_streams.0.try_take(&session.user_id, 1)?;
    let target = target::of_session(&ports, &name, session, String::new())
        .await
        .map_err(refusal)?;
    ports.rooms.open(&target.room).await?;
    // Before anything is read, so that no change is missed in between.
    let subscription = ports.fanout.subscribe_with_events(
        &target.room,
        ports.sessions.next(),
        &target.session.user_id,
        &target.session.device_id,
    );
    let reader = ports.rooms.reader().clone();
    let point = Point {
        version: reader.document_version(&target.room).await?,
        position: reader.last_position(&target.room).await?,
    };
    let mut reading = Reading {
        ports,
        target,
        requester: requester.map_or_else(Requester::uncounted, |Extension(requester)| requester),
        subscription,
        point,
        queue: VecDeque::new(),
        _share: share,
    };
    let since = headers.get("last-event-id").and_then(|id| id.to_str().ok());
    match since {
        None => reading.queue.push_back(frame::beginning(point)),
        Some(since) => reading.resume(Point::parse(since)).await?,
    }
    let states = reading.ports.awareness.states(&reading.target.room);
    reading.awareness(&states)?;
    Ok(answer(reading))
}

/// Not to be a member is the same as no document, as elsewhere in the document API.
fn refusal(close: Close) -> ApiError {
    match close.code {
        code if code == close::FORBIDDEN.code || code == close::NOT_FOUND.code => {
            ApiError::not_found("Document not found, or you are not a member of it.")
        }
        code if code == close::UNAUTHORIZED.code => ApiError::unknown_token(false),
        _ => ApiError::unavailable("The document cannot be read now. Try again."),
    }
}

fn answer(reading: Reading) -> Response {
    let events = stream::unfold(reading, |mut reading| async {
        let bytes = reading.next().await.ok()?;
        Some((Ok::<_, Infallible>(bytes), reading))
    });
    let headers = [
        (header::CONTENT_TYPE.as_str(), "text/event-stream"),
        (header::CACHE_CONTROL.as_str(), "private, no-store"),
        (header::X_CONTENT_TYPE_OPTIONS.as_str(), "nosniff"),
        // Proxies must not collect events.
        ("x-accel-buffering", "no"),
    ];
    (headers, Body::from_stream(events)).into_response()
}

impl Reading {
    /// The next bytes of the stream.
    async fn next(&mut self) -> Result<Bytes, Ended> {
        loop {
            if let Some(bytes) = self.queue.pop_front() {
                return Ok(bytes);
            }
            let token_lasts = self.ports.accounts.time_left(&self.target.session);
            let keep_alive = Duration::from_millis(LIVE_KEEP_ALIVE_MS);
            let change = tokio::select! {
                change = timeout(keep_alive, self.subscription.next(true)) => change,
                () = elapsed(token_lasts) => Ok(Change::AccessChanged),
            };
            match change {
                Ok(change) => self.change(change).await?,
                Err(_) => self.queue.push_back(frame::keep_alive()),
            }
        }
    }

    /// Charges an event to the account until it is written, unless it is small and nearly alone.
    fn charged(&self, bytes: Bytes) -> Result<Bytes, Exhausted> {
        let waiting: usize = self.queue.iter().map(Bytes::len).sum();
        if waiting.saturating_add(bytes.len()) <= FREE_BYTES {
            return Ok(bytes);
        }
        let held = self.requester.hold(bytes.len() as u64)?;
        Ok(Bytes::from_owner(Charged { bytes, _held: held }))
    }

    async fn change(&mut self, change: Change) -> Result<(), Ended> {
        match change {
            Change::Edit(edit) => self.edit(&edit)?,
            Change::Event(event) => self.room_event(&event)?,
            Change::Awareness(entries) => self.awareness(&entries)?,
            Change::AccessChanged => self.check_rights().await.map_err(|close| Ended::from(close.reason))?,
            Change::Reload => {
                let version = self.ports.rooms.reader().document_version(&self.target.room).await?;
                self.resync(version)?;
            }
            Change::Lagged => {
                let version = self.ports.rooms.reader().document_version(&self.target.room).await?;
                self.resync(version)?;
                self.missed_events().await.map_err(|_| Ended)?;
            }
            Change::Stopping => return Err(Ended),
        }
        Ok(())
    }

    async fn check_rights(&self) -> Result<(), Close> {
        target::recheck(&self.ports, &self.target.session).await?;
        target::access(&self.ports, &self.target.room, &self.target.session).await?;
        Ok(())
    }

    fn send(&mut self, name: &str, data: &Value) -> Result<(), Exhausted> {
        let event = self.charged(frame::event(name, self.point, data))?;
        self.queue.push_back(event);
        Ok(())
    }

    fn edit(&mut self, edit: &EditFrame) -> Result<(), Exhausted> {
        self.point.version = self.point.version.max(edit.version);
        let update = STANDARD.encode(&edit.update);
        let data = json!({"update": update, "version": edit.version, "author": edit.author});
        self.send(EDIT, &data)
    }

    fn room_event(&mut self, event: &CommittedEvent) -> Result<(), Exhausted> {
        if event.position <= self.point.position {
            // It was sent when the stream went on from an earlier one.
            return Ok(());
        }
        self.point.position = event.position;
        match ShownEvent::of(&event.pdu).shown() {
            Some((name, data)) => self.send(name, &data),
            None => Ok(()),
        }
    }

    fn awareness(&mut self, entries: &[Entry]) -> Result<(), Exhausted> {
        if entries.is_empty() {
            return Ok(());
        }
        let clients: Vec<Value> = entries
            .iter()
            .map(|entry| {
                let state: Value = serde_json::from_str(&entry.state).unwrap_or_default();
                json!({"clientId": entry.client, "clock": entry.clock, "state": state})
            })
            .collect();
        self.send("awareness", &json!({ "clients": clients }))
    }

    /// The reader must read the text again.
    fn resync(&mut self, version: u64) -> Result<(), Exhausted> {
        self.point.version = version;
        self.send("resync", &json!({ "version": version }))
    }

    /// Sends what happened since an earlier stream. `None`: its id is not one of this server.
    async fn resume(&mut self, since: Option<Point>) -> ApiResult<()> {
        let version = self.point.version;
        let Some(since) = since.filter(|since| since.position <= self.point.position) else {
            self.queue.push_back(frame::beginning(self.point));
            self.resync(version)?;
            return Ok(());
        };
        self.point = since;
        self.queue.push_back(frame::beginning(since));
        if since.version != version {
            match self.missed_update(since.version).await? {
                Some(update) => {
                    self.point.version = version;
                    let data = json!({"update": STANDARD.encode(update), "version": version});
                    self.send(EDIT, &data)?;
                }
                None => self.resync(version)?,
            }
        }
        self.missed_events().await
    }

    /// What the text has that it had not at an earlier version, if that is still known.
    async fn missed_update(&self, version: u64) -> Result<Option<Bytes>, RoomError> {
        let room = &self.target.room;
        let Some(earlier) = self.ports.rooms.reader().text_at_version(room, version).await? else {
            return Ok(None);
        };
        let Ok(earlier) = Update::parse(earlier) else {
            return Ok(None);
        };
        let Ok(_permit) = self.ports.text_reads.permit(&self.target.session.user_id).await else {
            return Ok(None);
        };
        let vector = earlier.state_vector().encode();
        self.ports.rooms.diff(room, &vector).await.map(Some)
    }

    /// Sends the events of the room since the last one that was sent.
    async fn missed_events(&mut self) -> ApiResult<()> {
        let (reader, room) = (self.ports.rooms.reader().clone(), self.target.room.clone());
        let mut sent = 0;
        loop {
            let from = i64::try_from(self.point.position).unwrap_or(i64::MAX);
            let page = reader
                .timeline(
                    &room,
                    Some(from),
                    Direction::Forward,
                    Types::WithoutUpdates,
                    EVENTS_AT_ONCE,
                )
                .await?;
            let Some(last) = page.events.last().map(|event| event.order) else {
                return Ok(());
            };
            sent += page.events.len();
            let user = &self.target.session.user_id;
            for event in reader.visible_to_user(&room, user, page.events).await? {
                self.room_event(&CommittedEvent {
                    pdu: event.pdu,
                    position: u64::try_from(event.order).unwrap_or_default(),
                    visible: true,
                })?;
            }
            let reached = u64::try_from(last).unwrap_or_default();
            self.point.position = self.point.position.max(reached);
            if sent >= MAX_RESUMED_EVENTS {
                // The rest is read like the messages before the stream.
                self.point.position = self.point.position.max(reader.last_position(&room).await?);
                self.resync(self.point.version)?;
                return Ok(());
            }
        }
    }
}

/// Bytes with their charge.
struct Charged {
    bytes: Bytes,
    _held: Held,
}

impl AsRef<[u8]> for Charged {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}
