//! Requests that can't be parsed.

use ruma::api::error::{DeserializationError, FromHttpRequestError};

use crate::errors::ApiError;

impl From<FromHttpRequestError> for ApiError {
    fn from(error: FromHttpRequestError) -> Self {
        match error {
            FromHttpRequestError::MethodMismatch { .. } => Self::wrong_method(),
            FromHttpRequestError::Deserialization(cause) => cause.into(),
            _ => Self::bad_json("The request could not be parsed."),
        }
    }
}

impl From<DeserializationError> for ApiError {
    fn from(error: DeserializationError) -> Self {
        match error {
            DeserializationError::Json(cause) => cause.into(),
            DeserializationError::Utf8(cause) => Self::not_json(format!("The request is not UTF-8: {cause}")),
            DeserializationError::Query(cause) => Self::invalid_param(format!("The query is not valid: {cause}")),
            DeserializationError::Ident(cause) => Self::invalid_param(format!("An identifier is not valid: {cause}")),
            DeserializationError::Header(cause) => Self::invalid_param(format!("A header is not valid: {cause}")),
            _ => Self::bad_json("The request could not be parsed."),
        }
    }
}

impl From<serde_json::Error> for ApiError {
    fn from(error: serde_json::Error) -> Self {
        use serde_json::error::Category;
        // serde's text contains the field and the position.
        match error.classify() {
            Category::Data if error.to_string().starts_with("missing field") => Self::missing_param(error.to_string()),
            Category::Data => Self::bad_json(format!("The JSON has wrong contents: {error}")),
            Category::Syntax | Category::Eof | Category::Io => {
                Self::not_json(format!("The body is not valid JSON: {error}"))
            }
        }
    }
}
