//! Joining and knocking: here where this server is in the room, else through another server.

use std::sync::Arc;

use axum::{Json, Router, extract::State};
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
use weft_room::{NewEvent, Reader, Rooms};

use super::{Ports, remote::Remote};
use crate::{
    authentication::Authenticated,
    errors::{ApiError, ApiResult},
    ruma_json::{Ruma, RumaRoutes},
};

pub(super) fn routes() -> Router<Ports> {
    Router::new()
        .endpoint::<join_room_by_id::v3::Request, _, _>(join_by_id)
        .endpoint::<join_room_by_id_or_alias::v3::Request, _, _>(join_by_id_or_alias)
        .endpoint::<knock_room::v3::Request, _, _>(knock)
}

/// Servers that are asked to let us in, at most.
const MAX_VIA: usize = 10;

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
    let (room, via) = resolve(&ports.reader, &ports.accounts, &ports.remote, request.room_id_or_alias).await?;
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
    let (room, via) = resolve(&ports.reader, &ports.accounts, &ports.remote, request.room_id_or_alias).await?;
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
    reader: &Reader,
    accounts: &Accounts,
    remote: &Arc<dyn Remote>,
    named: OwnedRoomOrAliasId,
) -> ApiResult<(OwnedRoomId, Vec<OwnedServerName>)> {
    match OwnedRoomId::try_from(named) {
        Ok(room) => Ok((room, Vec::new())),
        Err(alias) => room_of_alias(reader, accounts, remote, &alias).await,
    }
}

/// What an alias stands for, and servers that are in that room.
pub(super) async fn room_of_alias(
    reader: &Reader,
    accounts: &Accounts,
    remote: &Arc<dyn Remote>,
    alias: &RoomAliasId,
) -> ApiResult<(OwnedRoomId, Vec<OwnedServerName>)> {
    if alias.server_name() != accounts.server_name() {
        return remote.resolve_alias(alias).await;
    }
    let row = reader.alias(alias).await?;
    let room = row
        .ok_or_else(|| ApiError::not_found(format!("There is no alias {alias}.")))?
        .room;
    let servers = reader.servers_in(&room).await?;
    Ok((room, servers.into_iter().collect()))
}

/// Whether a user of this server is in the room, so that this server can make events for it.
pub(super) async fn resident(reader: &Reader, accounts: &Accounts, room: &RoomId) -> ApiResult<bool> {
    Ok(reader
        .joined_members(room)
        .await?
        .iter()
        .any(|member| accounts.is_local(member)))
}

async fn enter(
    ports: &Ports,
    user: &UserId,
    room: &RoomId,
    via: Vec<OwnedServerName>,
    reason: Option<String>,
) -> ApiResult<Json<Value>> {
    if ports.reader.membership(room, user).await? == MembershipState::Join {
        return Ok(Json(json!({"room_id": room})));
    }
    let mut content = member_content(&ports.accounts, user, reason).await?;
    let here = resident(&ports.reader, &ports.accounts, room).await?;
    let authority = if here {
        authority(&ports.reader, &ports.accounts, room, user).await?
    } else {
        Authority::None
    };
    match authority {
        Authority::NotNeeded => send_membership(&ports.rooms, user, room, "join", content).await?,
        Authority::Of(voucher) => {
            content.insert(
                "join_authorised_via_users_server".to_owned(),
                voucher.to_string().into(),
            );
            send_membership(&ports.rooms, user, room, "join", content).await?;
        }
        Authority::None => {
            let via = candidates(ports, room, user, via).await?;
            ports.remote.join(user, room, &via, content).await?;
        }
    }
    Ok(Json(json!({"room_id": room})))
}

/// Who vouches for a join (Matrix specification, "Restricted rooms").
enum Authority {
    /// The room's rules decide without a voucher.
    NotNeeded,
    /// A user of this server who may invite; the joiner is in one of the rooms that open this one.
    Of(ruma::OwnedUserId),
    /// This server can't let the user in, another one may.
    None,
}

async fn authority(reader: &Reader, accounts: &Accounts, room: &RoomId, user: &UserId) -> ApiResult<Authority> {
    let Some(state) = reader.state(room).await? else {
        return Ok(Authority::None);
    };
    let rules = state
        .get("m.room.join_rules", "")
        .and_then(|pdu| pdu.content_as::<Value>().ok())
        .unwrap_or_default();
    let restricted = matches!(text(&rules, "join_rule"), Some("restricted" | "knock_restricted"));
    if !restricted || state.membership(user) == MembershipState::Invite {
        return Ok(Authority::NotNeeded);
    }
    let opening = rules.get("allow").and_then(Value::as_array).into_iter().flatten();
    let opening = opening.filter(|allow| text(allow, "type") == Some("m.room_membership"));
    let opening = opening.filter_map(|allow| text(allow, "room_id"));
    for id in opening {
        let Ok(other) = RoomId::parse(id) else { continue };
        if reader.membership(&other, user).await? == MembershipState::Join {
            return Ok(voucher(&state, accounts).map_or(Authority::None, Authority::Of));
        }
    }
    // Not in any of them as far as this server knows: the room's rules will say no, unless another server knows more.
    let elsewhere = state
        .joined_servers()
        .iter()
        .any(|server| server != accounts.server_name());
    Ok(if elsewhere {
        Authority::None
    } else {
        Authority::NotNeeded
    })
}

fn text<'a>(object: &'a Value, field: &str) -> Option<&'a str> {
    object.get(field).and_then(Value::as_str)
}

fn voucher(state: &StateView, accounts: &Accounts) -> Option<ruma::OwnedUserId> {
    let members = state.joined_members();
    members
        .into_iter()
        .find(|member| accounts.is_local(member) && state.can_invite(member))
}

/// Servers to ask: those named, who invited, and the room id's own.
async fn candidates(
    ports: &Ports,
    room: &RoomId,
    user: &UserId,
    named: Vec<OwnedServerName>,
) -> ApiResult<Vec<OwnedServerName>> {
    let row = ports.reader.room_of_user(user, room).await?;
    let stripped = row.iter().flat_map(|row| &row.row.stripped);
    let inviters = stripped.filter_map(|event| {
        let event: Value = serde_json::from_str(event.json().get()).ok()?;
        let own = text(&event, "type") == Some("m.room.member") && text(&event, "state_key") == Some(user.as_str());
        let sender = text(&event, "sender").filter(|_| own)?;
        Some(UserId::parse(sender).ok()?.server_name().to_owned())
    });
    let inside = ports.reader.servers_in(room).await?;
    let own = room.server_name().map(ToOwned::to_owned);
    let mut servers: Vec<OwnedServerName> = Vec::new();
    for server in named.into_iter().chain(inviters).chain(inside).chain(own) {
        if server != ports.accounts.server_name() && !servers.contains(&server) && servers.len() < MAX_VIA {
            servers.push(server);
        }
    }
    if servers.is_empty() {
        return Err(ApiError::not_found(
            "This server is not in that room: name a server that is (via).",
        ));
    }
    Ok(servers)
}

/// The fields of a member event besides the membership.
pub(super) async fn member_content(
    accounts: &Accounts,
    user: &UserId,
    reason: Option<String>,
) -> ApiResult<Map<String, Value>> {
    let mut content = accounts.profile(user).await?.unwrap_or_default().for_member_event();
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
