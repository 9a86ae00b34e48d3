//! `GET /documents`: the documents that the caller has joined or is invited to.

use axum::{Json, extract::State};
use ruma::{UserId, events::room::member::MembershipState};
use serde_json::Value;
use weft_http::{authentication::Authenticated, errors::ApiResult};
use weft_room::{Reader, RoomMembership, Unavailable};
use weft_wire::rest::{DocumentList, Invitation};

use super::{DocumentPorts, summary};

/// Documents, last modified first.
pub(super) async fn list(
    State(ports): State<DocumentPorts>,
    Authenticated(session): Authenticated,
) -> ApiResult<Json<DocumentList>> {
    let reader = ports.rooms.reader();
    let mut list = DocumentList::default();
    for entry in reader.rooms_of(&session.user_id).await? {
        match entry.membership {
            MembershipState::Join if reader.is_document(&entry.room).await? => {
                let Some(state) = reader.state(&entry.room).await? else {
                    continue;
                };
                list.documents
                    .extend(summary::summary(reader, &state, &session.user_id).await?);
            }
            MembershipState::Invite => list.invites.extend(invitation(reader, &entry, &session.user_id).await?),
            _ => {}
        }
    }
    list.documents.sort_by(|a, b| {
        b.last_modified
            .cmp(&a.last_modified)
            .then_with(|| a.doc_id.cmp(&b.doc_id))
    });
    Ok(Json(list))
}

/// An invitation to a document: from the inviting server's stripped state or, if this server is in the room, from its state.
async fn invitation(reader: &Reader, entry: &RoomMembership, user: &UserId) -> Result<Option<Invitation>, Unavailable> {
    let shown = match reader.state(&entry.room).await? {
        Some(state) if reader.is_document(&entry.room).await? => state
            .get("m.room.member", user.as_str())
            .map(|member| (summary::title(&state), member.sender().to_owned())),
        Some(_) => None,
        None => {
            let shown = reader.out_of_band_state(user, entry).await?;
            let stripped: Vec<Value> = shown.iter().filter_map(|raw| raw.deserialize().ok()).collect();
            summary::invitation(&stripped, user)
        }
    };
    Ok(shown.map(|(title, inviter)| Invitation {
        doc_id: entry.room.clone(),
        title,
        inviter,
    }))
}
