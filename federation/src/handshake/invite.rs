//! Invites to users of other servers, and checks of the invites from other servers.
//!
//! Here this server signs an event that another server wrote (T32). Only an invite is signed, from a user of the
//! requesting server, to a user of this server, in the room of the request.

use ruma::{
    EventId, OwnedUserId, RoomId, RoomVersionId, ServerName,
    api::federation::membership::{RawStrippedState, create_invite},
};
use serde::Deserialize;
use serde_json::value::RawValue;
use weft_dag::{DropReason, Pdu, RoomVersion, Unchecked, Verified};
use weft_wire::limits;

use super::{Handshake, HandshakeError, bad_answer, template};
use crate::{RemoteEvents, client::Bounds};

/// An invite for one of our users, checked and signed by this server.
#[derive(Debug, Clone)]
pub struct Invited {
    /// The event with both signatures.
    pub event: Verified,
    /// The invited user.
    pub user: OwnedUserId,
    /// The stripped state that the other server sent; bounded, the create event checked if there is one.
    pub stripped: Vec<Box<RawValue>>,
}

/// Why an invite is not signed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum InviteError {
    /// An unsupported room version.
    #[error("room version {0} is not supported")]
    Version(RoomVersionId),
    /// The event's form or signature is wrong.
    #[error("the event is refused: {0}")]
    Dropped(#[from] DropReason),
    /// It is not an invite, or not from the requesting server, or not for a user of this server.
    #[error("this server does not sign this invite: {0}")]
    NotOurs(&'static str),
    /// The stripped state is too large or belongs to another room.
    #[error("the stripped state of the invite is refused: {0}")]
    Stripped(String),
    /// The event can't be signed.
    #[error("the event can't be signed: {0}")]
    Build(String),
}

/// An incoming invite.
pub struct IncomingInvite<'a> {
    /// The requesting server, authenticated by the signature of the request.
    pub origin: &'a ServerName,
    /// The room in the path.
    pub room_id: &'a RoomId,
    /// The event id in the path.
    pub event_id: &'a EventId,
    /// The room version in the body.
    pub version: &'a RoomVersionId,
    /// The event.
    pub event: &'a RawValue,
    /// The stripped state.
    pub stripped: Vec<Box<RawValue>>,
}

impl Handshake {
    /// Sends our invite to the server of the invited user for its signature.
    ///
    /// # Errors
    /// When that server can't be reached, refuses, or returns another event.
    pub async fn invite(
        &self,
        version: &RoomVersionId,
        event: &Pdu,
        stripped: Vec<Box<RawValue>>,
    ) -> Result<Verified, HandshakeError> {
        let user = event
            .state_key()
            .and_then(|key| ruma::UserId::parse(key).ok())
            .ok_or(HandshakeError::NoServer)?;
        let server = user.server_name();
        let known = template::version(Some(version.clone()))?;
        let raw =
            RawValue::from_string(event.json().to_owned()).map_err(|error| bad_answer(server, error.to_string()))?;
        let stripped = stripped.into_iter().map(RawStrippedState::Pdu).collect();
        let room_id = event.room_id().to_owned();
        let request =
            create_invite::v2::Request::new(room_id, event.event_id().to_owned(), version.clone(), raw, stripped);
        let answer = self.events.client().call(server, request, Bounds::EVENT).await?;
        let signed = self.events.check_one(&known, &answer.event).await?;
        if signed.pdu().event_id() != event.event_id() || signed.redacted_on_receipt() {
            return Err(bad_answer(server, "it signed another event than the one sent"));
        }
        Ok(signed)
    }

    /// Checks an invite from another server and signs it.
    ///
    /// # Errors
    /// When it is not an invite by a user of that server to one of ours in that room.
    pub async fn invited(&self, invite: IncomingInvite<'_>) -> Result<Invited, InviteError> {
        let signer = self.events.client().key_ring().signer();
        let version = RoomVersion::new(invite.version).map_err(|_| InviteError::Version(invite.version.clone()))?;
        let user = shape(&invite, &version, signer.server_name())?;
        let stripped = bounded(invite.stripped).map_err(InviteError::Stripped)?;
        check_create(&self.events, &stripped, invite.room_id, &version).await?;
        let event = self.events.check_one(&version, invite.event).await?;
        if event.redacted_on_receipt() {
            return Err(InviteError::NotOurs("its content hash is wrong"));
        }
        let event = signer
            .cosign(&event, &version)
            .map_err(|error| InviteError::Build(error.to_string()))?;
        Ok(Invited { event, user, stripped })
    }
}

/// Checks everything that needs no key, before any key is fetched.
pub(crate) fn shape(
    invite: &IncomingInvite<'_>,
    version: &RoomVersion,
    our_name: &ServerName,
) -> Result<OwnedUserId, InviteError> {
    #[derive(Deserialize)]
    struct Fields {
        #[serde(rename = "type")]
        kind: String,
        state_key: Option<OwnedUserId>,
        content: Content,
    }
    #[derive(Deserialize)]
    struct Content {
        membership: String,
    }
    let unchecked = Unchecked::parse(invite.event.get(), version)?;
    let fields: Fields =
        serde_json::from_str(invite.event.get()).map_err(|_| InviteError::NotOurs("not a member event"))?;
    if fields.kind != "m.room.member" || fields.content.membership != "invite" {
        return Err(InviteError::NotOurs("not an invite"));
    }
    if unchecked.room_id() != invite.room_id || unchecked.event_id() != invite.event_id {
        return Err(InviteError::NotOurs("room or event differ from those of the request"));
    }
    if unchecked.sender().server_name() != invite.origin {
        return Err(InviteError::NotOurs(
            "the sender is not a user of the requesting server",
        ));
    }
    match fields.state_key {
        Some(user) if user.server_name() == our_name => Ok(user),
        _ => Err(InviteError::NotOurs("the invited user is not of this server")),
    }
}

/// Limits the stripped state in number and size.
pub(super) fn bounded(stripped: Vec<Box<RawValue>>) -> Result<Vec<Box<RawValue>>, String> {
    let bytes: usize = stripped.iter().map(|state| state.get().len()).sum();
    if stripped.len() > limits::MAX_STRIPPED_STATE_EVENTS || bytes > limits::MAX_STRIPPED_STATE_BYTES {
        return Err(format!("{} events of {bytes} bytes are over the limit", stripped.len()));
    }
    Ok(stripped)
}

/// The create event, if it is complete, must belong to this room and be correctly signed. In version 12, where the
/// room id is the hash of the create event, it must be present (MSC4311): nothing else ties the displayed name to the
/// room that is joined.
async fn check_create(
    events: &RemoteEvents,
    stripped: &[Box<RawValue>],
    room: &RoomId,
    version: &RoomVersion,
) -> Result<(), InviteError> {
    let mut creates = 0_usize;
    for state in stripped {
        let Ok(head) = serde_json::from_str::<Head>(state.get()) else {
            return Err(InviteError::Stripped("an entry is not an event".to_owned()));
        };
        if head.kind != "m.room.create" {
            continue;
        }
        creates += 1;
        if head.signatures.is_none() {
            // The form before 1.16: only type, state key, sender and content. It is accepted if the room id proves
            // nothing anyway.
            if version.room_id_is_create_hash() {
                return Err(InviteError::Stripped("the create event is not complete".to_owned()));
            }
            continue;
        }
        let create = events
            .check_one(version, state)
            .await
            .map_err(|reason| InviteError::Stripped(reason.to_string()))?;
        if create.pdu().room_id() != room {
            return Err(InviteError::Stripped(
                "the create event belongs to another room".to_owned(),
            ));
        }
    }
    match creates {
        1 => Ok(()),
        0 if !version.room_id_is_create_hash() => Ok(()),
        _ => Err(InviteError::Stripped(
            "there is no create event, or more than one".to_owned(),
        )),
    }
}

#[derive(Deserialize)]
struct Head {
    #[serde(rename = "type")]
    kind: String,
    signatures: Option<serde::de::IgnoredAny>,
}
