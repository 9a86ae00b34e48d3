//! `GET /documents`: the documents that the caller has joined or is invited to, in pages.

use axum::{
    Json,
    extract::{Query, State, rejection::QueryRejection},
};
use futures_util::future::{try_join, try_join_all};
use ruma::{UserId, events::room::member::MembershipState};
use serde_json::Value;
use weft_http::{
    authentication::Authenticated,
    errors::{ApiError, ApiResult},
    openapi::{Operation, Routes},
};
use weft_room_api::Unavailable;
use weft_room_read::{Reader, RoomMembership};
use weft_wire::rest::{DocumentList, Invitation};

use super::{
    DocumentPorts, folders,
    listing::{ListQuery, Page},
    summary, unread,
};

pub(super) fn routes() -> Routes<DocumentPorts> {
    Routes::new("Documents").get(
        "/_weft/client/v1/documents",
        list,
        Operation::new(
            "listDocuments",
            "The documents that the caller has joined, and the invitations",
        )
        .refuses(404, "There is no such folder, or the caller is not a member of it."),
    )
}

/// Invitations that are read at a time.
const INVITATIONS_AT_ONCE: usize = 32;

/// One page of documents, by default those that were modified last; the first page also has the invitations.
async fn list(
    State(ports): State<DocumentPorts>,
    Authenticated(session): Authenticated,
    query: Result<Query<ListQuery>, QueryRejection>,
) -> ApiResult<Json<DocumentList>> {
    let Query(query) = query.map_err(|error| ApiError::invalid_param(error.body_text()))?;
    let (reader, user) = (&ports.rooms.reader().for_request(), &*session.user_id);
    let invites = async {
        if query.is_first() {
            invitations(reader, user).await
        } else {
            Ok(Vec::new())
        }
    };
    let (mut documents, invites) = try_join(reader.documents_of(user), invites).await?;
    if let Some(folder) = query.folder() {
        let inside = folders::documents_in(&ports, folder, user).await?;
        documents.retain(|document| inside.contains(&document.doc_id));
    }
    let Page { mut documents, next } = query.page(documents, user)?;
    if query.with_unread() {
        unread::add(&ports, reader, user, &mut documents).await?;
    }
    Ok(Json(DocumentList {
        documents,
        invites,
        next_page: next,
    }))
}

async fn invitations(reader: &Reader, user: &UserId) -> Result<Vec<Invitation>, Unavailable> {
    let mut rooms = reader.rooms_of(user).await?;
    rooms.retain(|entry| entry.membership == MembershipState::Invite);
    let mut found = Vec::new();
    for some in rooms.chunks(INVITATIONS_AT_ONCE) {
        let reads: Vec<_> = some.iter().map(|entry| invitation(reader, entry, user)).collect();
        found.extend(try_join_all(reads).await?.into_iter().flatten());
    }
    Ok(found)
}

/// An invitation to a document: from the inviting server's stripped state or, if this server is in the room, from its state.
async fn invitation(reader: &Reader, entry: &RoomMembership, user: &UserId) -> Result<Option<Invitation>, Unavailable> {
    let keys = [("m.room.member", user.as_str()), ("m.room.name", "")];
    let shown = match reader.state_entries(&entry.room, &keys).await? {
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
