//! Knocks on rooms of other servers.

use ruma::{
    ServerName,
    api::federation::membership::{create_knock_event, prepare_knock_event},
};
use serde_json::value::{RawValue, to_raw_value};
use weft_dag::RoomVersion;
use weft_wire::limits;

use super::{Handshake, HandshakeError, Knocked, PastMemberships, Wanted, bad_answer, invite, template};
use crate::client::Bounds;

impl Handshake {
    /// Sends a knock.
    ///
    /// # Errors
    /// When no server accepted the knock: the error of the last one.
    pub async fn knock(&self, wanted: &Wanted, memberships: &dyn PastMemberships) -> Result<Knocked, HandshakeError> {
        self.first(&wanted.via, memberships, |server| async move {
            self.knock_through(wanted, &server).await
        })
        .await
    }

    async fn knock_through(&self, wanted: &Wanted, server: &ServerName) -> Result<Knocked, HandshakeError> {
        let client = self.events.client();
        let mut request = prepare_knock_event::v1::Request::new(wanted.room_id.clone(), wanted.user.clone());
        request.ver = RoomVersion::ALL.to_vec();
        let answer = client.call(server, request, Bounds::EVENT).await?;
        let version = template::version(Some(answer.room_version))?;
        let hints = template::hints(server, &answer.event)?;
        let signer = client.key_ring().signer();
        let event =
            template::sign(wanted, "knock", hints, &version, self.events.keys().now(), &signer)?.into_verified();
        let pdu = event.pdu();
        let raw =
            RawValue::from_string(pdu.json().to_owned()).map_err(|error| bad_answer(server, error.to_string()))?;
        let request = create_knock_event::v1::Request::new(wanted.room_id.clone(), pdu.event_id().to_owned(), raw);
        let bounds = Bounds::bytes(limits::MAX_STRIPPED_RESPONSE_BYTES);
        let answer = client.call(server, request, bounds).await?;
        let stripped: Vec<Box<RawValue>> = answer
            .knock_room_state
            .iter()
            .filter_map(|state| to_raw_value(state).ok())
            .collect();
        let stripped = invite::bounded(stripped).map_err(|reason| bad_answer(server, reason))?;
        Ok(Knocked {
            version: version.id().clone(),
            event,
            stripped,
            resident: server.to_owned(),
        })
    }
}
