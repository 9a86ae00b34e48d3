//! A server joins a large room of another server: a document with a long history and a thousand members. Must not
//! assert a duration.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use crate::{edit::as_f64, history, local::Local, process, progress, report::Figure, socket, target::Target};
use weft_conformance_tests::{
    client::{Client, segment},
    malicious::{MaliciousServer, Room},
    server::Server,
};

/// Size of the run.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// Number of members.
    #[arg(long, default_value_t = 1_000)]
    pub members: usize,
    /// Number of changes in the document's history.
    #[arg(long, default_value_t = 260_000)]
    pub history: usize,
    /// Number of Weft servers that join, one after another.
    #[arg(long, default_value_t = 3)]
    pub joins: usize,
}

impl Options {
    /// The size of a test.
    #[must_use]
    pub fn small() -> Self {
        Self {
            members: 12,
            history: 500,
            joins: 1,
        }
    }
}

/// Deadline for a join and the content of the room.
const TIMEOUT: Duration = Duration::from_secs(300);

/// A large room and its servers.
pub struct Large {
    /// Servers; the first one hosts the room.
    pub local: Local,
    /// The room id.
    pub id: String,
    members: usize,
    /// The server of most members; joining servers request its keys.
    _malicious: MaliciousServer,
}

/// Creates the room and the servers that will join it.
///
/// # Errors
/// When a server returns an error.
pub async fn prepare(options: &Options) -> Result<Large> {
    let local = Local::start(1 + options.joins).await?;
    let alice = local.user(0, "alice").await?;
    let id = alice.create_document("Large").await?;
    let rules = Client::in_room(&id, "state/m.room.join_rules");
    alice.put(&rules, json!({ "join_rule": "public" })).await?;
    progress(&format!(
        "the room: {} changes and {} members",
        options.history, options.members
    ));
    let endpoint = Target::weft(alice.clone(), None, None, false).endpoint(&id)?;
    let (mut sender, mut receiver, _) = socket::open(&endpoint).await?;
    sender
        .upload(&mut receiver, &history::document(options.history)?)
        .await?;
    drop((sender, receiver));
    let server = local.server(0)?;
    let malicious = MaliciousServer::start(&local.authority, "members").await?;
    let mut room = Room::join(&malicious, server, &id, &malicious.user("member-0")).await?;
    let others = 1..options.members.saturating_sub(1);
    room.join_members(&malicious, server, others).await?;
    until_members(&alice, &id, options.members).await?;
    Ok(Large {
        local,
        id,
        members: options.members,
        _malicious: malicious,
    })
}

/// Measures the join of each of the other Weft servers.
///
/// # Errors
/// When a server returns an error.
pub async fn measure(room: &Large) -> Result<Vec<Figure>> {
    let mut figures = Vec::new();
    for number in 1..room.local.servers.len() {
        let user = room.local.user(number, "bob").await?;
        let pid = room.local.server(number)?.pid();
        let name = format!("join {number}");
        figures.push((name, measure_one("Weft", room, &user, pid, true).await?));
    }
    let middle = figures.len() / 2;
    figures.sort_by(|one, other| {
        one.1
            .first()
            .map(|f| f.value)
            .unwrap_or(0.0)
            .total_cmp(&other.1.first().map(|f| f.value).unwrap_or(0.0))
    });
    Ok(figures
        .into_iter()
        .nth(middle)
        .map(|(_, figures)| figures)
        .unwrap_or_default())
}

/// Measures one join by a user of another server, until all members are there (and the text, if it can be read).
///
/// # Errors
/// When a server returns an error.
pub async fn measure_one(
    name: &str,
    room: &Large,
    user: &Client,
    pid: Option<u32>,
    reads: bool,
) -> Result<Vec<Figure>> {
    progress(&format!("{name} joins"));
    let via = &room.local.server(0)?.name;
    // The server that joined before may still be fetching the history; that is not a cost of this one.
    let pids: Vec<u32> = room.local.servers.iter().filter_map(Server::pid).collect();
    process::at_rest(&pids).await?;
    let cpu = pid.map_or(Ok(Duration::ZERO), process::cpu)?;
    let began = Instant::now();
    user.join(&room.id, Some(via)).await?;
    let joined = began.elapsed();
    until_members(user, &room.id, room.members + 1).await?;
    let complete = began.elapsed();
    let mut figures = vec![
        Figure::new(name, "join answered", joined.as_secs_f64() * 1e3, "ms"),
        Figure::new(
            name,
            "join until all members are there",
            complete.as_secs_f64() * 1e3,
            "ms",
        ),
    ];
    if reads {
        while user.content(&room.id).await.map_or(0, |content| content.len()) <= 2 {
            anyhow::ensure!(began.elapsed() < TIMEOUT, "no text");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        figures.push(Figure::new(
            name,
            "join until the text is there",
            began.elapsed().as_secs_f64() * 1e3,
            "ms",
        ));
    }
    let used = pid.map_or(Ok(Duration::ZERO), process::cpu)? - cpu;
    figures.push(Figure::new(
        name,
        "CPU of the joining server",
        used.as_secs_f64() * 1e3,
        "ms",
    ));
    Ok(figures)
}

async fn until_members(client: &Client, room: &str, members: usize) -> Result<()> {
    let path = format!("/_matrix/client/v3/rooms/{}/joined_members", segment(room));
    let wait = async {
        loop {
            let answer = client.get(&path).await?;
            let joined = answer.get("joined").and_then(Value::as_object);
            if joined.context("no members")?.len() >= members {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let missing = || format!("{} members did not arrive", as_f64(members));
    tokio::time::timeout(TIMEOUT, wait).await.with_context(missing)?
}
