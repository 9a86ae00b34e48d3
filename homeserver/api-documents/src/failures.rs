//! Errors of the document API that have a code of their own. All others are in `weft_http::errors`.

use ruma::UserId;
use weft_http::errors::ApiError;

/// The caller's role is too low for the operation.
pub(super) fn may_not(what: &str) -> ApiError {
    ApiError::forbidden(format!("Your role in this document does not allow you to {what}."))
}

/// The path contains no valid user id.
pub(super) fn no_user() -> ApiError {
    ApiError::invalid_param("The member must be a Matrix user id such as @name:server.")
}

/// The operation would leave the document without a user who can give roles.
pub(super) fn last_owner(user: &UserId) -> ApiError {
    ApiError::forbidden(format!("{user} is the last owner. Make another user an owner first."))
}
