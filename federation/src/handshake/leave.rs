//! Leaves a room that this server is not in: rejects an invite or withdraws a knock.

use ruma::{
    ServerName,
    api::federation::membership::{create_leave_event, prepare_leave_event},
};
use serde_json::value::RawValue;
use weft_dag::Verified;

use super::{Handshake, HandshakeError, PastMemberships, Wanted, bad_answer, template};
use crate::client::Bounds;

impl Handshake {
    /// Leaves a room.
    ///
    /// # Errors
    /// When no server accepted the event: the error of the last one. The caller may delete the invite all the same.
    pub async fn leave(&self, wanted: &Wanted, memberships: &dyn PastMemberships) -> Result<Verified, HandshakeError> {
        self.first(&wanted.via, memberships, |server| async move {
            self.leave_through(wanted, &server).await
        })
        .await
    }

    async fn leave_through(&self, wanted: &Wanted, server: &ServerName) -> Result<Verified, HandshakeError> {
        let client = self.events.client();
        let request = prepare_leave_event::v1::Request::new(wanted.room_id.clone(), wanted.user.clone());
        let answer = client.call(server, request, Bounds::EVENT).await?;
        let version = template::version(answer.room_version)?;
        let hints = template::hints(server, &answer.event)?;
        let signer = client.key_ring().signer();
        let event =
            template::sign(wanted, "leave", hints, &version, self.events.keys().now(), &signer)?.into_verified();
        let pdu = event.pdu();
        let raw =
            RawValue::from_string(pdu.json().to_owned()).map_err(|error| bad_answer(server, error.to_string()))?;
        let request = create_leave_event::v2::Request::new(wanted.room_id.clone(), pdu.event_id().to_owned(), raw);
        client.call(server, request, Bounds::SHORT).await?;
        Ok(event)
    }
}
