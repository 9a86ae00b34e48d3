//! `/documents/{id}/access-requests` and `/access-requests`: users ask for access to a document that they are not in (a knock),
//! withdraw the request, and see their own ones; those who may invite see who asks.
//!
//! Must not let anybody in: `PUT` and `DELETE .../members/{userId}` decide about a request.

use std::cmp::Reverse;

use async_trait::async_trait;
use axum::{Json, extract::State, http::StatusCode};
use futures_util::future::try_join_all;
use ruma::{OwnedServerName, RoomId, UserId, events::room::member::MembershipState};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use weft_http::{
    authentication::Authenticated,
    errors::{ApiError, ApiResult},
    openapi::{Operation, Routes},
};
use weft_room_api::Unavailable;
use weft_room_read::{Reader, RoomMembership};
use weft_wire::{
    limits::{MAX_REQUEST_REASON_BYTES, MAX_VIA},
    rest::{AccessRequest, AccessRequests, AskForAccess, AskedForAccess, Done, OwnAccessRequest, OwnAccessRequests},
};

use super::{
    DocumentPorts,
    caller::{Named, Open, open, room_of},
    failures::may_not,
    lock::state_event,
    request::OptionalJsonBody,
    summary,
};

/// Own requests that are read at a time.
const AT_ONCE: usize = 32;

/// Requests for access to documents that this server does not have.
#[async_trait]
pub trait RemoteRequests: Send + Sync + 'static {
    /// Knocks through one of `via`. `content` is that of the member event, except `membership`.
    async fn knock(
        &self,
        user: &UserId,
        room: &RoomId,
        via: &[OwnedServerName],
        content: Map<String, Value>,
    ) -> ApiResult<()>;
    /// Retracts a knock. If no server of the room can be reached, it ends on this server all the same.
    async fn retract(&self, user: &UserId, room: &RoomId) -> ApiResult<()>;
}

/// For a server without federation: no document is elsewhere.
#[derive(Debug, Clone, Copy)]
pub struct NoOtherServers;

#[async_trait]
impl RemoteRequests for NoOtherServers {
    async fn knock(&self, _: &UserId, _: &RoomId, _: &[OwnedServerName], _: Map<String, Value>) -> ApiResult<()> {
        Err(no_server())
    }

    async fn retract(&self, _: &UserId, _: &RoomId) -> ApiResult<()> {
        Err(no_server())
    }
}

pub(super) fn routes() -> Routes<DocumentPorts> {
    const OF_DOCUMENT: &str = "/_weft/client/v1/documents/{id}/access-requests";
    Routes::new("Sharing")
        .get(
            OF_DOCUMENT,
            list,
            Operation::new("listAccessRequests", "Users who ask for access, the newest first")
                .refuses(403, "Below manager."),
        )
        .post(
            OF_DOCUMENT,
            ask,
            Operation::new("requestAccess", "Asks for access to a document, also of another server")
                .refuses(403, "The document takes no requests from the caller."),
        )
        .delete(
            OF_DOCUMENT,
            withdraw,
            Operation::new("withdrawAccessRequest", "Withdraws the caller's request"),
        )
        .get(
            "/_weft/client/v1/access-requests",
            own,
            Operation::new("listOwnAccessRequests", "The caller's requests that nobody has decided"),
        )
}

fn no_server() -> ApiError {
    ApiError::not_found("This server does not have the document. Name a server that has it (via).")
}

/// Users who knocked; for those who may invite.
async fn list(
    State(ports): State<DocumentPorts>,
    Authenticated(session): Authenticated,
    named: Named,
) -> ApiResult<Json<AccessRequests>> {
    let Open { state, .. } = open(&ports, &named, &session.user_id).await?;
    if !state.can_invite(&session.user_id) {
        return Err(may_not("see who asks for access"));
    }
    let mut requests: Vec<AccessRequest> = state
        .of_type("m.room.member")
        .filter_map(|pdu| {
            let user_id = UserId::parse(pdu.state_key()?).ok()?;
            (state.membership(&user_id) == MembershipState::Knock).then(|| AccessRequest {
                display_name: summary::field(Some(pdu), "displayname"),
                reason: summary::field(Some(pdu), "reason"),
                at: pdu.origin_server_ts().get().into(),
                user_id,
            })
        })
        .collect();
    requests.sort_by(|one, other| (Reverse(one.at), &one.user_id).cmp(&(Reverse(other.at), &other.user_id)));
    Ok(Json(AccessRequests { requests }))
}

/// 201 when the document's server has the request; 403 if the document takes none from this user.
async fn ask(
    State(ports): State<DocumentPorts>,
    Authenticated(session): Authenticated,
    named: Named,
    OptionalJsonBody(request): OptionalJsonBody<AskForAccess>,
) -> ApiResult<(StatusCode, Json<AskedForAccess>)> {
    if request
        .reason
        .as_ref()
        .is_some_and(|reason| reason.len() > MAX_REQUEST_REASON_BYTES)
    {
        let message = format!("The reason can have at most {MAX_REQUEST_REASON_BYTES} bytes.");
        return Err(ApiError::too_large(message));
    }
    let (room, user) = (room_of(&ports, &named.0).await?, session.user_id);
    let lock = ports.membership.lock(&user, &user, &room).await?;
    lock.run(async move {
        let mut content = ports.accounts.member_content(&user).await?;
        content.extend(request.reason.map(|reason| ("reason".to_owned(), json!(reason))));
        if ports
            .rooms
            .reader()
            .has_server(&room, ports.accounts.server_name())
            .await?
        {
            content.insert("membership".to_owned(), json!("knock"));
            let knock = state_event(&user, "m.room.member", user.as_str(), content);
            ports.rooms.send(&room, knock).await?;
        } else {
            let via = servers(&ports, &room, request.via)?;
            ports.requests.knock(&user, &room, &via, content).await?;
        }
        Ok((StatusCode::CREATED, Json(AskedForAccess { doc_id: room })))
    })
    .await
}

/// The other servers to ask: those that were named, and the one in the room id.
fn servers(ports: &DocumentPorts, room: &RoomId, named: Vec<OwnedServerName>) -> ApiResult<Vec<OwnedServerName>> {
    let mut servers = Vec::new();
    let of_room = room.server_name().map(ToOwned::to_owned);
    for server in named.into_iter().chain(of_room) {
        if server != ports.accounts.server_name() && !servers.contains(&server) && servers.len() < MAX_VIA {
            servers.push(server);
        }
    }
    if servers.is_empty() {
        return Err(no_server());
    }
    Ok(servers)
}

/// Withdraws the caller's request; 404 if there is none.
async fn withdraw(
    State(ports): State<DocumentPorts>,
    Authenticated(session): Authenticated,
    named: Named,
) -> ApiResult<Json<Done>> {
    let (room, user) = (room_of(&ports, &named.0).await?, session.user_id);
    let lock = ports.membership.lock(&user, &user, &room).await?;
    lock.run(async move {
        let reader = ports.rooms.reader();
        let entry = reader.room_of_user(&user, &room).await?;
        if entry.is_none_or(|entry| entry.membership != MembershipState::Knock) {
            return Err(ApiError::not_found("You have not asked for access to this document."));
        }
        if reader.has_server(&room, ports.accounts.server_name()).await? {
            let content = Map::from_iter([("membership".to_owned(), json!("leave"))]);
            let leave = state_event(&user, "m.room.member", user.as_str(), content);
            ports.rooms.send(&room, leave).await?;
        } else {
            ports.requests.retract(&user, &room).await?;
        }
        Ok(Json(Done {}))
    })
    .await
}

/// The caller's requests that nobody has decided, of this server's documents and of others'.
async fn own(
    State(ports): State<DocumentPorts>,
    Authenticated(session): Authenticated,
) -> ApiResult<Json<OwnAccessRequests>> {
    let (reader, user) = (&ports.rooms.reader().for_request(), &*session.user_id);
    let mut rooms = reader.rooms_of(user).await?;
    rooms.retain(|entry| entry.membership == MembershipState::Knock);
    let mut requests = Vec::new();
    for some in rooms.chunks(AT_ONCE) {
        let reads: Vec<_> = some.iter().map(|entry| own_request(reader, entry, user)).collect();
        requests.extend(try_join_all(reads).await?);
    }
    Ok(Json(OwnAccessRequests { requests }))
}

async fn own_request(reader: &Reader, entry: &RoomMembership, user: &UserId) -> Result<OwnAccessRequest, Unavailable> {
    #[derive(Deserialize)]
    struct Stripped {
        #[serde(rename = "type")]
        kind: String,
        #[serde(default)]
        state_key: String,
        content: Value,
    }
    let keys = [("m.room.member", user.as_str()), ("m.room.name", "")];
    let text = |content: &Value, field: &str| content.get(field).and_then(Value::as_str).map(str::to_owned);
    let (title, reason) = if let Some(state) = reader.state_entries(&entry.room, &keys).await? {
        let member = state.get("m.room.member", user.as_str());
        (Some(summary::title(&state)), summary::field(member, "reason"))
    } else {
        // Another server wrote it.
        let shown = reader.out_of_band_state(user, entry).await?;
        let events: Vec<Stripped> = shown
            .iter()
            .filter_map(|raw| serde_json::from_str(raw.json().get()).ok())
            .collect();
        let of = |kind: &str, key: &str, field: &str| {
            let event = events
                .iter()
                .find(|event| event.kind == kind && event.state_key == key)?;
            text(&event.content, field)
        };
        (
            of("m.room.name", "", "name"),
            of("m.room.member", user.as_str(), "reason"),
        )
    };
    Ok(OwnAccessRequest {
        doc_id: entry.room.clone(),
        title: title.unwrap_or_default(),
        reason,
    })
}
