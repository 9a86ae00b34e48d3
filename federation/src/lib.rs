//! The server-server protocol: signing keys, signed requests, discovery, incoming transactions, handshakes, outbox.
//!
//! This crate is an HTTP client and never an HTTP server. It must not depend on tables or rooms: it reaches both
//! through the small traits [`KeyCache`], [`inbound::InboundHandler`] and [`outbox::OutboxStore`]. Data from other
//! servers is never trusted: events leave this crate only as [`weft_dag::Verified`].

pub mod acl;
mod address;
mod answers;
mod body;
mod calls;
mod client;
mod discovery;
mod document;
mod events;
#[cfg(any(test, feature = "fuzzing"))]
#[path = "../fuzz/checks.rs"]
pub mod fuzz_checks;
pub mod handshake;
pub mod inbound;
mod key_ring;
mod media;
pub mod outbox;
mod outgoing;
mod parallel;
mod remote_keys;
mod signed_keys;
mod tally;
mod tls;
mod validity;
mod weak_keys;
mod well_known;
mod xmatrix;

pub use address::DenyList;
pub use body::describe;
pub use calls::ResolvedAlias;
pub use client::{CallError, Client, ClientConfig, ClientError, MatrixError};
pub use discovery::{Destination, DiscoveryError, Names, Resolver, Srv, SystemNames};
pub use document::SnapshotError;
pub use events::{EventsError, RemoteEvents, RemoteStateIds};
pub use key_ring::{KeyRing, KeyRingError};
pub use media::RemoteContent;
pub use outgoing::{Initiator, Outgoing, OutgoingLimits};
pub use remote_keys::{KeyCache, KeyCacheError, KeysBusy, NoKeyCache, RemoteKeys};
pub use signed_keys::{SignedKeysError, StoredKey, StoredKeys};
pub use tls::config_with_roots;
pub use weft_clock::{Clock, SystemClock};
pub use xmatrix::{AuthError, check_header, verify_request};
