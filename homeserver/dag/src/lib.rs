//! The event graph of one room, as pure functions: build, hash, sign, parse, check, authorise, resolve.
//!
//! Must not do I/O, read a clock or draw random numbers: times, keys and stored events are arguments. An event passes
//! through types that can only be made in one order: `Draft -> Signed -> Verified` for our own events,
//! `Unchecked -> Verified` for received ones, and then `Verified -> Authorized` for both. The numbers that bound what
//! others may send are in `weft_wire::limits`.

mod authorize;
pub mod chain_cover;
mod draft;
pub mod event_flags;
pub mod extremities;
#[cfg(any(test, feature = "fuzzing"))]
#[path = "../fuzz/checks.rs"]
pub mod fuzz_checks;
pub mod groups;
mod json;
mod keys;
pub mod lock;
pub mod order;
mod pdu;
pub mod redact;
mod resolve;
mod signer;
mod state;
pub mod stripped;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
mod unchecked;
mod verified;
mod version;

pub use authorize::{AuthReason, Authorized, Stage, Verdict};
pub use chain_cover::ChainCover;
pub use draft::{BuildError, Draft, Placement, Signed, auth_types};
pub use json::parse_canonical;
pub use keys::{KeyError, KeyValidity, VerifyKey, VerifyKeys};
pub use pdu::{Pdu, TrustedJsonError};
pub use resolve::{ResolveError, resolve};
pub use signer::{Signer, SignerError};
pub use state::{EventMap, EventSource, Missing, Power, StateKey, StateMap, StateView};
pub use unchecked::{DropReason, Unchecked};
pub use verified::Verified;
pub use version::{RoomVersion, UnsupportedRoomVersion};
