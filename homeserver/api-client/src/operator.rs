//! The operator's requests about accounts (`weft user ...`) to the running server.
//!
//! Requests are not authenticated: these routes must only be served on a local socket that only the server's own system user
//! can open, and must not be served on an IP address.

use axum::{
    Json, Router,
    extract::{Path, Query, State},
    routing::{get, post},
};
use ruma::OwnedUserId;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use weft_accounts::{Account, Accounts, NewAccount};
use weft_fanout::Fanout;
use weft_http::errors::{ApiError, ApiResult, unknown_path};
use weft_wire::limits::OPERATOR_PAGE_ACCOUNTS;

use super::{ClientPorts, Ports, deactivate::close_account, state};

/// `POST /users`
#[derive(Deserialize, Serialize)]
pub struct AddUser {
    /// Local part or full user id.
    pub name: String,
    /// The password.
    pub password: String,
    /// Whether the user is a server administrator.
    pub admin: bool,
}

/// `POST /users/{user}/password`
#[derive(Deserialize, Serialize)]
pub struct SetPassword {
    /// The new password.
    pub password: String,
    /// Whether to end all sessions of the user.
    pub end_sessions: bool,
}

/// `POST /users/{user}/deactivate`
#[derive(Deserialize, Serialize)]
pub struct Deactivate {
    /// Whether to delete the data that is stored for this user only.
    pub erase: bool,
}

/// `GET /users`: the accounts after this one.
#[derive(Deserialize, Serialize)]
pub struct Page {
    /// The last account of the previous page.
    pub after: Option<OwnedUserId>,
}

/// The answer to `GET /users`: one page, empty after the last.
#[derive(Deserialize, Serialize)]
pub struct Users {
    /// The accounts, ordered by id.
    pub users: Vec<ListedUser>,
}

/// An account in a list.
#[derive(Deserialize, Serialize)]
pub struct ListedUser {
    /// The user id.
    pub user_id: OwnedUserId,
    /// Whether the user is a server administrator.
    pub admin: bool,
    /// Whether the account is deactivated (permanently).
    pub deactivated: bool,
    /// Creation time, milliseconds since 1970.
    pub created_at_ms: u64,
}

impl From<Account> for ListedUser {
    fn from(account: Account) -> Self {
        Self {
            user_id: account.user_id,
            admin: account.admin,
            deactivated: account.deactivated,
            created_at_ms: account.created_at_ms,
        }
    }
}

/// The routes; see the module for where they may be served.
pub fn operator_router(ports: ClientPorts) -> Router {
    Router::new()
        .route("/users", get(list).post(add))
        .route("/users/{user}/password", post(set_password))
        .route("/users/{user}/deactivate", post(deactivate))
        .fallback(unknown_path)
        .with_state(state(ports))
}

async fn list(State(accounts): State<Accounts>, Query(page): Query<Page>) -> ApiResult<Json<Users>> {
    let users = accounts.list(page.after.as_deref(), OPERATOR_PAGE_ACCOUNTS).await?;
    let users = users.into_iter().map(Into::into).collect();
    Ok(Json(Users { users }))
}

async fn add(State(accounts): State<Accounts>, Json(request): Json<AddUser>) -> ApiResult<Json<Value>> {
    let account = NewAccount {
        username: accounts.user_id(&request.name)?.localpart().to_owned(),
        password: Some(request.password),
        admin: request.admin,
        display_name: None,
    };
    let user = accounts.register(account).await?;
    tracing::info!(%user, admin = request.admin, "account added by the operator");
    Ok(Json(json!({"user_id": user})))
}

async fn set_password(
    State(accounts): State<Accounts>,
    State(fanout): State<Fanout>,
    Path(user): Path<String>,
    Json(request): Json<SetPassword>,
) -> ApiResult<Json<Value>> {
    let user = accounts.user_id(&user)?;
    accounts.set_password(&user, &request.password, None).await?;
    if request.end_sessions {
        accounts.logout_all(&user, None).await?;
        fanout.sessions_changed(&user, None);
    }
    tracing::info!(%user, end_sessions = request.end_sessions, "password set by the operator");
    Ok(Json(json!({"user_id": user})))
}

async fn deactivate(
    State(ports): State<Ports>,
    Path(user): Path<String>,
    Json(request): Json<Deactivate>,
) -> ApiResult<Json<Value>> {
    let user = ports.accounts.user_id(&user)?;
    if ports.accounts.account(&user).await?.is_none() {
        return Err(ApiError::not_found("Account not found."));
    }
    close_account(&ports, &user, request.erase).await?;
    Ok(Json(json!({"user_id": user})))
}
