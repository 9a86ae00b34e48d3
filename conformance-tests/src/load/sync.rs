//! /sync, as Matrix clients ask for it: a first one of somebody in many rooms, one in which nothing is new, and how long a
//! message takes to the members of a room who all wait in it.
//!
//! Every answer must be worked out anew. Ours are never kept; Synapse's are by default, but not as it is configured here
//! (`synapse.rs`). Synapse also has one answer for requests that are alike and come at once: so each connection has a filter
//! of its own. All say how many events of a timeline they want, for servers differ in what they give who does not. What
//! parses answers here runs when the time has been taken.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde::{Deserialize, de::IgnoredAny};
use serde_json::json;
use tokio::{sync::mpsc, task::JoinSet};

use super::{
    edit::as_f64,
    http::Connection,
    process, progress,
    report::{Figure, percentiles},
};
use crate::client::{Client, segment};

/// How much is done.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// Rooms of the user who syncs for the first time and with nothing new.
    #[arg(long, default_value_t = 50)]
    pub rooms: usize,
    /// Messages in each of them.
    #[arg(long, default_value_t = 20)]
    pub messages: usize,
    /// Others in each of them.
    #[arg(long, default_value_t = 10)]
    pub members: usize,
    /// First syncs, one after another; Synapse is asked for a fifth of it.
    #[arg(long, default_value_t = 100)]
    pub firsts: usize,
    /// Syncs with nothing new; Synapse is asked for a twentieth of it.
    #[arg(long, default_value_t = 10_000)]
    pub idle: usize,
    /// Connections for these, each with one request at a time.
    #[arg(long, default_value_t = 20)]
    pub connections: usize,
    /// Members of one room who wait for a message.
    #[arg(long, default_value_t = 50)]
    pub waiting: usize,
    /// Messages that come, one after another; Synapse gets a quarter of it.
    #[arg(long, default_value_t = 40)]
    pub rounds: usize,
    /// Milliseconds after each, in which all ask again; Synapse gets four times as long.
    #[arg(long, default_value_t = 250)]
    pub pause: u64,
}

impl Options {
    /// As a test runs it.
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

    /// As Synapse gets it, which takes that much longer for each.
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

/// Events of each room's timeline that clients ask for.
const TIMELINE: usize = 20;
/// How long a message may take to all who wait.
const TIMEOUT: Duration = Duration::from_secs(60);
/// Rounds that are not counted: those who have just come are told of each other, where a server tells presence at once.
const WARM: usize = 2;

/// What of an answer is looked at.
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

/// Who is asked, and by whom.
struct Asked<'a> {
    name: &'a str,
    client: &'a Client,
    pid: Option<u32>,
}

impl Asked<'_> {
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

/// Measures one server, by a user of it and others whom it registers. `pid` is its process where it is known.
///
/// # Errors
/// When the server refuses something, answers without what is there, or is spoken to with TLS.
pub async fn measure(name: &str, client: &Client, pid: Option<u32>, options: &Options) -> Result<Vec<Figure>> {
    let asked = Asked { name, client, pid };
    let people = people(client, options.waiting.max(options.members)).await?;
    progress(&format!("{name}: making {} rooms", options.rooms));
    for number in 0..options.rooms {
        let members = people.iter().cycle().skip(number * options.members);
        let room = room(client, members.take(options.members)).await?;
        for message in 0..options.messages {
            client.say(&room, &text(message)).await?;
        }
    }
    let (mut figures, since) = first(&asked, options).await?;
    figures.extend(idle(&asked, &since, options).await?);
    figures.extend(delivered(&asked, &people, options).await?);
    Ok(figures)
}

/// What is asked: a first sync, or one since a token, which waits so many milliseconds for something new.
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

/// First syncs, and the token of the last of them.
async fn first(asked: &Asked<'_>, options: &Options) -> Result<(Vec<Figure>, String)> {
    progress(&format!("{}: {} first syncs", asked.name, options.firsts));
    let mut connection = asked.connect().await?;
    let path = asking(TIMELINE, None, 0);
    connection.get(&path).await?;
    let cpu = asked.cpu()?;
    let mut times = Vec::with_capacity(options.firsts);
    let (mut bytes, mut since) = (0, String::new());
    for _ in 0..options.firsts {
        let began = Instant::now();
        let body = connection.get(&path).await?;
        times.push(began.elapsed());
        let answer: Answer = serde_json::from_str(body)?;
        ensure!(
            answer.rooms.join.len() >= options.rooms,
            "a first sync without all rooms"
        );
        (bytes, since) = (body.len(), answer.next_batch);
    }
    let used = (asked.cpu()? - cpu).as_secs_f64() * 1e3 / as_f64(options.firsts);
    let what = format!("first sync of {} rooms", options.rooms);
    let mut figures = percentiles(asked.name, &what, times);
    figures.push(asked.figure(format!("{what}, server CPU"), used, "ms"));
    figures.push(asked.figure(format!("{what}, bytes"), as_f64(bytes) / 1e3, "KB"));
    Ok((figures, since))
}

/// Syncs with nothing new since a token, by all connections at once.
async fn idle(asked: &Asked<'_>, since: &str, options: &Options) -> Result<Vec<Figure>> {
    progress(&format!("{}: {} syncs with nothing new", asked.name, options.idle));
    let each = options.idle / options.connections;
    ask_again(asked, since, options.connections, each.div_ceil(10)).await?;
    let cpu = asked.cpu()?;
    let began = Instant::now();
    ask_again(asked, since, options.connections, each).await?;
    let took = began.elapsed().as_secs_f64();
    let used = (asked.cpu()? - cpu).as_secs_f64();
    let (count, what) = (
        as_f64(each * options.connections),
        format!("nothing new in {} rooms", options.rooms),
    );
    Ok(vec![
        asked.figure(format!("syncs a second, {what}"), count / took, "1/s"),
        asked.figure(format!("server CPU a sync, {what}"), used * 1e6 / count, "µs"),
    ])
}

async fn ask_again(asked: &Asked<'_>, since: &str, connections: usize, each: usize) -> Result<()> {
    let mut tasks = JoinSet::new();
    for number in 0..connections {
        let mut connection = asked.connect().await?;
        // Of no consequence where nothing is new, but unlike that of the other connections.
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

/// Messages into a room of whose members all wait; a delivery is one that one of them was told.
///
/// The processor time has all that goes with it: the message that is taken, and the syncs that ask again.
async fn delivered(asked: &Asked<'_>, people: &[Client], options: &Options) -> Result<Vec<Figure>> {
    let name = asked.name;
    progress(&format!(
        "{name}: {} wait for {} messages",
        options.waiting, options.rounds
    ));
    let waiting = people.iter().take(options.waiting);
    let room = room(asked.client, waiting.clone()).await?;
    let mut many_clients = ManyClients::gather(waiting).await?;
    let mut mouth = asked.connect().await?;
    let (mut times, mut cpu) = (Vec::new(), Duration::ZERO);
    for round in 0..WARM + options.rounds {
        tokio::time::sleep(Duration::from_millis(options.pause)).await;
        if round == WARM {
            times.clear();
            cpu = asked.cpu()?;
        }
        let path = Client::in_room(&room, &format!("send/m.room.message/load-{round}"));
        let message = json!({ "msgtype": "m.text", "body": text(round) }).to_string();
        let began = Instant::now();
        mouth.put(&path, &message).await?;
        for _ in 0..options.waiting {
            times.push(many_clients.next_heard(round).await?.duration_since(began));
        }
    }
    tokio::time::sleep(Duration::from_millis(options.pause)).await;
    let used = (asked.cpu()? - cpu).as_secs_f64() * 1e6 / as_f64(times.len());
    let mut figures = percentiles(name, &format!("message to {} waiting syncs", options.waiting), times);
    figures.push(asked.figure("server CPU a delivered message", used, "µs"));
    Ok(figures)
}

/// People who wait, each in a task that ends with this.
struct ManyClients {
    people: JoinSet<Result<()>>,
    heard: mpsc::UnboundedReceiver<(usize, Instant)>,
}

impl ManyClients {
    async fn gather(people: impl Iterator<Item = &Client>) -> Result<Self> {
        let (says, heard) = mpsc::unbounded_channel();
        let mut waiting = JoinSet::new();
        for person in people {
            let mut connection = Connection::open(&person.url, &person.token).await?;
            let answer: Answer = serde_json::from_str(connection.get(&asking(TIMELINE, None, 0)).await?)?;
            waiting.spawn(wait(connection, answer.next_batch, says.clone()));
        }
        Ok(Self { people: waiting, heard })
    }

    /// When one of them was told the message of this round.
    async fn next_heard(&mut self, round: usize) -> Result<Instant> {
        let (heard, at) = tokio::select! {
            heard = self.heard.recv() => heard.context("nobody waits")?,
            Some(ended) = self.people.join_next() => {
                ended??;
                anyhow::bail!("somebody waits no more");
            }
            () = tokio::time::sleep(TIMEOUT) => anyhow::bail!("message {round} did not come to all"),
        };
        ensure!(heard == round, "message {heard} came in the round of {round}");
        Ok(at)
    }
}

/// Asks again and again, and says when each message has come, which come one after another.
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
        // An answer may be about something else, as presence.
        if body.contains(&text(round)) {
            says.send((round, at))?;
            round += 1;
        }
        let answer: Answer = serde_json::from_str(body)?;
        since = answer.next_batch;
    }
}
