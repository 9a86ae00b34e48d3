//! The errors of webhooks.

use std::time::Duration;

use weft_webhooks::WebhookError;

use crate::errors::ApiError;

impl From<WebhookError> for ApiError {
    fn from(error: WebhookError) -> Self {
        let message = error.to_string();
        match error {
            WebhookError::NotFound => Self::not_found("There is no such webhook."),
            WebhookError::Url(_) | WebhookError::EventName(_) => {
                Self::invalid_param(format!("Not possible: {message}."))
            }
            WebhookError::TooMany { .. } => Self::forbidden(format!("There are too many webhooks: {message}.")),
            WebhookError::Limited { retry_after_ms } => Self::limit_exceeded(Duration::from_millis(retry_after_ms)),
            WebhookError::Read(error) => error.into(),
            WebhookError::Commit(error) => error.into(),
            WebhookError::Rooms(error) => error.into(),
            WebhookError::Accounts(error) => error.into(),
        }
    }
}
