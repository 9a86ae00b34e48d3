//! Share links: `/documents/{id}/links` for those who may invite, `/links/{secret}` for every user of this server who has the link.
//!
//! Must not let a user in with more than the maker of the link could give at that moment, and must not store or log a secret.

use axum::{Json, extract::State, http::StatusCode};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use ruma::{OwnedRoomId, RoomId, UserId, events::room::member::MembershipState};
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};
use weft_accounts::{Follower, ProofError, check_new_password};
use weft_dag::StateView;
use weft_http::{
    authentication::Authenticated,
    client_address::ClientAddress,
    errors::{ApiError, ApiResult},
    openapi::{Operation, Routes},
    path::InPath,
};
use weft_room_api::RoomError;
use weft_room_read::LinkRow;
use weft_wire::{
    Role,
    limits::{LINK_LASTS_MS, MAX_LINK_LASTS_MS},
    rest::{Done, FollowLink, FollowedLink, LinkMade, MakeLink, ShareLink, ShareLinks},
};

use super::{
    DocumentPorts,
    caller::{Named, Open, open, open_room},
    failures::{link_password, may_not, no_guests},
    lock::{MAX_ATTEMPTS, state_event},
    request::{JsonBody, OptionalJsonBody},
    roles,
};

/// Random bytes of a secret: it can't be guessed, so that a fast hash of it is enough.
const SECRET_BYTES: usize = 24;

pub(super) fn routes() -> Routes<DocumentPorts> {
    Routes::new("Sharing")
        .post(
            "/_weft/client/v1/documents/{id}/links",
            make,
            Operation::new("createLink", "Makes a share link")
                .refuses(403, "The caller could not give the role, or there are too many links."),
        )
        .get(
            "/_weft/client/v1/documents/{id}/links",
            list,
            Operation::new("listLinks", "The open share links, without their secrets").refuses(403, "Below manager."),
        )
        .delete(
            "/_weft/client/v1/documents/{id}/links/{link}",
            revoke,
            Operation::new("revokeLink", "Revokes a share link")
                .path::<String>("link", "The `linkId`.")
                .refuses(403, "Below manager."),
        )
        .post(
            "/_weft/client/v1/links/{secret}",
            follow,
            Operation::new("followLink", "Makes the caller a member")
                .path::<String>("secret", "The secret of a share link.")
                .refuses(403, "The caller is banned, or the password is missing or wrong.")
                .refuses(404, "The link is unknown, revoked, expired or used up."),
        )
}

/// The secret of a link: random, and the room in which its row is.
pub(super) struct Secret {
    random: String,
    pub(super) room: OwnedRoomId,
}

impl Secret {
    fn new(room: &RoomId) -> Self {
        let mut bytes = [0_u8; SECRET_BYTES];
        rand::fill(&mut bytes);
        Self {
            random: URL_SAFE_NO_PAD.encode(bytes),
            room: room.to_owned(),
        }
    }

    pub(super) fn parse(text: &str) -> Option<Self> {
        let (random, room) = text.split_once('.')?;
        Some(Self {
            random: random.to_owned(),
            room: RoomId::parse(format!("!{room}")).ok()?,
        })
    }

    fn text(&self) -> String {
        format!("{}.{}", self.random, self.room.as_str().trim_start_matches('!'))
    }

    /// The id of the link, which does not give the secret away.
    pub(super) fn id(&self) -> String {
        URL_SAFE_NO_PAD.encode(Sha256::digest(self.random.as_bytes()))
    }
}

/// Makes a link; 403 if the caller could not invite somebody with that role.
async fn make(
    State(ports): State<DocumentPorts>,
    Authenticated(session): Authenticated,
    named: Named,
    address: ClientAddress,
    JsonBody(request): JsonBody<MakeLink>,
) -> ApiResult<(StatusCode, Json<LinkMade>)> {
    let Open { room, state } = open(&ports, &named, &session.user_id).await?;
    if !may_admit(&state, &session.user_id, request.role) {
        return Err(may_not("share it with this role"));
    }
    let now = ports.rooms.now();
    let lasts = request.expires_in.unwrap_or(LINK_LASTS_MS);
    if lasts == 0 || lasts > MAX_LINK_LASTS_MS || request.max_uses == Some(0) {
        let message = format!("A link lasts 1 to {MAX_LINK_LASTS_MS} milliseconds and has at least one use.");
        return Err(ApiError::invalid_param(message));
    }
    let password = match &request.password {
        Some(password) => {
            check_new_password(password)?;
            Some(ports.accounts.hash_link_password(password, address.network()).await?)
        }
        None => None,
    };
    if request.guests && !ports.guests.are_allowed() {
        return Err(no_guests("This server"));
    }
    let (secret, row) = (
        Secret::new(&room),
        LinkRow {
            maker: session.user_id.clone(),
            power: request.role.power(),
            created_at: now,
            expires_at: now.saturating_add(lasts),
            max_uses: request.max_uses,
            uses: 0,
            password,
            guests: request.guests,
        },
    );
    if !ports.rooms.add_link(&room, &secret.id(), &row).await? {
        return Err(ApiError::forbidden(
            "The document has too many links. Revoke one first.",
        ));
    }
    let made = LinkMade {
        secret: secret.text(),
        link: shown(secret.id(), row),
    };
    Ok((StatusCode::CREATED, Json(made)))
}

/// The links that are open or have guests, without their secrets; for those who may invite.
async fn list(
    State(ports): State<DocumentPorts>,
    Authenticated(session): Authenticated,
    named: Named,
) -> ApiResult<Json<ShareLinks>> {
    let room = managed(&ports, &named, &session.user_id).await?;
    let (links, now) = (ports.rooms.reader().links(&room).await?, ports.rooms.now());
    let open = links.into_iter().filter(|(_, row)| row.is_kept(now));
    let mut links: Vec<ShareLink> = open.map(|(id, row)| shown(id, row)).collect();
    links.sort_by(|one, other| (one.created_at, &one.link_id).cmp(&(other.created_at, &other.link_id)));
    Ok(Json(ShareLinks { links }))
}

async fn revoke(
    State(ports): State<DocumentPorts>,
    Authenticated(session): Authenticated,
    named: Named,
    InPath((_, link)): InPath<(String, String)>,
) -> ApiResult<Json<Done>> {
    let room = managed(&ports, &named, &session.user_id).await?;
    if !ports.rooms.delete_link(&room, &link).await? {
        return Err(ApiError::not_found("No such link."));
    }
    ports.guests.end_with_link(&room, &link).await?;
    Ok(Json(Done {}))
}

async fn managed(ports: &DocumentPorts, named: &Named, user: &UserId) -> ApiResult<OwnedRoomId> {
    let Open { room, state } = open(ports, named, user).await?;
    if !state.can_invite(user) {
        return Err(may_not("manage its links"));
    }
    Ok(room)
}

fn shown(link_id: String, row: LinkRow) -> ShareLink {
    ShareLink {
        link_id,
        created_by: row.maker,
        role: Role::from_power(row.power),
        created_at: row.created_at,
        expires_at: row.expires_at,
        max_uses: row.max_uses,
        uses: row.uses,
        has_password: row.password.is_some(),
        guests: row.guests,
    }
}

/// Whether a member could invite somebody with this role. A role below the one of all who join must be given as well.
fn may_admit(state: &StateView, maker: &UserId, role: Role) -> bool {
    state.can_invite(maker)
        && (role == roles::default_role(state)
            || (state.can_send_state(maker, "m.room.power_levels") && state.user_power(maker) >= role.power()))
}

/// Lets the caller in. 404 for a link that is unknown, revoked, expired or used up, or whose maker may not invite any more.
async fn follow(
    State(ports): State<DocumentPorts>,
    Authenticated(session): Authenticated,
    InPath(secret): InPath<String>,
    address: ClientAddress,
    OptionalJsonBody(request): OptionalJsonBody<FollowLink>,
) -> ApiResult<Json<FollowedLink>> {
    let secret = Secret::parse(&secret).ok_or_else(no_link)?;
    let (room, id, user) = (secret.room.clone(), secret.id(), session.user_id);
    let follower = Follower::User(user.clone(), address.network());
    let link = open_link(&ports, &room, &id).await?;
    check_password(&ports, (&id, &link), request.password.as_deref(), &follower).await?;
    let lock = ports.membership.lock(&user, &user, &room).await?;
    lock.run(async move {
        admit(&ports, &room, (&id, &link), (&user, false)).await?;
        Ok(Json(FollowedLink { doc_id: room }))
    })
    .await
}

/// A link that is open. Before anything is locked or counted: most wrong links are simply wrong.
pub(super) async fn open_link(ports: &DocumentPorts, room: &RoomId, id: &str) -> ApiResult<LinkRow> {
    let row = ports.rooms.reader().link(room, id).await?;
    row.filter(|row| row.is_open(ports.rooms.now())).ok_or_else(no_link)
}

/// Checks the password of a link that has one.
pub(super) async fn check_password(
    ports: &DocumentPorts,
    (id, link): (&str, &LinkRow),
    password: Option<&str>,
    follower: &Follower,
) -> ApiResult<()> {
    if let Some(stored) = &link.password {
        let password = password.ok_or_else(link_password)?;
        let proof = ports.accounts.prove_link_password((id, stored), password, follower);
        proof.await.map_err(|error| match error {
            ProofError::Denied => link_password(),
            error => error.into(),
        })?;
    }
    Ok(())
}

pub(super) fn no_link() -> ApiError {
    ApiError::not_found("This link is unknown, revoked, expired or used up.")
}

/// Makes a user a member with the role of a link. `counted`: this use is counted already.
pub(super) async fn admit(
    ports: &DocumentPorts,
    room: &RoomId,
    (id, link): (&str, &LinkRow),
    (user, mut counted): (&UserId, bool),
) -> ApiResult<()> {
    let (maker, role) = (&*link.maker, Role::from_power(link.power));
    for _ in 0..MAX_ATTEMPTS {
        let state = open_room(ports, room, maker).await.map_err(|_| no_link())?.state;
        if !may_admit(&state, maker, role) {
            return Err(no_link());
        }
        let membership = state.membership(user);
        if membership == MembershipState::Ban {
            return Err(ApiError::forbidden("You are banned from this document."));
        }
        let current = Role::from_power(state.user_power(user));
        // A user who is not there may have a role from an earlier time, or get one by default: the link gives its own.
        let gives_role = match membership {
            MembershipState::Join | MembershipState::Invite => role > current,
            _ => role != current,
        };
        if membership == MembershipState::Join && !gives_role {
            return Ok(());
        }
        if !counted {
            ports.rooms.use_link(room, id).await?.ok_or_else(no_link)?;
            counted = true;
        }
        if gives_role && let Some(content) = roles::with_role(&state, maker, user, role)? {
            let levels = state_event(maker, "m.room.power_levels", "", content);
            match ports.rooms.send_if(room, levels, roles::conditions(&state, user)).await {
                Ok(_) | Err(RoomError::StateChanged { .. }) => continue,
                Err(error) => return Err(error.into()),
            }
        }
        let content = ports.accounts.member_content(user).await?;
        if membership != MembershipState::Invite {
            ports.invitations.invite(room, maker, user, content.clone()).await?;
        }
        let mut join: Map<String, Value> = content;
        join.insert("membership".to_owned(), json!("join"));
        ports
            .rooms
            .send(room, state_event(user, "m.room.member", user.as_str(), join))
            .await?;
        return Ok(());
    }
    Err(ApiError::unavailable(
        "The roles of this document are being changed. Try again.",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_names_its_room_and_hides_behind_its_id() {
        for room in ["!31hneApxJ_1o-63DmFrpeqnkFfWppnzWso1JvH3ogLM", "!opaque:a.example:8448"] {
            let secret = Secret::new(&RoomId::parse(room).unwrap());
            let text = secret.text();
            let read = Secret::parse(&text).unwrap();
            assert_eq!((read.room.as_str(), read.id()), (room, secret.id()));
            assert!(!text.contains(&secret.id()) && !secret.id().contains(&secret.random));
        }
        for wrong in ["", "x", "x.", ".", "a.b c/\u{0}"] {
            assert!(Secret::parse(wrong).is_none_or(|secret| secret.random != "x" || secret.room.as_str() != "!x"));
        }
    }
}
