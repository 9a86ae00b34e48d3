//! Failures of the document API that have a code of their own. All others are in `crate::errors`.

use ruma::UserId;

use crate::errors::ApiError;

/// The caller's role is too low for what it asks.
pub(super) fn may_not(what: &str) -> ApiError {
    ApiError::forbidden(format!("Your role in this document does not allow you to {what}."))
}

/// The path names no user.
pub(super) fn no_user() -> ApiError {
    ApiError::invalid_param("A member is named by a Matrix user id, such as @name:server.")
}

/// The document would be left without anybody who can give roles.
pub(super) fn last_owner(user: &UserId) -> ApiError {
    ApiError::forbidden(format!("{user} is the last owner: make somebody else an owner first."))
}
