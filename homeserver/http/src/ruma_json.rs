//! ruma's endpoint types as axum extractors, responses and routes.
//!
//! Extraction parses and limits the size. Must not authenticate: [`crate::authentication`] does.

use axum::{
    Router,
    body::{Body, Bytes},
    extract::{FromRequest, RawPathParams, Request},
    handler::Handler,
    http::Method,
    response::{IntoResponse, Response},
    routing::{MethodFilter, on},
};
use ruma::api::{
    IncomingRequest, IncomingRequestExt, Metadata, OutgoingResponse, OutgoingResponseExt, path_builder::PathBuilder,
};
use weft_wire::limits;

use crate::{
    errors::{ApiError, ApiResult},
    traffic::BodyError,
};

/// The body of a handler's request, parsed as ruma's type `T`.
#[derive(Debug)]
pub struct Ruma<T>(pub T);

impl<T, S> FromRequest<S> for Ruma<T>
where
    T: IncomingRequest + Send,
    S: Send + Sync,
{
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> ApiResult<Self> {
        use axum::extract::FromRequestParts;
        let (mut parts, body) = request.into_parts();
        let arguments = RawPathParams::from_request_parts(&mut parts, state)
            .await
            .map_err(|_| ApiError::invalid_param("The path is not valid percent-encoded UTF-8."))?;
        let arguments: Vec<&str> = arguments.iter().map(|(_, value)| value).collect();
        let body = read_body(body, limits::MAX_CLIENT_REQUEST_BYTES).await?;
        let request = axum::http::Request::from_parts(parts.clone(), json_text(&T::METHOD, &body)?);
        Ok(Self(T::try_from_http_request(request, &arguments)?))
    }
}

/// The JSON text of a body. A missing body counts as `{}`: common clients omit it, and ruma's hand-written parsers don't
/// accept that. Invalid UTF-8 is refused anywhere in the body: serde skips it in fields that it ignores.
pub fn json_text<'a>(method: &Method, body: &'a Bytes) -> ApiResult<&'a [u8]> {
    if *method == Method::GET {
        return Ok(body);
    }
    if body.is_empty() {
        return Ok(b"{}");
    }
    match std::str::from_utf8(body) {
        Ok(text) => Ok(text.as_bytes()),
        Err(error) => Err(ApiError::not_json(format!("The body is not UTF-8: {error}."))),
    }
}

/// The whole body, unless it is longer than `limit` bytes: 413 `M_TOO_LARGE`.
pub async fn read_body(body: Body, limit: usize) -> ApiResult<Bytes> {
    use http_body_util::{BodyExt, LengthLimitError, Limited};
    match Limited::new(body, limit).collect().await {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) if error.downcast_ref::<LengthLimitError>().is_some() => {
            Err(ApiError::too_large(format!("The body exceeds {limit} bytes.")))
        }
        Err(error) => Err(unread(error.as_ref())),
    }
}

/// The answer to a request whose body could not be read.
#[must_use]
pub fn unread(error: &(dyn std::error::Error + 'static)) -> ApiError {
    match body_error(error) {
        Some(BodyError::TooSlow) => ApiError::request_timeout(),
        Some(BodyError::Exhausted(exhausted)) => exhausted.into(),
        None => ApiError::not_json("The body ended early."),
    }
}

/// This server's own reason to stop reading, among the causes of an error.
fn body_error(error: &(dyn std::error::Error + 'static)) -> Option<BodyError> {
    std::iter::successors(Some(error), |error| error.source()).find_map(|error| error.downcast_ref().copied())
}

/// ruma's response type `T` as an axum response.
#[derive(Debug)]
pub struct Answer<T>(pub T);

impl<T: OutgoingResponse> IntoResponse for Answer<T> {
    fn into_response(self) -> Response {
        match self.0.try_into_http_response::<Vec<u8>>() {
            Ok(response) => response.map(Body::from),
            Err(error) => ApiError::internal("encoding an answer", &error).into_response(),
        }
    }
}

/// Routes by ruma's metadata: every path that an endpoint ever had (`r0`, `v3`, unstable), with its method.
pub trait RumaRoutes<S> {
    /// Adds the endpoint of request type `T`.
    #[must_use]
    fn endpoint<T, H, A>(self, handler: H) -> Self
    where
        T: Metadata,
        H: Handler<A, S>,
        A: 'static;
}

impl<S: Clone + Send + Sync + 'static> RumaRoutes<S> for Router<S> {
    fn endpoint<T, H, A>(mut self, handler: H) -> Self
    where
        T: Metadata,
        H: Handler<A, S>,
        A: 'static,
    {
        let Ok(method) = MethodFilter::try_from(T::METHOD) else {
            return self;
        };
        for path in T::PATH_BUILDER.all_paths() {
            self = self.route(path, on(method, handler.clone()));
        }
        self
    }
}
