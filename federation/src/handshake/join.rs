//! Joins a room through a resident server: make_join, our event, send_join, the document.

use ruma::{
    ServerName,
    api::federation::membership::{create_join_event, prepare_join_event},
};
use serde::Deserialize;
use serde_json::value::RawValue;
use weft_dag::{Pdu, RoomVersion, Verified};
use weft_wire::event_types::DOCUMENT_ROOM;

use super::{Handshake, HandshakeError, Joined, PastMemberships, Wanted, bad_answer, template};
use crate::{
    answers::{self, JoinAnswer},
    client::Bounds,
};

impl Handshake {
    /// Joins a room. Events in the response that fail the checks are left out.
    ///
    /// # Errors
    /// When no server accepted the join: the error of the last one.
    pub async fn join(&self, wanted: &Wanted, memberships: &dyn PastMemberships) -> Result<Joined, HandshakeError> {
        self.first(&wanted.via, memberships, |server| async move {
            self.join_through(wanted, memberships, &server).await
        })
        .await
    }

    async fn join_through(
        &self,
        wanted: &Wanted,
        memberships: &dyn PastMemberships,
        server: &ServerName,
    ) -> Result<Joined, HandshakeError> {
        let client = self.events.client();
        let mut request = prepare_join_event::v1::Request::new(wanted.room_id.clone(), wanted.user.clone());
        request.ver = RoomVersion::ALL.to_vec();
        let answer = client.call(server, request, Bounds::EVENT).await?;
        let version = template::version(answer.room_version)?;
        let hints = template::hints(server, &answer.event)?;
        if memberships.has_ended(wanted, &hints.auth_events).await {
            return Err(HandshakeError::Behind {
                server: server.to_owned(),
            });
        }
        let signer = client.key_ring().signer();
        let ours = template::sign(wanted, "join", hints, &version, self.events.keys().now(), &signer)?.into_verified();
        let pdu = ours.pdu();
        let raw =
            RawValue::from_string(pdu.json().to_owned()).map_err(|error| bad_answer(server, error.to_string()))?;
        let request = create_join_event::v2::Request::new(wanted.room_id.clone(), pdu.event_id().to_owned(), raw);
        let received = client.call_unparsed(server, request, Bounds::JOIN).await?;
        let answer: JoinAnswer<'_> = answers::read(server, &received)?;
        if answer.members_omitted {
            return Err(bad_answer(server, "members are omitted, which was not requested"));
        }
        let state = self
            .events
            .check_texts(&version, server, answer.state.of(&received))
            .await;
        let auth_chain = self
            .events
            .check_texts(&version, server, answer.auth_chain.of(&received))
            .await;
        let create = check_create(server, wanted, &version, &state)?;
        let event = self.cosigned(ours, answer.event, &version).await;
        drop(received);
        let snapshot = if is_document(&create) {
            self.snapshot(wanted, server, event.pdu()).await
        } else {
            None
        };
        let version = version.id().clone();
        Ok(Joined {
            version,
            state,
            auth_chain,
            event,
            resident: server.to_owned(),
            snapshot,
        })
    }

    /// A restricted join is returned with one more signature. It must be the same event; otherwise ours is used.
    async fn cosigned(&self, ours: Verified, theirs: Option<&RawValue>, version: &RoomVersion) -> Verified {
        let Some(raw) = theirs else { return ours };
        match self.events.check_one(version, raw).await {
            Ok(theirs) if theirs.pdu().event_id() == ours.pdu().event_id() && !theirs.redacted_on_receipt() => theirs,
            Ok(theirs) => {
                tracing::warn!(
                    event = "join.other_event", event_id = %theirs.pdu().event_id(),
                    "send_join returned another event than the one sent"
                );
                ours
            }
            Err(reason) => {
                tracing::warn!(
                    event = "join.wrong_signature", %reason,
                    "send_join returned our event with a wrong signature"
                );
                ours
            }
        }
    }

    async fn snapshot(&self, wanted: &Wanted, server: &ServerName, join: &Pdu) -> Option<bytes::Bytes> {
        match self
            .events
            .client()
            .document(server, &wanted.room_id, join.prev_events())
            .await
        {
            Ok((_, update)) => Some(update),
            Err(error) => {
                tracing::info!(%server, room = %wanted.room_id, %error, "no snapshot: the document is built from its events");
                None
            }
        }
    }
}

/// The state must contain the room's create event with the version that the template stated (T30).
fn check_create(
    server: &ServerName,
    wanted: &Wanted,
    version: &RoomVersion,
    state: &[Verified],
) -> Result<std::sync::Arc<Pdu>, HandshakeError> {
    let mut creates = state
        .iter()
        .map(Verified::pdu)
        .filter(|pdu| pdu.kind() == "m.room.create");
    let (Some(create), None) = (creates.next(), creates.next()) else {
        return Err(bad_answer(server, "the state has no create event, or more than one"));
    };
    if create.room_id() != wanted.room_id {
        return Err(bad_answer(server, "the create event belongs to another room"));
    }
    let named = content(create).room_version.unwrap_or_else(|| "1".to_owned());
    if named != version.id().as_str() {
        return Err(HandshakeError::Version(format!(
            "{} (the create event states {named})",
            version.id()
        )));
    }
    Ok(std::sync::Arc::clone(create))
}

#[derive(Default, Deserialize)]
struct CreateContent {
    #[serde(default)]
    room_version: Option<String>,
    #[serde(default, rename = "type")]
    room_type: Option<String>,
}

fn content(create: &Pdu) -> CreateContent {
    create.content_as().unwrap_or_default()
}

fn is_document(create: &Pdu) -> bool {
    content(create).room_type.as_deref() == Some(DOCUMENT_ROOM)
}
