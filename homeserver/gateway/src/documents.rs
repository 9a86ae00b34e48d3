//! The document API under `/_weft/client/v1` (`spec/docs/documents-api.md`): documents, their members and roles.
//!
//! A thin face over rooms: whatever is done here could be done by Matrix endpoints as well, with the same effect. Roles
//! are power levels, and the room's own rules decide who may give them.

mod caller;
mod content;
mod create;
mod failures;
mod list;
mod members;
mod roles;
mod show;
mod summary;

use std::sync::Arc;

use async_trait::async_trait;
use axum::{
    Router,
    extract::FromRef,
    routing::{get, put},
};
use ruma::{OwnedRoomId, RoomAliasId, RoomId, UserId};
use serde_json::{Map, Value};
use weft_accounts::Accounts;
use weft_room::{Reader, Rooms, Unavailable};

pub use content::ContentReads;

use crate::{
    client::MembershipLocks,
    errors::{ApiResult, unknown_method},
    ratelimit::UserLimiter,
};

/// Invites users, of this server or of another one; another server has to sign the invitation of its user first.
#[async_trait]
pub trait Invitations: Send + Sync + 'static {
    /// Invites `invitee` in the name of `inviter`. `content` is that of the member event, without the membership.
    async fn invite(
        &self,
        room: &RoomId,
        inviter: &UserId,
        invitee: &UserId,
        content: Map<String, Value>,
    ) -> ApiResult<()>;
}

/// What the document API needs.
#[derive(Clone)]
pub struct DocumentPorts {
    /// Commands and reads.
    pub rooms: Rooms,
    /// Tokens and profiles.
    pub accounts: Accounts,
    /// Invitations across servers.
    pub invitations: Arc<dyn Invitations>,
    /// Requests a minute.
    pub limiter: UserLimiter,
    /// Changes of memberships under way: those that the client-server API uses.
    pub membership: MembershipLocks,
    /// Requests for whole texts under way.
    pub content_reads: ContentReads,
}

impl FromRef<DocumentPorts> for Accounts {
    fn from_ref(ports: &DocumentPorts) -> Self {
        ports.accounts.clone()
    }
}

impl FromRef<DocumentPorts> for UserLimiter {
    fn from_ref(ports: &DocumentPorts) -> Self {
        ports.limiter.clone()
    }
}

/// The routes of the document API.
pub fn router(ports: DocumentPorts) -> Router {
    Router::new()
        .route("/_weft/client/v1/documents", get(list::list).post(create::create))
        .route("/_weft/client/v1/documents/{id}", get(show::show).patch(show::rename))
        .route("/_weft/client/v1/documents/{id}/content", get(content::content))
        .route("/_weft/client/v1/documents/{id}/members", get(members::list))
        .route(
            "/_weft/client/v1/documents/{id}/members/{user}",
            put(members::set_role).delete(members::remove),
        )
        .method_not_allowed_fallback(unknown_method)
        .layer(crate::cors::layer())
        .with_state(ports)
}

/// The room that an alias of this server stands for.
///
/// # Errors
/// When the store can't be read.
pub(crate) async fn room_of_alias(reader: &Reader, alias: &RoomAliasId) -> Result<Option<OwnedRoomId>, Unavailable> {
    Ok(reader.alias(alias).await?.map(|row| row.room))
}
