//! Authorises an event: steps 4 to 6 of the checks on receipt, in their order. They are the rules that need no state,
//! the auth events, the state before the event, and the current state. One rule is not Matrix' own: a lock of a document
//! (`spec/docs/lock.md`).
//!
//! A failure of one of the first three is final (*rejected*). A failure of the last is not (*soft-failed*): the event
//! is not shown to clients and keeps its position in the graph. Must not load anything.

use std::{collections::HashMap, sync::Arc};

use ruma::{
    EventId, OwnedEventId, RoomVersionId,
    events::StateEventType,
    state_res::{check_state_dependent_auth_rules, check_state_independent_auth_rules},
};
use serde::Deserialize;
use weft_wire::limits;

use crate::{Draft, EventSource, Missing, Pdu, Placement, RoomVersion, StateView, Verified, lock};

/// An event with the decision about it.
#[derive(Clone, Debug)]
pub struct Authorized {
    pdu: Arc<Pdu>,
    verdict: Verdict,
    redacted_on_receipt: bool,
}

/// The decision about an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The rules allow it.
    Accepted,
    /// The rules allowed it at its position and do not allow it in the current state. It is stored, shown to nobody,
    /// and our events do not reference it.
    SoftFailed {
        /// The reason.
        reason: AuthReason,
    },
    /// The rules do not allow it at its position.
    Rejected {
        /// The reason.
        reason: AuthReason,
    },
}

/// The check that an event failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// The form of the event and of its auth events.
    Itself,
    /// The state made of its auth events.
    AuthEvents,
    /// The state before it.
    StateBefore,
    /// The current state.
    CurrentState,
}

/// Why an event was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{why} (by {stage:?})")]
pub struct AuthReason {
    /// The check that failed.
    pub stage: Stage,
    /// The reason in words, for logs and for the sender's server.
    pub why: String,
}

impl Authorized {
    /// The event; [`Pdu::rejected`] is set if it was rejected.
    #[must_use]
    pub fn pdu(&self) -> &Arc<Pdu> {
        &self.pdu
    }

    /// The decision.
    #[must_use]
    pub fn verdict(&self) -> &Verdict {
        &self.verdict
    }

    /// Whether the event was received redacted, so that its content is unknown.
    #[must_use]
    pub fn redacted_on_receipt(&self) -> bool {
        self.redacted_on_receipt
    }

    /// The event and the decision.
    #[must_use]
    pub fn into_parts(self) -> (Arc<Pdu>, Verdict) {
        (self.pdu, self.verdict)
    }
}

impl Verified {
    /// Decides about the event.
    ///
    /// `auth_events` must contain the event's auth events, and in version 12 the room's create event. `before` is the
    /// state before it (at least the entries that authorise it). `current` is the current state; `None` for events of a
    /// room's past, which are not checked against the current state (backfill, joining).
    ///
    /// # Errors
    /// Names the auth events that `auth_events` does not contain; no decision is made.
    pub fn authorize(
        self,
        version: &RoomVersion,
        auth_events: &impl EventSource,
        before: &StateView,
        current: Option<&StateView>,
    ) -> Result<Authorized, Missing> {
        let redacted_on_receipt = self.redacted_on_receipt();
        let pdu = self.into_pdu();
        let cited = Cited::gather(&pdu, version, auth_events)?;
        if let Err(reason) = rejects(&pdu, version, &cited, before) {
            return Ok(Authorized {
                pdu: pdu.into_rejected(),
                verdict: Verdict::Rejected { reason },
                redacted_on_receipt,
            });
        }
        let verdict = match current
            .map(|current| check(&pdu, version, Stage::CurrentState, |kind, key| current.get(kind, key)))
        {
            Some(Err(reason)) => Verdict::SoftFailed { reason },
            Some(Ok(())) | None => Verdict::Accepted,
        };
        Ok(Authorized {
            pdu,
            verdict,
            redacted_on_receipt,
        })
    }
}

impl StateView {
    /// Whether this state allows an event that is received late. A server soft-fails an event that its current state
    /// does not allow (server-server API, "Soft failure").
    #[must_use]
    pub fn allows(&self, pdu: &Arc<Pdu>) -> bool {
        check(pdu, self.version(), Stage::CurrentState, |kind, key| {
            self.get(kind, key)
        })
        .is_ok()
    }

    /// Whether this state allows an event that is not signed yet, as `make_join` and the other template endpoints need.
    ///
    /// # Errors
    /// The rules refuse it, or it can't be encoded as an event.
    pub fn would_allow(&self, draft: &Draft, placement: &Placement) -> Result<(), AuthReason> {
        let itself = |why: String| AuthReason {
            stage: Stage::Itself,
            why,
        };
        let object = draft.clone().into_object(self.version(), placement.clone());
        let json = object
            .map_err(|error| itself(error.to_string()))
            .and_then(|object| serde_json::to_string(&object).map_err(|error| itself(error.to_string())))?;
        // No event has this id: an id is a hash, and this one is all zeros.
        let id = EventId::new_v2_or_v3(&"A".repeat(43)).map_err(|error| itself(error.to_string()))?;
        let pdu = Pdu::from_canonical(json, id, self.version(), false).map_err(itself)?;
        check(&Arc::new(pdu), self.version(), Stage::CurrentState, |kind, key| {
            self.get(kind, key)
        })
    }
}

/// The auth events of an event, and in version 12 the create event that its room id names.
struct Cited {
    events: HashMap<OwnedEventId, Arc<Pdu>>,
}

impl Cited {
    fn gather(pdu: &Pdu, version: &RoomVersion, source: &impl EventSource) -> Result<Self, Missing> {
        let create = named_create(pdu, version);
        let mut events = HashMap::new();
        let mut missing = Vec::new();
        for id in pdu.auth_events().iter().chain(create.as_ref()) {
            match source.event(id) {
                Some(event) => drop(events.insert(id.clone(), event)),
                None => missing.push(id.clone()),
            }
        }
        if missing.is_empty() {
            Ok(Self { events })
        } else {
            Err(Missing(missing))
        }
    }

    fn get(&self, id: &EventId) -> Option<&Arc<Pdu>> {
        self.events.get(id)
    }

    fn state(&self, kind: &str, key: &str) -> Option<&Arc<Pdu>> {
        self.events
            .values()
            .find(|pdu| pdu.kind() == kind && pdu.state_key() == Some(key))
    }
}

/// The create event that a room id of version 12 names.
pub(crate) fn named_create(pdu: &Pdu, version: &RoomVersion) -> Option<OwnedEventId> {
    if !version.room_id_is_create_hash() || pdu.kind() == "m.room.create" {
        return None;
    }
    EventId::parse(format!("${}", pdu.room_id().strip_sigil())).ok()
}

fn rejects(pdu: &Arc<Pdu>, version: &RoomVersion, cited: &Cited, before: &StateView) -> Result<(), AuthReason> {
    let itself = |why: String| AuthReason {
        stage: Stage::Itself,
        why,
    };
    check_lengths(pdu).map_err(itself)?;
    check_create(pdu, version, before).map_err(itself)?;
    let create = named_create(pdu, version);
    if create.as_ref().is_some_and(|create| pdu.auth_events().contains(create)) {
        return Err(itself(
            "the auth events contain the create event, which the room id names already".to_owned(),
        ));
    }
    if let Some(create) = create.and_then(|id| cited.get(&id).cloned())
        && create.kind() != "m.room.create"
    {
        return Err(itself(
            "the room id names an event that is not a create event".to_owned(),
        ));
    }
    check_state_independent_auth_rules(&version.rules().authorization, pdu, |id| cited.get(id)).map_err(itself)?;
    check(pdu, version, Stage::AuthEvents, |kind, key| cited.state(kind, key))?;
    check(pdu, version, Stage::StateBefore, |kind, key| before.get(kind, key))
}

/// Versions up to 10 keep such events as rejected ones: see [`RoomVersion::drops_long_names`].
fn check_lengths(pdu: &Pdu) -> Result<(), String> {
    for (field, value) in [("type", Some(pdu.kind())), ("state_key", pdu.state_key())] {
        let bytes = value.map_or(0, str::len);
        if bytes > limits::MAX_EVENT_FIELD_BYTES {
            return Err(format!("`{field}` is too long ({bytes} bytes)"));
        }
    }
    Ok(())
}

fn check<'a>(
    pdu: &Arc<Pdu>,
    version: &RoomVersion,
    stage: Stage,
    state: impl Fn(&str, &str) -> Option<&'a Arc<Pdu>>,
) -> Result<(), AuthReason> {
    let fetch = |kind: &StateEventType, key: &str| state(&kind.to_string(), key);
    check_state_dependent_auth_rules(&version.rules().authorization, pdu, fetch)
        .map_err(|why| AuthReason { stage, why })?;
    // Never at the stage of the auth events: an update can't cite a lock.
    if lock::forbids(pdu.kind(), pdu.state_key()) && lock::standing(&state).is_some() {
        let why = "the document is locked".to_owned();
        return Err(AuthReason { stage, why });
    }
    Ok(())
}

/// The rules for create events that ruma does not check: the version must be the one with which the event was read
/// (T30), and a room has one create event (T25).
fn check_create(pdu: &Arc<Pdu>, version: &RoomVersion, before: &StateView) -> Result<(), String> {
    #[derive(Deserialize)]
    struct Content {
        room_version: Option<RoomVersionId>,
    }
    if pdu.kind() != "m.room.create" {
        return Ok(());
    }
    if pdu.state_key() != Some("") {
        return Err("the state key of a create event must be empty".to_owned());
    }
    let content: Content = pdu.content_as().map_err(|error| error.to_string())?;
    let declared = content.room_version.unwrap_or(RoomVersionId::V1);
    if declared != *version.id() {
        return Err(format!(
            "the create event names version {declared}, but the room has version {}",
            version.id()
        ));
    }
    match before.create() {
        Some(first) if first.event_id() != pdu.event_id() => Err("the room already has a create event".to_owned()),
        _ => Ok(()),
    }
}
