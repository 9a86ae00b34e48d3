//! Adapters: the port traits of `room`, `federation` and `fanout`, implemented with other crates.
//!
//! Only these modules connect federation with rooms and tables. An adapter translates; it must not decide.

mod changes;
mod edus;
mod guests;
mod identity;
mod inbound_handler;
mod invitations;
mod key_cache;
mod known_keys;
mod media;
mod membership_view;
mod outbox;
mod peers;
mod remote;

pub(crate) use changes::wake_sender;
pub(crate) use edus::FederationEdus;
pub(crate) use guests::{EndGuests, follow_guest_access};
pub(crate) use identity::KeyRingIdentity;
pub(crate) use inbound_handler::RoomInboundHandler;
pub(crate) use invitations::RoomInvitations;
pub(crate) use key_cache::StoredKeyCache;
pub(crate) use known_keys::CachedKeys;
pub(crate) use media::{FederationMedia, WorkerThumbnails};
pub(crate) use membership_view::RoomMembershipView;
pub(crate) use outbox::StoredOutbox;
pub(crate) use peers::FederationPeers;
pub(crate) use remote::RemoteRooms;
