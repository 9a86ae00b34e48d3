//! The bodies of requests, within their limits: JSON, and Yjs v1 encodings as bytes. Also their idempotency keys. Must not
//! interpret them.

use axum::{
    extract::{FromRequest, Request},
    http::HeaderMap,
};
use bytes::Bytes;
use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use weft_http::{
    errors::{ApiError, ApiResult},
    openapi::{Operation, Takes},
    ruma_json::read_body,
};
use weft_wire::limits::{MAX_CLIENT_REQUEST_BYTES, MAX_IDEMPOTENCY_KEY_BYTES};

/// A JSON body of at most [`MAX_CLIENT_REQUEST_BYTES`].
pub(super) struct JsonBody<T>(pub(super) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for JsonBody<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, _: &S) -> ApiResult<Self> {
        let body = read_body(request.into_body(), MAX_CLIENT_REQUEST_BYTES).await?;
        Ok(Self(object(&body)?))
    }
}

fn object<T: DeserializeOwned>(body: &[u8]) -> ApiResult<T> {
    // serde would take an array for an object with fields in this order.
    if body.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'[') {
        return Err(ApiError::bad_json("The body must be a JSON object."));
    }
    Ok(serde_json::from_slice(body)?)
}

impl<T: JsonSchema> Takes for JsonBody<T> {
    fn describe(operation: &mut Operation) {
        operation.set_json::<T>();
    }
}

/// The same; an empty body is that of a request without fields.
pub(super) struct OptionalJsonBody<T>(pub(super) T);

impl<S: Send + Sync, T: Default + DeserializeOwned> FromRequest<S> for OptionalJsonBody<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, _: &S) -> ApiResult<Self> {
        let body = read_body(request.into_body(), MAX_CLIENT_REQUEST_BYTES).await?;
        if body.is_empty() {
            return Ok(Self(T::default()));
        }
        Ok(Self(object(&body)?))
    }
}

impl<T: JsonSchema> Takes for OptionalJsonBody<T> {
    fn describe(operation: &mut Operation) {
        operation.set_optional_json::<T>();
    }
}

/// A body of at most `LIMIT` bytes, of any content type.
pub(super) struct BinaryBody<const LIMIT: usize>(pub(super) Bytes);

impl<S: Send + Sync, const LIMIT: usize> FromRequest<S> for BinaryBody<LIMIT> {
    type Rejection = ApiError;

    async fn from_request(request: Request, _: &S) -> ApiResult<Self> {
        read_body(request.into_body(), LIMIT).await.map(Self)
    }
}

impl<const LIMIT: usize> Takes for BinaryBody<LIMIT> {
    fn describe(operation: &mut Operation) {
        operation.set_bytes(LIMIT);
    }
}

/// Describes that the handler calls [`idempotency_key`].
pub(super) fn with_idempotency_key(operation: Operation) -> Operation {
    operation.takes(
        "Idempotency-Key",
        Some(format!("^[!-~]{{1,{MAX_IDEMPOTENCY_KEY_BYTES}}}$")),
        "With the same key, the same request is carried out once.",
    )
}

/// The header `Idempotency-Key`.
///
/// # Errors
/// When it is empty, longer than [`MAX_IDEMPOTENCY_KEY_BYTES`], or has other characters than visible ASCII.
pub(super) fn idempotency_key(headers: &HeaderMap) -> ApiResult<Option<&str>> {
    let Some(key) = headers.get("idempotency-key") else {
        return Ok(None);
    };
    let is_visible = |key: &&str| !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_graphic());
    let key = key.to_str().ok().filter(is_visible);
    let key = key.ok_or_else(|| ApiError::invalid_param("Idempotency-Key must be visible ASCII characters."))?;
    if key.len() > MAX_IDEMPOTENCY_KEY_BYTES {
        let limit = MAX_IDEMPOTENCY_KEY_BYTES;
        return Err(ApiError::invalid_param(format!(
            "Idempotency-Key can have at most {limit} bytes."
        )));
    }
    Ok(Some(key))
}
