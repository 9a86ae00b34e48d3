//! Converts failures to HTTP answers: status, error code and message.
//!
//! Handlers return [`ApiError`]; errors of the crates below are converted in `errors/convert.rs` and must not be converted
//! elsewhere. The message states what the client can do; internal causes are logged and must not be sent to the client.

use std::time::Duration;

use axum::{
    Json,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde_json::{Map, Value, json};
use weft_wire::{errcode, rest::ErrorBody};

mod convert;

/// When a request that this server can't serve now may be repeated, if nothing better is known: a restart takes about as long.
const RETRY_UNAVAILABLE: Duration = Duration::from_secs(5);

/// RFC 9457: the title is the name of the status. Which kind of error it is, `errcode` says.
const NO_TYPE: &str = "about:blank";

/// A failed request as the client sees it (Matrix specification, "Standard error response", and RFC 9457).
#[derive(Debug, Clone)]
pub struct ApiError(Box<Inner>);

#[derive(Debug, Clone)]
struct Inner {
    status: StatusCode,
    errcode: &'static str,
    message: String,
    retry_after: Option<Duration>,
    extra: Map<String, Value>,
}

/// The result of every handler.
pub type ApiResult<T> = Result<T, ApiError>;

impl ApiError {
    /// Any error; the other constructors are for the errors in the specification.
    #[must_use]
    pub fn new(status: StatusCode, errcode: &'static str, message: impl Into<String>) -> Self {
        Self(Box::new(Inner {
            status,
            errcode,
            message: message.into(),
            retry_after: None,
            extra: Map::new(),
        }))
    }

    /// Adds a field to the body.
    #[must_use]
    pub fn with(mut self, key: &str, value: Value) -> Self {
        self.0.extra.insert(key.to_owned(), value);
        self
    }

    /// An additional field of the body.
    #[must_use]
    pub fn extra(&self, key: &str) -> Option<&Value> {
        self.0.extra.get(key)
    }

    /// The HTTP status.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.0.status
    }

    /// The error code, such as `M_FORBIDDEN`.
    #[must_use]
    pub fn errcode(&self) -> &'static str {
        self.0.errcode
    }

    /// The message.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// 403 `M_FORBIDDEN`.
    #[must_use]
    pub fn forbidden(message: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, "M_FORBIDDEN", message)
    }

    /// 404 `M_NOT_FOUND`.
    #[must_use]
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "M_NOT_FOUND", message)
    }

    /// 400 `M_INVALID_PARAM`.
    #[must_use]
    pub fn invalid_param(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "M_INVALID_PARAM", message)
    }

    /// 400 `M_MISSING_PARAM`.
    #[must_use]
    pub fn missing_param(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "M_MISSING_PARAM", message)
    }

    /// 400 `M_BAD_JSON`: valid JSON with wrong contents.
    #[must_use]
    pub fn bad_json(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "M_BAD_JSON", message)
    }

    /// 400 `M_NOT_JSON`: not valid JSON.
    #[must_use]
    pub fn not_json(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "M_NOT_JSON", message)
    }

    /// 408 `M_UNKNOWN`: the body arrived too slowly.
    #[must_use]
    pub fn request_timeout() -> Self {
        Self::new(
            StatusCode::REQUEST_TIMEOUT,
            "M_UNKNOWN",
            "The request body arrived too slowly.",
        )
    }

    /// 413 `M_TOO_LARGE`.
    #[must_use]
    pub fn too_large(message: impl Into<String>) -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "M_TOO_LARGE", message)
    }

    /// 401 `M_MISSING_TOKEN`.
    #[must_use]
    pub fn missing_token() -> Self {
        Self::new(
            StatusCode::UNAUTHORIZED,
            "M_MISSING_TOKEN",
            "The access token is missing.",
        )
    }

    /// 401 `M_UNKNOWN_TOKEN`; `soft_logout` lets the client refresh or log in again and keep its data.
    #[must_use]
    pub fn unknown_token(soft_logout: bool) -> Self {
        Self::new(
            StatusCode::UNAUTHORIZED,
            "M_UNKNOWN_TOKEN",
            "The access token is unknown or has expired.",
        )
        .with("soft_logout", json!(soft_logout))
    }

    /// 429 `M_LIMIT_EXCEEDED` with the time after which the client may try again.
    #[must_use]
    pub fn limit_exceeded(retry_after: Duration) -> Self {
        Self::limited("Too many requests. Try again later.", retry_after)
    }

    /// The same for failed authentication, such as wrong passwords.
    #[must_use]
    pub fn too_many_attempts(retry_after: Duration) -> Self {
        let seconds = retry_after.as_secs().max(1);
        Self::limited(format!("Too many attempts. Try again in {seconds} s."), retry_after)
    }

    fn limited(message: impl Into<String>, retry_after: Duration) -> Self {
        let millis = u64::try_from(retry_after.as_millis()).unwrap_or(u64::MAX).max(1);
        let mut error =
            Self::new(StatusCode::TOO_MANY_REQUESTS, "M_LIMIT_EXCEEDED", message).with("retry_after_ms", json!(millis));
        error.0.retry_after = Some(retry_after);
        error
    }

    /// 404 `M_UNRECOGNIZED`: unknown endpoint.
    #[must_use]
    pub fn unrecognized() -> Self {
        Self::new(StatusCode::NOT_FOUND, "M_UNRECOGNIZED", "Unknown endpoint.")
    }

    /// 405 `M_UNRECOGNIZED`: the endpoint exists, but not with this method.
    #[must_use]
    pub fn wrong_method() -> Self {
        Self::new(
            StatusCode::METHOD_NOT_ALLOWED,
            "M_UNRECOGNIZED",
            "This endpoint does not support the method.",
        )
    }

    /// 502 `M_UNKNOWN`: another server could not be reached or gave no usable answer.
    #[must_use]
    pub fn bad_gateway(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_GATEWAY, "M_UNKNOWN", message)
    }

    /// 502 `DEV_WEFT_SERVER_UNREACHABLE`: the other server could not be found or reached, or did not answer in time. The cause is
    /// not sent: it would reveal whether a name exists or leads to a private network. The field `server`
    /// contains the server name.
    #[must_use]
    pub fn unreachable(server: &ruma::ServerName) -> Self {
        Self::new(
            StatusCode::BAD_GATEWAY,
            errcode::SERVER_UNREACHABLE,
            format!("The server {server} could not be reached."),
        )
        .with("server", json!(server))
    }

    /// 503 `M_UNKNOWN`: stopping, or overloaded; the client should try again in a few seconds.
    #[must_use]
    pub fn unavailable(message: impl Into<String>) -> Self {
        let mut error = Self::new(StatusCode::SERVICE_UNAVAILABLE, "M_UNKNOWN", message);
        error.0.retry_after = Some(RETRY_UNAVAILABLE);
        error
    }

    /// The same with the time after which the client may try again.
    #[must_use]
    pub fn overloaded(message: impl Into<String>, retry_after: Duration) -> Self {
        let mut error = Self::unavailable(message);
        error.0.retry_after = Some(retry_after);
        error
    }

    /// 503 `M_UNKNOWN`: the store can't be read or written. The cause is logged and not sent.
    #[must_use]
    pub fn store(message: &'static str, cause: &dyn std::error::Error) -> Self {
        tracing::error!(event = "http.store_failed", cause = %Causes(cause), "request failed in the store");
        Self::unavailable(message)
    }

    /// 500 `M_UNKNOWN`. The cause is logged and not sent: it may contain information that the client may not see.
    #[must_use]
    pub fn internal(what: &'static str, cause: &dyn std::error::Error) -> Self {
        tracing::error!(
            event = "http.internal_error", what, cause = %Causes(cause),
            "request failed with an internal error"
        );
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "M_UNKNOWN", "Internal server error.")
    }
}

/// An error and its causes, on one line for the log.
struct Causes<'a>(&'a dyn std::error::Error);

impl std::fmt::Display for Causes<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0)?;
        let mut cause = self.0.source();
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}

impl std::fmt::Display for ApiError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}: {}", self.0.status.as_u16(), self.0.errcode, self.0.message)
    }
}

impl std::error::Error for ApiError {}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let Inner {
            status,
            errcode,
            message,
            retry_after,
            extra,
        } = *self.0;
        let body = ErrorBody {
            errcode: errcode.to_owned(),
            error: message.clone(),
            kind: NO_TYPE.to_owned(),
            title: status.canonical_reason().unwrap_or_default().to_owned(),
            status: status.as_u16(),
            detail: message,
            more: extra,
        };
        let mut response = (status, Json(body)).into_response();
        if let Some(wait) = retry_after {
            // A client that waits for this time must not be too early.
            let seconds = u64::try_from(wait.as_millis().div_ceil(1_000)).unwrap_or(u64::MAX);
            response
                .headers_mut()
                .insert(header::RETRY_AFTER, HeaderValue::from(seconds.max(1)));
        }
        response
    }
}

/// Router fallback for an unknown path.
pub async fn unknown_path() -> ApiError {
    ApiError::unrecognized()
}

/// Router fallback for an unsupported method.
pub async fn unknown_method() -> ApiError {
    ApiError::wrong_method()
}
