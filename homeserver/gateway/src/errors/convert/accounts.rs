//! Failures of accounts.

use axum::http::StatusCode;
use weft_accounts::{
    AccountsUnavailable, FilterError, InvalidUsername, LoginError, ProfileError, RefreshError, RegisterError,
    SetAccountDataError, SetPasswordError,
};

use crate::errors::ApiError;

impl From<AccountsUnavailable> for ApiError {
    fn from(error: AccountsUnavailable) -> Self {
        match error {
            AccountsUnavailable::Contended => Self::unavailable("Others changed the same at that moment: try again."),
            AccountsUnavailable::Read(error) => error.into(),
            AccountsUnavailable::Commit(error) => error.into(),
            error @ AccountsUnavailable::Hash => Self::internal("accounts", &error),
        }
    }
}

impl From<InvalidUsername> for ApiError {
    fn from(error: InvalidUsername) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "M_INVALID_USERNAME", error.to_string())
    }
}

fn bad_password(error: &impl ToString) -> ApiError {
    ApiError::invalid_param(error.to_string())
}

impl From<RegisterError> for ApiError {
    fn from(error: RegisterError) -> Self {
        match error {
            RegisterError::InvalidUsername(error) => error.into(),
            RegisterError::Taken => Self::new(StatusCode::BAD_REQUEST, "M_USER_IN_USE", "This user name is taken."),
            RegisterError::BadPassword => bad_password(&error),
            RegisterError::Unavailable(error) => error.into(),
        }
    }
}

impl From<SetPasswordError> for ApiError {
    fn from(error: SetPasswordError) -> Self {
        match error {
            SetPasswordError::UnknownUser => Self::not_found("There is no such account."),
            SetPasswordError::BadPassword => bad_password(&error),
            SetPasswordError::Unavailable(error) => error.into(),
        }
    }
}

impl From<LoginError> for ApiError {
    fn from(error: LoginError) -> Self {
        match error {
            LoginError::Denied => Self::forbidden("The user name or the password is wrong."),
            LoginError::Throttled { retry_after } => Self::limit_exceeded(retry_after),
            LoginError::Unavailable(error) => error.into(),
        }
    }
}

impl From<RefreshError> for ApiError {
    fn from(error: RefreshError) -> Self {
        match error {
            RefreshError::Unknown => Self::unknown_token(false),
            RefreshError::Unavailable(error) => error.into(),
        }
    }
}

impl From<ProfileError> for ApiError {
    fn from(error: ProfileError) -> Self {
        let status = StatusCode::BAD_REQUEST;
        match error {
            ProfileError::FieldNameTooLong => Self::new(status, "M_KEY_TOO_LARGE", error.to_string()),
            ProfileError::TooLarge | ProfileError::NameTooLong => {
                Self::new(status, "M_PROFILE_TOO_LARGE", error.to_string())
            }
            ProfileError::NotText(_) => Self::bad_json(error.to_string()),
            ProfileError::Unavailable(error) => error.into(),
        }
    }
}

impl From<SetAccountDataError> for ApiError {
    fn from(error: SetAccountDataError) -> Self {
        match error {
            SetAccountDataError::TooLarge => Self::too_large(error.to_string()),
            SetAccountDataError::Unavailable(error) => error.into(),
        }
    }
}

impl From<FilterError> for ApiError {
    fn from(error: FilterError) -> Self {
        match error {
            FilterError::TooLarge => Self::too_large(error.to_string()),
            FilterError::TooMany => Self::invalid_param(error.to_string()),
            FilterError::Unavailable(error) => error.into(),
        }
    }
}
