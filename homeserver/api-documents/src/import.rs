//! `POST /documents/import` and `POST /documents/{id}/import`: foreign text as the first content of a new document, or at the
//! end of one. A render worker reads it, and the result is one edit of the caller.
//!
//! The client id of the edit follows from the request, so the same request imports once. Must not interpret the file.

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
}

impl Form {
    const fn name(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Markdown => "markdown",
            Self::Html => "html",
            Self::Docx => "docx",
            Self::Yjs => "yjs",
        }
    }

    /// The kind of a new document, if the request does not say.
    fn kind(self) -> ApiResult<DocumentKind> {
        match self {
            Self::Text => Ok(DocumentKind::Text),
            Self::Markdown | Self::Html | Self::Docx => Ok(DocumentKind::RichText),
            Self::Yjs => Err(ApiError::missing_param(
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
    #[serde(default)]
    #[schemars(length(max = MAX_TITLE_BYTES))]
    title: String,
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
    let kind = asked.kind.map_or_else(|| asked.format.kind(), Ok)?;
    check_title(&asked.title)?;
    let parts = [
        b"import",
        asked.format.name().as_bytes(),
        kind.name().as_bytes(),
        asked.title.as_bytes(),
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
    let Imported { update, lost } = converted(&ports, asked.format, file, new).await?;
    let title = asked.title;
    let begun = begin(&ports, user, NewDocument { title, kind }, key).await?;
    let version = if update == EMPTY_UPDATE {
        0
    } else {
        fill(&ports, &begun.room, user, client, update).await?
    };
    let answer = ImportedDocument {
        doc_id: begun.room.clone(),
        created_at: begun.created_at,
        version,
        lost: listed(lost),
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
    if format == Form::Yjs {
        return Err(ApiError::invalid_param(
            "An update for an existing document is sent to .../updates.",
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
    let Imported { update, lost } = converted(&ports, format, file, target).await?;
    let changed = !is_there && update != EMPTY_UPDATE && apply(&ports, &room, user, update).await?;
    Ok(Json(ImportedInto {
        version: ports.rooms.reader().document_version(&room).await?,
        changed,
        lost: listed(lost),
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
struct Target {
    kind: DocumentKind,
    state: Bytes,
    client: ClientId,
    name: String,
}

/// The edit that adds the file, and what it leaves out.
async fn converted(ports: &DocumentPorts, form: Form, file: Bytes, target: Target) -> ApiResult<Imported> {
    let Target {
        kind,
        state,
        client,
        name,
    } = target;
    let (source, foreign) = match form {
        Form::Yjs => {
            let request = ApplyRequest {
                kind,
                state,
                suggestion: file,
                client: client.get(),
                only: None,
            };
            let update = ports.renderer.apply(&name, request).await?.update;
            return checked(Imported {
                update,
                lost: Vec::new(),
            });
        }
        Form::Docx => (Source::Html, ports.office.convert(Direction::DocxToHtml, file).await?),
        Form::Text => (Source::Text, file),
        Form::Markdown => (Source::Markdown, file),
        Form::Html => (Source::Html, file),
    };
    let request = ImportRequest {
        kind,
        state,
        foreign,
        source,
        client: client.get(),
    };
    checked(ports.renderer.import(&name, request).await?)
}

fn checked(imported: Imported) -> ApiResult<Imported> {
    if imported.update.len() > LIVE_BYTES {
        return Err(ApiError::too_large(
            "The content of the file is too large for one edit.",
        ));
    }
    Ok(imported)
}

fn listed(lost: Vec<weft_render::LostContent>) -> Vec<Lost> {
    let lost = lost.into_iter();
    lost.map(|lost| Lost {
        kind: lost.kind,
        count: lost.count,
        example: lost.example,
    })
    .collect()
}
