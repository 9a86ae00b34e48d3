//! Joining and knocking: locally if this server is resident in the room, otherwise through another server.

use std::sync::Arc;

use axum::{Json, Router, extract::State, http::StatusCode};
use ruma::{
    OwnedRoomId, OwnedRoomOrAliasId, OwnedServerName, RoomAliasId, RoomId, UserId,
    api::client::{
        knock::knock_room,
        membership::{join_room_by_id, join_room_by_id_or_alias},
    },
    events::room::member::MembershipState,
};
use serde_json::{Map, Value, json};
use weft_accounts::Accounts;
use weft_dag::StateView;
use weft_federation::Initiator;
use weft_http::{
    authentication::Authenticated,
    errors::{ApiError, ApiResult},
    ruma_json::{Ruma, RumaRoutes},
};
use weft_room::Rooms;
use weft_room_api::NewEvent;
use weft_room_read::Reader;
use weft_wire::limits::MAX_VIA;

use super::{Ports, remote::Remote};

pub(super) fn routes() -> Router<Ports> {
    Router::new()
        .endpoint::<join_room_by_id::v3::Request, _, _>(join_by_id)
        .endpoint::<join_room_by_id_or_alias::v3::Request, _, _>(join_by_id_or_alias)
        .endpoint::<knock_room::v3::Request, _, _>(knock)
}

/// POST /_matrix/client/v3/rooms/{roomId}/join
async fn join_by_id(
    State(ports): State<Ports>,
    caller: Authenticated,
    Ruma(request): Ruma<join_room_by_id::v3::Request>,
) -> ApiResult<Json<Value>> {
    enter(&ports, &caller.user_id, &request.room_id, Vec::new(), request.reason).await
}

/// POST /_matrix/client/v3/join/{roomIdOrAlias}
async fn join_by_id_or_alias(
    State(ports): State<Ports>,
    caller: Authenticated,
    Ruma(request): Ruma<join_room_by_id_or_alias::v3::Request>,
) -> ApiResult<Json<Value>> {
    let (room, via) = resolve(&ports, &caller.user_id, request.room_id_or_alias).await?;
    enter(
        &ports,
        &caller.user_id,
        &room,
        [request.via, via].concat(),
        request.reason,
    )
    .await
}

/// POST /_matrix/client/v3/knock/{roomIdOrAlias}
async fn knock(
    State(ports): State<Ports>,
    caller: Authenticated,
    Ruma(request): Ruma<knock_room::v3::Request>,
) -> ApiResult<Json<Value>> {
    let user = &caller.user_id;
    let (room, via) = resolve(&ports, &caller.user_id, request.room_id_or_alias).await?;
    let _lock = ports.membership.lock(user, user, &room).await?;
    let content = member_content(&ports.accounts, user, request.reason).await?;
    if resident(&ports.reader, &ports.accounts, &room).await? {
        send_membership(&ports.rooms, user, &room, "knock", content).await?;
    } else {
        let via = candidates(&ports, &room, user, [request.via, via].concat()).await?;
        ports.remote.knock(user, &room, &via, content).await?;
    }
    Ok(Json(json!({"room_id": room})))
}

async fn resolve(
    ports: &Ports,
    user: &UserId,
    named: OwnedRoomOrAliasId,
) -> ApiResult<(OwnedRoomId, Vec<OwnedServerName>)> {
    match OwnedRoomId::try_from(named) {
        Ok(room) => Ok((room, Vec::new())),
        Err(alias) => {
            let from = (&ports.reader, &ports.accounts, &ports.remote);
            room_of_alias(from, &Initiator::User(user.to_owned()), &alias).await
        }
    }
}

/// Resolves an alias to its room and servers that are in the room.
pub(super) async fn room_of_alias(
    (reader, accounts, remote): (&Reader, &Accounts, &Arc<dyn Remote>),
    initiator: &Initiator,
    alias: &RoomAliasId,
) -> ApiResult<(OwnedRoomId, Vec<OwnedServerName>)> {
    if alias.server_name() != accounts.server_name() {
        return remote.resolve_alias(initiator, alias).await;
    }
    let row = reader.alias(alias).await?;
    let room = row
        .ok_or_else(|| ApiError::not_found(format!("Room alias {alias} not found.")))?
        .room;
    let servers = reader.servers_in(&room).await?;
    Ok((room, servers.into_iter().collect()))
}

/// Whether a user of this server has joined the room, so that this server can create events for it.
pub(super) async fn resident(reader: &Reader, accounts: &Accounts, room: &RoomId) -> ApiResult<bool> {
    Ok(reader.has_server(room, accounts.server_name()).await?)
}

/// Joins. If the client disconnects, the room may have accepted the join already, and the next request must find the
/// result.
async fn enter(
    ports: &Ports,
    user: &UserId,
    room: &RoomId,
    via: Vec<OwnedServerName>,
    reason: Option<String>,
) -> ApiResult<Json<Value>> {
    let lock = ports.membership.lock(user, user, room).await?;
    let (ports, user, room) = (ports.clone(), user.to_owned(), room.to_owned());
    lock.run(async move { enter_now(&ports, &user, &room, via, reason).await })
        .await
}

async fn enter_now(
    ports: &Ports,
    user: &UserId,
    room: &RoomId,
    via: Vec<OwnedServerName>,
    reason: Option<String>,
) -> ApiResult<Json<Value>> {
    if ports.reader.membership(room, user).await? == MembershipState::Join {
        return Ok(Json(json!({"room_id": room})));
    }
    let content = member_content(&ports.accounts, user, reason).await?;
    let here = resident(&ports.reader, &ports.accounts, room).await?;
    let authority = if here {
        authority(&ports.reader, &ports.accounts, room, user).await?
    } else {
        Authority::Elsewhere
    };
    match authority {
        // `room` chooses the authorising user of a restricted join.
        Authority::Here => send_membership(&ports.rooms, user, room, "join", content).await?,
        Authority::Nobody => return Err(not_allowed()),
        Authority::Elsewhere => {
            let via = candidates(ports, room, user, via).await?;
            let joined = ports.remote.join(user, room, &via, content).await;
            // For a room that this server is resident in, the other servers' texts are replaced by this server's.
            joined.map_err(|error| {
                if here && error.status() == StatusCode::FORBIDDEN {
                    not_allowed()
                } else {
                    error
                }
            })?;
        }
    }
    Ok(Json(json!({"room_id": room})))
}

fn not_allowed() -> ApiError {
    ApiError::forbidden("You are not invited to this room, and not joined to a room whose members may join it.")
}

/// Which server authorises a join (Matrix specification, "Restricted rooms").
enum Authority {
    /// This server: the room requires no authorising user, or a user of this server can be one.
    Here,
    /// No server: the user is in none of the rooms whose members may join.
    Nobody,
    /// This server can't authorise the join, another one may.
    Elsewhere,
}

async fn authority(reader: &Reader, accounts: &Accounts, room: &RoomId, user: &UserId) -> ApiResult<Authority> {
    let Some(state) = reader.state(room).await? else {
        return Ok(Authority::Elsewhere);
    };
    let rules = state
        .get("m.room.join_rules", "")
        .and_then(|pdu| pdu.content_as::<Value>().ok())
        .unwrap_or_default();
    let restricted = matches!(text(&rules, "join_rule"), Some("restricted" | "knock_restricted"));
    let membership = state.membership(user);
    if !restricted || matches!(membership, MembershipState::Invite | MembershipState::Ban) {
        return Ok(Authority::Here);
    }
    let allowed = rules.get("allow").and_then(Value::as_array).into_iter().flatten();
    let allowed = allowed.filter(|allow| text(allow, "type") == Some("m.room_membership"));
    let allowed = allowed.filter_map(|allow| text(allow, "room_id"));
    let mut resident_in_all = true;
    for id in allowed {
        let Ok(other) = RoomId::parse(id) else { continue };
        // Stored state of a room that this server has left may be out of date.
        let is_resident = resident(reader, accounts, &other).await?;
        resident_in_all &= is_resident;
        if is_resident && reader.membership(&other, user).await? == MembershipState::Join {
            return Ok(if has_authorising_user(&state, accounts) {
                Authority::Here
            } else {
                Authority::Elsewhere
            });
        }
    }
    // The user is in none of the rooms that this server is resident in. Another server may be resident in the other
    // ones.
    let elsewhere = state
        .joined_servers()
        .iter()
        .any(|server| server != accounts.server_name());
    Ok(if elsewhere && !resident_in_all {
        Authority::Elsewhere
    } else {
        Authority::Nobody
    })
}

fn text<'a>(object: &'a Value, field: &str) -> Option<&'a str> {
    object.get(field).and_then(Value::as_str)
}

fn has_authorising_user(state: &StateView, accounts: &Accounts) -> bool {
    let members = state.joined_members();
    members
        .into_iter()
        .any(|member| accounts.is_local(&member) && state.can_invite(&member))
}

/// The servers to try: those in the request, the inviter's, and the one in the room id.
async fn candidates(
    ports: &Ports,
    room: &RoomId,
    user: &UserId,
    named: Vec<OwnedServerName>,
) -> ApiResult<Vec<OwnedServerName>> {
    let stripped = match ports.reader.room_of_user(user, room).await? {
        Some(entry) => ports.reader.out_of_band_state(user, &entry).await?,
        None => Vec::new(),
    };
    let inviters = stripped.iter().filter_map(|event| {
        let event: Value = serde_json::from_str(event.json().get()).ok()?;
        let own = text(&event, "type") == Some("m.room.member") && text(&event, "state_key") == Some(user.as_str());
        let sender = text(&event, "sender").filter(|_| own)?;
        Some(UserId::parse(sender).ok()?.server_name().to_owned())
    });
    let in_room = ports.reader.servers_in(room).await?;
    let own = room.server_name().map(ToOwned::to_owned);
    let mut servers: Vec<OwnedServerName> = Vec::new();
    for server in named.into_iter().chain(inviters).chain(in_room).chain(own) {
        if server != ports.accounts.server_name() && !servers.contains(&server) && servers.len() < MAX_VIA {
            servers.push(server);
        }
    }
    if servers.is_empty() {
        return Err(ApiError::not_found(
            "This server is not in the room. Specify a server that is in it (via).",
        ));
    }
    Ok(servers)
}

/// The fields of a member event except `membership`.
pub(super) async fn member_content(
    accounts: &Accounts,
    user: &UserId,
    reason: Option<String>,
) -> ApiResult<Map<String, Value>> {
    let mut content = accounts.member_content(user).await?;
    content.extend(reason.map(|reason| ("reason".to_owned(), reason.into())));
    Ok(content)
}

/// Sends a user's own member event.
pub(super) async fn send_membership(
    rooms: &Rooms,
    user: &UserId,
    room: &RoomId,
    membership: &str,
    mut content: Map<String, Value>,
) -> ApiResult<()> {
    content.insert("membership".to_owned(), membership.into());
    let event = NewEvent {
        sender: user.to_owned(),
        kind: "m.room.member".to_owned(),
        state_key: Some(user.to_string()),
        content,
        redacts: None,
        txn: None,
        timestamp: None,
    };
    rooms.send(room, event).await?;
    Ok(())
}
