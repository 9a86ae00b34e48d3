//! `/sync`, as Matrix clients use it: an initial sync of a user in many rooms, an incremental sync without changes, and
//! the latency of a message to the members of a room who all have a waiting sync. Must not assert a duration.
//!
//! Every response must be computed anew. Ours are never cached; Synapse's are by default, but not in the configuration
//! of `synapse.rs`. Synapse also merges identical concurrent requests: so each connection has a filter of its own. All
//! requests set the timeline limit, because the defaults of servers differ. Responses are parsed after the time is
//! taken.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde::{Deserialize, de::IgnoredAny};
use serde_json::json;
use tokio::{sync::mpsc, task::JoinSet};

use crate::{
    edit::as_f64,
    http::Connection,
    process, progress,
    report::{Figure, percentiles},
};
use weft_conformance_tests::client::{Client, segment};

/// Size of the run.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// Number of rooms of the user whose initial and incremental syncs are measured.
    #[arg(long, default_value_t = 50)]
    pub rooms: usize,
    /// Messages per room.
    #[arg(long, default_value_t = 20)]
    pub messages: usize,
    /// Other members per room.
    #[arg(long, default_value_t = 10)]
    pub members: usize,
    /// Number of initial syncs, one after another; Synapse gets a fifth.
    #[arg(long, default_value_t = 100)]
    pub firsts: usize,
    /// Number of incremental syncs without changes; Synapse gets a twentieth.
    #[arg(long, default_value_t = 10_000)]
    pub idle: usize,
    /// Connections for the incremental syncs, each with one request at a time.
    #[arg(long, default_value_t = 20)]
    pub connections: usize,
    /// Members of one room with a waiting sync.
    #[arg(long, default_value_t = 50)]
    pub waiting: usize,
    /// Number of messages for waiting syncs, one after another; Synapse gets a quarter.
    #[arg(long, default_value_t = 40)]
    pub rounds: usize,
    /// Milliseconds after each message, in which all clients sync again; Synapse gets four times as long.
    #[arg(long, default_value_t = 250)]
    pub pause: u64,
}

impl Options {
    /// The size of a test.
    #[must_use]
    pub fn small() -> Self {
        Self {
            rooms: 3,
            messages: 4,
            members: 2,
            firsts: 3,
            idle: 20,
            connections: 4,
            waiting: 4,
            rounds: 3,
            pause: 20,
        }
    }

    /// The size for Synapse, which takes correspondingly longer.
    #[must_use]
    pub fn less(&self) -> Self {
        Self {
            firsts: (self.firsts / 5).max(1),
            idle: (self.idle / 20).max(self.connections),
            rounds: (self.rounds / 4).max(1),
            pause: self.pause * 4,
            ..self.clone()
        }
    }
}

/// Timeline limit of the requests.
const TIMELINE: usize = 20;
/// Deadline for a message to all waiting syncs.
const TIMEOUT: Duration = Duration::from_secs(60);
/// Rounds that are not counted: clients that have just connected receive presence, on servers that send it immediately.
const WARM: usize = 2;

/// The parts of a response that are checked.
#[derive(Deserialize)]
struct Answer {
    next_batch: String,
    #[serde(default)]
    rooms: Rooms,
}

#[derive(Default, Deserialize)]
struct Rooms {
    #[serde(default)]
    join: std::collections::HashMap<String, IgnoredAny>,
}

/// The server and the user that syncs.
struct Measured<'a> {
    name: &'a str,
    client: &'a Client,
    pid: Option<u32>,
}

impl Measured<'_> {
    fn cpu(&self) -> Result<Duration> {
        self.pid.map_or(Ok(Duration::ZERO), process::cpu)
    }

    fn figure(&self, name: impl Into<String>, value: f64, unit: &str) -> Figure {
        Figure::new(self.name, name, value, unit)
    }

    async fn connect(&self) -> Result<Connection> {
        Connection::open(&self.client.url, &self.client.token).await
    }
}

/// Measures one server through one of its users and others that it registers. `pid` is the server's process, if known.
///
/// # Errors
/// When the server returns an error or incomplete content, or the URL has TLS.
pub async fn measure(name: &str, client: &Client, pid: Option<u32>, options: &Options) -> Result<Vec<Figure>> {
    let measured = Measured { name, client, pid };
    let people = people(client, options.waiting.max(options.members)).await?;
    progress(&format!("{name}: making {} rooms", options.rooms));
    for number in 0..options.rooms {
        let members = people.iter().cycle().skip(number * options.members);
        let room = room(client, members.take(options.members)).await?;
        for message in 0..options.messages {
            client.say(&room, &text(message)).await?;
        }
    }
    let (mut figures, since) = first(&measured, options).await?;
    figures.extend(idle(&measured, &since, options).await?);
    figures.extend(delivered(&measured, &people, options).await?);
    Ok(figures)
}

/// The path of an initial sync, or of one since a token, with a timeout in milliseconds.
fn asking(timeline: usize, since: Option<&str>, timeout: u32) -> String {
    let filter = json!({ "room": { "timeline": { "limit": timeline } } }).to_string();
    let since = since.map(|since| format!("&since={}", segment(since)));
    let (filter, since) = (segment(&filter), since.unwrap_or_default());
    format!("/_matrix/client/v3/sync?timeout={timeout}&filter={filter}{since}")
}

async fn people(client: &Client, count: usize) -> Result<Vec<Client>> {
    let run = rand::random::<u32>();
    let mut people = Vec::with_capacity(count);
    for number in 0..count {
        people.push(client.register_beside(&format!("load-{run:x}-{number}")).await?);
    }
    Ok(people)
}

async fn room(client: &Client, members: impl Iterator<Item = &Client>) -> Result<String> {
    let room = client.create_room(json!({ "preset": "public_chat" })).await?;
    for member in members {
        member.join(&room, None).await?;
    }
    Ok(room)
}

fn text(number: usize) -> String {
    format!("message number {number} of this room")
}

/// Initial syncs; returns the last token as well.
async fn first(measured: &Measured<'_>, options: &Options) -> Result<(Vec<Figure>, String)> {
    progress(&format!("{}: {} first syncs", measured.name, options.firsts));
    let mut connection = measured.connect().await?;
    let path = asking(TIMELINE, None, 0);
    connection.get(&path).await?;
    let cpu = measured.cpu()?;
    let mut times = Vec::with_capacity(options.firsts);
    let (mut bytes, mut since) = (0, String::new());
    for _ in 0..options.firsts {
        let began = Instant::now();
        let body = connection.get(&path).await?;
        times.push(began.elapsed());
        let answer: Answer = serde_json::from_str(body)?;
        ensure!(
            answer.rooms.join.len() >= options.rooms,
            "an initial sync without all rooms"
        );
        (bytes, since) = (body.len(), answer.next_batch);
    }
    let used = (measured.cpu()? - cpu).as_secs_f64() * 1e3 / as_f64(options.firsts);
    let what = format!("first sync of {} rooms", options.rooms);
    let mut figures = percentiles(measured.name, &what, times);
    figures.push(measured.figure(format!("{what}, server CPU"), used, "ms"));
    figures.push(measured.figure(format!("{what}, bytes"), as_f64(bytes) / 1e3, "KB"));
    Ok((figures, since))
}

/// Incremental syncs without changes, on all connections concurrently.
async fn idle(measured: &Measured<'_>, since: &str, options: &Options) -> Result<Vec<Figure>> {
    progress(&format!("{}: {} syncs with nothing new", measured.name, options.idle));
    let each = options.idle / options.connections;
    ask_again(measured, since, options.connections, each.div_ceil(10)).await?;
    let cpu = measured.cpu()?;
    let began = Instant::now();
    ask_again(measured, since, options.connections, each).await?;
    let took = began.elapsed().as_secs_f64();
    let used = (measured.cpu()? - cpu).as_secs_f64();
    let (count, what) = (
        as_f64(each * options.connections),
        format!("nothing new in {} rooms", options.rooms),
    );
    Ok(vec![
        measured.figure(format!("syncs a second, {what}"), count / took, "1/s"),
        measured.figure(format!("server CPU a sync, {what}"), used * 1e6 / count, "µs"),
    ])
}

async fn ask_again(measured: &Measured<'_>, since: &str, connections: usize, each: usize) -> Result<()> {
    let mut tasks = JoinSet::new();
    for number in 0..connections {
        let mut connection = measured.connect().await?;
        // Has no effect without changes, but differs from the filters of the other connections.
        let path = asking(TIMELINE + number, Some(since), 0);
        tasks.spawn(async move {
            for _ in 0..each {
                let body = connection.get(&path).await?;
                ensure!(!body.contains("\"join\""), "something new: {body}");
            }
            Ok(())
        });
    }
    while let Some(done) = tasks.join_next().await {
        done??;
    }
    Ok(())
}

/// Messages into a room whose members all have a waiting sync; a delivery is one message received by one of them.
///
/// The processor time includes receiving the message and the next syncs.
async fn delivered(measured: &Measured<'_>, people: &[Client], options: &Options) -> Result<Vec<Figure>> {
    let name = measured.name;
    progress(&format!(
        "{name}: {} wait for {} messages",
        options.waiting, options.rounds
    ));
    let waiting = people.iter().take(options.waiting);
    let room = room(measured.client, waiting.clone()).await?;
    let mut many_clients = ManyClients::gather(waiting).await?;
    let mut sender = measured.connect().await?;
    let (mut times, mut cpu) = (Vec::new(), Duration::ZERO);
    for round in 0..WARM + options.rounds {
        tokio::time::sleep(Duration::from_millis(options.pause)).await;
        if round == WARM {
            times.clear();
            cpu = measured.cpu()?;
        }
        let path = Client::in_room(&room, &format!("send/m.room.message/load-{round}"));
        let message = json!({ "msgtype": "m.text", "body": text(round) }).to_string();
        let began = Instant::now();
        sender.put(&path, &message).await?;
        for _ in 0..options.waiting {
            times.push(many_clients.next_heard(round).await?.duration_since(began));
        }
    }
    tokio::time::sleep(Duration::from_millis(options.pause)).await;
    let used = (measured.cpu()? - cpu).as_secs_f64() * 1e6 / as_f64(times.len());
    let mut figures = percentiles(name, &format!("message to {} waiting syncs", options.waiting), times);
    figures.push(measured.figure("server CPU a delivered message", used, "µs"));
    Ok(figures)
}

/// Clients with a waiting sync, each in a task that ends when this is dropped.
struct ManyClients {
    people: JoinSet<Result<()>>,
    received: mpsc::UnboundedReceiver<(usize, Instant)>,
}

impl ManyClients {
    async fn gather(people: impl Iterator<Item = &Client>) -> Result<Self> {
        let (says, received) = mpsc::unbounded_channel();
        let mut waiting = JoinSet::new();
        for person in people {
            let mut connection = Connection::open(&person.url, &person.token).await?;
            let answer: Answer = serde_json::from_str(connection.get(&asking(TIMELINE, None, 0)).await?)?;
            waiting.spawn(wait(connection, answer.next_batch, says.clone()));
        }
        Ok(Self {
            people: waiting,
            received,
        })
    }

    /// The time at which a client received the message of this round.
    async fn next_heard(&mut self, round: usize) -> Result<Instant> {
        let (received, at) = tokio::select! {
            received = self.received.recv() => received.context("nobody waits")?,
            Some(ended) = self.people.join_next() => {
                ended??;
                anyhow::bail!("a waiting client has ended");
            }
            () = tokio::time::sleep(TIMEOUT) => anyhow::bail!("message {round} did not arrive everywhere"),
        };
        ensure!(received == round, "message {received} arrived in round {round}");
        Ok(at)
    }
}

/// Syncs in a loop and reports when each message arrived; messages are sent one after another.
async fn wait(
    mut connection: Connection,
    mut since: String,
    says: mpsc::UnboundedSender<(usize, Instant)>,
) -> Result<()> {
    let mut round = 0;
    loop {
        let path = asking(TIMELINE, Some(&since), 30_000);
        let body = connection.get(&path).await?;
        let at = Instant::now();
        // A response may contain something else, such as presence.
        if body.contains(&text(round)) {
            says.send((round, at))?;
            round += 1;
        }
        let answer: Answer = serde_json::from_str(body)?;
        since = answer.next_batch;
    }
}
