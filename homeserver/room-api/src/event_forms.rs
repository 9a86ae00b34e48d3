//! The forms in which events, texts and changes cross a process boundary. An event type of the server has private
//! constructors, so that only checked events exist; these forms are the one way around a second check. Must not be read
//! from anything but the link to a process of this server.

use std::sync::Arc;

use bytes::Bytes;
use ruma::{OwnedEventId, OwnedRoomId, OwnedServerName, OwnedUserId, RoomVersionId};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use weft_crdt::Document;
use weft_dag::{Pdu, RoomVersion, StateKey, StateMap, TrustedJsonError, UnsupportedRoomVersion, Verified};
use weft_store::Lane;

use crate::{
    CommittedEvent, CreateRoom, CurrentText, JoinAnswer, JoinedRoom, LiveEdit, NewRoom, RoomChange, SignedMembership,
    UnsentEvent,
};

/// Why a form can't be read: it comes from a program that supports other room versions, or is damaged.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FormError {
    #[error(transparent)]
    Version(#[from] UnsupportedRoomVersion),
    #[error(transparent)]
    Event(#[from] TrustedJsonError),
    #[error("there is no lane {0}")]
    Lane(u16),
    #[error("events without the version of their room")]
    NoVersion,
}

/// One event.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct EventForm {
    id: OwnedEventId,
    json: String,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    rejected: bool,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    redacted_on_receipt: bool,
}

impl From<&Pdu> for EventForm {
    fn from(pdu: &Pdu) -> Self {
        Self {
            id: pdu.event_id().to_owned(),
            json: pdu.json().to_owned(),
            rejected: pdu.rejected(),
            redacted_on_receipt: false,
        }
    }
}

impl From<&Verified> for EventForm {
    fn from(event: &Verified) -> Self {
        Self {
            redacted_on_receipt: event.redacted_on_receipt(),
            ..Self::from(&**event.pdu())
        }
    }
}

impl EventForm {
    fn into_pdu(self, version: &RoomVersion) -> Result<Arc<Pdu>, TrustedJsonError> {
        Pdu::from_trusted_json(&self.json, self.id, version, self.rejected).map(Arc::new)
    }

    fn into_verified(self, version: &RoomVersion) -> Result<Verified, TrustedJsonError> {
        Verified::from_trusted_json(&self.json, self.id, version, self.redacted_on_receipt)
    }
}

fn forms<'a, T: 'a>(events: impl IntoIterator<Item = &'a T>) -> Vec<EventForm>
where
    EventForm: From<&'a T>,
{
    events.into_iter().map(EventForm::from).collect()
}

fn pdu_forms(events: &[Arc<Pdu>]) -> Vec<EventForm> {
    events.iter().map(|pdu| EventForm::from(&**pdu)).collect()
}

fn pdus(forms: Vec<EventForm>, version: &RoomVersion) -> Result<Vec<Arc<Pdu>>, TrustedJsonError> {
    forms.into_iter().map(|form| form.into_pdu(version)).collect()
}

fn verified(forms: Vec<EventForm>, version: &RoomVersion) -> Result<Vec<Verified>, TrustedJsonError> {
    forms.into_iter().map(|form| form.into_verified(version)).collect()
}

/// [`NewRoom`].
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct NewRoomForm {
    version: RoomVersionId,
    create: EventForm,
    request: CreateRoom,
    creator: OwnedUserId,
}

impl From<NewRoom> for NewRoomForm {
    fn from(new: NewRoom) -> Self {
        Self {
            version: new.version.id().clone(),
            create: EventForm::from(&*new.create),
            request: new.request,
            creator: new.creator,
        }
    }
}

impl TryFrom<NewRoomForm> for NewRoom {
    type Error = FormError;

    fn try_from(form: NewRoomForm) -> Result<Self, FormError> {
        let version = RoomVersion::new(&form.version)?;
        Ok(Self {
            create: form.create.into_pdu(&version)?,
            version,
            request: form.request,
            creator: form.creator,
        })
    }
}

/// [`JoinedRoom`].
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct JoinedRoomForm {
    version: RoomVersionId,
    state: Vec<EventForm>,
    auth_chain: Vec<EventForm>,
    event: EventForm,
    resident: OwnedServerName,
    snapshot: Option<Bytes>,
}

impl From<JoinedRoom> for JoinedRoomForm {
    fn from(joined: JoinedRoom) -> Self {
        Self {
            version: joined.version,
            state: forms(&joined.state),
            auth_chain: forms(&joined.auth_chain),
            event: EventForm::from(&joined.event),
            resident: joined.resident,
            snapshot: joined.snapshot,
        }
    }
}

impl TryFrom<JoinedRoomForm> for JoinedRoom {
    type Error = FormError;

    fn try_from(form: JoinedRoomForm) -> Result<Self, FormError> {
        let version = RoomVersion::new(&form.version)?;
        Ok(Self {
            version: form.version,
            state: verified(form.state, &version)?,
            auth_chain: verified(form.auth_chain, &version)?,
            event: form.event.into_verified(&version)?,
            resident: form.resident,
            snapshot: form.snapshot,
        })
    }
}

/// [`SignedMembership`].
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct SignedMembershipForm {
    version: RoomVersionId,
    origin: OwnedServerName,
    event: EventForm,
    /// A list, because the keys are pairs.
    remote_state: Option<Vec<(StateKey, OwnedEventId)>>,
}

impl From<SignedMembership> for SignedMembershipForm {
    fn from(signed: SignedMembership) -> Self {
        let entries = |state: StateMap| state.0.iter().map(|(key, id)| (key.clone(), id.clone())).collect();
        Self {
            version: signed.version,
            origin: signed.origin,
            event: EventForm::from(&signed.event),
            remote_state: signed.remote_state.map(entries),
        }
    }
}

impl TryFrom<SignedMembershipForm> for SignedMembership {
    type Error = FormError;

    fn try_from(form: SignedMembershipForm) -> Result<Self, FormError> {
        let version = RoomVersion::new(&form.version)?;
        Ok(Self {
            version: form.version,
            origin: form.origin,
            event: form.event.into_verified(&version)?,
            remote_state: form.remote_state.map(StateMap::from_iter),
        })
    }
}

/// [`UnsentEvent`].
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct UnsentForm {
    version: RoomVersionId,
    event: EventForm,
    stripped: Vec<Value>,
}

impl From<UnsentEvent> for UnsentForm {
    fn from(unsent: UnsentEvent) -> Self {
        Self {
            version: unsent.version,
            event: EventForm::from(&*unsent.event),
            stripped: unsent.stripped,
        }
    }
}

impl TryFrom<UnsentForm> for UnsentEvent {
    type Error = FormError;

    fn try_from(form: UnsentForm) -> Result<Self, FormError> {
        let version = RoomVersion::new(&form.version)?;
        Ok(Self {
            event: form.event.into_pdu(&version)?,
            version: form.version,
            stripped: form.stripped,
        })
    }
}

/// [`CurrentText`].
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct TextForm {
    update: Bytes,
    is_disputed: bool,
}

impl From<CurrentText> for TextForm {
    fn from(current: CurrentText) -> Self {
        Self {
            update: current.update(),
            is_disputed: current.is_disputed,
        }
    }
}

impl TryFrom<TextForm> for CurrentText {
    type Error = String;

    fn try_from(form: TextForm) -> Result<Self, String> {
        let text = Document::from_update(form.update).map_err(|error| error.to_string())?;
        Ok(Self {
            text: Arc::new(text),
            is_disputed: form.is_disputed,
        })
    }
}

/// [`JoinAnswer`].
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct JoinAnswerForm {
    version: RoomVersionId,
    event: EventForm,
    state: Vec<EventForm>,
    auth_chain: Vec<EventForm>,
}

impl From<JoinAnswer> for JoinAnswerForm {
    fn from(answer: JoinAnswer) -> Self {
        Self {
            version: answer.version,
            event: EventForm::from(&*answer.event),
            state: pdu_forms(&answer.state),
            auth_chain: pdu_forms(&answer.auth_chain),
        }
    }
}

impl TryFrom<JoinAnswerForm> for JoinAnswer {
    type Error = FormError;

    fn try_from(form: JoinAnswerForm) -> Result<Self, FormError> {
        let version = RoomVersion::new(&form.version)?;
        Ok(Self {
            version: form.version,
            event: form.event.into_pdu(&version)?,
            state: pdus(form.state, &version)?,
            auth_chain: pdus(form.auth_chain, &version)?,
        })
    }
}

/// [`RoomChange`].
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct RoomChangeForm {
    room_id: OwnedRoomId,
    version: Option<RoomVersionId>,
    lane: u16,
    position: u64,
    events: Vec<CommittedForm>,
    edits: Vec<LiveEdit>,
    reload: bool,
    access_changed: bool,
    destinations: Vec<OwnedServerName>,
    users: Vec<OwnedUserId>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct CommittedForm {
    event: EventForm,
    position: u64,
    visible: bool,
}

impl From<RoomChange> for RoomChangeForm {
    fn from(change: RoomChange) -> Self {
        let form = |event: &CommittedEvent| CommittedForm {
            event: EventForm::from(&*event.pdu),
            position: event.position,
            visible: event.visible,
        };
        Self {
            events: change.events.iter().map(form).collect(),
            room_id: change.room_id,
            version: change.version,
            lane: change.lane.number(),
            position: change.position,
            edits: change.edits,
            reload: change.reload,
            access_changed: change.access_changed,
            destinations: change.destinations,
            users: change.users,
        }
    }
}

impl TryFrom<RoomChangeForm> for RoomChange {
    type Error = FormError;

    fn try_from(form: RoomChangeForm) -> Result<Self, FormError> {
        let lane = Lane::new(form.lane).ok_or(FormError::Lane(form.lane))?;
        let events = match &form.version {
            None if form.events.is_empty() => Vec::new(),
            None => return Err(FormError::NoVersion),
            Some(version) => {
                let version = RoomVersion::new(version)?;
                let event = |form: CommittedForm| {
                    Ok(CommittedEvent {
                        pdu: form.event.into_pdu(&version)?,
                        position: form.position,
                        visible: form.visible,
                    })
                };
                form.events.into_iter().map(event).collect::<Result<_, FormError>>()?
            }
        };
        Ok(Self {
            room_id: form.room_id,
            version: form.version,
            lane,
            position: form.position,
            events,
            edits: form.edits,
            reload: form.reload,
            access_changed: form.access_changed,
            destinations: form.destinations,
            users: form.users,
        })
    }
}
