//! The operator's requests about documents (`weft export`, `weft import`) to the running server: the list of all documents,
//! their archives, and new documents from archives.
//!
//! Requests are not authenticated: these routes must only be served on a local socket that only the server's own system user
//! can open, and must not be served on an IP address. They have no fallback: the routes about accounts do.

use std::collections::BTreeMap;

use axum::{
    Json, Router,
    body::Body,
    extract::{Query, Request, State},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse as _, Response},
    routing::{get, post},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use futures_util::StreamExt as _;
use ruma::{OwnedRoomId, OwnedServerName, OwnedUserId, RoomId, UserId};
use serde::{Deserialize, Serialize};
use weft_crdt::ClientId;
use weft_http::{
    errors::{ApiError, ApiResult},
    ruma_json::{read_body, unread},
};
use weft_media::Declared;
use weft_wire::{
    Role,
    archive::{ImportedContent, Manifest},
    document::RequestContent,
    limits::{MAX_OPERATOR_IMPORT_BYTES, OPERATOR_PAGE_DOCUMENTS},
    rest::Lost,
};

use super::{
    DocumentPorts,
    caller::{Named, open_room},
    creation::{EMPTY_UPDATE, NewDocument, begin, client_of, digest, fill, request_name},
    export,
    import::{Target, anew, lost},
};

/// A document in the operator's list.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
pub struct ListedDocument {
    /// The document.
    pub doc_id: OwnedRoomId,
    /// Its title.
    pub title: String,
    /// Its version.
    pub version: u64,
    /// The position of its last event.
    pub position: u64,
}

/// `GET /documents?after=`: a page of the documents that users of this server have joined, in the order of their ids.
#[derive(Debug, Deserialize, Serialize)]
pub struct DocumentPage {
    /// The documents.
    pub documents: Vec<ListedDocument>,
    /// The room after which the next page begins; `None`: this was the last.
    pub next: Option<OwnedRoomId>,
}

/// `POST /imports`: a new document from an archive, or whether there is one.
#[derive(Debug, Deserialize, Serialize)]
pub struct ImportArchive {
    /// The account whose document it is.
    pub user: OwnedUserId,
    /// The manifest. Its attachments are those that were not uploaded.
    pub manifest: Manifest,
    /// The content in standard base64; without it nothing is created.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content: Option<String>,
    /// The new addresses of uploaded attachments.
    #[serde(default)]
    pub addresses: BTreeMap<String, String>,
    /// The `mxc` URI of the signed log.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log: Option<String>,
}

/// What became of an import.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// There is none yet.
    Missing,
    /// The document was created.
    Created,
    /// It was imported before.
    ImportedBefore,
    /// The document itself is on this server.
    StillHere,
}

/// The answer to `POST /imports`.
#[derive(Debug, Deserialize, Serialize)]
pub struct ArchiveImported {
    /// The document; absent if there is none.
    pub doc_id: Option<OwnedRoomId>,
    /// What became of it.
    pub outcome: Outcome,
    /// What it does not have.
    pub lost: Vec<Lost>,
}

/// The answer to `POST /media`.
#[derive(Debug, Deserialize, Serialize)]
pub struct Uploaded {
    /// The `mxc` URI.
    pub content_uri: String,
}

/// The query of `POST /media`.
#[derive(Debug, Deserialize, Serialize)]
pub struct Upload {
    /// The account whose file it is.
    pub user: OwnedUserId,
    /// The file name.
    pub name: Option<String>,
}

/// The routes; see the module for where they may be served.
pub fn operator_router(ports: DocumentPorts) -> Router {
    Router::new()
        .route("/documents", get(list))
        .route("/documents/{id}/archive", get(archive))
        .route("/media", post(upload))
        .route("/imports", post(import))
        .with_state(ports)
}

#[derive(Debug, Deserialize)]
struct Asked {
    after: Option<OwnedRoomId>,
}

async fn list(State(ports): State<DocumentPorts>, Query(asked): Query<Asked>) -> ApiResult<Json<DocumentPage>> {
    let reader = ports.rooms.reader();
    let rooms = reader
        .rooms_after(asked.after.as_deref(), OPERATOR_PAGE_DOCUMENTS)
        .await?;
    let next = rooms.last().cloned().filter(|_| rooms.len() >= OPERATOR_PAGE_DOCUMENTS);
    let mut documents = Vec::new();
    for room in rooms {
        let Some(user) = member(&ports, &room).await? else {
            continue;
        };
        let Some(document) = reader.document_of(&user, &room).await? else {
            continue;
        };
        documents.push(ListedDocument {
            position: reader.last_position(&room).await?,
            doc_id: room,
            title: document.title,
            version: document.version,
        });
    }
    Ok(Json(DocumentPage { documents, next }))
}

/// A user of this server who has joined a document: one with the highest role.
async fn member(ports: &DocumentPorts, room: &RoomId) -> ApiResult<Option<OwnedUserId>> {
    let reader = ports.rooms.reader();
    let mut best: Option<(Role, OwnedUserId)> = None;
    for user in reader.local_members(room).await? {
        let Some(document) = reader.document_of(&user, room).await? else {
            continue;
        };
        if best.as_ref().is_none_or(|(role, _)| document.role > *role) {
            best = Some((document.role, user));
        }
    }
    Ok(best.map(|(_, user)| user))
}

async fn archive(State(ports): State<DocumentPorts>, named: Named) -> ApiResult<Response> {
    let room = RoomId::parse(&named.0).map_err(|_| ApiError::invalid_param("The document must be a room id."))?;
    let missing = || ApiError::not_found("No user of this server has joined this document.");
    let user = member(&ports, &room).await?.ok_or_else(missing)?;
    let opened = open_room(&ports, &room, &user).await?;
    let body: Body = export::whole(&ports, opened, &user).await?;
    tracing::info!(document = %room, "document exported by the operator");
    Ok(([(header::CONTENT_TYPE, "application/zip")], body).into_response())
}

/// Receives a file in the name of an account.
async fn upload(
    State(ports): State<DocumentPorts>,
    Query(asked): Query<Upload>,
    headers: HeaderMap,
    request: Request,
) -> ApiResult<Json<Uploaded>> {
    check_account(&ports, &asked.user).await?;
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    let declared = Declared::new(kind, asked.name.as_deref());
    let mut upload = ports.media.begin_upload(&asked.user, declared, None, None).await?;
    let mut body = request.into_body().into_data_stream();
    while let Some(part) = body.next().await {
        upload.write(&part.map_err(|error| unread(&error))?).await?;
    }
    let id = upload.finish().await?;
    let content_uri = format!("mxc://{}/{id}", ports.media.server_name());
    Ok(Json(Uploaded { content_uri }))
}

async fn check_account(ports: &DocumentPorts, user: &UserId) -> ApiResult<()> {
    match ports.accounts.account(user).await? {
        Some(account) if !account.deactivated => Ok(()),
        _ => Err(ApiError::not_found("There is no such account, or it is deactivated.")),
    }
}

/// The document of an archive, which is created once for each account.
async fn import(
    State(ports): State<DocumentPorts>,
    request: Request,
) -> ApiResult<(StatusCode, Json<ArchiveImported>)> {
    let body = read_body(request.into_body(), MAX_OPERATOR_IMPORT_BYTES).await?;
    let request: ImportArchive = serde_json::from_slice(&body)?;
    drop(body);
    let user = request.user.clone();
    check_account(&ports, &user).await?;
    let server = request.manifest.server.clone();
    let server = server.ok_or_else(|| ApiError::invalid_param("The archive does not name its server."))?;
    let room = request.manifest.document.doc_id.clone();
    let answer = |doc_id, outcome, lost| Ok((StatusCode::OK, Json(ArchiveImported { doc_id, outcome, lost })));
    if server == ports.media.server_name() && member(&ports, &room).await?.is_some() {
        return answer(Some(room), Outcome::StillHere, Vec::new());
    }
    let import = Import::of(&ports, user, server, &room)?;
    if let Some(found) = import.found(request.content.as_deref()).await? {
        return answer(Some(found), Outcome::ImportedBefore, Vec::new());
    }
    let lost = lost(&request.manifest);
    if request.content.is_none() {
        return answer(None, Outcome::Missing, lost);
    }
    let created = import.create(request).await?;
    tracing::info!(document = %created, source = %room, "document imported by the operator");
    answer(Some(created), Outcome::Created, lost)
}

/// An import by an account, which has one name and one client id.
struct Import<'a> {
    ports: &'a DocumentPorts,
    user: OwnedUserId,
    source: (OwnedServerName, &'a RoomId),
    key: RequestContent,
    client: ClientId,
}

impl<'a> Import<'a> {
    fn of(ports: &'a DocumentPorts, user: OwnedUserId, server: OwnedServerName, room: &'a RoomId) -> ApiResult<Self> {
        // The name of the server too: before room version 12, two servers could give the same id.
        let key = digest(&[user.as_bytes(), b"weft import", server.as_bytes(), room.as_bytes()]);
        let key = request_name(&key, &digest(&[b"weft import"]));
        let client = client_of(&digest(&[key.key.as_bytes(), b"content"]));
        let client =
            client.ok_or_else(|| ApiError::invalid_param("This document can't be imported by this account."))?;
        Ok(Self {
            ports,
            user,
            source: (server, room),
            key,
            client,
        })
    }

    /// The document, if it was imported before and has its content, which may be empty.
    async fn found(&self, content: Option<&str>) -> ApiResult<Option<OwnedRoomId>> {
        let reader = self.ports.rooms.reader();
        let Some((room, _)) = reader.created_by(&self.user, &self.key.key).await? else {
            return Ok(None);
        };
        // An import that ended between the two is continued.
        let text = self.ports.rooms.current_text(&room).await?.text;
        let is_empty = content.is_some_and(|content| content == STANDARD.encode(EMPTY_UPDATE));
        Ok((is_empty || text.state_vector().get(self.client) > 0).then_some(room))
    }

    async fn create(self, request: ImportArchive) -> ApiResult<OwnedRoomId> {
        let not_base64 = |_| ApiError::invalid_param("The content is not valid base64.");
        let content = STANDARD
            .decode(request.content.unwrap_or_default())
            .map_err(not_base64)?;
        let document = request.manifest.document;
        let target = Target {
            kind: document.kind,
            state: EMPTY_UPDATE,
            client: self.client,
            name: format!("import {}", self.user),
        };
        let update = match content == EMPTY_UPDATE {
            true => EMPTY_UPDATE,
            false => anew(self.ports, target, content.into(), request.addresses).await?,
        };
        let (server, room_id) = self.source;
        let new = NewDocument {
            title: document.title,
            kind: document.kind,
            source: Some(ImportedContent {
                server,
                room_id: room_id.to_owned(),
                log: request.log,
            }),
        };
        let begun = begin(self.ports, &self.user, new, Some(self.key)).await?;
        if update != EMPTY_UPDATE {
            fill(self.ports, &begun.room, &self.user, self.client, update).await?;
        }
        Ok(begun.room.clone())
    }
}
