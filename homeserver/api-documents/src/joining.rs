//! `/documents/{id}/access`: who may join a document without an invitation, and with which role.
//!
//! Must not give a role to members who are in the document already.

use axum::{Json, extract::State};
use ruma::{
    RoomId, UserId,
    events::room::{history_visibility::HistoryVisibility, member::MembershipState},
    room::JoinRuleKind,
};
use serde_json::{Map, Value, json};
use weft_dag::StateView;
use weft_http::{
    authentication::Authenticated,
    errors::{ApiError, ApiResult},
    openapi::{Operation, Routes},
};
use weft_room_api::RoomError;
use weft_wire::{
    Role,
    rest::{Access, DocumentAccess},
};

use super::{
    DocumentPorts,
    caller::{Named, Open, open, open_room},
    failures::may_not,
    lock::{MAX_ATTEMPTS, condition, state_event},
    request::JsonBody,
    roles,
};

/// The type of a room that is a space.
pub(super) const SPACE: &str = "m.space";
const JOIN_RULES: &str = "m.room.join_rules";
const HISTORY_VISIBILITY: &str = "m.room.history_visibility";
const POWER_LEVELS: &str = "m.room.power_levels";

pub(super) fn routes() -> Routes<DocumentPorts> {
    Routes::new("Sharing")
        .get(
            "/_weft/client/v1/documents/{id}/access",
            show,
            Operation::new("getAccess", "Who may join without an invitation"),
        )
        .put(
            "/_weft/client/v1/documents/{id}/access",
            set,
            Operation::new("setAccess", "Sets who may join without an invitation")
                .refuses(403, "Below manager; for some changes below owner."),
        )
}

/// Who may join, for every member.
async fn show(
    State(ports): State<DocumentPorts>,
    Authenticated(session): Authenticated,
    named: Named,
) -> ApiResult<Json<DocumentAccess>> {
    let Open { state, .. } = open(&ports, &named, &session.user_id).await?;
    Ok(Json(shown(&state)))
}

fn shown(state: &StateView) -> DocumentAccess {
    let rules: Value = state
        .get(JOIN_RULES, "")
        .and_then(|rules| rules.content_as().ok())
        .unwrap_or_default();
    let space = rules.pointer("/allow/0/room_id").and_then(Value::as_str);
    let space = space.and_then(|space| space.try_into().ok());
    let (access, space) = match state.join_rule() {
        JoinRuleKind::Public => (Access::Public, None),
        JoinRuleKind::Knock => (Access::Request, None),
        JoinRuleKind::Restricted => (Access::Space, space),
        JoinRuleKind::KnockRestricted => (Access::SpaceOrRequest, space),
        _ => (Access::Private, None),
    };
    DocumentAccess {
        access,
        space,
        role: roles::default_role(state),
    }
}

/// Sets who may join; 403 below manager, and for what changes the roles or what others than members can read below owner.
async fn set(
    State(ports): State<DocumentPorts>,
    Authenticated(session): Authenticated,
    named: Named,
    JsonBody(wanted): JsonBody<DocumentAccess>,
) -> ApiResult<Json<DocumentAccess>> {
    let user = &session.user_id;
    let Open { room, state } = open(&ports, &named, user).await?;
    check(&ports, user, &wanted).await?;
    let supported = state.version().rules().authorization.knock_restricted_join_rule;
    if wanted.access == Access::SpaceOrRequest && !supported {
        return Err(ApiError::invalid_param(
            "The access \"space_or_request\" needs room version 10.",
        ));
    }
    // In each step no more people get in, or get more, than before it and after the last one.
    for _ in 0..MAX_ATTEMPTS {
        let state = open_room(&ports, &room, user).await?.state;
        let Some((kind, content)) = next_step(&state, &wanted)? else {
            return Ok(Json(shown(&state)));
        };
        if !state.can_send_state(user, kind) {
            return Err(may_not("change who may join it"));
        }
        let before = state.get(kind, "").map(|pdu| pdu.event_id().to_owned());
        let event = state_event(user, kind, "", content);
        match ports
            .rooms
            .send_if(&room, event, vec![condition(kind, "", before)])
            .await
        {
            Ok(_) | Err(RoomError::StateChanged { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(ApiError::unavailable(
        "The access to this document is being changed. Try again.",
    ))
}

async fn check(ports: &DocumentPorts, user: &UserId, wanted: &DocumentAccess) -> ApiResult<()> {
    let by_space = matches!(wanted.access, Access::Space | Access::SpaceOrRequest);
    if by_space != wanted.space.is_some() {
        return Err(ApiError::invalid_param(
            "A space is needed for the access \"space\" or \"space_or_request\", and only for these.",
        ));
    }
    let highest = match wanted.access {
        Access::Public => Role::Commenter,
        Access::Space | Access::SpaceOrRequest => Role::Editor,
        Access::Private | Access::Request => Role::Viewer,
    };
    if wanted.role > highest {
        let message = format!("With this access the role can be {} at most.", highest.name());
        return Err(ApiError::invalid_param(message));
    }
    let Some(space) = &wanted.space else { return Ok(()) };
    let reader = ports.rooms.reader();
    let is_member = reader.membership(space, user).await? == MembershipState::Join;
    if !is_member || !is_space(ports, space).await? {
        return Err(ApiError::not_found("No such space, or you are not a member of it."));
    }
    Ok(())
}

/// Whether a room that this server has is a space.
pub(super) async fn is_space(ports: &DocumentPorts, room: &RoomId) -> ApiResult<bool> {
    let create = ports.rooms.reader().state_event(room, "m.room.create", "").await?;
    let content: Value = create.and_then(|create| create.content_as().ok()).unwrap_or_default();
    Ok(content.get("type").and_then(Value::as_str) == Some(SPACE))
}

/// The next event on the way to the wanted access; `None` if there is nothing left to do.
fn next_step(state: &StateView, wanted: &DocumentAccess) -> ApiResult<Option<(&'static str, Map<String, Value>)>> {
    let rules = join_rules(wanted);
    let now = state
        .get(JOIN_RULES, "")
        .and_then(|rules| rules.content_as::<Map<String, Value>>().ok());
    let visible = state.history_visibility() == HistoryVisibility::WorldReadable;
    let to_be_visible = wanted.access == Access::Public;
    let visibility = |value: &str| Map::from_iter([("history_visibility".to_owned(), json!(value))]);
    let default = roles::default_role(state);
    let has_rules = now.as_ref() == Some(&rules);
    if !has_rules && now.is_none_or(|now| now.get("join_rule") != Some(&json!("invite"))) {
        // Nobody joins by the old rule and gets the new role.
        let rules = if default == wanted.role {
            rules
        } else {
            join_rules(&DocumentAccess::default())
        };
        return Ok(Some((JOIN_RULES, rules)));
    }
    if default != wanted.role {
        return Ok(Some((POWER_LEVELS, roles::with_default(state, wanted.role)?)));
    }
    if visible && !to_be_visible {
        return Ok(Some((HISTORY_VISIBILITY, visibility("shared"))));
    }
    if !visible && to_be_visible {
        return Ok(Some((HISTORY_VISIBILITY, visibility("world_readable"))));
    }
    Ok((!has_rules).then_some((JOIN_RULES, rules)))
}

fn join_rules(wanted: &DocumentAccess) -> Map<String, Value> {
    let rule = match wanted.access {
        Access::Private => "invite",
        Access::Request => "knock",
        Access::Space => "restricted",
        Access::SpaceOrRequest => "knock_restricted",
        Access::Public => "public",
    };
    let mut content = Map::from_iter([("join_rule".to_owned(), json!(rule))]);
    if let Some(space) = &wanted.space {
        let allow = json!([{"type": "m.room_membership", "room_id": space}]);
        content.insert("allow".to_owned(), allow);
    }
    content
}
