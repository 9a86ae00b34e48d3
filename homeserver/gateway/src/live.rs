//! The live socket (`spec/docs/live.md`): stock Yjs providers in, edits to `room`, committed changes out.
//!
//! The way of a frame: [`socket`] reads messages and tells the framing, [`plain`] or [`hocuspocus`] opens the envelope,
//! an [`attachment`] (one document on one socket) does what it says, a [`voice`] puts answers into the framing again.
//! Nothing here judges updates or rights: `room` does.

mod asking;
mod attachment;
mod cursors;
mod edits;
mod hocuspocus;
mod inbox;
mod meter;
mod outgoing;
mod plain;
mod refusals;
mod socket;
pub(crate) mod target;
mod upgrade;
mod voice;
mod websocket;

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use axum::{Router, routing::get};
use weft_accounts::Accounts;
use weft_fanout::{Awareness, Fanout, Roster};
use weft_room::{Rooms, SessionId};

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
    pub roster: Arc<dyn Roster>,
    /// Numbers the sockets of this process.
    pub sessions: Sessions,
    /// Turns for the answers to state vectors.
    pub text_reads: TextReads,
}

/// Gives each document on each socket a number of its own.
#[derive(Debug, Clone, Default)]
pub struct Sessions(Arc<AtomicU64>);

impl Sessions {
    fn next(&self) -> SessionId {
        SessionId(self.0.fetch_add(1, Ordering::Relaxed))
    }
}

/// `GET /_weft/client/v1/live/{id}`. The id may hold slashes: y-websocket sends it as it is.
pub fn router(ports: LivePorts) -> Router {
    Router::new()
        .route("/_weft/client/v1/live/{*id}", get(upgrade::upgrade))
        .with_state(ports)
}
