//! The live socket (`spec/docs/live.md`): stock Yjs providers in, edits to `room`, committed changes out.
//!
//! The way of a frame: [`socket`] reads messages and tells the framing, [`plain`] or [`hocuspocus`] opens the envelope,
//! an [`document_connection`] (one document on one socket) does what it says, a [`encoder`] puts answers into the framing again.
//! Nothing here judges updates or rights: `room` does.

mod asking;
mod cursors;
mod document_connection;
mod edits;
mod encoder;
mod hocuspocus;
mod inbox;
mod meter;
mod outgoing;
mod plain;
mod refusals;
mod socket;
pub(crate) mod target;
mod upgrade;
mod websocket;

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use axum::{Router, routing::get};
use weft_accounts::Accounts;
use weft_fanout::{Awareness, Fanout, MembershipView};
use weft_room::{ConnectionId, Rooms};

use crate::text_reads::TextReads;

/// What a live socket needs.
#[derive(Clone)]
pub struct LivePorts {
    /// Edits, vectors, rights.
    pub rooms: Rooms,
    /// Tokens.
    pub accounts: Accounts,
    /// Committed changes.
    pub fanout: Fanout,
    /// Cursors.
    pub awareness: Awareness,
    /// Display names.
    pub membership_view: Arc<dyn MembershipView>,
    /// Numbers the sockets of this process.
    pub sessions: ConnectionIds,
    /// Turns for the answers to state vectors.
    pub text_reads: TextReads,
}

/// Gives each document on each socket a number of its own.
#[derive(Debug, Clone, Default)]
pub struct ConnectionIds(Arc<AtomicU64>);

impl ConnectionIds {
    fn next(&self) -> ConnectionId {
        ConnectionId(self.0.fetch_add(1, Ordering::Relaxed))
    }
}

/// `GET /_weft/client/v1/live/{id}`. The id may hold slashes: y-websocket sends it as it is.
pub fn router(ports: LivePorts) -> Router {
    Router::new()
        .route("/_weft/client/v1/live/{*id}", get(upgrade::upgrade))
        .with_state(ports)
}
