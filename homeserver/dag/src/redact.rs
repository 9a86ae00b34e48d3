//! Redaction: what remains of a redacted event, and which users may redact it.
//!
//! Must not decide who sees a redacted event, nor add `redacted_because`: both belong to the gateway.

use std::sync::Arc;

use ruma::{UserId, canonical_json, state_res::events::RoomPowerLevelsIntField};

use crate::{BuildError, Pdu, RoomVersion, StateView, parse_canonical};

/// The event without the fields that its room version does not keep; id and signatures are unchanged.
///
/// # Errors
/// The stored event can't be read.
pub fn redact(pdu: &Pdu, version: &RoomVersion) -> Result<Arc<Pdu>, BuildError> {
    let wrong = |error: &dyn std::fmt::Display| BuildError::Json(error.to_string());
    let object = parse_canonical(pdu.json()).map_err(|error| wrong(&error))?;
    let redacted = canonical_json::redact(object, &version.rules().redaction, None).map_err(|error| wrong(&error))?;
    let json = serde_json::to_string(&redacted).map_err(|error| wrong(&error))?;
    let redacted = Pdu::from_canonical(json, pdu.event_id().to_owned(), version, pdu.rejected());
    redacted.map(Arc::new).map_err(BuildError::Json)
}

/// Whether an accepted redaction applies to its target (Matrix specification, "Handling redactions"): both are in the
/// same room, and the sender has the power level to redact or both senders are users of one server.
#[must_use]
pub fn takes_effect(redaction: &Pdu, target: &Pdu, state: &StateView) -> bool {
    redaction.room_id() == target.room_id()
        && redaction.redacts() == Some(target.event_id())
        && (has_power(redaction.sender(), state) || redaction.sender().server_name() == target.sender().server_name())
}

/// Whether one of our users may redact that event: their own, or another's with the power level to redact. Two users of
/// our server may not redact each other's events without it (CVE-2024-6302).
#[must_use]
pub fn may_redact(user: &UserId, target: &Pdu, state: &StateView) -> bool {
    target.sender() == user || has_power(user, state)
}

fn has_power(user: &UserId, state: &StateView) -> bool {
    state.user_power(user) >= state.needed_power_to(RoomPowerLevelsIntField::Redact)
}
