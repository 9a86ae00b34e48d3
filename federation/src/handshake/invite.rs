//! Inviting a user of another server, and checking the invitations that come from there.
//!
//! This is where a server signs what a stranger wrote (T32): only an invitation, from a user of the server that asks,
//! to a user of ours, in the room that was named, is signed.

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

/// An invitation for one of our users, checked and signed by us.
#[derive(Debug, Clone)]
pub struct Invited {
    /// The event with both signatures.
    pub event: Verified,
    /// The invited user.
    pub user: OwnedUserId,
    /// What the other server shows of the room; bounded, the create event checked where there is one.
    pub stripped: Vec<Box<RawValue>>,
}

/// Why an invitation is not signed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum InviteError {
    /// A room version that we don't speak.
    #[error("room version {0} is not supported")]
    Version(RoomVersionId),
    /// The event's form or signature is wrong.
    #[error("the event is refused: {0}")]
    Dropped(#[from] DropReason),
    /// It isn't an invitation, or not from there, or not to here.
    #[error("not an invitation that this server signs: {0}")]
    NotOurs(&'static str),
    /// The room that is shown with it is too large or not that room.
    #[error("the room's state with the invitation is refused: {0}")]
    Stripped(String),
    /// It can't be signed.
    #[error("can't be signed: {0}")]
    Build(String),
}

/// An invitation as it comes in.
pub struct IncomingInvite<'a> {
    /// Who asks, as its signature on the request says.
    pub origin: &'a ServerName,
    /// The room in the path.
    pub room_id: &'a RoomId,
    /// The event id in the path.
    pub event_id: &'a EventId,
    /// The room version in the body.
    pub version: &'a RoomVersionId,
    /// The event.
    pub event: &'a RawValue,
    /// The state that is shown.
    pub stripped: Vec<Box<RawValue>>,
}

impl Handshake {
    /// Has the server of the invited user sign our invitation.
    ///
    /// # Errors
    /// When it can't be reached, refuses, or answers another event.
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
            return Err(bad_answer(server, "it signed another event than ours"));
        }
        Ok(signed)
    }

    /// Checks an invitation from another server and signs it.
    ///
    /// # Errors
    /// When it is anything else than an invitation by a user of that server to one of ours, in that room.
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

/// Everything that can be said of the event without any key, before anybody is asked for one.
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
        serde_json::from_str(invite.event.get()).map_err(|_| InviteError::NotOurs("no member event"))?;
    if fields.kind != "m.room.member" || fields.content.membership != "invite" {
        return Err(InviteError::NotOurs("no invitation"));
    }
    if unchecked.room_id() != invite.room_id || unchecked.event_id() != invite.event_id {
        return Err(InviteError::NotOurs("room or event differ from those of the request"));
    }
    if unchecked.sender().server_name() != invite.origin {
        return Err(InviteError::NotOurs("the sender is no user of the server that asks"));
    }
    match fields.state_key {
        Some(user) if user.server_name() == our_name => Ok(user),
        _ => Err(InviteError::NotOurs("the invited user is not of this server")),
    }
}

/// Not too many, not too large.
pub(super) fn bounded(stripped: Vec<Box<RawValue>>) -> Result<Vec<Box<RawValue>>, String> {
    let bytes: usize = stripped.iter().map(|state| state.get().len()).sum();
    if stripped.len() > limits::MAX_STRIPPED_STATE_EVENTS || bytes > limits::MAX_STRIPPED_STATE_BYTES {
        return Err(format!("{} events of {bytes} bytes are too many", stripped.len()));
    }
    Ok(stripped)
}

/// The create event, where it is whole, must be of this room and rightly signed. In version 12, where the room's id is the hash of
/// its create event, that event must be there (MSC4311): nothing else ties the name shown to the room joined.
async fn check_create(
    events: &RemoteEvents,
    stripped: &[Box<RawValue>],
    room: &RoomId,
    version: &RoomVersion,
) -> Result<(), InviteError> {
    let mut creates = 0_usize;
    for state in stripped {
        let Ok(head) = serde_json::from_str::<Head>(state.get()) else {
            return Err(InviteError::Stripped("an entry is no event".to_owned()));
        };
        if head.kind != "m.room.create" {
            continue;
        }
        creates += 1;
        if head.signatures.is_none() {
            // The form of before 1.16: type, key, sender and content alone. Good enough where ids prove nothing anyway.
            if version.room_id_is_create_hash() {
                return Err(InviteError::Stripped("the create event is not whole".to_owned()));
            }
            continue;
        }
        let create = events
            .check_one(version, state)
            .await
            .map_err(|reason| InviteError::Stripped(reason.to_string()))?;
        if create.pdu().room_id() != room {
            return Err(InviteError::Stripped("the create event is of another room".to_owned()));
        }
    }
    match creates {
        1 => Ok(()),
        0 if !version.room_id_is_create_hash() => Ok(()),
        _ => Err(InviteError::Stripped("no create event, or several".to_owned())),
    }
}

#[derive(Deserialize)]
struct Head {
    #[serde(rename = "type")]
    kind: String,
    signatures: Option<serde::de::IgnoredAny>,
}
