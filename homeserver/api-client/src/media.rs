//! The content repository (Matrix specification): uploads, and downloads by signed-in users. The endpoints without a token are
//! frozen: they answer that nothing exists. Must not hold a file in memory.

use std::time::Duration;

use axum::{
    Json, Router,
    extract::{Path, Query, Request, State, rejection::QueryRejection},
    http::{HeaderMap, header},
    response::Response,
    routing::{get, post, put},
};
use futures_util::StreamExt as _;
use ruma::{
    OwnedServerName, ServerName,
    api::client::{
        authenticated_media::{get_content, get_content_as_filename, get_content_thumbnail, get_media_config},
        media::create_mxc_uri,
    },
    media::Method,
};
use serde::Deserialize;
use serde_json::{Value, json};
use weft_http::{
    authentication::Authenticated,
    errors::{ApiError, ApiResult},
    files,
    ruma_json::{Ruma, RumaRoutes, unread},
    traffic::Requester,
};
use weft_media::{Declared, Media, ThumbnailMethod, ThumbnailSize, Wait};
use weft_wire::limits::MAX_MEDIA_WAIT_MS;

use super::Ports;

pub(super) fn routes() -> Router<Ports> {
    let mut router = Router::new()
        .endpoint::<create_mxc_uri::v1::Request, _, _>(create)
        .endpoint::<get_media_config::v1::Request, _, _>(config)
        .endpoint::<get_content::v1::Request, _, _>(download)
        .endpoint::<get_content_as_filename::v1::Request, _, _>(download_as)
        .endpoint::<get_content_thumbnail::v1::Request, _, _>(thumbnail)
        .route("/_matrix/media/v3/upload/{server}/{id}", put(upload_under));
    for version in ["v3", "r0", "v1"] {
        let path = |rest: &str| format!("/_matrix/media/{version}/{rest}");
        router = router
            .route(&path("upload"), post(upload))
            .route(&path("config"), get(config))
            .route(&path("download/{server}/{id}"), get(frozen))
            .route(&path("download/{server}/{id}/{name}"), get(frozen))
            .route(&path("thumbnail/{server}/{id}"), get(frozen));
    }
    router
}

/// The query of an upload.
#[derive(Debug, Deserialize)]
struct Named {
    filename: Option<String>,
}

type NamedQuery = Result<Query<Named>, QueryRejection>;

/// POST /_matrix/media/v3/upload
async fn upload(
    State(media): State<Media>,
    caller: Authenticated,
    named: NamedQuery,
    request: Request,
) -> ApiResult<Json<Value>> {
    let id = receive(&media, &caller, named, None, request).await?;
    Ok(Json(
        json!({"content_uri": format!("mxc://{}/{id}", media.server_name())}),
    ))
}

/// PUT /_matrix/media/v3/upload/{serverName}/{mediaId}
async fn upload_under(
    State(media): State<Media>,
    caller: Authenticated,
    Path((server, id)): Path<(OwnedServerName, String)>,
    named: NamedQuery,
    request: Request,
) -> ApiResult<Json<Value>> {
    if server != media.server_name() {
        return Err(ApiError::forbidden("The media id belongs to another server."));
    }
    receive(&media, &caller, named, Some(id), request).await?;
    Ok(Json(json!({})))
}

/// Receives a file; returns its id.
async fn receive(
    media: &Media,
    caller: &Authenticated,
    named: NamedQuery,
    waiting_id: Option<String>,
    request: Request,
) -> ApiResult<String> {
    let Query(named) = named.map_err(|error| ApiError::invalid_param(error.body_text()))?;
    let headers = request.headers();
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let declared = Declared::new(text(header::CONTENT_TYPE), named.filename.as_deref());
    let length = text(header::CONTENT_LENGTH).and_then(|length| length.parse().ok());
    let mut upload = media
        .begin_upload(&caller.user_id, declared, waiting_id, length)
        .await?;
    Requester::of(request.extensions()).streams_body();
    let mut body = request.into_body().into_data_stream();
    while let Some(part) = body.next().await {
        let part = part.map_err(|error| unread(&error))?;
        upload.write(&part).await?;
    }
    Ok(upload.finish().await?.to_string())
}

/// POST /_matrix/media/v1/create
async fn create(State(media): State<Media>, caller: Authenticated) -> ApiResult<Json<Value>> {
    let (id, expires_at) = media.create_id(&caller.user_id).await?;
    Ok(Json(json!({
        "content_uri": format!("mxc://{}/{id}", media.server_name()),
        "unused_expires_at": expires_at,
    })))
}

/// GET /_matrix/client/v1/media/config
async fn config(State(media): State<Media>, _caller: Authenticated) -> Json<Value> {
    Json(json!({"m.upload.size": media.settings().max_upload_bytes}))
}

/// The file that a request names.
struct Wanted<'a> {
    server: &'a ServerName,
    id: &'a str,
    name: Option<String>,
    timeout: Duration,
}

/// GET /_matrix/client/v1/media/download/{serverName}/{mediaId}
async fn download(
    State(media): State<Media>,
    caller: Authenticated,
    context: Context,
    Ruma(request): Ruma<get_content::v1::Request>,
) -> ApiResult<Response> {
    let wanted = Wanted {
        server: &request.server_name,
        id: &request.media_id,
        name: None,
        timeout: request.timeout_ms,
    };
    send(&media, &caller, wanted, &context).await
}

/// GET /_matrix/client/v1/media/download/{serverName}/{mediaId}/{fileName}
async fn download_as(
    State(media): State<Media>,
    caller: Authenticated,
    context: Context,
    Ruma(request): Ruma<get_content_as_filename::v1::Request>,
) -> ApiResult<Response> {
    let wanted = Wanted {
        server: &request.server_name,
        id: &request.media_id,
        name: Declared::new(None, Some(&request.filename)).name,
        timeout: request.timeout_ms,
    };
    send(&media, &caller, wanted, &context).await
}

async fn send(media: &Media, caller: &Authenticated, wanted: Wanted<'_>, context: &Context) -> ApiResult<Response> {
    let found = media
        .find(&caller.user_id, wanted.server, wanted.id, wait(wanted.timeout))
        .await?;
    files::answer(media, &found, wanted.name, &context.headers, &context.requester).await
}

/// GET /_matrix/client/v1/media/thumbnail/{serverName}/{mediaId}
async fn thumbnail(
    State(media): State<Media>,
    caller: Authenticated,
    context: Context,
    Ruma(request): Ruma<get_content_thumbnail::v1::Request>,
) -> ApiResult<Response> {
    let pixels = |number: ruma::UInt| u32::try_from(u64::from(number)).unwrap_or(u32::MAX);
    let size = ThumbnailSize {
        width: pixels(request.width),
        height: pixels(request.height),
        method: match request.method {
            Some(Method::Crop) => ThumbnailMethod::Crop,
            _ => ThumbnailMethod::Scale,
        },
    };
    let found = media
        .find(
            &caller.user_id,
            &request.server_name,
            &request.media_id,
            wait(request.timeout_ms),
        )
        .await?;
    let thumbnail = media.thumbnail(&found, size).await?;
    files::answer(&media, &thumbnail, None, &context.headers, &context.requester).await
}

fn wait(asked: Duration) -> Wait {
    Wait {
        at_most: asked.min(Duration::from_millis(MAX_MEDIA_WAIT_MS)),
        fetch: true,
    }
}

/// GET /_matrix/media/v3/download/{serverName}/{mediaId} and the others without a token
async fn frozen() -> ApiError {
    ApiError::not_found("Files are downloaded with an access token from /_matrix/client/v1/media.")
}

/// What an answer depends on besides the parsed request.
struct Context {
    headers: HeaderMap,
    requester: std::sync::Arc<Requester>,
}

impl<S: Send + Sync> axum::extract::FromRequestParts<S> for Context {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut axum::http::request::Parts, _: &S) -> Result<Self, Self::Rejection> {
        Ok(Self {
            headers: parts.headers.clone(),
            requester: Requester::of(&parts.extensions),
        })
    }
}
