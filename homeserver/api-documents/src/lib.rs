//! The document API under `/_weft/client/v1` (`spec/docs/documents-api.md`): documents, their members and roles.
//!
//! A thin layer over rooms: every operation is also possible through Matrix endpoints, with the same effect. Roles
//! are power levels. Must not decide who may give them: the room's own rules do.

mod access;
mod access_requests;
mod approvals;
pub mod archive;
mod attribution;
mod audit;
mod bin;
mod blame;
mod caller;
mod chat;
mod comments;
mod content;
mod create;
mod creation;
mod difference;
mod duplicate;
mod edit;
mod exchange;
mod expired;
mod export;
mod failures;
mod folders;
#[cfg(any(test, feature = "fuzzing"))]
#[path = "../fuzz/checks.rs"]
pub mod fuzz_checks;
mod guests;
mod history;
mod import;
mod joining;
mod links;
mod list;
mod listing;
mod lock;
mod media;
mod members;
pub mod operator;
mod ownership;
mod pages;
mod point;
mod presence;
mod purposes;
mod rendered;
mod request;
mod resolutions;
mod restore;
mod roles;
mod search;
mod servers;
mod show;
mod suggestions;
mod summary;
mod unread;
mod webhooks;

use std::sync::Arc;

use async_trait::async_trait;
use axum::{Router, extract::FromRef, middleware};
use ruma::{RoomId, UserId};
use serde_json::{Map, Value};
use weft_accounts::Accounts;
use weft_fanout::{Presence, Unread};
use weft_http::{
    errors::{ApiResult, unknown_method},
    membership_lock::MembershipLocks,
    openapi::{Described, Routes},
    ratelimit::{self, UserLimiter},
};
use weft_media::Media;
use weft_render::{Office, Renderer};
use weft_room::Rooms;
use weft_search::Searches;
use weft_webhooks::Webhooks;

pub use access::{AccessLog, NoAccessLog, Read};
pub use access_requests::{NoOtherServers, RemoteRequests};
pub use audit::{AuditPorts, KnownKeys};
pub use content::ContentReads;
pub use edit::Writers;
pub use expired::remove_expired;
pub use guests::{Guests, GuestsStay};

/// Invites users, of this server or of another one; another server has to sign the invitation of its user first.
#[async_trait]
pub trait Invitations: Send + Sync + 'static {
    /// Invites `invitee` on behalf of `inviter`. `content` is that of the member event, except `membership`.
    async fn invite(
        &self,
        room: &RoomId,
        inviter: &UserId,
        invitee: &UserId,
        content: Map<String, Value>,
    ) -> ApiResult<()>;
}

/// The services that the document API uses.
#[derive(Clone)]
pub struct DocumentPorts {
    /// Commands and reads.
    pub rooms: Rooms,
    /// Access tokens and profiles.
    pub accounts: Accounts,
    /// Uploaded files.
    pub media: Media,
    /// Invitations, including those over federation.
    pub invitations: Arc<dyn Invitations>,
    /// Request rate limits.
    pub limiter: UserLimiter,
    /// Locks for membership changes, shared with the client-server API.
    pub membership: MembershipLocks,
    /// Render workers.
    pub renderer: Arc<dyn Renderer>,
    /// Converter of office files.
    pub office: Arc<dyn Office>,
    /// Who is online.
    pub presence: Presence,
    /// Numbers of unread events, shared with the client-server API.
    pub unread: Unread,
    /// Requests for whole texts in progress.
    pub content_reads: ContentReads,
    /// Exports of signed logs.
    pub audit: AuditPorts,
    /// Client ids of edits that requests make.
    pub writers: Writers,
    /// The search index.
    pub search: Searches,
    /// Webhooks of documents and of users.
    pub webhooks: Webhooks,
    /// Where reads are recorded.
    pub access: Arc<dyn AccessLog>,
    /// Users who come by share links without an account.
    pub guests: Guests,
    /// Requests for access to documents of other servers.
    pub requests: Arc<dyn RemoteRequests>,
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

/// The routes of the document API, with their descriptions.
fn routes() -> Routes<DocumentPorts> {
    list::routes()
        .merge(create::routes())
        .merge(show::routes())
        .merge(content::routes())
        .merge(audit::routes())
        .merge(exchange::routes())
        .merge(edit::routes())
        .merge(chat::routes())
        .merge(history::routes())
        .merge(blame::routes())
        .merge(difference::routes())
        .merge(restore::routes())
        .merge(presence::routes())
        .merge(members::routes())
        .merge(comments::routes())
        .merge(bin::routes())
        .merge(duplicate::routes())
        .merge(media::routes())
        .merge(export::routes())
        .merge(import::routes())
        .merge(lock::routes())
        .merge(approvals::routes())
        .merge(ownership::routes())
        .merge(joining::routes())
        .merge(access_requests::routes())
        .merge(servers::routes())
        .merge(suggestions::routes())
        .merge(links::routes())
        .merge(guests::routes())
        .merge(folders::routes())
        .merge(search::routes())
        .merge(webhooks::routes())
}

/// The routes of the document API.
pub fn router(ports: DocumentPorts) -> Router {
    routes()
        .into_router()
        .method_not_allowed_fallback(unknown_method)
        .layer(middleware::from_fn(ratelimit::add_headers))
        .layer(weft_http::cors::layer())
        .with_state(ports)
}

/// The descriptions of the routes.
#[must_use]
pub fn descriptions() -> Vec<Described> {
    routes().into_descriptions()
}
