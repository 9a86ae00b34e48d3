//! One room's event graph, as pure functions: build, hash, sign, parse, check, authorise, resolve.
//!
//! Nothing here does I/O, reads a clock or draws a random number: times, keys and stored events are
//! arguments. An event passes through types that can only be made in one order:
//! `Draft -> Signed -> Verified` for our own, `Unchecked -> Verified` for those of others, and then
//! `Verified -> Authorized` for both. Numbers that bound what others may send stand in `weft_wire::limits`.

mod authorize;
pub mod chain_cover;
mod draft;
pub mod extremities;
#[cfg(any(test, feature = "fuzzing"))]
#[path = "../fuzz/checks.rs"]
pub mod fuzz_checks;
pub mod groups;
mod json;
mod keys;
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
