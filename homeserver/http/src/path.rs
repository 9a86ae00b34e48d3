//! Parameters of paths. A path that can't be read is an error like any other, and not axum's text.

use axum::{
    extract::{FromRequestParts, Path},
    http::request::Parts,
};
use serde::de::DeserializeOwned;

use crate::{
    errors::{ApiError, ApiResult},
    openapi::Takes,
};

/// As [`Path`]: the parameters of the route, percent-decoded.
#[derive(Debug, Clone)]
pub struct InPath<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned + Send> FromRequestParts<S> for InPath<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> ApiResult<Self> {
        let Path(parameters) = Path::<T>::from_request_parts(parts, state)
            .await
            .map_err(|_| ApiError::invalid_param("The path is not valid percent-encoded UTF-8."))?;
        Ok(Self(parameters))
    }
}

/// The names of the parameters are in the route.
impl<T> Takes for InPath<T> {}
