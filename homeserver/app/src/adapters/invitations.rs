//! Invitations: those of local users are made by the room alone, those of remote users need their server's signature.
//! Must not check permissions: the room does.

use std::sync::Arc;

use async_trait::async_trait;
use ruma::{RoomId, UserId};
use serde_json::{Map, Value, json};
use weft_federation::handshake::Handshake;
use weft_gateway::{documents::Invitations, errors::ApiResult};
use weft_room::Rooms;
use weft_room_api::NewEvent;

/// Implements the document API's port with rooms and handshakes.
#[derive(Clone)]
pub(crate) struct RoomInvitations {
    pub(crate) rooms: Rooms,
    pub(crate) handshake: Arc<Handshake>,
}

#[async_trait]
impl Invitations for RoomInvitations {
    async fn invite(
        &self,
        room: &RoomId,
        inviter: &UserId,
        invitee: &UserId,
        mut content: Map<String, Value>,
    ) -> ApiResult<()> {
        content.insert("membership".to_owned(), json!("invite"));
        self.invite_with(room, inviter, invitee, content).await
    }
}

impl RoomInvitations {
    /// Invites a user with the given content of the member event.
    pub(crate) async fn invite_with(
        &self,
        room: &RoomId,
        inviter: &UserId,
        invitee: &UserId,
        content: Map<String, Value>,
    ) -> ApiResult<()> {
        let event = NewEvent {
            sender: inviter.to_owned(),
            kind: "m.room.member".to_owned(),
            state_key: Some(invitee.to_string()),
            content,
            redacts: None,
            txn: None,
            timestamp: None,
        };
        if invitee.server_name() == inviter.server_name() {
            self.rooms.send(room, event).await?;
            return Ok(());
        }
        let drafted = self.rooms.draft(room, event).await?;
        let stripped = drafted
            .stripped
            .iter()
            .map(serde_json::value::to_raw_value)
            .collect::<Result<_, _>>()?;
        let signed = self.handshake.invite(&drafted.version, &drafted.event, stripped).await;
        let signed = signed.map_err(|error| super::remote::refused(&error))?;
        self.rooms.accept_membership(invitee.server_name(), signed).await?;
        Ok(())
    }
}
