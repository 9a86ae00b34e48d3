//! The errors of the render workers.

use std::time::Duration;

use axum::http::StatusCode;
use serde_json::json;
use weft_render::{OfficeError, RenderError};
use weft_wire::errcode;

use crate::errors::ApiError;

impl From<RenderError> for ApiError {
    fn from(error: RenderError) -> Self {
        let message = error.to_string();
        match error {
            RenderError::Busy { retry_after } => Self::overloaded(message, retry_after),
            RenderError::TimedOut { .. } => not_rendered(message, Duration::ZERO),
            RenderError::NotRendered { retry_after, .. } => not_rendered(message, retry_after),
            RenderError::TooLarge { .. } | RenderError::ImageTooLarge => Self::too_large(message),
            RenderError::Refused { change, error } => Self::invalid_param(message)
                .with("change", json!(change))
                .with("problem", json!(error)),
            // The cause is for the operator and was logged.
            RenderError::Unavailable { .. } => Self::unavailable("Documents can't be rendered on this server now."),
        }
    }
}

fn not_rendered(message: String, retry_after: Duration) -> ApiError {
    let error = ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, errcode::NOT_RENDERED, message);
    if retry_after.is_zero() {
        return error;
    }
    let millis = u64::try_from(retry_after.as_millis()).unwrap_or(u64::MAX);
    error.with("retry_after_ms", json!(millis))
}

impl From<OfficeError> for ApiError {
    fn from(error: OfficeError) -> Self {
        let message = error.to_string();
        match error {
            OfficeError::NotInstalled => Self::new(
                StatusCode::NOT_IMPLEMENTED,
                errcode::NO_CONVERTER,
                "This server can't convert office files, because pandoc is not installed on it.",
            ),
            OfficeError::Busy => Self::overloaded(message, Duration::from_secs(10)),
            OfficeError::Failed => Self::new(StatusCode::UNPROCESSABLE_ENTITY, errcode::NOT_RENDERED, message),
            OfficeError::TooLarge { .. } => Self::too_large(message),
        }
    }
}
