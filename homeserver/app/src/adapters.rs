//! The small traits of `room`, `federation` and `fanout`, over the parts that have what they ask for.
//!
//! Only here do federation's questions meet rooms and tables. An adapter translates; it must not decide.

mod edus;
mod identity;
mod intake;
mod invitations;
mod key_cache;
mod outbox;
mod peers;
mod remote;
mod roster;
mod sink;

pub(crate) use edus::FederationEdus;
pub(crate) use identity::KeyRingIdentity;
pub(crate) use intake::RoomIntake;
pub(crate) use invitations::RoomInvitations;
pub(crate) use key_cache::StoredKeyCache;
pub(crate) use outbox::StoredOutbox;
pub(crate) use peers::FederationPeers;
pub(crate) use remote::RemoteRooms;
pub(crate) use roster::RoomRoster;
pub(crate) use sink::CommitFork;
