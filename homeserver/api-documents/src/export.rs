//! `GET /documents/{id}/export`: the content of a document as a file to keep, alone or in an archive with its versions and its
//! signed log.
//!
//! Must not put anything into an archive that the caller could not read otherwise.

mod archive;
mod images;
mod stream;

use axum::{
    body::Body,
    extract::{Query, State, rejection::QueryRejection},
    http::{HeaderValue, header},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use ruma::{OwnedUserId, UserId};
use schemars::JsonSchema;
use serde::Deserialize;
use weft_http::{
    authentication::Authenticated,
    errors::{ApiError, ApiResult},
    openapi::{Operation, Routes},
};
use weft_render::{Direction, Format, RenderRequest};
use weft_wire::{rest::Document, schema};

use super::{
    DocumentPorts, Read,
    caller::{Named, Open, open},
    point::{self, Point},
    show::described,
};

pub(super) fn routes() -> Routes<DocumentPorts> {
    Routes::new("Import and export").get(
        "/_weft/client/v1/documents/{id}/export",
        export,
        Operation::new("exportDocument", "The content as a file")
            .answers(200, "The file.")
            .media("text/plain")
            .media("text/markdown")
            .media("text/html")
            .media("application/json")
            .media("application/octet-stream")
            .media("application/vnd.openxmlformats-officedocument.wordprocessingml.document")
            .media("application/zip")
            .sends("Content-Disposition", "`attachment`, with the title as the file name.")
            .refuses(409, "This server does not know the text at that version.")
            .refuses(413, "The document is too large to be rendered.")
            .refuses(422, "The document can't be rendered on this server.")
            .refuses(501, "This server can't make files of this format."),
    )
}

/// The form of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum Form {
    Text,
    Markdown,
    Html,
    Json,
    Yjs,
    Docx,
    Zip,
}

impl Form {
    /// Content type, and the end of the file's name.
    const fn kind(self) -> (&'static str, &'static str) {
        match self {
            Self::Text => ("text/plain; charset=utf-8", "txt"),
            Self::Markdown => ("text/markdown; charset=utf-8", "md"),
            Self::Html => ("text/html; charset=utf-8", "html"),
            Self::Json => ("application/json", "json"),
            Self::Yjs => ("application/octet-stream", "yjs"),
            Self::Docx => (
                "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
                "docx",
            ),
            Self::Zip => ("application/zip", "zip"),
        }
    }
}

#[derive(Debug, Deserialize, JsonSchema)]
struct Asked {
    /// The form of the file.
    format: Form,
    /// A version, an event id or a time; without it the present text.
    #[schemars(with = "Option<schema::Point>")]
    at: Option<String>,
}

/// What is exported, and for whom.
pub(super) struct Content {
    pub(super) ports: DocumentPorts,
    pub(super) document: Document,
    pub(super) state: Bytes,
    /// The user whose files are read, and a member.
    pub(super) user: OwnedUserId,
    /// The operator exports: everything is in the archive, and nothing is limited.
    pub(super) is_operator: bool,
}

/// Answers with the file.
async fn export(
    State(ports): State<DocumentPorts>,
    Authenticated(session): Authenticated,
    named: Named,
    query: Result<Query<Asked>, QueryRejection>,
) -> ApiResult<Response> {
    let Query(asked) = query.map_err(|error| ApiError::invalid_param(error.body_text()))?;
    let at = asked.at.as_deref().map(Point::parse).transpose()?;
    let user = &*session.user_id;
    let (share, permit) = ports.content_reads.permit(user).await?;
    let opened = open(&ports, &named, user).await?;
    let room = opened.room.clone();
    let state = match &at {
        Some(at) => point::content(&ports, &room, user, at).await?.state,
        None => ports.rooms.current_text(&room).await?.update(),
    };
    let content = Content {
        document: described(&ports, user, &room).await?,
        ports: ports.clone(),
        state,
        user: user.to_owned(),
        is_operator: false,
    };
    let document = content.document.clone();
    let body: Body = match asked.format {
        Form::Yjs => content.state.clone().into(),
        Form::Text => content.rendered(Format::Text).await?.into(),
        Form::Markdown => content.rendered(Format::Markdown).await?.into(),
        Form::Json => content.rendered(Format::Json).await?.into(),
        Form::Html => content.page().await?.into(),
        Form::Docx => content.docx().await?.into(),
        Form::Zip => archive::of(content, opened, at.is_none(), Some(share)).await?,
    };
    drop(permit);
    let read = if asked.format == Form::Yjs {
        Read::Content
    } else {
        Read::Rendered
    };
    ports.access.note(user, &room, read);
    Ok(answer(&document, asked.format, body))
}

/// The archive of a document for the operator: everything that this server has of it.
pub(super) async fn whole(ports: &DocumentPorts, opened: Open, user: &UserId) -> ApiResult<Body> {
    let content = Content {
        document: described(ports, user, &opened.room).await?,
        ports: ports.clone(),
        state: ports.rooms.current_text(&opened.room).await?.update(),
        user: user.to_owned(),
        is_operator: true,
    };
    archive::of(content, opened, true, None).await
}

impl Content {
    async fn rendered(&self, format: Format) -> ApiResult<Bytes> {
        let request = RenderRequest {
            kind: self.document.kind,
            state: self.state.clone(),
            format,
        };
        let rendered = self
            .ports
            .renderer
            .render(self.document.doc_id.as_str(), request)
            .await?;
        Ok(rendered.content.into())
    }

    /// The HTML as a document of its own.
    async fn page(&self) -> ApiResult<Bytes> {
        let body = self.rendered(Format::Html).await?;
        let body = String::from_utf8_lossy(&body);
        let title = self.document.title.replace('&', "&amp;").replace('<', "&lt;");
        let page = format!(
            "<!DOCTYPE html>\n<html><head><meta charset=\"utf-8\"><title>{title}</title></head><body>\n{body}\n</body></html>\n"
        );
        Ok(page.into())
    }

    async fn docx(&self) -> ApiResult<Bytes> {
        let page = self.page().await?;
        let page = images::embedded(&self.ports.media, &self.user, &String::from_utf8_lossy(&page)).await?;
        let file = self.ports.office.convert(Direction::HtmlToDocx, page.into()).await?;
        Ok(file)
    }
}

fn answer(document: &Document, form: Form, body: Body) -> Response {
    let (kind, end) = form.kind();
    let headers = [
        (header::CONTENT_TYPE, kind),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::CONTENT_SECURITY_POLICY, "sandbox; default-src 'none'"),
        (header::CACHE_CONTROL, "private, no-store"),
    ];
    let mut answer = (headers, body).into_response();
    let title = if document.title.is_empty() {
        "document"
    } else {
        &document.title
    };
    let name = utf8_percent_encode(title, NON_ALPHANUMERIC);
    let name = format!("attachment; filename=\"document.{end}\"; filename*=UTF-8''{name}.{end}");
    if let Ok(name) = HeaderValue::try_from(name) {
        answer.headers_mut().insert(header::CONTENT_DISPOSITION, name);
    }
    answer
}
