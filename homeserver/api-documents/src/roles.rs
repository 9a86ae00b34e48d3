//! Giving roles by changing the power levels. Pure: state in, new content out.

use ruma::{OwnedUserId, UserId, events::room::member::MembershipState};
use serde_json::{Map, Value, json};
use weft_dag::StateView;
use weft_http::errors::{ApiError, ApiResult};
use weft_room_api::StateCondition;
use weft_wire::{Role, event_types};

use super::failures;

/// The content of `m.room.power_levels` after giving `role` to `user`; `None` if the user has that role already.
///
/// The rules that the room would apply to the event are checked first, for a better error than "not allowed".
pub(super) fn with_role(
    state: &StateView,
    giver: &UserId,
    user: &UserId,
    role: Role,
) -> ApiResult<Option<Map<String, Value>>> {
    if Role::from_power(state.user_power(user)) == role {
        return Ok(None);
    }
    if state.creators().contains(user) && state.version().rules().authorization.explicitly_privilege_room_creators {
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
    let mut content: Map<String, Value> = state
        .get("m.room.power_levels", "")
        .and_then(|pdu| pdu.content_as().ok())
        .ok_or_else(|| ApiError::forbidden("This room has no power levels, so its roles cannot be changed."))?;
    let users = content.entry("users").or_insert_with(|| json!({}));
    match users.as_object_mut() {
        Some(users) => users.insert(user.to_string(), json!(role.power())),
        None => return Err(ApiError::forbidden("The power levels of this room cannot be changed.")),
    };
    let_all_witness(&mut content);
    Ok(Some(content))
}

/// Documents that were created before witness events existed have no level for them (`spec/docs/events.md`).
fn let_all_witness(content: &mut Map<String, Value>) {
    let events = content.entry("events").or_insert_with(|| json!({}));
    if let Some(events) = events.as_object_mut() {
        events
            .entry(event_types::WITNESS)
            .or_insert_with(|| json!(Role::Viewer.power()));
    }
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
