//! Builds our own events: from the few fields of a command to a signed event.
//!
//! Must not sign a template from another server as received: the caller fills in a `Draft` and a `Placement` from
//! fields that it knows.

use std::collections::BTreeMap;

use ruma::{
    CanonicalJsonObject, CanonicalJsonValue, Int, MilliSecondsSinceUnixEpoch, OwnedEventId, OwnedRoomId, OwnedUserId,
    UInt, UserId,
    events::{StateEventType, TimelineEventType},
    signatures::add_content_hash_to_event,
    state_res::auth_types_for_event,
};
use serde_json::value::{RawValue, to_raw_value};
use std::sync::Arc;
use weft_wire::limits;

use crate::{DropReason, Pdu, RoomVersion, Signer, StateKey, StateView, Unchecked, Verified};

/// The content and addressing of an event to build.
#[derive(Clone, Debug)]
pub struct Draft {
    /// One of our users.
    pub sender: OwnedUserId,
    /// The event type.
    pub kind: String,
    /// The state key, for a state event.
    pub state_key: Option<String>,
    /// The content.
    pub content: CanonicalJsonObject,
    /// The event to redact, for `m.room.redaction`; written at the position that the room version prescribes.
    pub redacts: Option<OwnedEventId>,
    /// The room. `None` for a create event of version 12, whose room id is its own hash.
    pub room_id: Option<OwnedRoomId>,
}

/// The position of an event in the graph.
#[derive(Clone, Debug)]
pub struct Placement {
    /// The events that it references: see [`crate::extremities::cite`].
    pub prev_events: Vec<OwnedEventId>,
    /// The events that authorise it: see [`StateView::auth_events`].
    pub auth_events: Vec<OwnedEventId>,
    /// One more than the greatest depth of `prev_events`: see [`Placement::depth_after`].
    pub depth: u64,
    /// The current time, or just after the events it references: see [`Placement::time_after`].
    pub origin_server_ts: MilliSecondsSinceUnixEpoch,
}

/// Why an event could not be built.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BuildError {
    /// The event would exceed the size limit of the Matrix specification.
    #[error("the event would have {bytes} bytes, the limit is {max}")]
    TooLarge {
        /// Its size in bytes, with signatures.
        bytes: usize,
        /// The limit.
        max: usize,
    },
    /// The sender is not a user of the signing server.
    #[error("{sender} is not a user of {server}")]
    ForeignSender {
        /// The sender.
        sender: OwnedUserId,
        /// The server.
        server: String,
    },
    /// A value can't be encoded as canonical JSON.
    #[error("can't be encoded as an event: {0}")]
    Json(String),
    /// Any server would drop the result: a field is too long or has the wrong form.
    #[error("not a valid event: {0}")]
    Refused(DropReason),
}

/// Our own event, signed.
#[derive(Clone, Debug)]
pub struct Signed {
    /// The event.
    pub pdu: Arc<Pdu>,
}

impl Signed {
    /// The event as a verified one; this server signed it, so there is nothing to verify.
    #[must_use]
    pub fn into_verified(self) -> Verified {
        Verified::new(self.pdu, false)
    }
}

impl Placement {
    /// The depth of an event after those: at most what canonical JSON can represent.
    #[must_use]
    pub fn depth_after(prev_depths: impl IntoIterator<Item = u64>) -> u64 {
        prev_depths
            .into_iter()
            .max()
            .map_or(1, |depth| depth.saturating_add(1))
            .min(limits::MAX_DEPTH)
    }

    /// The `origin_server_ts` of an event that references others: now, and later than theirs. Where branches meet,
    /// memberships are ordered by the time that they claim (Matrix specification, "Mainline ordering"): with clocks
    /// that differ, a user who left and rejoined would otherwise end as having left. A time too far ahead can't come
    /// from a real clock and is ignored.
    #[must_use]
    pub fn time_after(
        now: MilliSecondsSinceUnixEpoch,
        cited: impl IntoIterator<Item = MilliSecondsSinceUnixEpoch>,
    ) -> MilliSecondsSinceUnixEpoch {
        let believed = u64::from(now.get()).saturating_add(limits::MAX_CLOCK_LEAD_MS);
        let after = cited
            .into_iter()
            .map(|time| u64::from(time.get()).saturating_add(1))
            .filter(|time| *time <= believed)
            .filter_map(|time| UInt::new(time).map(MilliSecondsSinceUnixEpoch));
        after.fold(now, Ord::max)
    }
}

impl Draft {
    /// Encodes, hashes and signs the event, and checks it as strictly as a received one.
    ///
    /// # Errors
    /// The sender is not a user of the signer's server, or the event would exceed a limit.
    pub fn sign(self, version: &RoomVersion, placement: Placement, signer: &Signer) -> Result<Signed, BuildError> {
        if self.sender.server_name() != signer.server_name() {
            return Err(BuildError::ForeignSender {
                sender: self.sender,
                server: signer.server_name().to_string(),
            });
        }
        check_lengths(&self)?;
        let mut object = self.into_object(version, placement)?;
        add_content_hash_to_event(&mut object).map_err(|error| self::json_error(&object, error))?;
        signer.sign_event(&mut object, version)?;
        match Unchecked::from_object(object, version) {
            Ok(unchecked) => Ok(Signed {
                pdu: unchecked.into_verified().into_pdu(),
            }),
            Err(DropReason::TooLarge { bytes, max }) => Err(BuildError::TooLarge { bytes, max }),
            Err(reason) => Err(BuildError::Refused(reason)),
        }
    }

    /// The event without hashes and signatures; also the template that `make_join` and the other template endpoints
    /// return.
    ///
    /// # Errors
    /// A number is outside of the range of canonical JSON.
    pub fn into_object(
        mut self,
        version: &RoomVersion,
        placement: Placement,
    ) -> Result<CanonicalJsonObject, BuildError> {
        let mut fields: BTreeMap<String, CanonicalJsonValue> = BTreeMap::new();
        if let Some(redacts) = self.redacts {
            let target = if version.rules().redaction.content_field_redacts {
                &mut self.content
            } else {
                &mut fields
            };
            target.insert("redacts".to_owned(), redacts.as_str().into());
        }
        let room_id = if version.room_id_is_create_hash() && self.kind == "m.room.create" {
            None
        } else {
            self.room_id
        };
        if let Some(room_id) = room_id {
            fields.insert("room_id".to_owned(), room_id.as_str().into());
        }
        if let Some(state_key) = self.state_key {
            fields.insert("state_key".to_owned(), state_key.into());
        }
        fields.insert("type".to_owned(), self.kind.into());
        fields.insert("sender".to_owned(), self.sender.as_str().into());
        fields.insert("content".to_owned(), self.content.into());
        fields.insert("prev_events".to_owned(), ids(&placement.prev_events));
        fields.insert("auth_events".to_owned(), ids(&placement.auth_events));
        fields.insert("depth".to_owned(), integer(placement.depth)?);
        fields.insert(
            "origin_server_ts".to_owned(),
            integer(placement.origin_server_ts.get().into())?,
        );
        Ok(fields)
    }
}

/// Applies to every version: versions that do not drop longer names reject the events.
fn check_lengths(draft: &Draft) -> Result<(), BuildError> {
    for (field, value) in [("type", Some(&draft.kind)), ("state_key", draft.state_key.as_ref())] {
        let bytes = value.map_or(0, String::len);
        if bytes > limits::MAX_EVENT_FIELD_BYTES {
            let problem = format!("too long ({bytes} bytes)");
            return Err(BuildError::Refused(DropReason::Field { field, problem }));
        }
    }
    Ok(())
}

fn ids(ids: &[OwnedEventId]) -> CanonicalJsonValue {
    CanonicalJsonValue::Array(ids.iter().map(|id| id.as_str().into()).collect())
}

fn integer(value: u64) -> Result<CanonicalJsonValue, BuildError> {
    Int::try_from(value)
        .map(Into::into)
        .map_err(|_| BuildError::Json(format!("{value} is larger than 2^53-1")))
}

/// ruma's error has no size; this one states it.
fn json_error(object: &CanonicalJsonObject, error: ruma::signatures::JsonError) -> BuildError {
    let bytes = serde_json::to_string(object).map_or(0, |json| json.len());
    if bytes > limits::MAX_EVENT_BYTES {
        BuildError::TooLarge {
            bytes,
            max: limits::MAX_EVENT_BYTES,
        }
    } else {
        BuildError::Json(error.to_string())
    }
}

/// The state entries that authorise an event of this form (Matrix specification, "Auth events selection").
///
/// # Errors
/// A membership event has no state key or no membership.
pub fn auth_types(
    kind: &str,
    sender: &UserId,
    state_key: Option<&str>,
    content: &CanonicalJsonObject,
    version: &RoomVersion,
) -> Result<Vec<StateKey>, BuildError> {
    let content = to_raw_value(content).map_err(|error| BuildError::Json(error.to_string()))?;
    auth_types_of(&TimelineEventType::from(kind), sender, state_key, &content, version).map_err(BuildError::Json)
}

pub(crate) fn auth_types_of(
    kind: &TimelineEventType,
    sender: &UserId,
    state_key: Option<&str>,
    content: &RawValue,
    version: &RoomVersion,
) -> Result<Vec<StateKey>, String> {
    let types = auth_types_for_event(kind, sender, state_key, content, &version.rules().authorization)?;
    Ok(types
        .into_iter()
        .map(|(kind, key): (StateEventType, String)| (kind.to_string(), key))
        .collect())
}

impl StateView {
    /// The events of this state that authorise such an event, in a fixed order.
    ///
    /// # Errors
    /// As [`auth_types`].
    pub fn auth_events(
        &self,
        kind: &str,
        sender: &UserId,
        state_key: Option<&str>,
        content: &CanonicalJsonObject,
    ) -> Result<Vec<OwnedEventId>, BuildError> {
        let types = auth_types(kind, sender, state_key, content, self.version())?;
        Ok(types
            .iter()
            .filter_map(|(kind, key)| self.get(kind, key))
            .map(|pdu| pdu.event_id().to_owned())
            .collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(milliseconds: u64) -> MilliSecondsSinceUnixEpoch {
        MilliSecondsSinceUnixEpoch(UInt::new(milliseconds).unwrap())
    }

    #[test]
    fn an_event_is_later_than_the_events_it_references_unless_their_time_is_too_far_ahead() {
        let now = at(1_000_000);
        let lead = limits::MAX_CLOCK_LEAD_MS;
        assert_eq!(Placement::time_after(now, []), now);
        assert_eq!(Placement::time_after(now, [at(5), at(999_999)]), now);
        assert_eq!(Placement::time_after(now, [now]), at(1_000_001));
        assert_eq!(Placement::time_after(now, [at(1_000_400), at(5)]), at(1_000_401));
        assert_eq!(
            Placement::time_after(now, [at(1_000_000 + lead - 1)]),
            at(1_000_000 + lead)
        );
        let largest = MilliSecondsSinceUnixEpoch(UInt::MAX);
        assert_eq!(
            Placement::time_after(now, [at(1_000_000 + lead), largest, at(1_000_007)]),
            at(1_000_008)
        );
        assert_eq!(Placement::time_after(largest, [largest]), largest);
    }

    /// The vectors of `spec/vectors/templates` that have auth events and times.
    #[test]
    fn an_event_has_the_time_of_its_vector() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../spec/vectors/templates");
        let mut checked = 0;
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let vector: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
            let Some(cited) = vector["cited"].as_array() else {
                continue;
            };
            let cited = cited.iter().map(|time| at(time.as_u64().unwrap()));
            let claimed = Placement::time_after(at(vector["now"].as_u64().unwrap()), cited);
            assert_eq!(
                claimed,
                at(vector["origin_server_ts"].as_u64().unwrap()),
                "{}",
                path.display()
            );
            checked += 1;
        }
        assert!(checked >= 7, "vectors are missing: {checked}");
    }
}
