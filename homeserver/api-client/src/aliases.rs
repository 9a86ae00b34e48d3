//! Room aliases of this server.

use std::{collections::BTreeSet, sync::Arc};

use axum::{Json, Router, extract::State, http::StatusCode};
use ruma::{
    OwnedRoomAliasId, RoomAliasId, RoomId, UserId,
    api::client::{
        alias::{create_alias, delete_alias, get_alias},
        room::aliases,
    },
};
use serde_json::{Map, Value, json};
use weft_accounts::Accounts;
use weft_federation::Initiator;
use weft_http::{
    authentication::Authenticated,
    errors::{ApiError, ApiResult},
    ruma_json::{Ruma, RumaRoutes},
};
use weft_room::Rooms;
use weft_room_read::Reader;

use super::{
    Ports,
    initiator::UnverifiedInitiator,
    join::room_of_alias,
    membership_check::{self, Readable},
    remote::Remote,
};

/// Maximum aliases that one state event may add: each may cost a request to another server.
const MAX_NEW_ALIASES: usize = 16;

pub(super) fn routes() -> Router<Ports> {
    Router::new()
        .endpoint::<get_alias::v3::Request, _, _>(resolve)
        .endpoint::<create_alias::v3::Request, _, _>(create)
        .endpoint::<delete_alias::v3::Request, _, _>(delete)
        .endpoint::<aliases::v3::Request, _, _>(of_room)
}

/// GET /_matrix/client/v3/directory/room/{roomAlias}
async fn resolve(
    State(reader): State<Reader>,
    State(accounts): State<Accounts>,
    State(remote): State<Arc<dyn Remote>>,
    initiator: UnverifiedInitiator,
    Ruma(request): Ruma<get_alias::v3::Request>,
) -> ApiResult<Json<Value>> {
    let alias = &request.room_alias;
    let initiator = initiator.verify(&accounts).await;
    let (room, mut servers) = room_of_alias((&reader, &accounts, &remote), &initiator, alias).await?;
    if alias.server_name() == accounts.server_name() && servers.is_empty() {
        servers.push(accounts.server_name().to_owned());
    }
    Ok(Json(json!({"room_id": room, "servers": servers})))
}

/// PUT /_matrix/client/v3/directory/room/{roomAlias}
async fn create(
    State(rooms): State<Rooms>,
    State(accounts): State<Accounts>,
    caller: Authenticated,
    Ruma(request): Ruma<create_alias::v3::Request>,
) -> ApiResult<Json<Value>> {
    if request.room_alias.server_name() != accounts.server_name() {
        return Err(ApiError::invalid_param("The alias belongs to another server."));
    }
    membership_check::joined(rooms.reader(), &request.room_id, &caller.user_id).await?;
    rooms
        .put_alias(&request.room_alias, &request.room_id, &caller.user_id)
        .await?;
    Ok(Json(json!({})))
}

/// DELETE /_matrix/client/v3/directory/room/{roomAlias}
///
/// Allowed for the alias's creator, for users who may set the room's canonical alias, and for administrators (T70).
async fn delete(
    State(rooms): State<Rooms>,
    State(accounts): State<Accounts>,
    caller: Authenticated,
    Ruma(request): Ruma<delete_alias::v3::Request>,
) -> ApiResult<Json<Value>> {
    let alias = &request.room_alias;
    let row = rooms.reader().alias(alias).await?;
    let row = row.ok_or_else(|| ApiError::not_found(format!("Room alias {alias} not found.")))?;
    let user = &caller.user_id;
    let admin = accounts.account(user).await?.is_some_and(|account| account.admin);
    if row.creator != *user && !admin && !may_name(rooms.reader(), &row.room, user).await? {
        return Err(ApiError::forbidden("You do not have permission to delete this alias."));
    }
    rooms.delete_alias(alias).await?;
    Ok(Json(json!({})))
}

/// Whether the user may set the room's canonical alias: the power level required for changing its names.
pub(super) async fn may_name(reader: &Reader, room: &RoomId, user: &UserId) -> ApiResult<bool> {
    let keys = [
        ("m.room.create", ""),
        ("m.room.power_levels", ""),
        ("m.room.member", user.as_str()),
    ];
    let state = reader.state_entries(room, &keys).await?;
    Ok(state.is_some_and(|state| state.can_send_state(user, "m.room.canonical_alias")))
}

/// GET /_matrix/client/v3/rooms/{roomId}/aliases
async fn of_room(
    State(reader): State<Reader>,
    caller: Authenticated,
    Ruma(request): Ruma<aliases::v3::Request>,
) -> ApiResult<Json<Value>> {
    // Aliases have no history: a user who left may not see aliases that were created later.
    if membership_check::readable(&reader, &request.room_id, &caller.user_id).await? != Readable::Now {
        return Err(membership_check::hidden());
    }
    Ok(Json(json!({"aliases": reader.aliases_of(&request.room_id).await?})))
}

/// Checks that the aliases that an `m.room.canonical_alias` adds exist and point to the room (client-server API,
/// "m.room.canonical_alias"); aliases of other servers are resolved over federation.
///
/// # Errors
/// `M_INVALID_PARAM` for an invalid alias, `M_BAD_ALIAS` for an alias that does not exist or points to another room.
pub(super) async fn check_named(
    (reader, accounts, remote): (&Reader, &Accounts, &Arc<dyn Remote>),
    user: &UserId,
    room: &RoomId,
    content: &Map<String, Value>,
) -> ApiResult<()> {
    let before = reader.state_event(room, "m.room.canonical_alias", "").await?;
    let before: Map<String, Value> = before.and_then(|pdu| pdu.content_as().ok()).unwrap_or_default();
    let before = named(&before).unwrap_or_default();
    let mut new = named(content)?;
    new.retain(|alias| !before.contains(alias));
    if new.len() > MAX_NEW_ALIASES {
        let message = format!("At most {MAX_NEW_ALIASES} aliases can be added at once.");
        return Err(ApiError::invalid_param(message));
    }
    let initiator = Initiator::User(user.to_owned());
    for alias in new {
        let stands_for = match room_of_alias((reader, accounts, remote), &initiator, &alias).await {
            Ok((stands_for, _)) => Some(stands_for),
            // A failed lookup must not be reported as a missing alias.
            Err(error)
                if matches!(
                    error.status(),
                    StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS
                ) =>
            {
                return Err(error);
            }
            Err(_) => None,
        };
        if stands_for.is_none_or(|stands_for| stands_for != room) {
            return Err(bad_alias(&alias));
        }
    }
    Ok(())
}

/// The same check for the initial state of a room: no alias points to it yet except the one that it is created with.
///
/// # Errors
/// As [`check_named`].
pub(super) fn check_named_initially(own: Option<&OwnedRoomAliasId>, content: &Value) -> ApiResult<()> {
    let empty = Map::new();
    match named(content.as_object().unwrap_or(&empty))?
        .into_iter()
        .find(|alias| Some(alias) != own)
    {
        None => Ok(()),
        Some(alias) => Err(bad_alias(&alias)),
    }
}

fn bad_alias(alias: &RoomAliasId) -> ApiError {
    let message = format!("{alias} does not point to this room.");
    ApiError::new(StatusCode::BAD_REQUEST, "M_BAD_ALIAS", message)
}

/// The aliases in the content of an `m.room.canonical_alias`. Absent, null and empty values are no aliases.
fn named(content: &Map<String, Value>) -> ApiResult<BTreeSet<OwnedRoomAliasId>> {
    let others = match content.get("alt_aliases") {
        None | Some(Value::Null) => &[],
        Some(Value::Array(aliases)) => aliases.as_slice(),
        Some(_) => return Err(ApiError::invalid_param("alt_aliases must be a list of room aliases.")),
    };
    let mut aliases = BTreeSet::new();
    for alias in others.iter().chain(content.get("alias")) {
        match alias {
            Value::Null => {}
            Value::String(text) if text.is_empty() => {}
            Value::String(text) => {
                let parsed = RoomAliasId::parse(text);
                aliases.insert(
                    parsed.map_err(|_| ApiError::invalid_param(format!("{text:?} is not a valid room alias.")))?,
                );
            }
            other => return Err(ApiError::invalid_param(format!("{other} is not a valid room alias."))),
        }
    }
    Ok(aliases)
}
