//! Folders: `/folders` and `/documents/{id}/folders/{folderId}`. A folder is a Matrix space; a document is in it if the space has
//! an `m.space.child` event with its room id (Matrix, "Spaces").
//!
//! Must not give access to a document: that is `/documents/{id}/access`.

use std::collections::BTreeSet;

use axum::{Json, extract::State, http::StatusCode};
use futures_util::future::try_join_all;
use ruma::{OwnedRoomId, OwnedServerName, RoomId, UserId, events::room::member::MembershipState};
use serde_json::{Map, Value, json};
use weft_dag::StateView;
use weft_http::{
    authentication::Authenticated,
    errors::{ApiError, ApiResult},
    openapi::{Operation, Routes},
    path::InPath,
};
use weft_room_api::{CreateRoom, RoomError};
use weft_wire::{
    limits::MAX_VIA,
    rest::{Done, Folder, FolderList, FolderMade, MakeFolder},
    schema,
};

use super::{
    DocumentPorts,
    caller::{Named, Open, open},
    create::check_title,
    joining::{SPACE, is_space},
    lock::state_event,
    request::JsonBody,
    summary,
};

const CHILD: &str = "m.space.child";
const PARENT: &str = "m.space.parent";
/// Spaces that are read at a time.
const AT_ONCE: usize = 32;

pub(super) fn routes() -> Routes<DocumentPorts> {
    const FOLDERS: &str = "/_weft/client/v1/folders";
    const PLACE: &str = "/_weft/client/v1/documents/{id}/folders/{folder}";
    let of_folder = |id, summary| Operation::new(id, summary).path::<schema::RoomId>("folder", "The `folderId`.");
    Routes::new("Folders")
        .get(
            FOLDERS,
            list,
            Operation::new("listFolders", "The folders that the caller is a member of"),
        )
        .post(FOLDERS, create, Operation::new("createFolder", "Creates a folder"))
        .put(
            PLACE,
            add,
            of_folder("addToFolder", "Puts a document into a folder")
                .refuses(403, "The folder's rules do not allow it."),
        )
        .delete(
            PLACE,
            remove,
            of_folder("removeFromFolder", "Takes a document out of a folder")
                .refuses(403, "The folder's rules do not allow it."),
        )
}

fn no_folder() -> ApiError {
    ApiError::not_found("No such folder, or you are not a member of it.")
}

/// 201 with the id of a new folder, of which the caller is the only member.
async fn create(
    State(ports): State<DocumentPorts>,
    Authenticated(session): Authenticated,
    JsonBody(request): JsonBody<MakeFolder>,
) -> ApiResult<(StatusCode, Json<FolderMade>)> {
    check_title(&request.title)?;
    let object = |field: &str, value: Value| Map::from_iter([(field.to_owned(), value)]);
    let space = CreateRoom {
        name: Some(request.title).filter(|title| !title.is_empty()),
        creation_content: object("type", json!(SPACE)),
        // Nobody chats in a folder.
        power_level_content_override: Some(object("events_default", json!(100))),
        profile: ports.accounts.member_content(&session.user_id).await?,
        ..CreateRoom::default()
    };
    let folder_id = ports.rooms.create(&session.user_id, space).await?;
    Ok((StatusCode::CREATED, Json(FolderMade { folder_id })))
}

/// The spaces of which the caller is a member, by id.
async fn list(
    State(ports): State<DocumentPorts>,
    Authenticated(session): Authenticated,
) -> ApiResult<Json<FolderList>> {
    let reader = &ports.rooms.reader().for_request();
    let mut rooms = reader.rooms_of(&session.user_id).await?;
    rooms.retain(|entry| entry.membership == MembershipState::Join);
    let mut folders = Vec::new();
    for some in rooms.chunks(AT_ONCE) {
        let reads = some.iter().map(|entry| async {
            let keys = [("m.room.create", ""), ("m.room.name", "")];
            let state = reader.state_entries(&entry.room, &keys).await?;
            let kind = |state: &StateView| summary::field(state.get("m.room.create", ""), "type");
            let state = state.filter(|state| kind(state).as_deref() == Some(SPACE));
            ApiResult::Ok(state.map(|state| Folder {
                folder_id: entry.room.clone(),
                title: summary::title(&state),
            }))
        });
        folders.extend(try_join_all(reads.collect::<Vec<_>>()).await?.into_iter().flatten());
    }
    Ok(Json(FolderList { folders }))
}

/// The rooms in a folder of which the user is a member.
///
/// # Errors
/// 404 if there is no such folder.
pub(super) async fn documents_in(
    ports: &DocumentPorts,
    folder: &RoomId,
    user: &UserId,
) -> ApiResult<BTreeSet<OwnedRoomId>> {
    let state = open_folder(ports, folder, user).await?;
    let children = state.of_type(CHILD).filter_map(|pdu| {
        // An entry without servers is one that was removed.
        let content: Value = pdu.content_as().ok()?;
        let is_there = content
            .get("via")
            .and_then(Value::as_array)
            .is_some_and(|via| !via.is_empty());
        RoomId::parse(pdu.state_key()?).ok().filter(|_| is_there)
    });
    Ok(children.collect())
}

async fn open_folder(ports: &DocumentPorts, folder: &RoomId, user: &UserId) -> ApiResult<StateView> {
    let reader = ports.rooms.reader();
    if reader.membership(folder, user).await? != MembershipState::Join || !is_space(ports, folder).await? {
        return Err(no_folder());
    }
    reader.state(folder).await?.ok_or_else(no_folder)
}

/// Puts a document into a folder; 403 if the caller may not change the folder.
async fn add(
    State(ports): State<DocumentPorts>,
    Authenticated(session): Authenticated,
    named: Named,
    InPath((_, folder)): InPath<(String, String)>,
) -> ApiResult<Json<Done>> {
    let user = &session.user_id;
    let Open { room, state } = open(&ports, &named, user).await?;
    let via = |state: &StateView| json!(servers(state, ports.accounts.server_name().to_owned()));
    let in_folder = Map::from_iter([("via".to_owned(), via(&state))]);
    let folder = change_folder(&ports, user, &folder, &room, in_folder).await?;
    let folder_state = open_folder(&ports, &folder, user).await?;
    let content = Map::from_iter([("via".to_owned(), via(&folder_state))]);
    set_parent(&ports, user, (&room, &state), &folder, content).await?;
    Ok(Json(Done {}))
}

/// Takes a document out of a folder.
async fn remove(
    State(ports): State<DocumentPorts>,
    Authenticated(session): Authenticated,
    named: Named,
    InPath((_, folder)): InPath<(String, String)>,
) -> ApiResult<Json<Done>> {
    let user = &session.user_id;
    let Open { room, state } = open(&ports, &named, user).await?;
    let folder = change_folder(&ports, user, &folder, &room, Map::new()).await?;
    if state.get(PARENT, folder.as_str()).is_some() {
        set_parent(&ports, user, (&room, &state), &folder, Map::new()).await?;
    }
    Ok(Json(Done {}))
}

async fn change_folder(
    ports: &DocumentPorts,
    user: &UserId,
    folder: &str,
    document: &RoomId,
    content: Map<String, Value>,
) -> ApiResult<OwnedRoomId> {
    let folder = RoomId::parse(folder).map_err(|_| ApiError::invalid_param("The folder must be a room id."))?;
    let state = open_folder(ports, &folder, user).await?;
    if !state.can_send_state(user, CHILD) {
        return Err(ApiError::forbidden("You may not change what is in this folder."));
    }
    let child = state_event(user, CHILD, document.as_str(), content);
    ports.rooms.send(&folder, child).await?;
    Ok(folder)
}

/// Names the folder in the document, if the caller may. What counts is the entry in the folder.
async fn set_parent(
    ports: &DocumentPorts,
    user: &UserId,
    (room, state): (&RoomId, &StateView),
    folder: &RoomId,
    content: Map<String, Value>,
) -> ApiResult<()> {
    if !state.can_send_state(user, PARENT) {
        return Ok(());
    }
    let parent = state_event(user, PARENT, folder.as_str(), content);
    match ports.rooms.send(room, parent).await {
        // The caller's role was changed at this moment.
        Ok(_) | Err(RoomError::Forbidden { .. }) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Servers by which a room can be joined: this one, and others that are in it.
fn servers(state: &StateView, own: OwnedServerName) -> Vec<OwnedServerName> {
    let others = state.joined_servers().into_iter().filter(|server| *server != own);
    let mut servers = vec![own.clone()];
    servers.extend(others.take(MAX_VIA - 1));
    servers
}
