//! The one place where a failure becomes an HTTP answer: status, error code and words.
//!
//! Handlers return [`ApiError`]; errors of the crates below are turned into it in `errors/convert.rs` and nowhere
//! else. The words say what the client can do; what went wrong inside goes to the log, never to the client.

use std::time::Duration;

use axum::{
    Json,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde_json::{Map, Value, json};
use weft_wire::errcode;

mod convert;

/// A failed request as the client sees it (Matrix specification, "Standard error response").
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

/// What every handler returns.
pub type ApiResult<T> = Result<T, ApiError>;

impl ApiError {
    /// Any error: the constructors below are for those that the specification names.
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

    /// The same error with one more field in its body.
    #[must_use]
    pub fn with(mut self, key: &str, value: Value) -> Self {
        self.0.extra.insert(key.to_owned(), value);
        self
    }

    /// A further field of the body.
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

    /// The words.
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

    /// 400 `M_BAD_JSON`: JSON of the wrong shape.
    #[must_use]
    pub fn bad_json(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "M_BAD_JSON", message)
    }

    /// 400 `M_NOT_JSON`: no JSON at all.
    #[must_use]
    pub fn not_json(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "M_NOT_JSON", message)
    }

    /// 408 `M_UNKNOWN`: the body came too slowly.
    #[must_use]
    pub fn request_timeout() -> Self {
        Self::new(
            StatusCode::REQUEST_TIMEOUT,
            "M_UNKNOWN",
            "The request's body came too slowly.",
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
            "Sign in first: the request has no access token.",
        )
    }

    /// 401 `M_UNKNOWN_TOKEN`; `soft_logout` tells the client to refresh or to sign in again and keep its data.
    #[must_use]
    pub fn unknown_token(soft_logout: bool) -> Self {
        Self::new(
            StatusCode::UNAUTHORIZED,
            "M_UNKNOWN_TOKEN",
            "The access token is not or no longer valid.",
        )
        .with("soft_logout", json!(soft_logout))
    }

    /// 429 `M_LIMIT_EXCEEDED` with the time after which the client may try again.
    #[must_use]
    pub fn limit_exceeded(retry_after: Duration) -> Self {
        Self::limited("Too many requests: wait a moment.", retry_after)
    }

    /// The same for failed proofs, such as passwords.
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

    /// 404 `M_UNRECOGNIZED`: no such endpoint.
    #[must_use]
    pub fn unrecognized() -> Self {
        Self::new(
            StatusCode::NOT_FOUND,
            "M_UNRECOGNIZED",
            "This server has no such endpoint.",
        )
    }

    /// 405 `M_UNRECOGNIZED`: the endpoint exists, not with this method.
    #[must_use]
    pub fn wrong_method() -> Self {
        Self::new(
            StatusCode::METHOD_NOT_ALLOWED,
            "M_UNRECOGNIZED",
            "This endpoint does not take that method.",
        )
    }

    /// 502 `M_UNKNOWN`: another server could not be reached or gave no usable answer.
    #[must_use]
    pub fn bad_gateway(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_GATEWAY, "M_UNKNOWN", message)
    }

    /// 502 `DEV_WEFT_SERVER_UNREACHABLE`: the other server could not be found or reached, or gave no answer in time. Why is
    /// not told: whether a name does not exist or leads to a private network is nobody's business. The field `server`
    /// names it.
    #[must_use]
    pub fn unreachable(server: &ruma::ServerName) -> Self {
        Self::new(
            StatusCode::BAD_GATEWAY,
            errcode::SERVER_UNREACHABLE,
            format!("The server {server} could not be reached."),
        )
        .with("server", json!(server))
    }

    /// 503 `M_UNKNOWN`: stopping, or too busy; the client should try again.
    #[must_use]
    pub fn unavailable(message: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "M_UNKNOWN", message)
    }

    /// 503 `M_UNKNOWN`: the store can't be read or written. The cause is logged and not told.
    #[must_use]
    pub fn store(message: &'static str, cause: &dyn std::error::Error) -> Self {
        tracing::error!(cause = %Causes(cause), "the store failed a request");
        Self::unavailable(message)
    }

    /// 500 `M_UNKNOWN`. The cause is logged and not told: it may name what the client has no right to know.
    #[must_use]
    pub fn internal(what: &'static str, cause: &dyn std::error::Error) -> Self {
        tracing::error!(what, cause = %Causes(cause), "request failed inside");
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "M_UNKNOWN",
            "Something went wrong on the server.",
        )
    }
}

/// An error and what caused it, on one line for the log.
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
            mut extra,
        } = *self.0;
        extra.insert("errcode".to_owned(), Value::from(errcode));
        extra.insert("error".to_owned(), Value::from(message));
        let mut response = (status, Json(Value::Object(extra))).into_response();
        if let Some(wait) = retry_after {
            response
                .headers_mut()
                .insert(header::RETRY_AFTER, HeaderValue::from(wait.as_secs().max(1)));
        }
        response
    }
}

/// Fallback of a router: unknown path.
pub async fn unknown_path() -> ApiError {
    ApiError::unrecognized()
}

/// Fallback of a router: known path, other method.
pub async fn unknown_method() -> ApiError {
    ApiError::wrong_method()
}
