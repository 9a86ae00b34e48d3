//! Guests: accounts without a password, which `POST /links/{secret}/guest` gives to people who have a share link that lets guests in.
//! They end with the link: the session, the membership and the role.
//!
//! Must not let a guest do anything: what guests may request is in `weft_http::guests`, and what they may do in a document
//! follows from their role.

use std::sync::Arc;

use axum::{Json, extract::State, http::StatusCode};
use ruma::{OwnedUserId, RoomId, UserId, events::room::member::MembershipState};
use serde_json::{Map, Value, json};
use tokio::sync::Mutex;
use weft_accounts::{Accounts, Follower, NewDevice};
use weft_dag::StateView;
use weft_fanout::Fanout;
use weft_http::{
    client_address::ClientAddress,
    errors::{ApiError, ApiResult},
    openapi::{Operation, Routes},
    path::InPath,
};
use weft_room::{AddedGuest, Rooms};
use weft_room_api::RoomError;
use weft_room_read::LinkRow;
use weft_wire::{
    limits::MAX_GUESTS,
    rest::{GuestJoined, JoinAsGuest},
};

use super::{
    DocumentPorts,
    caller::open_room,
    failures::no_guests,
    links::{Secret, admit, check_password, no_link, open_link},
    lock::{MAX_ATTEMPTS, state_event},
    request::JsonBody,
    roles,
};

/// The guests of this server. Cheap to clone.
#[derive(Clone)]
pub struct Guests(Arc<Inner>);

struct Inner {
    rooms: Rooms,
    accounts: Accounts,
    fanout: Fanout,
    allowed: bool,
    /// Called after a job was requested.
    wake: Box<dyn Fn() + Send + Sync>,
    /// Held from the count of all guests until there is one more.
    counting: Mutex<()>,
}

/// Until when guests stay who came by a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GuestsStay {
    /// The link is over, and they have left.
    Over,
    /// Milliseconds from now.
    For(u64),
}

pub(super) fn routes() -> Routes<DocumentPorts> {
    Routes::new("Sharing").post(
        "/_weft/client/v1/links/{secret}/guest",
        join,
        Operation::new("joinAsGuest", "Lets somebody without an account in, as a guest")
            .path::<String>("secret", "The secret of a share link.")
            .refuses(
                403,
                "The server, the link or the document lets no guests in, or the password is missing or wrong.",
            )
            .refuses(404, "The link is unknown, revoked, expired or used up.")
            .refuses(429, "Too many guests of this address, or too many wrong passwords."),
    )
}

/// A guest that is being let in.
struct Arrival {
    user: OwnedUserId,
    /// As others see it.
    name: String,
    secret: Secret,
}

/// 201 with a session. 403 if the server, the link or the document lets no guests in.
async fn join(
    State(ports): State<DocumentPorts>,
    InPath(secret): InPath<String>,
    address: ClientAddress,
    JsonBody(request): JsonBody<JoinAsGuest>,
) -> ApiResult<(StatusCode, Json<GuestJoined>)> {
    if !ports.guests.0.allowed {
        return Err(no_guests("This server"));
    }
    let name = ports.accounts.guest_name(&request.display_name)?;
    let secret = Secret::parse(&secret).ok_or_else(no_link)?;
    let link = open_link(&ports, &secret.room, &secret.id()).await?;
    if !link.guests {
        return Err(no_guests("This link"));
    }
    let follower = Follower::Stranger(address.network());
    check_password(&ports, (&secret.id(), &link), request.password.as_deref(), &follower).await?;
    let state = open_room(&ports, &secret.room, &link.maker)
        .await
        .map_err(|_| no_link())?
        .state;
    if !lets_guests_in(&state) {
        return Err(no_guests("This document"));
    }
    ports.accounts.count_guest(address.network())?;
    let user = ports.accounts.new_guest_id();
    let arrival = Arrival { user, name, secret };
    let lock = ports
        .membership
        .lock(&arrival.user, &arrival.user, &arrival.secret.room)
        .await?;
    // Comes to its end also if the client disconnects meanwhile.
    lock.run(async move { ports.guests.clone().let_in(&ports, arrival).await })
        .await
}

/// `m.room.guest_access` (Matrix, "Guest access").
fn lets_guests_in(state: &StateView) -> bool {
    let content: Option<Value> = state
        .get("m.room.guest_access", "")
        .and_then(|pdu| pdu.content_as().ok());
    content.is_some_and(|content| content.get("guest_access") == Some(&json!("can_join")))
}

impl Guests {
    /// `allowed`: the server lets guests in. `wake` is called after a job was requested.
    pub fn new(
        (rooms, accounts, fanout): (Rooms, Accounts, Fanout),
        allowed: bool,
        wake: impl Fn() + Send + Sync + 'static,
    ) -> Self {
        Self(Arc::new(Inner {
            rooms,
            accounts,
            fanout,
            allowed,
            wake: Box::new(wake),
            counting: Mutex::default(),
        }))
    }

    /// Whether the server lets guests in.
    pub(super) fn are_allowed(&self) -> bool {
        self.0.allowed
    }

    async fn let_in(&self, ports: &DocumentPorts, arrival: Arrival) -> ApiResult<(StatusCode, Json<GuestJoined>)> {
        let (room, id) = (arrival.secret.room.clone(), arrival.secret.id());
        let link = self.add(&room, &id, &arrival.user).await?;
        let entered = self.enter(ports, &link, &arrival).await;
        if entered.is_err() {
            // If this fails as well, it is done when the link ends.
            let _ = self
                .end(&room, &id, vec![(arrival.user.clone(), link.maker.clone())])
                .await;
        }
        entered
    }

    /// Adds the guest to the link, before anything else: from now on it ends with the link, also after a crash.
    async fn add(&self, room: &RoomId, id: &str, user: &UserId) -> ApiResult<LinkRow> {
        let _counting = self.0.counting.lock().await;
        if self.0.rooms.reader().guests_at_most(MAX_GUESTS).await? >= MAX_GUESTS {
            return Err(ApiError::unavailable(
                "This server has too many guests. Try again later.",
            ));
        }
        let added = self.0.rooms.add_guest(room, id, user).await?;
        (self.0.wake)();
        match added {
            AddedGuest::Added(link) => Ok(link),
            AddedGuest::NoLink => Err(no_link()),
            AddedGuest::TooMany => Err(ApiError::forbidden("This link has let in too many guests.")),
        }
    }

    async fn enter(
        &self,
        ports: &DocumentPorts,
        link: &LinkRow,
        arrival: &Arrival,
    ) -> ApiResult<(StatusCode, Json<GuestJoined>)> {
        let Arrival { user, name, secret } = arrival;
        let accounts = &self.0.accounts;
        accounts.register_guest(user, name, link.expires_at).await?;
        admit(ports, &secret.room, (&secret.id(), link), (user, true)).await?;
        let session = accounts.begin_session(user, NewDevice::default()).await?;
        tracing::info!(%user, room = %secret.room, "guest let in");
        let joined = GuestJoined {
            doc_id: secret.room.clone(),
            user_id: user.clone(),
            device_id: session.device_id.to_string(),
            access_token: session.access_token,
            expires_at: link.expires_at,
        };
        Ok((StatusCode::CREATED, Json(joined)))
    }

    /// Ends the guests of a link that is over. Can be repeated.
    ///
    /// # Errors
    /// When the store fails; then some of them may be there still.
    pub async fn end_with_link(&self, room: &RoomId, id: &str) -> ApiResult<GuestsStay> {
        let (reader, now) = (self.0.rooms.reader(), self.0.rooms.now());
        if let Some(left) = reader
            .link(room, id)
            .await?
            .and_then(|row| row.expires_at.checked_sub(now).filter(|left| *left > 0))
        {
            return Ok(GuestsStay::For(left));
        }
        let guests = reader.guests(room, id).await?;
        self.end(room, id, guests).await?;
        Ok(GuestsStay::Over)
    }

    /// Ends the guests of all links of a document that lets no guests in any more (Matrix, "Guest access").
    ///
    /// # Errors
    /// When the store fails.
    pub async fn end_if_refused(&self, room: &RoomId) -> ApiResult<()> {
        let reader = self.0.rooms.reader();
        let guests = reader.guests_of_document(room).await?;
        if guests.is_empty() {
            return Ok(());
        }
        let state = reader.state(room).await?;
        if state.is_some_and(|state| lets_guests_in(&state)) {
            return Ok(());
        }
        for (id, user, maker) in guests {
            self.end(room, &id, vec![(user, maker)]).await?;
        }
        Ok(())
    }

    /// Ends the guests of every document that lets no guests in, if events were missed.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn end_all_refused(&self) -> ApiResult<()> {
        for room in self.0.rooms.reader().documents_with_guests(MAX_GUESTS).await? {
            self.end_if_refused(&room).await?;
        }
        Ok(())
    }

    /// Ends sessions, memberships and roles of guests, each with the maker of its link. The rows are deleted last.
    async fn end(&self, room: &RoomId, id: &str, guests: Vec<(OwnedUserId, OwnedUserId)>) -> ApiResult<()> {
        if guests.is_empty() {
            return Ok(());
        }
        let users: Vec<OwnedUserId> = guests.iter().map(|(user, _)| user.clone()).collect();
        for user in &users {
            self.0.accounts.deactivate(user).await?;
            self.0.fanout.sessions_changed(user, None);
            self.leave(room, user).await?;
        }
        if let Some((_, maker)) = guests.first() {
            self.take_roles(room, maker, &users).await?;
        }
        self.0.rooms.remove_guests(room, id, &users).await?;
        tracing::info!(%room, guests = users.len(), "guests ended");
        Ok(())
    }

    async fn leave(&self, room: &RoomId, user: &UserId) -> ApiResult<()> {
        let membership = self.0.rooms.reader().membership(room, user).await?;
        if !matches!(membership, MembershipState::Join | MembershipState::Invite) {
            return Ok(());
        }
        let content = Map::from_iter([("membership".to_owned(), json!("leave"))]);
        let leave = state_event(user, "m.room.member", user.as_str(), content);
        match self.0.rooms.send(room, leave).await {
            // It was removed at this moment.
            Ok(_) | Err(RoomError::Forbidden { .. }) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Removes the entries of guests in the power levels, in the name of the maker of their link, who gave them. If the maker
    /// can't do that any more, they stay.
    async fn take_roles(&self, room: &RoomId, maker: &UserId, guests: &[OwnedUserId]) -> ApiResult<()> {
        for _ in 0..MAX_ATTEMPTS {
            let Some(state) = self.0.rooms.reader().state(room).await? else {
                return Ok(());
            };
            let Some(content) = roles::without_users(&state, maker, guests) else {
                return Ok(());
            };
            let levels = state_event(maker, "m.room.power_levels", "", content);
            let sent = self
                .0
                .rooms
                .send_if(room, levels, roles::conditions(&state, maker))
                .await;
            match sent {
                Err(RoomError::StateChanged { .. }) => {}
                Ok(_) | Err(RoomError::Forbidden { .. }) => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}
