//! Exhausted budgets, as HTTP answers.

use std::time::Duration;

use weft_budget::{Exhausted, Overspent};

use crate::{errors::ApiError, text_reads::Overdue};

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

impl From<Overspent> for ApiError {
    fn from(overspent: Overspent) -> Self {
        let Overspent { exhausted, retry_after } = overspent;
        tracing::info!(
            budget = exhausted.name,
            limit = exhausted.limit,
            "request refused: budget of the day exhausted"
        );
        Self::limit_exceeded(retry_after)
    }
}

impl From<Overdue> for ApiError {
    fn from(_: Overdue) -> Self {
        Self::limit_exceeded(RETRY_AFTER)
    }
}
