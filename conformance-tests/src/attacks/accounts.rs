//! Requests that an account, or a client that guesses its password, repeats: T123, T125, T126, T128, T131, T132, T133.
//! Each round is one burst of requests; responses are read and discarded. Must not interpret them.

use std::time::Duration;

use anyhow::{Context as _, Result};
use futures_util::future::{BoxFuture, join_all};
use reqwest::{Client, Method};
use serde_json::{Value, json};

use super::{Account, Attack, Course, Figures, Target};
use crate::client::segment;

/// The request that is repeated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Burst {
    /// T123: logins whose client closes the connection before the response.
    HungUp,
    /// T125: rooms with ten thousand state events.
    LargeRooms,
    /// T126: account data, a new type each time.
    AccountData,
    /// T128: receipts in threads that don't exist.
    Receipts,
    /// T131: a sync with a filter of 60 KB.
    Filters,
    /// T132: wrong passwords for many made-up names.
    Guesses,
    /// T133: the list of public rooms.
    PublicRooms,
}

/// All of them, in the order of their numbers.
pub const ALL: [Burst; 7] = [
    Burst::HungUp,
    Burst::LargeRooms,
    Burst::AccountData,
    Burst::Receipts,
    Burst::Filters,
    Burst::Guesses,
    Burst::PublicRooms,
];

/// Requests of one burst.
const AT_ONCE: usize = 8;
/// Pause between two bursts: an attacker on the same machine uses processor time of its own, which is not what the test
/// measures.
const PAUSE: Duration = Duration::from_millis(50);

/// One request of a burst.
struct Request {
    method: Method,
    path: String,
    body: Value,
    signed: bool,
}

impl Burst {
    fn request(self, account: &Account, number: usize) -> Request {
        let room = segment(&account.document);
        let (method, path, body, signed) = match self {
            Self::HungUp | Self::Guesses => {
                let user = json!({ "type": "m.id.user", "user": format!("nobody-{number}") });
                let body = json!({ "type": "m.login.password", "identifier": user, "password": "wrong" });
                (Method::POST, "/_matrix/client/v3/login".to_owned(), body, false)
            }
            Self::LargeRooms => {
                let state = |key: usize| json!({ "type": "x", "state_key": key.to_string(), "content": {} });
                let body = json!({ "initial_state": (0..10_000).map(state).collect::<Vec<_>>() });
                (Method::POST, "/_matrix/client/v3/createRoom".to_owned(), body, true)
            }
            Self::AccountData => {
                let user = segment(&account.user);
                let path = format!("/_matrix/client/v3/user/{user}/account_data/x.{number}");
                (Method::PUT, path, json!({ "x": "x".repeat(240_000) }), true)
            }
            Self::Receipts => {
                let event = segment("$aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa");
                let path = format!("/_matrix/client/v3/rooms/{room}/receipt/m.read/{event}");
                let body = json!({ "thread_id": format!("{number}{}", "x".repeat(500_000)) });
                (Method::POST, path, body, true)
            }
            Self::Filters => {
                let types: Vec<String> = (0..4_000).map(|at| format!("m.*.{at}*")).collect();
                let filter = json!({ "room": { "timeline": { "not_types": types } } }).to_string();
                let path = format!("/_matrix/client/v3/sync?timeout=0&filter={}", segment(&filter));
                (Method::GET, path, Value::Null, true)
            }
            Self::PublicRooms => (
                Method::GET,
                "/_matrix/client/v3/publicRooms?limit=500".to_owned(),
                Value::Null,
                false,
            ),
        };
        Request {
            method,
            path,
            body,
            signed,
        }
    }
}

impl Attack for Burst {
    fn name(&self) -> &'static str {
        match self {
            Self::HungUp => "T123 logins that hang up",
            Self::LargeRooms => "T125 rooms with ten thousand state events",
            Self::AccountData => "T126 account data without end",
            Self::Receipts => "T128 receipts in made-up threads",
            Self::Filters => "T131 large filters",
            Self::Guesses => "T132 guessed passwords",
            Self::PublicRooms => "T133 lists of public rooms",
        }
    }

    fn run<'a>(&'a self, target: &'a Target, course: Course) -> BoxFuture<'a, Result<Figures>> {
        Box::pin(async move {
            let account = target.account.as_ref().context("no account")?;
            let patience = if *self == Self::HungUp { 20 } else { 30_000 };
            let http = Client::builder()
                .local_address(target.from)
                .timeout(Duration::from_millis(patience))
                .build()?;
            let mut figures = Figures::default();
            while !course.is_over() {
                let numbers = figures.tried..figures.tried + AT_ONCE;
                let burst = numbers.map(|number| send(&http, target, account, self.request(account, number)));
                let refused = join_all(burst).await.into_iter().filter(|taken| !taken).count();
                figures.tried += AT_ONCE;
                figures.closed += refused;
                course.holds();
                tokio::time::sleep(PAUSE).await;
            }
            Ok(figures)
        })
    }
}

/// Returns whether the server accepted the request.
async fn send(http: &Client, target: &Target, account: &Account, request: Request) -> bool {
    let url = format!("http://{}{}", target.address, request.path);
    let mut asked = http.request(request.method, url);
    if request.signed {
        asked = asked.bearer_auth(&account.token);
    }
    if !request.body.is_null() {
        asked = asked.json(&request.body);
    }
    let Ok(answer) = asked.send().await else { return false };
    let taken = answer.status().is_success();
    // The response is read completely, as a client does.
    answer.bytes().await.is_ok() && taken
}
