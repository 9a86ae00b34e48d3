//! Exhausted budgets, as HTTP answers.

use std::time::Duration;

use weft_budget::Exhausted;

use crate::errors::ApiError;

/// Bytes that are held by others are released within moments.
const RETRY_AFTER: Duration = Duration::from_secs(1);

impl From<Exhausted> for ApiError {
    fn from(exhausted: Exhausted) -> Self {
        tracing::debug!(
            budget = exhausted.name,
            limit = exhausted.limit,
            "request refused: budget exhausted"
        );
        Self::limit_exceeded(RETRY_AFTER)
    }
}
