//! Redaction: what is left of an event when its content is taken back, and who may do that.
//!
//! Must not decide who sees a redacted event, nor add `redacted_because`: that is the gateway's.

use std::sync::Arc;

use ruma::{UserId, canonical_json, state_res::events::RoomPowerLevelsIntField};

use crate::{BuildError, Pdu, RoomVersion, StateView, parse_canonical};

/// The event without what its room version doesn't keep; the same id, the same signatures.
///
/// # Errors
/// When the stored event can't be read.
pub fn redact(pdu: &Pdu, version: &RoomVersion) -> Result<Arc<Pdu>, BuildError> {
    let wrong = |error: &dyn std::fmt::Display| BuildError::Json(error.to_string());
    let object = parse_canonical(pdu.json()).map_err(|error| wrong(&error))?;
    let redacted = canonical_json::redact(object, &version.rules().redaction, None).map_err(|error| wrong(&error))?;
    let json = serde_json::to_string(&redacted).map_err(|error| wrong(&error))?;
    let redacted = Pdu::from_canonical(json, pdu.event_id().to_owned(), version, pdu.rejected());
    redacted.map(Arc::new).map_err(BuildError::Json)
}

/// Whether an accepted redaction takes effect on its target (Matrix specification, "Handling redactions"): same
/// room, and either the sender has the power to redact or both senders are of one server.
#[must_use]
pub fn takes_effect(redaction: &Pdu, target: &Pdu, state: &StateView) -> bool {
    redaction.room_id() == target.room_id()
        && redaction.redacts() == Some(target.event_id())
        && (has_power(redaction.sender(), state) || redaction.sender().server_name() == target.sender().server_name())
}

/// Whether one of our users may redact that event: their own, or with the power to redact others'. That both are
/// of our server gives no right (CVE-2024-6302).
#[must_use]
pub fn may_redact(user: &UserId, target: &Pdu, state: &StateView) -> bool {
    target.sender() == user || has_power(user, state)
}

fn has_power(user: &UserId, state: &StateView) -> bool {
    state.user_power(user) >= state.needed_power_to(RoomPowerLevelsIntField::Redact)
}
