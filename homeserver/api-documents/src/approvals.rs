//! `/documents/{id}/approvals`: users approve the text that they read (`spec/docs/lock.md`).
//!
//! Must not approve another text than the one whose hash is in the event.

use std::cmp::Reverse;

use axum::{Json, extract::State, http::StatusCode};
use ruma::{EventId, RoomId, UserId};
use serde_json::{Map, json};
use weft_dag::{Pdu, StateView};
use weft_http::{
    authentication::Authenticated,
    errors::{ApiError, ApiResult},
    openapi::{Operation, Routes},
    path::InPath,
};
use weft_render::{Format, RenderError, RenderRequest};
use weft_room_api::{EventOfText, NewEvent, RoomError};
use weft_wire::{
    event_types,
    lock::ApprovalContent,
    rest::{Approval, ApprovalList, ApproveDocument, Done},
    schema,
};

use super::{
    DocumentPorts,
    caller::{Named, Open, open, open_room},
    content::state_hash,
    failures::may_not,
    lock::{MAX_ATTEMPTS, check_statement, other_text, present_hash, state_event},
    request::JsonBody,
    show::described,
    summary,
};

pub(super) fn routes() -> Routes<DocumentPorts> {
    Routes::new("Lock and approvals")
        .get(
            "/_weft/client/v1/documents/{id}/approvals",
            list,
            Operation::new("listApprovals", "The last approval of each user, newest first"),
        )
        .post(
            "/_weft/client/v1/documents/{id}/approvals",
            approve,
            Operation::new("approveDocument", "Approves the present text")
                .refuses(403, "Below commenter.")
                .refuses(409, "The document has another version."),
        )
        .delete(
            "/_weft/client/v1/documents/{id}/approvals/{event}",
            withdraw,
            Operation::new("withdrawApproval", "Withdraws an approval")
                .path::<schema::EventId>("event", "The approval.")
                .refuses(403, "Below manager, for another user's approval."),
        )
}

/// The last approval of each user, for every member.
async fn list(
    State(ports): State<DocumentPorts>,
    Authenticated(session): Authenticated,
    named: Named,
) -> ApiResult<Json<ApprovalList>> {
    let Open { room, state } = open(&ports, &named, &session.user_id).await?;
    let mut approvals: Vec<Approval> = state
        .of_type(event_types::APPROVAL)
        .filter_map(|event| shown(&state, event))
        .collect();
    if !approvals.is_empty() {
        let present = present_hash(&ports, &room, &session.user_id).await?;
        for approval in &mut approvals {
            approval.is_present_text = present.as_ref().map(|present| *present == approval.state_hash);
        }
    }
    approvals.sort_by(|one, other| (Reverse(one.at), &one.user_id).cmp(&(Reverse(other.at), &other.user_id)));
    Ok(Json(ApprovalList { approvals }))
}

/// `None` for an event that is withdrawn or malformed.
fn shown(state: &StateView, event: &Pdu) -> Option<Approval> {
    let content: ApprovalContent = event.content_as().ok()?;
    if event.state_key() != Some(event.sender().as_str()) {
        return None;
    }
    let member = state.get("m.room.member", event.sender().as_str());
    Some(Approval {
        event_id: event.event_id().to_owned(),
        user_id: event.sender().to_owned(),
        display_name: summary::field(member, "displayname"),
        at: event.origin_server_ts().get().into(),
        statement: content.statement,
        heads: content.heads,
        state_hash: content.state_hash,
        text_hash: content.text_hash,
        is_present_text: None,
    })
}

/// Approves the present text; 403 below commenter. 201 with the approval.
async fn approve(
    State(ports): State<DocumentPorts>,
    Authenticated(session): Authenticated,
    named: Named,
    JsonBody(request): JsonBody<ApproveDocument>,
) -> ApiResult<(StatusCode, Json<Approval>)> {
    check_statement("statement", request.statement.as_deref())?;
    let (Open { room, state }, user) = (open(&ports, &named, &session.user_id).await?, &session.user_id);
    if !state.can_send_state(user, event_types::APPROVAL) {
        return Err(may_not("approve it"));
    }
    let _permit = ports.content_reads.permit(user).await?;
    for _ in 0..MAX_ATTEMPTS {
        let event = of_present_text(&ports, &room, user, &request).await?;
        match ports.rooms.send_of_text(&room, event).await {
            Ok(_) => {
                let state = open_room(&ports, &room, user).await?.state;
                let event = state.get(event_types::APPROVAL, user.as_str());
                let approval = event.and_then(|event| shown(&state, event));
                let mut approval = approval.ok_or_else(|| ApiError::not_found("The approval was withdrawn."))?;
                approval.is_present_text = Some(true);
                return Ok((StatusCode::CREATED, Json(approval)));
            }
            Err(RoomError::TextChanged) if request.version.is_some() => {
                return Err(other_text(&ports, &room).await?);
            }
            Err(RoomError::TextChanged) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(ApiError::unavailable("The document is being changed. Try again."))
}

/// The approval of the present text, with the hash of what a person sees if it can be rendered.
async fn of_present_text(
    ports: &DocumentPorts,
    room: &RoomId,
    user: &UserId,
    request: &ApproveDocument,
) -> ApiResult<EventOfText> {
    let text = ports.rooms.current_text(room).await?;
    let hash = state_hash(&text);
    let hash = hash.ok_or_else(|| ApiError::unavailable("Which text is valid is not decided yet. Try again."))?;
    let mut content = Map::new();
    let render = RenderRequest {
        kind: described(ports, user, room).await?.kind,
        state: text.update(),
        format: Format::Json,
    };
    match ports.renderer.render(room.as_str(), render).await {
        Ok(rendered) => drop(content.insert("text_hash".to_owned(), json!(format!("{:?}", rendered.text_hash)))),
        Err(RenderError::NotRendered { .. } | RenderError::TooLarge { .. }) => {}
        Err(error) => return Err(error.into()),
    }
    if let Some(statement) = &request.statement {
        content.insert("statement".to_owned(), json!(statement));
    }
    Ok(EventOfText {
        event: state_event(user, event_types::APPROVAL, user.as_str(), content),
        conditions: Vec::new(),
        version: request.version,
        state_hash: Some(hash),
    })
}

/// Withdraws an approval by redaction: the caller's own, or as a manager another user's.
async fn withdraw(
    State(ports): State<DocumentPorts>,
    Authenticated(session): Authenticated,
    named: Named,
    InPath((_, event)): InPath<(String, String)>,
) -> ApiResult<Json<Done>> {
    let event = EventId::parse(event).map_err(|_| ApiError::invalid_param("The approval must be an event id."))?;
    let Open { room, .. } = open(&ports, &named, &session.user_id).await?;
    let approval = ports.rooms.reader().event(Some(&room), &event).await?;
    if approval.is_none_or(|event| event.kind() != event_types::APPROVAL) {
        return Err(ApiError::not_found("No such approval in this document."));
    }
    let redaction = NewEvent {
        sender: session.user_id,
        kind: "m.room.redaction".to_owned(),
        state_key: None,
        content: Map::new(),
        redacts: Some(event),
        txn: None,
        timestamp: None,
    };
    ports.rooms.send(&room, redaction).await?;
    Ok(Json(Done {}))
}
