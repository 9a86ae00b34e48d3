//! The live socket (`spec/docs/live.md`): serves unmodified Yjs providers, passes edits to `room` and sends committed changes.
//! Also the stream of events for programs that only read ([`events`]).
//!
//! Path of a frame: [`socket`] reads messages and detects the framing, [`plain`] or [`hocuspocus`] decodes the envelope,
//! a [`document_connection`] (one document on one socket) handles the message, an [`encoder`] encodes the answers in the same
//! framing. Must not judge updates or rights: that is done in `room`.

mod cursors;
mod document_connection;
mod edits;
mod encoder;
mod events;
#[cfg(any(test, feature = "fuzzing"))]
#[path = "../fuzz/checks.rs"]
pub mod fuzz_checks;
mod hocuspocus;
mod inbox;
mod meter;
mod outgoing;
mod plain;
mod refusals;
mod socket;
mod step1_backoff;
pub(crate) mod target;
mod upgrade;
mod websocket;

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use axum::{Router, middleware, routing::get};
use weft_accounts::Accounts;
use weft_fanout::{Awareness, Fanout, MembershipView};
use weft_http::{
    cors,
    errors::unknown_method,
    openapi::Described,
    ratelimit::{self, UserLimiter},
    text_reads::TextReads,
};
use weft_room::Rooms;
use weft_room_api::{ConnectionId, Incarnation};

pub use events::EventStreams;

/// The services that a live socket uses.
#[derive(Clone)]
pub struct LivePorts {
    /// Edits, state vectors and rights.
    pub rooms: Rooms,
    /// Access tokens.
    pub accounts: Accounts,
    /// Committed changes.
    pub fanout: Fanout,
    /// Awareness.
    pub awareness: Awareness,
    /// Display names.
    pub membership_view: Arc<dyn MembershipView>,
    /// Numbers the document connections of this process.
    pub sessions: ConnectionIds,
    /// Turns for the answers to state vectors.
    pub text_reads: TextReads,
    /// Request rate limits: each document that is opened is a request.
    pub limiter: UserLimiter,
    /// The open streams of events.
    pub event_streams: EventStreams,
}

/// Assigns a unique id to each document on each socket.
#[derive(Debug, Clone)]
pub struct ConnectionIds {
    incarnation: Incarnation,
    next: Arc<AtomicU64>,
}

impl ConnectionIds {
    /// Ids of the connections of this process, under its incarnation.
    #[must_use]
    pub fn new(incarnation: Incarnation) -> Self {
        Self {
            incarnation,
            next: Arc::default(),
        }
    }

    fn next(&self) -> ConnectionId {
        ConnectionId::new(self.incarnation, self.next.fetch_add(1, Ordering::Relaxed))
    }
}

/// `GET /_weft/client/v1/live/{id}`, whose id may contain slashes, because y-websocket doesn't encode it, and
/// `GET /_weft/client/v1/documents/{id}/events`.
pub fn router(ports: LivePorts) -> Router {
    let events = events::routes()
        .into_router()
        .method_not_allowed_fallback(unknown_method)
        .layer(middleware::from_fn(ratelimit::add_headers))
        .layer(cors::layer());
    Router::new()
        .merge(events)
        .route("/_weft/client/v1/live/{*id}", get(upgrade::upgrade))
        .with_state(ports)
}

/// The descriptions of the routes that are no WebSocket.
#[must_use]
pub fn descriptions() -> Vec<Described> {
    events::routes().into_descriptions()
}
