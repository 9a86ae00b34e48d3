//! `/documents/{id}/members`: the members of a document and their roles.

use std::cmp::Reverse;

use axum::{Json, extract::State};
use ruma::{OwnedUserId, RoomId, UserId, events::room::member::MembershipState};
use serde_json::{Map, Value, json};
use weft_dag::{Pdu, StateView};
use weft_http::{
    authentication::Authenticated,
    errors::{ApiError, ApiResult},
    openapi::{Operation, Routes},
    path::InPath,
};
use weft_room_api::{NewEvent, RoomError, StateCondition};
use weft_wire::{
    Role,
    rest::{Done, Member, MemberList, MemberState, SetRole},
    schema,
};

use super::{
    DocumentPorts,
    caller::{Named, Open, open, open_room},
    failures::{last_owner, may_not, no_user},
    request::JsonBody,
    roles, summary,
};

pub(super) fn routes() -> Routes<DocumentPorts> {
    Routes::new("Sharing")
        .get(
            "/_weft/client/v1/documents/{id}/members",
            list,
            Operation::new(
                "listMembers",
                "Joined, invited and knocking users, the highest role first",
            ),
        )
        .put(
            "/_weft/client/v1/documents/{id}/members/{user}",
            set_role,
            Operation::new("setMemberRole", "Gives a role; a user who is not a member is invited")
                .path::<schema::UserId>("user", "The member.")
                .refuses(403, "The caller's role does not allow it.")
                .refuses(502, "The server of the user could not be reached."),
        )
        .delete(
            "/_weft/client/v1/documents/{id}/members/{user}",
            remove,
            Operation::new("removeMember", "Removes a member, withdraws an invitation, or leaves")
                .path::<schema::UserId>("user", "The member.")
                .refuses(403, "The caller's role does not allow it."),
        )
}

/// Attempts to change a role or a membership while others change them. Each failed attempt is a change of somebody
/// else that succeeded.
const MAX_ATTEMPTS: usize = 16;

/// Joined, invited and knocking users; the highest role first.
async fn list(
    State(ports): State<DocumentPorts>,
    Authenticated(session): Authenticated,
    named: Named,
) -> ApiResult<Json<MemberList>> {
    let open = open(&ports, &named, &session.user_id).await?;
    Ok(Json(all(&open.state)))
}

/// The members in a state; the highest role first.
pub(super) fn all(state: &StateView) -> MemberList {
    let members = state.of_type("m.room.member");
    let mut members: Vec<Member> = members.filter_map(|pdu| member(state, pdu)).collect();
    members.sort_by(|a, b| (Reverse(a.role), &a.user_id).cmp(&(Reverse(b.role), &b.user_id)));
    MemberList { members }
}

fn member(state: &StateView, pdu: &std::sync::Arc<Pdu>) -> Option<Member> {
    let user_id: OwnedUserId = UserId::parse(pdu.state_key()?).ok()?;
    let membership = match state.membership(&user_id) {
        MembershipState::Join => MemberState::Join,
        MembershipState::Invite => MemberState::Invite,
        MembershipState::Knock => MemberState::Knock,
        _ => return None,
    };
    let role = Role::from_power(state.user_power(&user_id));
    Some(Member {
        display_name: summary::field(Some(pdu), "displayname"),
        guest: summary::is_guest(pdu),
        user_id,
        role,
        membership,
    })
}

/// Gives a role. A user who is not a member gets the role and an invitation.
pub(super) async fn set_role(
    State(ports): State<DocumentPorts>,
    Authenticated(session): Authenticated,
    named: Named,
    InPath((_, user)): InPath<(String, String)>,
    JsonBody(request): JsonBody<SetRole>,
) -> ApiResult<Json<Done>> {
    let user = UserId::parse(user).map_err(|_| no_user())?;
    let Open { room, .. } = open(&ports, &named, &session.user_id).await?;
    let caller = session.user_id;
    // Held until the membership is written: a concurrent invitation must not come between.
    let lock = ports.membership.lock(&caller, &user, &room).await?;
    lock.run(async move { give(&ports, &room, &caller, &user, request.role).await })
        .await
}

async fn give(
    ports: &DocumentPorts,
    room: &RoomId,
    caller: &UserId,
    user: &UserId,
    role: Role,
) -> ApiResult<Json<Done>> {
    for _ in 0..MAX_ATTEMPTS {
        let state = open_room(ports, room, caller).await?.state;
        let membership = state.membership(user);
        let is_there = matches!(membership, MembershipState::Join | MembershipState::Invite);
        if !is_there && !state.can_invite(caller) {
            return Err(may_not("invite users"));
        }
        if membership == MembershipState::Ban {
            return Err(ApiError::forbidden(format!("{user} is banned from this document.")));
        }
        // The role is set first, so that a user who accepts the invitation has it immediately.
        if let Some(content) = roles::with_role(&state, caller, user, role)? {
            let levels = state_event(caller, "m.room.power_levels", "", content);
            if let Sent::Outdated = send_if(ports, room, levels, roles::conditions(&state, user)).await? {
                continue;
            }
        }
        if !is_there {
            // The same content as that of POST /invite, so that the later of two equal invitations changes nothing.
            let content = ports.accounts.member_content(user).await?;
            ports.invitations.invite(room, caller, user, content).await?;
        }
        return Ok(Json(Done {}));
    }
    Err(too_many_changes())
}

/// Removes a member, retracts an invitation, or leaves (the caller itself).
pub(super) async fn remove(
    State(ports): State<DocumentPorts>,
    Authenticated(session): Authenticated,
    named: Named,
    InPath((_, user)): InPath<(String, String)>,
) -> ApiResult<Json<Done>> {
    let user = UserId::parse(user).map_err(|_| no_user())?;
    let Open { room, .. } = open(&ports, &named, &session.user_id).await?;
    let caller = session.user_id;
    let lock = ports.membership.lock(&caller, &user, &room).await?;
    lock.run(async move {
        for _ in 0..MAX_ATTEMPTS {
            if let Sent::Done = remove_now(&ports, &room, &caller, &user).await? {
                return Ok(Json(Done {}));
            }
        }
        Err(too_many_changes())
    })
    .await
}

/// The caller leaves.
pub(super) async fn leave(ports: &DocumentPorts, room: &RoomId, caller: &UserId) -> ApiResult<()> {
    let lock = ports.membership.lock(caller, caller, room).await?;
    let (ports, room, caller) = (ports.clone(), room.to_owned(), caller.to_owned());
    lock.run(async move {
        for _ in 0..MAX_ATTEMPTS {
            if let Sent::Done = remove_now(&ports, &room, &caller, &caller).await? {
                return Ok(());
            }
        }
        Err(too_many_changes())
    })
    .await
}

async fn remove_now(ports: &DocumentPorts, room: &RoomId, caller: &UserId, user: &UserId) -> ApiResult<Sent> {
    let Open { state, .. } = open_room(ports, room, caller).await?;
    let membership = state.membership(user);
    let present = matches!(
        membership,
        MembershipState::Join | MembershipState::Invite | MembershipState::Knock
    );
    if !present {
        return Err(ApiError::not_found(format!("{user} is not in this document.")));
    }
    if !roles::may_remove(&state, caller, user) {
        return Err(may_not("remove this user"));
    }
    let others_stay = state.joined_members().len() > 1;
    if others_stay && membership == MembershipState::Join && roles::is_last_owner(&state, user) {
        return Err(last_owner(user));
    }
    let content = Map::from_iter([("membership".to_owned(), json!("leave"))]);
    let leave = state_event(caller, "m.room.member", user.as_str(), content);
    send_if(ports, room, leave, roles::conditions(&state, user)).await
}

/// What became of an event that is sent only if the state is as it was read.
enum Sent {
    Done,
    /// The state has changed meanwhile.
    Outdated,
}

fn too_many_changes() -> ApiError {
    ApiError::unavailable("The roles of this document are being changed. Try again.")
}

async fn send_if(
    ports: &DocumentPorts,
    room: &RoomId,
    event: NewEvent,
    conditions: Vec<StateCondition>,
) -> ApiResult<Sent> {
    match ports.rooms.send_if(room, event, conditions).await {
        Ok(_) => Ok(Sent::Done),
        Err(RoomError::StateChanged { .. }) => Ok(Sent::Outdated),
        Err(error) => Err(error.into()),
    }
}

fn state_event(sender: &UserId, kind: &str, state_key: &str, content: Map<String, Value>) -> NewEvent {
    NewEvent {
        sender: sender.to_owned(),
        kind: kind.to_owned(),
        state_key: Some(state_key.to_owned()),
        content,
        redacts: None,
        txn: None,
        timestamp: None,
    }
}
