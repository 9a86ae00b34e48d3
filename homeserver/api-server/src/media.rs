//! GET /_matrix/federation/v1/media/download and /thumbnail (Matrix specification, "Content repository"): the files of this
//! server's users. Must not request a file from a third server.

use std::{sync::Arc, time::Duration};

use axum::{
    body::Body,
    extract::{FromRequestParts, State},
    http::{HeaderValue, header, request::Parts},
    response::{IntoResponse as _, Response},
};
use bytes::Bytes;
use futures_util::{StreamExt as _, stream::once};
use ruma::{
    api::federation::authenticated_media::{get_content, get_content_thumbnail},
    media::Method,
};
use weft_http::{errors::ApiResult, files, traffic::Requester};
use weft_media::{Found, ThumbnailMethod, ThumbnailSize, Wait};
use weft_wire::limits::MAX_MEDIA_WAIT_MS;

use super::{ServerPorts, Signed};

/// The requester to whom the bytes are charged.
pub(super) struct Charged(Arc<Requester>);

impl<S: Send + Sync> FromRequestParts<S> for Charged {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        Ok(Self(Requester::of(&parts.extensions)))
    }
}

pub(super) async fn download(
    State(ports): State<ServerPorts>,
    charged: Charged,
    Signed { request, .. }: Signed<get_content::v1::Request>,
) -> ApiResult<Response> {
    let found = ports
        .media
        .find_own(&request.media_id, wait(request.timeout_ms))
        .await?;
    answer(&ports, &found, &charged).await
}

pub(super) async fn thumbnail(
    State(ports): State<ServerPorts>,
    charged: Charged,
    Signed { request, .. }: Signed<get_content_thumbnail::v1::Request>,
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
    let found = ports
        .media
        .find_own(&request.media_id, wait(request.timeout_ms))
        .await?;
    let thumbnail = ports.media.thumbnail(&found, size).await?;
    answer(&ports, &thumbnail, &charged).await
}

fn wait(asked: Duration) -> Wait {
    Wait {
        at_most: asked.min(Duration::from_millis(MAX_MEDIA_WAIT_MS)),
        fetch: false,
    }
}

/// `multipart/mixed`: a JSON object without fields, and the file.
async fn answer(ports: &ServerPorts, file: &Found, charged: &Charged) -> ApiResult<Response> {
    // Random, so that a file can't contain it.
    let boundary = format!("weft-{:032x}", rand::random::<u128>());
    let disposition = files::disposition(&file.content_type, file.name.clone());
    let before = format!(
        "\r\n--{boundary}\r\nContent-Type: application/json\r\n\r\n{{}}\r\n--{boundary}\r\nContent-Type: {}\r\n\
         Content-Disposition: {disposition}\r\n\r\n",
        file.content_type
    );
    let after = format!("\r\n--{boundary}--\r\n");
    let length = (before.len() as u64)
        .saturating_add(file.size)
        .saturating_add(after.len() as u64);
    let content = files::content(&ports.media, file, 0..file.size, &charged.0).await?;
    let text = |text: String| once(async move { Ok(Bytes::from(text)) });
    let body = Body::from_stream(text(before).chain(content).chain(text(after)));
    let mut response = body.into_response();
    let headers = response.headers_mut();
    if let Ok(kind) = HeaderValue::try_from(format!("multipart/mixed; boundary={boundary}")) {
        headers.insert(header::CONTENT_TYPE, kind);
    }
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    Ok(response)
}
