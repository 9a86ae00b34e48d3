//! Errors of `room`.

use axum::http::StatusCode;
use weft_room::{
    AcceptError, AccessError, AdoptError, ContentError, CreateError, DirectoryError, EditError, OpenError,
    OutOfBandError, ReceiveError, SendError, TemplateError, Unavailable,
};
use weft_wire::errcode;

use crate::errors::ApiError;

impl From<Unavailable> for ApiError {
    fn from(error: Unavailable) -> Self {
        match error {
            Unavailable::Stopping => Self::unavailable("The server is stopping."),
            Unavailable::Interrupted => Self::unavailable("The request was interrupted. Try again."),
            Unavailable::Read(error) => error.into(),
            Unavailable::Commit(error) => error.into(),
            error @ Unavailable::Damaged(_) => Self::internal("rooms", &error),
        }
    }
}

/// An unknown room and a room that the user is not in have the same answer.
fn unknown_room() -> ApiError {
    ApiError::forbidden("You are not joined to this room, or it does not exist.")
}

impl From<SendError> for ApiError {
    fn from(error: SendError) -> Self {
        match error {
            SendError::UnknownRoom(_) => unknown_room(),
            SendError::Forbidden { reason } => Self::forbidden(format!("The room's rules forbid this: {reason}")),
            SendError::UnknownEvent(_) => Self::not_found("Event not found in this room."),
            SendError::BadContent { reason } => Self::bad_json(format!("The content is not allowed: {reason}")),
            SendError::TooLarge { reason } => Self::too_large(format!("The event is too large: {reason}")),
            SendError::Inadmissible { reason } => Self::new(
                StatusCode::BAD_REQUEST,
                errcode::UPDATE_REFUSED,
                format!("The edit was refused: {reason}"),
            ),
            SendError::Overspent(error) => error.into(),
            SendError::Unavailable(error) => error.into(),
        }
    }
}

impl From<CreateError> for ApiError {
    fn from(error: CreateError) -> Self {
        let bad = StatusCode::BAD_REQUEST;
        match error {
            CreateError::UnsupportedVersion(version) => Self::new(
                bad,
                "M_UNSUPPORTED_ROOM_VERSION",
                format!("Room version {version} is not supported."),
            ),
            CreateError::AliasTaken(alias) => {
                Self::new(bad, "M_ROOM_IN_USE", format!("Room alias {alias} is already taken."))
            }
            CreateError::Invalid { .. } => Self::invalid_param(error.to_string()),
            CreateError::Event { kind, source } => match *source {
                SendError::Unavailable(error) => error.into(),
                error => Self::new(bad, "M_INVALID_ROOM_STATE", format!("{kind} was not accepted: {error}")),
            },
            CreateError::Overspent(error) => error.into(),
            CreateError::Unavailable(error) => error.into(),
        }
    }
}

impl From<AccessError> for ApiError {
    fn from(error: AccessError) -> Self {
        match error {
            AccessError::UnknownRoom(_) => unknown_room(),
            AccessError::Unavailable(error) => error.into(),
        }
    }
}

impl From<DirectoryError> for ApiError {
    fn from(error: DirectoryError) -> Self {
        match error {
            DirectoryError::Taken(alias) => Self::new(
                StatusCode::CONFLICT,
                "M_UNKNOWN",
                format!("Room alias {alias} is already taken."),
            ),
            DirectoryError::UnknownAlias(alias) => Self::not_found(format!("Room alias {alias} not found.")),
            DirectoryError::StillIn => Self::new(
                StatusCode::BAD_REQUEST,
                "M_UNKNOWN",
                "Leave the room before forgetting it.",
            ),
            DirectoryError::Unavailable(error) => error.into(),
        }
    }
}

impl From<EditError> for ApiError {
    fn from(error: EditError) -> Self {
        let bad = StatusCode::BAD_REQUEST;
        match error {
            EditError::UnknownRoom(_) | EditError::NotJoined => unknown_room(),
            EditError::NotADocument(_) => not_a_document(),
            EditError::Forbidden { role } => Self::forbidden(format!(
                "Your role ({}) does not allow you to edit this document.",
                role.name()
            )),
            EditError::Malformed(_) | EditError::Refused(_) => {
                Self::new(bad, errcode::UPDATE_REFUSED, error.to_string())
            }
            EditError::TooLarge { .. } | EditError::TooManyClients(_) => Self::too_large(error.to_string()),
            EditError::Overspent(error) => error.into(),
            EditError::Unavailable(error) => error.into(),
        }
    }
}

fn not_a_document() -> ApiError {
    ApiError::new(
        StatusCode::NOT_FOUND,
        errcode::NOT_A_DOCUMENT,
        "This room is not a document.",
    )
}

impl From<OpenError> for ApiError {
    fn from(error: OpenError) -> Self {
        match error {
            OpenError::UnknownRoom(_) => unknown_room(),
            OpenError::NotADocument(_) => not_a_document(),
            OpenError::Vector(_) => Self::invalid_param(error.to_string()),
            OpenError::Unavailable(error) => error.into(),
        }
    }
}

impl From<ContentError> for ApiError {
    fn from(error: ContentError) -> Self {
        match error {
            ContentError::Unavailable(error) => error.into(),
            error => Self::not_found(error.to_string()),
        }
    }
}

impl From<ReceiveError> for ApiError {
    fn from(error: ReceiveError) -> Self {
        match error {
            ReceiveError::TooMuchWaits { retry_after, .. } => Self::limit_exceeded(retry_after),
            ReceiveError::Unavailable(error) => error.into(),
        }
    }
}

impl From<TemplateError> for ApiError {
    fn from(error: TemplateError) -> Self {
        match error {
            TemplateError::UnknownRoom(_) => Self::not_found("This server is not in the room."),
            TemplateError::Forbidden { reason } => Self::forbidden(reason),
            TemplateError::UnableToAuthorise => {
                Self::new(StatusCode::BAD_REQUEST, "M_UNABLE_TO_AUTHORISE_JOIN", error.to_string())
            }
            TemplateError::Unavailable(error) => error.into(),
        }
    }
}

impl From<AcceptError> for ApiError {
    fn from(error: AcceptError) -> Self {
        match error {
            AcceptError::UnknownRoom(_) => Self::not_found("This server is not in the room."),
            AcceptError::BadEvent { reason } => Self::invalid_param(reason),
            AcceptError::Forbidden { reason } => Self::forbidden(reason),
            AcceptError::Unavailable(error) => error.into(),
        }
    }
}

impl From<OutOfBandError> for ApiError {
    fn from(error: OutOfBandError) -> Self {
        match error {
            OutOfBandError::TooMany { retry_after } => Self::limit_exceeded(retry_after),
            OutOfBandError::Malformed { reason } => Self::bad_json(reason),
            OutOfBandError::Unavailable(error) => error.into(),
        }
    }
}

impl From<AdoptError> for ApiError {
    fn from(error: AdoptError) -> Self {
        match error {
            AdoptError::UnsupportedVersion(version) => Self::new(
                StatusCode::BAD_REQUEST,
                "M_UNSUPPORTED_ROOM_VERSION",
                format!("Room version {version} is not supported."),
            ),
            AdoptError::BadState { .. } => Self::bad_gateway(error.to_string()),
            AdoptError::Overtaken => {
                Self::unavailable("The resident server had not yet received your leave or removal. Try again.")
            }
            AdoptError::Unavailable(error) => error.into(),
        }
    }
}
