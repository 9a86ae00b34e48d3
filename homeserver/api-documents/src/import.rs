//! `POST /documents/import` and `POST /documents/{id}/import`: foreign text as the first content of a new document, or at the
//! end of one. A render worker reads it, and the result is one edit of the caller.
//!
//! The client id of the edit follows from the request, so the same request imports once. Must not interpret the text of a file.

mod archived;
mod images;
mod upload;

pub(super) use archived::lost;
#[cfg(any(test, feature = "fuzzing"))]
pub(super) use {archived::read_any, images::with_each_image_replaced_by_itself};

use std::collections::BTreeMap;

use axum::{
    Json,
    extract::{Query, State, rejection::QueryRejection},
    http::{HeaderMap, StatusCode},
};
use bytes::Bytes;
use ruma::{RoomId, UserId};
use schemars::JsonSchema;
use serde::Deserialize;
use weft_crdt::{ClientId, limits::LIVE_BYTES};
use weft_http::{
    authentication::Authenticated,
    errors::{ApiError, ApiResult},
    openapi::{Operation, Routes},
};
use weft_render::{ApplyRequest, Direction, ImportRequest, Imported, Source};
use weft_room_api::{RefusedEdit, RoomError};
use weft_room_read::{WantedBlocks, author_of};
use weft_wire::{
    document::DocumentKind,
    limits::{MAX_IMPORT_BYTES, MAX_TITLE_BYTES},
    rest::{ImportedDocument, ImportedInto, Lost},
};

use super::{
    DocumentPorts,
    bin::check_not_in_bin,
    caller::{Named, joined},
    create::check_title,
    creation::{EMPTY_UPDATE, NewDocument, apply, begin, client_of, digest, fill, request_of},
    request::{BinaryBody, idempotency_key, with_idempotency_key},
    show::described,
};

/// Client ids that are tried for one import. All but the last are those of other users, who guessed what would be imported.
const CLIENTS: u8 = 8;

pub(super) fn routes() -> Routes<DocumentPorts> {
    Routes::new("Import and export")
        .post(
            "/_weft/client/v1/documents/import",
            create,
            with_idempotency_key(
                Operation::new("importDocument", "Creates a document with the content of a file")
                    .note("The body is the file.")
                    .refuses(
                        422,
                        "The file is not of its format, or exceeds the limits of the render workers.",
                    )
                    .refuses(501, "This server can't read files of this format.")
                    .refuses(422, "The `Idempotency-Key` was used for another request."),
            ),
        )
        .post(
            "/_weft/client/v1/documents/{id}/import",
            append,
            with_idempotency_key(
                Operation::new("importIntoDocument", "Appends the content of a file, once")
                    .note("The body is the file.")
                    .refuses(403, "Below editor, or the document is locked.")
                    .refuses(409, "The document is in the bin.")
                    .refuses(
                        422,
                        "The file is not of its format, or exceeds the limits of the render workers.",
                    )
                    .refuses(501, "This server can't read files of this format."),
            ),
        )
}

/// The form of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum Form {
    Text,
    Markdown,
    Html,
    Docx,
    /// A whole document as a Yjs v1 update.
    Yjs,
    /// The archive of a document, with its attachments.
    Zip,
}

impl Form {
    const fn name(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Markdown => "markdown",
            Self::Html => "html",
            Self::Docx => "docx",
            Self::Yjs => "yjs",
            Self::Zip => "zip",
        }
    }

    /// The kind of a new document, if the request does not say.
    fn kind(self) -> ApiResult<DocumentKind> {
        match self {
            Self::Text => Ok(DocumentKind::Text),
            Self::Markdown | Self::Html | Self::Docx => Ok(DocumentKind::RichText),
            Self::Yjs | Self::Zip => Err(ApiError::missing_param(
                "The parameter kind is needed for the format yjs.",
            )),
        }
    }
}

/// The query of an import.
#[derive(Debug, Deserialize, JsonSchema)]
struct Asked {
    /// The form of the file.
    format: Form,
    /// The title of a new document.
    #[schemars(length(max = MAX_TITLE_BYTES))]
    title: Option<String>,
    /// The kind of a new document.
    kind: Option<DocumentKind>,
}

type AskedQuery = Result<Query<Asked>, QueryRejection>;

fn asked(query: AskedQuery) -> ApiResult<Asked> {
    let Query(asked) = query.map_err(|error| ApiError::invalid_param(error.body_text()))?;
    Ok(asked)
}

/// Creates a document with the content of the body; 201 once it is on disk.
async fn create(
    State(ports): State<DocumentPorts>,
    Authenticated(session): Authenticated,
    query: AskedQuery,
    headers: HeaderMap,
    BinaryBody(file): BinaryBody<MAX_IMPORT_BYTES>,
) -> ApiResult<(StatusCode, Json<ImportedDocument>)> {
    let (asked, user) = (asked(query)?, &*session.user_id);
    let archive = match asked.format {
        Form::Zip => Some(archived::read(file.clone()).await?),
        _ => None,
    };
    let described = archive.as_ref().map(|archive| &archive.manifest.document);
    let of_archive = || described.map(|document| document.kind);
    let kind = asked.kind.or_else(of_archive).map_or_else(|| asked.format.kind(), Ok)?;
    let title = asked.title.or_else(|| described.map(|document| document.title.clone()));
    let title = title.unwrap_or_default();
    check_title(&title)?;
    let parts = [
        b"import",
        asked.format.name().as_bytes(),
        kind.name().as_bytes(),
        title.as_bytes(),
        &file,
    ];
    let key = request_of(&headers, user, &parts)?;
    let _permit = ports.content_reads.permit(user).await?;
    let of_key = key
        .as_ref()
        .and_then(|key| client_of(&digest(&[key.key.as_bytes(), b"content"])));
    let client = of_key.unwrap_or_else(|| ports.writers.draw());
    let new = Target {
        kind,
        state: EMPTY_UPDATE,
        client,
        // A hostile file must not pause the rendering of any document.
        name: format!("import {user}"),
    };
    let (update, lost) = match archive {
        Some(archive) => archived::converted(&ports, user, archive, new).await?,
        None => converted(&ports, user, (asked.format, file), new).await?,
    };
    let new = NewDocument {
        title,
        kind,
        source: None,
    };
    let begun = begin(&ports, user, new, key).await?;
    let version = if update == EMPTY_UPDATE {
        0
    } else {
        fill(&ports, &begun.room, user, client, update).await?
    };
    let answer = ImportedDocument {
        doc_id: begun.room.clone(),
        created_at: begun.created_at,
        version,
        lost,
    };
    Ok((StatusCode::CREATED, Json(answer)))
}

/// Appends the content of the body to a document, once; 403 below editor.
async fn append(
    State(ports): State<DocumentPorts>,
    Authenticated(session): Authenticated,
    named: Named,
    query: AskedQuery,
    headers: HeaderMap,
    BinaryBody(file): BinaryBody<MAX_IMPORT_BYTES>,
) -> ApiResult<Json<ImportedInto>> {
    let (Asked { format, .. }, user) = (asked(query)?, &*session.user_id);
    let key = idempotency_key(&headers)?.unwrap_or_default();
    if matches!(format, Form::Yjs | Form::Zip) {
        return Err(ApiError::invalid_param(
            "An archive makes a new document, and an update for an existing one is sent to .../updates.",
        ));
    }
    let _permit = ports.content_reads.permit(user).await?;
    let room = joined(&ports, &named, user).await?;
    let access = ports.rooms.access(&room, user).await?;
    if !access.can_edit {
        return Err(RoomError::from(access.edit_refusal(RefusedEdit::default())).into());
    }
    let document = described(&ports, user, &room).await?;
    check_not_in_bin(&document)?;
    let request = digest(&[
        user.as_bytes(),
        room.as_bytes(),
        key.as_bytes(),
        format.name().as_bytes(),
        &file,
    ]);
    let (client, is_there) = client_in(&ports, &room, user, &request).await?;
    let text = ports.rooms.current_text(&room).await?;
    let state = if is_there { EMPTY_UPDATE } else { text.update() };
    let target = Target {
        kind: document.kind,
        state,
        client,
        name: format!("import {user}"),
    };
    // A repetition is converted too: its answer has the same list of what is lost.
    let (update, lost) = converted(&ports, user, (format, file), target).await?;
    let changed = !is_there && update != EMPTY_UPDATE && apply(&ports, &room, user, update).await?;
    Ok(Json(ImportedInto {
        version: ports.rooms.reader().document_version(&room).await?,
        changed,
        lost,
    }))
}

/// The client id of a request, and whether the document has what it imports.
async fn client_in(
    ports: &DocumentPorts,
    room: &RoomId,
    user: &UserId,
    request: &[u8; 32],
) -> ApiResult<(ClientId, bool)> {
    let text = ports.rooms.current_text(room).await?.text;
    for number in 0..CLIENTS {
        let Some(client) = client_of(&digest(&[request, &[number]])) else {
            continue;
        };
        if text.state_vector().get(client) == 0 {
            return Ok((client, false));
        }
        let first = WantedBlocks::new([(client.get(), 0, 1)]);
        let authors = ports.rooms.reader().authors(room, &first).await?;
        if author_of(&authors, client.get(), 0).is_none_or(|author| author.author == *user) {
            return Ok((client, true));
        }
    }
    Err(ApiError::unavailable("The document is being changed. Try again."))
}

/// To what foreign content is added.
pub(super) struct Target {
    pub(super) kind: DocumentKind,
    pub(super) state: Bytes,
    pub(super) client: ClientId,
    /// For the limits and pauses of the render workers.
    pub(super) name: String,
}

/// The edit that adds the file, and what it leaves out. Images that are in the file become files of the user.
async fn converted(
    ports: &DocumentPorts,
    user: &UserId,
    (form, file): (Form, Bytes),
    target: Target,
) -> ApiResult<(Bytes, Vec<Lost>)> {
    let (source, foreign) = match form {
        Form::Yjs | Form::Zip => return Ok((anew(ports, target, file, BTreeMap::new()).await?, Vec::new())),
        Form::Docx => {
            let html = ports.office.convert(Direction::DocxToHtml, file.clone()).await?;
            (
                Source::Html,
                images::of_office_file(&ports.media, user, &html, file).await?,
            )
        }
        Form::Text => (Source::Text, file),
        Form::Markdown => (Source::Markdown, images::in_text(&ports.media, user, file).await?),
        Form::Html => (Source::Html, images::in_text(&ports.media, user, file).await?),
    };
    let request = ImportRequest {
        kind: target.kind,
        state: target.state,
        foreign,
        source,
        client: target.client.get(),
    };
    let Imported { update, lost } = ports.renderer.import(&target.name, request).await?;
    Ok((within_an_edit(update)?, lost.into_iter().map(listed).collect()))
}

/// The content of a whole document, written anew with other addresses for its files.
pub(super) async fn anew(
    ports: &DocumentPorts,
    target: Target,
    content: Bytes,
    addresses: BTreeMap<String, String>,
) -> ApiResult<Bytes> {
    let request = ApplyRequest {
        kind: target.kind,
        state: target.state,
        suggestion: content,
        client: target.client.get(),
        only: None,
        addresses,
    };
    within_an_edit(ports.renderer.apply(&target.name, request).await?.update)
}

fn within_an_edit(update: Bytes) -> ApiResult<Bytes> {
    if update.len() > LIVE_BYTES {
        return Err(ApiError::too_large(
            "The content of the file is too large for one edit.",
        ));
    }
    Ok(update)
}

fn listed(lost: weft_render::LostContent) -> Lost {
    Lost {
        kind: lost.kind,
        count: lost.count,
        example: lost.example,
    }
}
