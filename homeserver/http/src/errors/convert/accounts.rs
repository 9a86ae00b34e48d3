//! Errors of `accounts`.

use std::time::Duration;

use axum::http::StatusCode;
use weft_accounts::{
    AccountsUnavailable, DeviceError, FilterError, InvalidUsername, LoginError, PasswordRefused, ProfileError,
    ProofError, RefreshError, RegisterError, SetAccountDataError, SetPasswordError,
};

use crate::errors::ApiError;

impl From<AccountsUnavailable> for ApiError {
    fn from(error: AccountsUnavailable) -> Self {
        match error {
            AccountsUnavailable::Contended => {
                Self::unavailable("A concurrent request changed the same data. Try again.")
            }
            AccountsUnavailable::Busy => Self::limit_exceeded(Duration::from_secs(1)),
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

impl From<PasswordRefused> for ApiError {
    fn from(error: PasswordRefused) -> Self {
        match error {
            PasswordRefused::TooShort => Self::new(StatusCode::BAD_REQUEST, "M_WEAK_PASSWORD", capitalized(&error)),
            PasswordRefused::TooLong => Self::invalid_param(capitalized(&error)),
        }
    }
}

/// An error's text as a sentence.
fn capitalized(error: &impl ToString) -> String {
    let words = error.to_string();
    let mut letters = words.chars();
    match letters.next() {
        Some(first) => format!("{}{}.", first.to_uppercase(), letters.as_str()),
        None => words,
    }
}

impl From<DeviceError> for ApiError {
    fn from(error: DeviceError) -> Self {
        match error {
            DeviceError::Id | DeviceError::NameTooLong => Self::invalid_param(capitalized(&error)),
            DeviceError::Unavailable(error) => error.into(),
        }
    }
}

impl From<ProofError> for ApiError {
    fn from(error: ProofError) -> Self {
        match error {
            ProofError::Denied => Self::forbidden("The user name or the password is wrong."),
            ProofError::Throttled { retry_after } => Self::too_many_attempts(retry_after),
            ProofError::Unavailable(error) => error.into(),
        }
    }
}

impl From<RegisterError> for ApiError {
    fn from(error: RegisterError) -> Self {
        match error {
            RegisterError::InvalidUsername(error) => error.into(),
            RegisterError::Taken => Self::new(
                StatusCode::BAD_REQUEST,
                "M_USER_IN_USE",
                "This user name is already taken.",
            ),
            RegisterError::Password(error) => error.into(),
            RegisterError::Profile(error) => error.into(),
            RegisterError::Unavailable(error) => error.into(),
        }
    }
}

impl From<SetPasswordError> for ApiError {
    fn from(error: SetPasswordError) -> Self {
        match error {
            SetPasswordError::UnknownUser => Self::not_found("Account not found."),
            SetPasswordError::Password(error) => error.into(),
            SetPasswordError::Unavailable(error) => error.into(),
        }
    }
}

impl From<LoginError> for ApiError {
    fn from(error: LoginError) -> Self {
        match error {
            LoginError::Proof(error) => error.into(),
            LoginError::Device(error) => error.into(),
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
            ProfileError::TooLarge | ProfileError::NameTooLong | ProfileError::AvatarUrlTooLong => {
                Self::new(status, "M_PROFILE_TOO_LARGE", error.to_string())
            }
            ProfileError::NotOneLine => Self::invalid_param(capitalized(&error)),
            ProfileError::NotText(_) => Self::bad_json(error.to_string()),
            ProfileError::Unavailable(error) => error.into(),
        }
    }
}

impl From<SetAccountDataError> for ApiError {
    fn from(error: SetAccountDataError) -> Self {
        match error {
            SetAccountDataError::TooLarge | SetAccountDataError::QuotaExceeded { .. } => {
                Self::too_large(capitalized(&error))
            }
            SetAccountDataError::Unavailable(error) => error.into(),
        }
    }
}

impl From<FilterError> for ApiError {
    fn from(error: FilterError) -> Self {
        match error {
            FilterError::TooLarge => Self::too_large(error.to_string()),
            FilterError::TooMany { .. } => Self::invalid_param(error.to_string()),
            FilterError::Unavailable(error) => error.into(),
        }
    }
}
