//! Attacks by a malicious server, and by unauthenticated clients whose requests name it: T124, T127, T128, T136. One
//! function is one round; [`ByServer`] repeats a round until it is stopped. Must not decide whether the server passes.

use std::{fmt::Write as _, sync::Arc, time::Duration};

use anyhow::{Context as _, Result};
use axum::{
    http::header,
    response::{IntoResponse as _, Response},
};
use bytes::Bytes;
use futures_util::future::{BoxFuture, join_all};
use parking_lot::Mutex;
use reqwest::Method;
use ruma::RoomVersionId;
use serde_json::{Value, json};

use super::{Attack, Course, Figures, Target};
use crate::{
    client::{Client, segment},
    malicious::{MaliciousServer, Room},
    server::Server,
};

/// The request that is repeated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Round {
    /// T124: unauthenticated requests for profiles, aliases and directories of the malicious server, which sends long
    /// responses.
    Lookups,
    /// T127: unsolicited invitations.
    Invitations,
    /// T128: receipts in threads that do not exist.
    Receipts,
    /// T124: unauthenticated requests for keys of servers that do not exist.
    Keys,
    /// T124: unauthenticated requests for profiles and rooms of servers that do not exist or have forbidden addresses.
    Unreachable,
    /// T136: events with wrong signatures.
    BadEvents,
    /// T136: a join whose response has tens of megabytes of events with wrong signatures.
    LongJoin,
}

/// All rounds, in the order of their numbers.
pub const ALL: [Round; 7] = [
    Round::Lookups,
    Round::Keys,
    Round::Unreachable,
    Round::Invitations,
    Round::Receipts,
    Round::BadEvents,
    Round::LongJoin,
];

/// Server names that can't be reached: private networks, one that does not exist, a closed port.
const UNREACHABLE: [&str; 5] = [
    "10.1.2.3",
    "169.254.169.254",
    "[fd00::1]",
    "does-not-exist.invalid",
    "127.0.0.1:1",
];
/// Bytes of each response in [`Round::Lookups`].
const LONG_ANSWER: usize = 60 << 20;
/// Bytes of each response in [`Round::LongJoin`]. The server reads all of it; the memory of a single one is tested
/// elsewhere.
const LONG_JOIN: usize = 16 << 20;
/// Bytes of each event in such a response: a few large events are cheap for the attacker to create.
const LONG_JOIN_EVENT: usize = 60_000;

/// An attack by a malicious server, and by unauthenticated clients whose requests name it.
pub struct ByServer<'a> {
    /// The round to repeat.
    pub round: Round,
    /// The server under attack. The malicious server connects to it by its server name.
    pub server: &'a Server,
    /// The malicious server.
    pub malicious: &'a MaliciousServer,
    /// The client for unauthenticated requests.
    pub http: reqwest::Client,
    /// A user of the server under attack. The user receives the invitations and joins the malicious server's rooms.
    pub victim: &'a Client,
    /// A room of the server under attack, and the user of the malicious server who has joined it.
    pub room: (Room, String),
}

impl ByServer<'_> {
    async fn run_round(&self) -> Result<usize> {
        let (room, mallory) = &self.room;
        match self.round {
            Round::Lookups => {
                serve_long_responses(self.malicious, LONG_ANSWER);
                let statuses = request_lookups(self.server, &self.http, self.malicious.name().as_str(), 24).await?;
                Ok(statuses.len())
            }
            Round::Invitations => Ok(invite(self.server, self.malicious, &self.victim.user, 4, 200_000)
                .await?
                .len()),
            Round::Receipts => {
                receipts(self.server, self.malicious, room, mallory, 40).await?;
                Ok(40)
            }
            Round::Keys => {
                // Ports below the ephemeral range: they are closed.
                let ports: Vec<u16> = (1..=40).collect();
                query_keys(self.server, &self.http, &ports).await?;
                Ok(ports.len())
            }
            Round::Unreachable => {
                let mut requests = 0;
                for name in UNREACHABLE {
                    requests += request_lookups(self.server, &self.http, name, 6).await?.len();
                }
                Ok(requests)
            }
            Round::BadEvents => {
                bad_events(self.server, self.malicious, room, mallory, 1).await?;
                Ok(50)
            }
            Round::LongJoin => {
                self.long_join(mallory).await?;
                Ok(1)
            }
        }
    }

    async fn long_join(&self, mallory: &str) -> Result<()> {
        let room = Room::create(self.malicious, &RoomVersionId::V12, mallory)?;
        let id = room.id.clone();
        let room = self.malicious.host(room);
        serve_long_join(self.malicious, &room, LONG_JOIN_EVENT, LONG_JOIN)?;
        let path = format!("/_matrix/client/v3/join/{}?via={}", segment(&id), self.malicious.name());
        self.victim.post(&path, json!({})).await?;
        Ok(())
    }
}

impl Round {
    /// The name, with the number in `ADVERSARIAL.md`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Lookups => "T124 unauthenticated lookups",
            Self::Keys => "T124 keys of servers that do not exist",
            Self::Unreachable => "T124 unreachable server names",
            Self::Invitations => "T127 unsolicited invitations",
            Self::Receipts => "T128 receipts in threads that do not exist",
            Self::BadEvents => "T136 events with wrong signatures",
            Self::LongJoin => "T136 joins with long responses",
        }
    }
}

impl Attack for ByServer<'_> {
    fn name(&self) -> &'static str {
        self.round.name()
    }

    fn run<'a>(&'a self, _target: &'a Target, course: Course) -> BoxFuture<'a, Result<Figures>> {
        Box::pin(async move {
            let mut figures = Figures::default();
            let mut refused = None;
            while !course.is_over() {
                match self.run_round().await {
                    Ok(tried) => figures.tried += tried,
                    // The server may close an attacker's connections and refuse requests over a limit.
                    Err(error) => {
                        figures.tried += 1;
                        figures.closed += 1;
                        refused = Some(error);
                        tokio::time::sleep(PAUSE).await;
                    }
                }
                course.holds();
            }
            match refused {
                Some(error) if figures.tried == figures.closed => return Err(error.context("every attempt failed")),
                _ => {}
            }
            Ok(figures)
        })
    }
}

/// The pause after a failed round.
const PAUSE: Duration = Duration::from_millis(50);
/// Concurrent requests of a round.
const AT_ONCE: usize = 32;

/// T124: makes the malicious server respond to lookups with `bytes` bytes.
pub fn serve_long_responses(malicious: &MaliciousServer, bytes: usize) {
    let body = Bytes::from(format!(r#"{{"displayname":"{}","chunk":[]}}"#, "x".repeat(bytes)));
    for path in [
        "/_matrix/federation/v1/query/profile",
        "/_matrix/federation/v1/query/directory",
        "/_matrix/federation/v1/publicRooms",
    ] {
        malicious.answers_no_more(path);
        let body = body.clone();
        malicious.answers(path, move |_| json_bytes(&body));
    }
}

/// A JSON response; all responses share the bytes of the body.
fn json_bytes(body: &Bytes) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], body.clone()).into_response()
}

/// T136: makes the malicious server respond to every join of its room with the room's state and `bytes` bytes of events
/// with wrong signatures.
///
/// # Errors
/// If an event can't be created.
pub fn serve_long_join(
    malicious: &MaliciousServer,
    room: &Arc<Mutex<Room>>,
    event_bytes: usize,
    bytes: usize,
) -> Result<()> {
    let room = room.lock().clone();
    let state = room.state_events();
    let sender = malicious.user("mallory");
    let content = json!({ "topic": "x".repeat(event_bytes) });
    let mut forged = room.event(malicious, &sender, "m.room.topic", Some(""), content)?;
    let each = forged.to_string().len();
    let mut answer = json!({
        "origin": malicious.name(), "members_omitted": false, "auth_chain": room.auth_chain(&state), "state": state,
    })
    .to_string();
    // Removes the closing brackets of the state list and of the object.
    answer.truncate(answer.len() - 2);
    for number in 0..bytes / each {
        if let Some(key) = forged.get_mut("state_key") {
            *key = json!(number.to_string());
        }
        write!(answer, ",{forged}")?;
    }
    answer.push_str("]}");
    let answer = Bytes::from(answer);
    // The earlier handler would keep its own response in memory.
    malicious.answers_no_more("/_matrix/federation/v2/send_join/");
    malicious.answers("/_matrix/federation/v2/send_join/", move |_| json_bytes(&answer));
    Ok(())
}

/// T124: sends unauthenticated requests for profiles, aliases and directories of another server. Returns the statuses.
///
/// # Errors
/// If the target can't be reached.
pub async fn request_lookups(target: &Server, http: &reqwest::Client, other: &str, times: usize) -> Result<Vec<u16>> {
    let paths = [
        format!("/_matrix/client/v3/profile/{}", segment(&format!("@x:{other}"))),
        format!("/_matrix/client/v3/directory/room/{}", segment(&format!("#x:{other}"))),
        format!("/_matrix/client/v3/publicRooms?server={}", segment(other)),
    ];
    let mut statuses = Vec::with_capacity(times);
    let mut next = paths.iter().cycle();
    while statuses.len() < times {
        let mut running = Vec::new();
        for path in next.by_ref().take(AT_ONCE.min(times - statuses.len())) {
            running.push(status_of(http.get(format!("{}{path}", target.url))));
        }
        for status in join_all(running).await {
            statuses.push(status?);
        }
    }
    Ok(statuses)
}

async fn status_of(request: reqwest::RequestBuilder) -> Result<u16> {
    let answer = request.send().await?;
    let status = answer.status().as_u16();
    answer.bytes().await?;
    Ok(status)
}

/// T124: sends an unauthenticated notary query for the keys of servers that do not exist, at these loopback ports.
///
/// # Errors
/// If the target can't be reached.
pub async fn query_keys(target: &Server, http: &reqwest::Client, ports: &[u16]) -> Result<Value> {
    let servers: serde_json::Map<String, Value> = ports
        .iter()
        .map(|port| (format!("127.0.0.1:{port}"), json!({})))
        .collect();
    let answer = http
        .post(format!("{}/_matrix/key/v2/query", target.url))
        .json(&json!({ "server_keys": servers }))
        .send()
        .await?;
    answer.json().await.context("the response to a key query is not JSON")
}

/// T127: invites a user to `rooms` rooms, each with stripped state of `bytes` bytes. Returns the statuses.
///
/// # Errors
/// If the target can't be reached.
pub async fn invite(
    target: &Server,
    malicious: &MaliciousServer,
    victim: &str,
    rooms: usize,
    bytes: usize,
) -> Result<Vec<u16>> {
    let mut statuses = Vec::with_capacity(rooms);
    for _ in 0..rooms {
        let mallory = malicious.user("mallory");
        let mut room = Room::create(malicious, &RoomVersionId::V12, &mallory)?;
        let content = json!({ "membership": "invite" });
        let id = room.send(malicious, &mallory, "m.room.member", Some(victim), content)?;
        let event = room.events.get(&id).cloned().context("the invitation")?;
        let mut stripped = room.state_events();
        stripped.retain(|event| event.get("type") == Some(&json!("m.room.create")));
        let entry = json!({ "type": "m.room.topic", "state_key": "", "sender": mallory, "content": { "topic": "x".repeat(bytes) } });
        stripped.push(entry);
        let body = json!({ "room_version": "12", "event": event, "invite_room_state": stripped });
        let path = format!("/_matrix/federation/v2/invite/{}/{}", segment(&room.id), segment(&id));
        let answer = malicious.ask(target, Method::PUT, &path, Some(&body)).await?;
        statuses.push(answer.status.as_u16());
    }
    Ok(statuses)
}

/// T128: sends read receipts of a member in threads that do not exist. Every second EDU has nearly the maximum size.
///
/// # Errors
/// If the target can't be reached.
pub async fn receipts(
    target: &Server,
    malicious: &MaliciousServer,
    room: &Room,
    user: &str,
    edus: usize,
) -> Result<()> {
    let read = room.heads.first().context("a room has events")?;
    let edu = |number: usize| {
        let thread = if number.is_multiple_of(2) {
            format!("{number}{}", "x".repeat(60_000))
        } else {
            format!("${number:0>43}")
        };
        let receipt = json!({ "event_ids": [read], "data": { "ts": number, "thread_id": thread } });
        json!({ "edu_type": "m.receipt", "content": { room.id.as_str(): { "m.read": { user: receipt } } } })
    };
    let all: Vec<Value> = (0..edus).map(edu).collect();
    for chunk in all.chunks(100) {
        malicious.transaction(target, &[], chunk).await?;
    }
    Ok(())
}

/// T136: sends transactions of events with wrong signatures.
///
/// # Errors
/// If the target can't be reached.
pub async fn bad_events(
    target: &Server,
    malicious: &MaliciousServer,
    room: &Room,
    user: &str,
    transactions: usize,
) -> Result<()> {
    for number in 0..transactions {
        let forged: Result<Vec<Value>> = (0..50)
            .map(|at| {
                let content = json!({ "msgtype": "m.text", "body": format!("{number} {at}") });
                let mut event = room.event(malicious, user, "m.room.message", None, content)?;
                if let Some(time) = event.get_mut("origin_server_ts") {
                    *time = json!(at);
                }
                Ok(event)
            })
            .collect();
        malicious.transaction(target, &forged?, &[]).await?;
    }
    Ok(())
}
