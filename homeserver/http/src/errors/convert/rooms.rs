//! The error of `room`: one conversion for each kind of refusal.

use axum::http::StatusCode;
use weft_room_api::{
    AdoptRefusal, CreateRefusal, DirectoryRefusal, EditRefusal, EventRefusal, LimitExceeded, MembershipRefusal,
    OutOfBandRefusal, RoomError, Unavailable,
};
use weft_wire::errcode;

use crate::errors::{ApiError, convert::store};

impl From<RoomError> for ApiError {
    fn from(error: RoomError) -> Self {
        match error {
            // An unknown room and a room that the user is not in have the same answer.
            RoomError::UnknownRoom(_) | RoomError::Edit(EditRefusal::NotJoined) => {
                Self::forbidden("You are not joined to this room, or it does not exist.")
            }
            RoomError::NotResident(_) => Self::not_found("This server is not in the room."),
            RoomError::NotADocument(_) => Self::new(
                StatusCode::NOT_FOUND,
                errcode::NOT_A_DOCUMENT,
                "This room is not a document.",
            ),
            RoomError::UnknownEvent(_) => Self::not_found("Event not found in this room."),
            RoomError::UnsupportedVersion(version) => Self::new(
                StatusCode::BAD_REQUEST,
                "M_UNSUPPORTED_ROOM_VERSION",
                format!("Room version {version} is not supported."),
            ),
            RoomError::Forbidden { reason } => Self::forbidden(format!("The room's rules forbid this: {reason}")),
            RoomError::StateChanged { .. } | RoomError::TextChanged => Self::unavailable(store::CONFLICT),
            RoomError::BadVector(_) => Self::invalid_param(error.to_string()),
            RoomError::Content(refusal) => Self::not_found(refusal.to_string()),
            RoomError::Event(refusal) => event(refusal),
            RoomError::Edit(refusal) => edit(&refusal),
            RoomError::Create(refusal) => create(refusal),
            RoomError::Membership(refusal) => membership(refusal),
            RoomError::Adopt(refusal) => adopt(&refusal),
            RoomError::Directory(refusal) => directory(refusal),
            RoomError::OutOfBand(refusal) => out_of_band(refusal),
            RoomError::LimitExceeded(LimitExceeded {
                budget,
                limit,
                retry_after,
            }) => {
                tracing::info!(%budget, limit, "request refused: budget exhausted");
                Self::limit_exceeded(retry_after)
            }
            RoomError::Unavailable(error) => error.into(),
        }
    }
}

impl From<Unavailable> for ApiError {
    fn from(error: Unavailable) -> Self {
        match error {
            Unavailable::Stopping => Self::unavailable("The server is stopping."),
            Unavailable::Interrupted | Unavailable::Moved => {
                Self::unavailable("The request was interrupted. Try again.")
            }
            Unavailable::Conflict { .. } => Self::unavailable(store::CONFLICT),
            Unavailable::Unreadable(_) => Self::store(store::UNREADABLE, &error),
            Unavailable::Unwritable(_) => Self::store(store::UNWRITABLE, &error),
            Unavailable::Damaged(_) | Unavailable::Internal(_) => Self::internal("rooms", &error),
        }
    }
}

fn event(refusal: EventRefusal) -> ApiError {
    match refusal {
        EventRefusal::BadContent { reason } => ApiError::bad_json(format!("The content is not allowed: {reason}")),
        EventRefusal::TooLarge { reason } => ApiError::too_large(format!("The event is too large: {reason}")),
        EventRefusal::Inadmissible { reason } => ApiError::new(
            StatusCode::BAD_REQUEST,
            errcode::UPDATE_REFUSED,
            format!("The edit was refused: {reason}"),
        ),
        EventRefusal::TooManyParticipants { limit } => ApiError::new(
            StatusCode::FORBIDDEN,
            errcode::TOO_MANY_PARTICIPANTS,
            format!("The document has {limit} participants, which is the limit of this server."),
        ),
    }
}

fn edit(refusal: &EditRefusal) -> ApiError {
    match refusal {
        EditRefusal::NotJoined => ApiError::forbidden(refusal.to_string()),
        EditRefusal::Role { role, .. } => ApiError::forbidden(format!(
            "Your role ({}) does not allow you to edit this document.",
            role.name()
        )),
        EditRefusal::Locked { .. } => ApiError::new(
            StatusCode::FORBIDDEN,
            errcode::LOCKED,
            "This document is locked. Suggest a change, or ask a manager to unlock it.",
        ),
        EditRefusal::Update { .. } => {
            ApiError::new(StatusCode::BAD_REQUEST, errcode::UPDATE_REFUSED, refusal.to_string())
        }
        EditRefusal::TooLarge { .. } | EditRefusal::TooManyClients(_) => ApiError::too_large(refusal.to_string()),
    }
}

fn create(refusal: CreateRefusal) -> ApiError {
    let bad = StatusCode::BAD_REQUEST;
    match refusal {
        CreateRefusal::AliasTaken(alias) => {
            ApiError::new(bad, "M_ROOM_IN_USE", format!("Room alias {alias} is already taken."))
        }
        CreateRefusal::Invalid { .. } => ApiError::invalid_param(refusal.to_string()),
        CreateRefusal::Event { .. } => ApiError::new(bad, "M_INVALID_ROOM_STATE", refusal.to_string()),
    }
}

fn membership(refusal: MembershipRefusal) -> ApiError {
    match refusal {
        MembershipRefusal::Forbidden { reason } => ApiError::forbidden(reason),
        MembershipRefusal::BadEvent { reason } => ApiError::invalid_param(reason),
        MembershipRefusal::UnableToAuthorise => ApiError::new(
            StatusCode::BAD_REQUEST,
            "M_UNABLE_TO_AUTHORISE_JOIN",
            refusal.to_string(),
        ),
    }
}

fn adopt(refusal: &AdoptRefusal) -> ApiError {
    match refusal {
        AdoptRefusal::BadState { .. } => ApiError::bad_gateway(refusal.to_string()),
        AdoptRefusal::Overtaken => {
            ApiError::unavailable("The resident server had not yet received your leave or removal. Try again.")
        }
    }
}

fn directory(refusal: DirectoryRefusal) -> ApiError {
    match refusal {
        DirectoryRefusal::Taken(alias) => ApiError::new(
            StatusCode::CONFLICT,
            "M_UNKNOWN",
            format!("Room alias {alias} is already taken."),
        ),
        DirectoryRefusal::UnknownAlias(alias) => ApiError::not_found(format!("Room alias {alias} not found.")),
        DirectoryRefusal::StillIn => ApiError::new(
            StatusCode::BAD_REQUEST,
            "M_UNKNOWN",
            "Leave the room before forgetting it.",
        ),
    }
}

fn out_of_band(refusal: OutOfBandRefusal) -> ApiError {
    match refusal {
        OutOfBandRefusal::TooMany { retry_after } => ApiError::limit_exceeded(retry_after),
        OutOfBandRefusal::Malformed { reason } => ApiError::bad_json(reason),
    }
}
