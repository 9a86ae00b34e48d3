//! Giving roles by changing the power levels. Pure: state in, new content out.

use ruma::{OwnedUserId, UserId, events::room::member::MembershipState};
use serde_json::{Map, Value, json};
use weft_dag::StateView;
use weft_http::errors::{ApiError, ApiResult};
use weft_room_api::StateCondition;
use weft_wire::{Role, document::power_levels, event_types};

use super::{failures, ownership};

/// The content of `m.room.power_levels` after giving `role` to `user`; `None` if the user has that role already, and nothing else is to be
/// changed.
///
/// The rules that the room would apply to the event are checked first, for a better error than "not allowed".
pub(super) fn with_role(
    state: &StateView,
    giver: &UserId,
    user: &UserId,
    role: Role,
) -> ApiResult<Option<Map<String, Value>>> {
    if Role::from_power(state.user_power(user)) == role {
        return Ok(repaired(state, giver));
    }
    if is_above_all(state, user) {
        return Err(ApiError::forbidden("The creator of a document stays its owner."));
    }
    let (mine, theirs) = (state.user_power(giver), state.user_power(user));
    let allowed =
        state.can_send_state(giver, "m.room.power_levels") && mine >= role.power() && (giver == user || mine > theirs);
    if !allowed {
        return Err(failures::may_not("give this role to this user"));
    }
    if theirs >= Role::Owner.power() && is_last_owner(state, user) {
        return Err(failures::last_owner(user));
    }
    let mut content = levels(state)?;
    users_of(&mut content)?.insert(user.to_string(), json!(role.power()));
    add_missing_levels(&mut content);
    Ok(Some(content))
}

/// The content of `m.room.power_levels` with the levels of newer types, if some are missing and the user may add them.
fn repaired(state: &StateView, giver: &UserId) -> Option<Map<String, Value>> {
    let mut content = levels(state).ok()?;
    let may_repair = state.can_send_state(giver, "m.room.power_levels") && add_missing_levels(&mut content);
    may_repair.then_some(content)
}

/// The content of `m.room.power_levels` after `caller` has made `user` an owner and stepped down: to manager, or to no role
/// of their own if they leave.
pub(super) fn with_new_owner(
    state: &StateView,
    caller: &UserId,
    user: &UserId,
    leaves: bool,
) -> ApiResult<Map<String, Value>> {
    ownership::check(state, caller, user, leaves)?;
    let mut content = levels(state)?;
    let users = users_of(&mut content)?;
    if !is_above_all(state, user) {
        users.insert(user.to_string(), json!(Role::Owner.power()));
    }
    if leaves {
        users.remove(caller.as_str());
    } else {
        users.insert(caller.to_string(), json!(Role::Manager.power()));
    }
    add_missing_levels(&mut content);
    Ok(content)
}

/// The content of `m.room.power_levels` without the entries of these users; `None` if there are none, or `giver` can't remove
/// all of them.
pub(super) fn without_users(state: &StateView, giver: &UserId, gone: &[OwnedUserId]) -> Option<Map<String, Value>> {
    let mut content = levels(state).ok()?;
    let users = users_of(&mut content).ok()?;
    let named: Vec<&OwnedUserId> = gone.iter().filter(|user| users.contains_key(user.as_str())).collect();
    let mine = state.user_power(giver);
    let may = state.membership(giver) == MembershipState::Join
        && state.can_send_state(giver, "m.room.power_levels")
        && named.iter().all(|user| state.user_power(user) < mine);
    if named.is_empty() || !may {
        return None;
    }
    for user in named {
        users.remove(user.as_str());
    }
    add_missing_levels(&mut content);
    Some(content)
}

/// The role of members to whom none was given.
pub(super) fn default_role(state: &StateView) -> Role {
    let levels: Option<Value> = state
        .get("m.room.power_levels", "")
        .and_then(|pdu| pdu.content_as().ok());
    let power = levels.and_then(|levels| levels.get("users_default")?.as_i64());
    Role::from_power(power.unwrap_or(0))
}

/// The content of `m.room.power_levels` with another role for those who join from now on. Members who have no role of their
/// own, and invited users, keep the one that they have.
pub(super) fn with_default(state: &StateView, role: Role) -> ApiResult<Map<String, Value>> {
    let before = default_role(state).power();
    let mut content = levels(state)?;
    let users = users_of(&mut content)?;
    for member in state.of_type("m.room.member") {
        let Some(user) = member.state_key().and_then(|key| UserId::parse(key).ok()) else {
            continue;
        };
        let is_there = matches!(state.membership(&user), MembershipState::Join | MembershipState::Invite);
        if is_there && !is_above_all(state, &user) {
            users.entry(user.to_string()).or_insert(json!(before));
        }
    }
    content.insert("users_default".to_owned(), json!(role.power()));
    add_missing_levels(&mut content);
    Ok(content)
}

/// Whether a user is a creator in a room version in which these are above all power levels.
pub(super) fn is_above_all(state: &StateView, user: &UserId) -> bool {
    state.creators().contains(user) && state.version().rules().authorization.explicitly_privilege_room_creators
}

fn levels(state: &StateView) -> ApiResult<Map<String, Value>> {
    let levels = state
        .get("m.room.power_levels", "")
        .and_then(|pdu| pdu.content_as().ok());
    levels.ok_or_else(|| ApiError::forbidden("This room has no power levels, so its roles cannot be changed."))
}

fn users_of(levels: &mut Map<String, Value>) -> ApiResult<&mut Map<String, Value>> {
    let users = levels.entry("users").or_insert_with(|| json!({}));
    let users = users.as_object_mut();
    users.ok_or_else(|| ApiError::forbidden("The power levels of this room cannot be changed."))
}

/// Types of events that are newer than some documents, and whether they are state. Those of managers and owners need no repair: the level of
/// other state is a manager's.
const NEWER_TYPES: [(&str, bool); 5] = [
    (event_types::WITNESS, false),
    (event_types::SUGGESTION, false),
    (event_types::RESOLUTION, false),
    (event_types::VERSION, false),
    (event_types::APPROVAL, true),
];

/// Gives the newer types the level that they have in new documents, where the power levels do not name them and their default is higher
/// (`spec/docs/events.md`, "Roles"). What they name stays as it is. Returns whether there was one.
fn add_missing_levels(content: &mut Map<String, Value>) -> bool {
    let default = |content: &Map<String, Value>, is_state: bool| {
        let (name, otherwise) = if is_state {
            ("state_default", 50)
        } else {
            ("events_default", 0)
        };
        content.get(name).and_then(Value::as_i64).unwrap_or(otherwise)
    };
    let defaults = [default(content, false), default(content, true)];
    let usual = power_levels();
    let events = content.entry("events").or_insert_with(|| json!({}));
    let Some(events) = events.as_object_mut() else {
        return false;
    };
    let before = events.len();
    for (kind, is_state) in NEWER_TYPES {
        let level = usual.pointer(&format!("/events/{kind}")).and_then(Value::as_i64);
        let [of_messages, of_state] = defaults;
        let default = if is_state { of_state } else { of_messages };
        if let Some(level) = level.filter(|level| *level < default) {
            events.entry(kind).or_insert(json!(level));
        }
    }
    events.len() > before
}

/// Whether only `user` has an owner's power level.
pub(super) fn is_last_owner(state: &StateView, user: &UserId) -> bool {
    another_owner(state, user).is_none()
}

fn another_owner(state: &StateView, user: &UserId) -> Option<OwnedUserId> {
    let mut others = state.joined_members().into_iter().filter(|member| member != user);
    others.find(|member| state.user_power(member) >= Role::Owner.power())
}

/// What must still be so when a change of `user`'s role or membership is made: the roles, and that another owner is in
/// the document. Two changes at a time would otherwise lose one of them, or both owners.
pub(super) fn conditions(state: &StateView, user: &UserId) -> Vec<StateCondition> {
    let owner = another_owner(state, user);
    let entries = [("m.room.power_levels", String::new())].into_iter();
    let entries = entries.chain(owner.map(|owner| ("m.room.member", owner.to_string())));
    entries
        .map(|(kind, state_key)| StateCondition {
            event: state.get(kind, &state_key).map(|pdu| pdu.event_id().to_owned()),
            kind: kind.to_owned(),
            state_key,
        })
        .collect()
}

/// Whether `remover` may end `user`'s membership or invitation: their own always, others by power level.
pub(super) fn may_remove(state: &StateView, remover: &UserId, user: &UserId) -> bool {
    remover == user || {
        let needed = Role::Manager.power();
        let (mine, theirs) = (state.user_power(remover), state.user_power(user));
        state.membership(remover) == MembershipState::Join && mine >= needed && mine > theirs
    }
}
