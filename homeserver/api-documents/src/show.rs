//! `GET /documents/{id}` and `PATCH /documents/{id}`: one document, and its title.

use axum::{
    Json,
    extract::{Query, State, rejection::QueryRejection},
    http::HeaderMap,
    response::{IntoResponse, Response},
};
use ruma::{RoomId, UserId};
use schemars::JsonSchema;
use serde_json::{Map, Value, json};
use weft_http::{
    authentication::Authenticated,
    errors::{ApiError, ApiResult},
    openapi::{Operation, Routes},
};
use weft_room_api::NewEvent;
use weft_wire::rest::{Document, PatchDocument};

use super::{
    DocumentPorts,
    caller::{Named, joined, open},
    create::check_title,
    failures::may_not,
    rendered,
    request::JsonBody,
};

/// What the answer may be as JSON.
#[derive(JsonSchema)]
#[schemars(untagged)]
#[expect(dead_code, reason = "describes the answer")]
enum DocumentOrContent {
    /// Without `format`.
    Document(Document),
    /// With `format=json`: the content of the document, as `spec/docs/rendering.md` defines it.
    Content(Map<String, Value>),
}

pub(super) fn routes() -> Routes<DocumentPorts> {
    Routes::new("Documents")
        .get(
            "/_weft/client/v1/documents/{id}",
            show,
            Operation::new("getDocument", "The document, or with `format` its content")
                .answers(200, "The document, or its content in the format.")
                .json::<DocumentOrContent>()
                .media("text/plain")
                .media("text/markdown")
                .media("text/html")
                .sends("ETag", "With `format`: the weak tag of the text and the format.")
                .sends("Weft-Text-Hash", "With `format`: the text hash.")
                .sends("Weft-Version", "With `at`: the version of the content, if it is known.")
                .answers(304, "The client has the content.")
                .takes("If-None-Match", None, "Tags of the content that the client has.")
                .refuses(409, "This server does not know the text at that version.")
                .refuses(413, "The document is too large to be rendered.")
                .refuses(422, "The document can't be rendered on this server."),
        )
        .patch(
            "/_weft/client/v1/documents/{id}",
            rename,
            Operation::new("renameDocument", "Sets the title").refuses(403, "Below manager."),
        )
}

/// The document as the caller may see it: its description, or with `format` its content.
async fn show(
    State(ports): State<DocumentPorts>,
    Authenticated(session): Authenticated,
    named: Named,
    query: Result<Query<rendered::Query>, QueryRejection>,
    asked: HeaderMap,
) -> ApiResult<Response> {
    let Query(query) = query.map_err(|error| ApiError::invalid_param(error.body_text()))?;
    let wanted = query.wanted()?;
    let room = joined(&ports, &named, &session.user_id).await?;
    let document = described(&ports, &session.user_id, &room).await?;
    match wanted {
        Some(wanted) => rendered::answer(&ports, &session.user_id, &document, &wanted, &asked).await,
        None => Ok(Json(document).into_response()),
    }
}

/// The description of a document that the caller has joined.
pub(super) async fn described(ports: &DocumentPorts, user: &UserId, room: &RoomId) -> ApiResult<Document> {
    let document = ports.rooms.reader().document_of(user, room).await?;
    document.ok_or_else(|| ApiError::not_found("Document not found."))
}

/// Sets a new title and answers with the document.
pub(super) async fn rename(
    State(ports): State<DocumentPorts>,
    Authenticated(session): Authenticated,
    named: Named,
    JsonBody(request): JsonBody<PatchDocument>,
) -> ApiResult<Json<Document>> {
    check_title(&request.title)?;
    let document = open(&ports, &named, &session.user_id).await?;
    if !document.state.can_send_state(&session.user_id, "m.room.name") {
        return Err(may_not("change the title"));
    }
    let event = NewEvent {
        sender: session.user_id.clone(),
        kind: "m.room.name".to_owned(),
        state_key: Some(String::new()),
        content: Map::from_iter([("name".to_owned(), json!(request.title))]),
        redacts: None,
        txn: None,
        timestamp: None,
    };
    ports.rooms.send(&document.room, event).await?;
    Ok(Json(described(&ports, &session.user_id, &document.room).await?))
}
