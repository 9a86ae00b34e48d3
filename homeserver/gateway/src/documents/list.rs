//! `GET /documents`: what the caller has joined, and what it is invited to.

use axum::{Json, extract::State};
use ruma::events::room::member::MembershipState;
use serde_json::Value;
use weft_room::reader::RoomMembership;
use weft_wire::rest::{DocumentList, Invitation};

use super::{DocumentPorts, summary};
use crate::{authentication::Authenticated, errors::ApiResult};

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
            MembershipState::Invite => list.invites.extend(invitation(&entry, &session.user_id)),
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

fn invitation(entry: &RoomMembership, user: &ruma::UserId) -> Option<Invitation> {
    let stripped: Vec<Value> = entry
        .row
        .stripped
        .iter()
        .filter_map(|raw| raw.deserialize().ok())
        .collect();
    let (title, inviter) = summary::invitation(&stripped, user)?;
    Some(Invitation {
        doc_id: entry.room.clone(),
        title,
        inviter,
    })
}
