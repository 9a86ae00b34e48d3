//! Local events: from a proto-event to an event that is signed and authorised at the forward extremities. Must not
//! write.

use std::sync::Arc;

use ruma::{CanonicalJsonObject, CanonicalJsonValue, MilliSecondsSinceUnixEpoch, OwnedEventId, OwnedUserId};
use serde_json::{Map, Value};
use weft_dag::{BuildError, Draft, EventMap, Pdu, Placement, Signer, Verdict, auth_types};
use weft_room_api::{EventRefusal, RoomError};

use crate::active_room::ActiveRoom;

/// The content of a new event; the room and its position follow from the room.
#[derive(Debug, Clone)]
pub(crate) struct ProtoEvent {
    pub(crate) sender: OwnedUserId,
    pub(crate) kind: String,
    pub(crate) state_key: Option<String>,
    pub(crate) content: CanonicalJsonObject,
    pub(crate) redacts: Option<OwnedEventId>,
}

/// Content as canonical JSON.
pub(crate) fn canonical(content: Map<String, Value>) -> Result<CanonicalJsonObject, RoomError> {
    let value = CanonicalJsonValue::try_from(Value::Object(content));
    match value.map_err(|error| EventRefusal::BadContent {
        reason: error.to_string(),
    })? {
        CanonicalJsonValue::Object(object) => Ok(object),
        _ => Err(EventRefusal::BadContent {
            reason: "not an object".to_owned(),
        }
        .into()),
    }
}

/// The error for a build error: the authorisation rules or a limit.
pub(crate) fn refused(error: BuildError) -> RoomError {
    match error {
        BuildError::TooLarge { bytes, max } => {
            let reason = format!("{bytes} bytes, at most {max} are allowed");
            EventRefusal::TooLarge { reason }.into()
        }
        BuildError::Json(reason) => EventRefusal::BadContent { reason }.into(),
        BuildError::ForeignSender { .. } => RoomError::forbidden(error.to_string()),
        BuildError::Refused(_) => {
            let reason = error.to_string();
            EventRefusal::TooLarge { reason }.into()
        }
    }
}

impl ActiveRoom {
    /// Signs an event at the forward extremities and applies the authorisation rules.
    pub(crate) fn compose(
        &self,
        proto: ProtoEvent,
        signer: &Signer,
        now: MilliSecondsSinceUnixEpoch,
    ) -> Result<Arc<Pdu>, RoomError> {
        self.check_document_rules(&proto)?;
        let prev_events = self.cited_extremities();
        let depths = self.extremities.depths(&prev_events);
        let types = auth_types(
            &proto.kind,
            &proto.sender,
            proto.state_key.as_deref(),
            &proto.content,
            &self.version,
        );
        let cited: Vec<Arc<Pdu>> = types
            .map_err(refused)?
            .iter()
            .filter_map(|(kind, key)| self.state.get(kind, key))
            .cloned()
            .collect();
        let placement = Placement {
            depth: Placement::depth_after(depths),
            prev_events,
            auth_events: cited.iter().map(|pdu| pdu.event_id().to_owned()).collect(),
            origin_server_ts: Placement::time_after(now, cited.iter().map(|pdu| pdu.origin_server_ts())),
        };
        let draft = Draft {
            sender: proto.sender,
            kind: proto.kind,
            state_key: proto.state_key,
            content: proto.content,
            redacts: proto.redacts,
            room_id: Some(self.id.clone()),
        };
        let signed = draft.sign(&self.version, placement, signer).map_err(refused)?;
        let known: EventMap = cited.into_iter().chain(self.state.create().cloned()).collect();
        let authorized = signed
            .into_verified()
            .authorize(&self.version, &known, &self.state, None)
            .map_err(|error| RoomError::Forbidden {
                reason: error.to_string(),
            })?;
        match authorized.into_parts() {
            (pdu, Verdict::Accepted) => Ok(pdu),
            (_, Verdict::SoftFailed { reason } | Verdict::Rejected { reason }) => {
                Err(RoomError::Forbidden { reason: reason.why })
            }
        }
    }

    /// Restrictions on events of documents beyond the Matrix rules (`spec/docs/events.md`). For local events only:
    /// events that other servers accept can't be refused here.
    fn check_document_rules(&self, proto: &ProtoEvent) -> Result<(), RoomError> {
        if self.document.is_none()
            || proto.kind != "m.room.history_visibility"
            || proto.state_key.as_deref() != Some("")
        {
            return Ok(());
        }
        let wanted = proto
            .content
            .get("history_visibility")
            .and_then(CanonicalJsonValue::as_str);
        if matches!(wanted, Some("shared" | "world_readable")) {
            return Ok(());
        }
        // A user who joins gets the whole text, so a narrower visibility of the history could not be kept.
        Err(RoomError::Forbidden {
            reason: "the history visibility of a document must be `shared` or `world_readable`".to_owned(),
        })
    }
}
