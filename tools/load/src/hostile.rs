//! Users who edit and read while others make the render workers fail: the vectors of hostile updates (T90 to T113), deep
//! nesting, half a million blocks and a long text, each as a document of each kind that is rendered again and again.
//! Latencies of the users alone and during the attack. Must not assert a duration.

use std::{
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use weft_conformance_tests::client::{Client, segment};
use weft_crdt::lib0::Writer;

use crate::{
    edit::as_f64,
    http::Connection,
    local::Local,
    progress,
    report::{Figure, percentiles},
    socket::{self, Received, Receiver, Sender},
    target::Target,
    typing::Typist,
};

/// Size of the run.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// Users who edit and read, each in a document of their own.
    #[arg(long, default_value_t = 8)]
    pub users: usize,
    /// Milliseconds between the requests of one user.
    #[arg(long, default_value_t = 50)]
    pub pause_ms: u64,
    /// Attackers, each with one request at a time.
    #[arg(long, default_value_t = 4)]
    pub attackers: usize,
    /// Seconds without the attack.
    #[arg(long, default_value_t = 15)]
    pub alone: u64,
    /// Seconds of the attack.
    #[arg(long, default_value_t = 60)]
    pub attacked: u64,
}

impl Options {
    /// The size of a test.
    #[must_use]
    pub fn small() -> Self {
        Self {
            users: 2,
            pause_ms: 100,
            attackers: 1,
            alone: 1,
            attacked: 2,
        }
    }
}

/// The longest text of an update, and the most blocks.
const TEXT_BYTES: usize = 7_000_000;
const BLOCKS: u32 = 500_000;
/// Levels of elements in elements.
const LEVELS: u32 = 5_000;
/// Names of the kinds of documents.
const KINDS: [&str; 3] = ["text", "rich_text", "canvas"];

/// A user with an open document.
struct User {
    sender: Sender,
    receiver: Receiver,
    typist: Typist,
    connection: Connection,
    room: String,
}

/// Times of the users' requests.
#[derive(Default)]
struct Times {
    edits: Vec<Duration>,
    contents: Vec<Duration>,
    rendered: Vec<Duration>,
    /// Requests for rendered content that were refused because all workers are in use.
    busy: usize,
}

/// Measures a Weft server of its own.
///
/// # Errors
/// When the server returns an error to one of the users, or an acknowledged edit is missing.
pub(crate) async fn measure(options: &Options) -> Result<Vec<Figure>> {
    let local = Local::start(1).await?;
    let alice = local.user(0, "alice").await?;
    let mut users = Vec::new();
    for number in 0..options.users {
        users.push(User::new(&alice, number, local.server(0)?.pid()).await?);
    }
    progress(&format!("{} users alone for {} s", options.users, options.alone));
    let (users, alone) = all(users, options, options.alone).await?;
    progress(&format!("{} attackers for {} s", options.attackers, options.attacked));
    let inputs = Arc::new(inputs()?);
    let mut attacks = JoinSet::new();
    for number in 0..options.attackers {
        let mallory = alice.register_beside(&format!("mallory-{number}")).await?;
        let inputs = Arc::clone(&inputs);
        attacks.spawn(async move { attack(&mallory, &inputs, number).await });
    }
    let (users, attacked) = all(users, options, options.attacked).await?;
    // An attack has no end: one that ended has failed.
    if let Some(ended) = attacks.try_join_next() {
        ended??;
    }
    attacks.abort_all();
    for user in users {
        user.check().await?;
    }
    let mut figures = Vec::new();
    for (when, times) in [("alone", alone), ("attacked", attacked)] {
        let requests = times.rendered.len() + times.busy;
        let busy = as_f64(times.busy) * 100.0 / as_f64(requests.max(1));
        figures.extend(percentiles("Weft", &format!("edit, {when}"), times.edits));
        figures.extend(percentiles("Weft", &format!("content, {when}"), times.contents));
        figures.extend(percentiles("Weft", &format!("rendered text, {when}"), times.rendered));
        figures.push(Figure::new("Weft", format!("rendered text refused, {when}"), busy, "%"));
    }
    Ok(figures)
}

/// Lets all users edit and read for some seconds.
async fn all(users: Vec<User>, options: &Options, seconds: u64) -> Result<(Vec<User>, Times)> {
    let mut tasks = JoinSet::new();
    for mut user in users {
        let pause = Duration::from_millis(options.pause_ms);
        tasks.spawn(async move {
            let until = Instant::now() + Duration::from_secs(seconds);
            let mut times = Times::default();
            while Instant::now() < until {
                user.turn(&mut times, pause).await?;
            }
            anyhow::Ok((user, times))
        });
    }
    let (mut users, mut all) = (Vec::new(), Times::default());
    while let Some(done) = tasks.join_next().await {
        let (user, times) = done??;
        users.push(user);
        all.edits.extend(times.edits);
        all.contents.extend(times.contents);
        all.rendered.extend(times.rendered);
        all.busy += times.busy;
    }
    Ok((users, all))
}

impl User {
    async fn new(beside: &Client, number: usize, pid: Option<u32>) -> Result<Self> {
        let client = beside.register_beside(&format!("user-{number}")).await?;
        let room = client.create_document("Notes").await?;
        let target = Target::weft(client.clone(), None, pid, true);
        let (sender, receiver, _) = socket::open(&target.endpoint(&room)?).await?;
        let connection = Connection::open(&client.url, &client.token).await?;
        let typist = Typist::new();
        Ok(Self {
            sender,
            receiver,
            typist,
            connection,
            room,
        })
    }

    /// One edit, and two readings.
    async fn turn(&mut self, times: &mut Times, pause: Duration) -> Result<()> {
        let letter = self.typist.letter();
        let began = Instant::now();
        self.sender.send_update(&letter).await?;
        while !matches!(self.receiver.next_message().await?, Received::Status(true)) {}
        times.edits.push(began.elapsed());
        tokio::time::sleep(pause).await;
        let path = format!("/_weft/client/v1/documents/{}/content", segment(&self.room));
        let began = Instant::now();
        self.connection.get_bytes(&path).await?;
        times.contents.push(began.elapsed());
        tokio::time::sleep(pause).await;
        let began = Instant::now();
        match self.text().await? {
            Some(_) => times.rendered.push(began.elapsed()),
            None => times.busy += 1,
        }
        tokio::time::sleep(pause).await;
        Ok(())
    }

    /// The rendered text; `None` if all workers are in use.
    async fn text(&mut self) -> Result<Option<String>> {
        let path = format!("/_weft/client/v1/documents/{}?format=text", segment(&self.room));
        match self.connection.get(&path).await {
            Ok(text) => Ok(Some(text.to_owned())),
            Err(error) if error.to_string().contains("http/1.1 503") => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Every acknowledged letter is there.
    async fn check(mut self) -> Result<()> {
        let mut text = None;
        while text.is_none() {
            text = self.text().await?;
        }
        let (found, typed) = (text.map_or(0, |text| text.len()), usize::try_from(self.typist.typed)?);
        ensure!(
            found == typed,
            "{typed} letters were acknowledged, and {found} are there"
        );
        Ok(())
    }
}

/// Makes documents of hostile updates and renders them, without end. The server may refuse each request.
async fn attack(mallory: &Client, inputs: &[Vec<u8>], first: usize) -> Result<()> {
    let mut number = first * 7;
    loop {
        let update = inputs.get(number % inputs.len().max(1)).context("no input")?;
        for kind in KINDS {
            let body = json!({"title": "", "kind": kind});
            let made = mallory
                .request(Method::POST, "/_weft/client/v1/documents", Some(body))
                .await?;
            let Some(room) = made.body.get("docId").and_then(Value::as_str) else {
                continue;
            };
            mallory
                .of_document(Method::POST, room, "/updates", &[], update.clone())
                .await?;
            for format in ["html", "json"] {
                let path = format!("?format={format}");
                mallory.of_document(Method::GET, room, &path, &[], Vec::new()).await?;
            }
            let changes = json!({"changes": [{"type": "append", "text": "x"}], "clientVersion": 1});
            let changes = changes.to_string().into_bytes();
            let about = [("content-type", "application/json")];
            mallory
                .of_document(Method::PATCH, room, "/edit", &about, changes)
                .await?;
            mallory
                .of_document(Method::GET, room, "/blame", &[], Vec::new())
                .await?;
        }
        number += 1;
    }
}

/// The hostile updates of the vectors and some that are long.
fn inputs() -> Result<Vec<Vec<u8>>> {
    let mut inputs = Vec::new();
    for folder in ["admission", "live"] {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../../spec/vectors/crdt")
            .join(folder);
        for entry in std::fs::read_dir(&folder).with_context(|| folder.display().to_string())? {
            let case: Value = serde_json::from_slice(&std::fs::read(entry?.path())?)?;
            if let Some(update) = case.get("update") {
                inputs.push(bytes(update)?);
            }
        }
    }
    ensure!(inputs.len() > 100, "the vectors of hostile updates are missing");
    // The long ones often: each is as much work as many of the others.
    let step = inputs.len() / 12;
    for (place, input) in [nested(), blocks(), text()].into_iter().cycle().take(12).enumerate() {
        inputs.insert(place * step, input);
    }
    Ok(inputs)
}

/// The bytes of a vector: hexadecimal, a list of parts, or a part that is repeated.
fn bytes(value: &Value) -> Result<Vec<u8>> {
    if let Some(hex) = value.as_str() {
        let digits = hex.as_bytes().chunks(2);
        return digits
            .map(|pair| Ok(u8::from_str_radix(std::str::from_utf8(pair)?, 16)?))
            .collect();
    }
    if let Some(parts) = value.as_array() {
        let parts: Result<Vec<Vec<u8>>> = parts.iter().map(bytes).collect();
        return Ok(parts?.concat());
    }
    let times = value.get("times").and_then(Value::as_u64).context("no bytes")?;
    Ok(bytes(value.get("repeat").context("no bytes")?)?.repeat(usize::try_from(times)?))
}

/// The beginning of an update with blocks of client id 1.
fn update_of(blocks: u32) -> Writer {
    let mut update = Writer::with_capacity(1 << 20);
    update.var_uint(1);
    update.var_uint(u64::from(blocks));
    update.var_uint(1);
    update.var_uint(0);
    update
}

/// Elements, each in the one before.
fn nested() -> Vec<u8> {
    let mut update = update_of(LEVELS);
    for level in 0..LEVELS {
        update.u8(7);
        match level.checked_sub(1) {
            None => {
                update.var_uint(1);
                update.var_str("default");
            }
            Some(above) => {
                update.var_uint(0);
                update.var_uint(1);
                update.var_uint(u64::from(above));
            }
        }
        update.var_uint(3);
        update.var_str("p");
    }
    update.var_uint(0);
    update.into_vec()
}

/// Letters, each a block in front of the one before.
fn blocks() -> Vec<u8> {
    let mut update = update_of(BLOCKS);
    for clock in 0..BLOCKS {
        match clock.checked_sub(1) {
            None => {
                update.u8(4);
                update.var_uint(1);
                update.var_str("body");
            }
            Some(after) => {
                update.u8(0x44);
                update.var_uint(1);
                update.var_uint(u64::from(after));
            }
        }
        update.var_str("a");
    }
    update.var_uint(0);
    update.into_vec()
}

/// One long text.
fn text() -> Vec<u8> {
    let mut update = update_of(1);
    update.u8(4);
    update.var_uint(1);
    update.var_str("body");
    update.var_str(&"a".repeat(TEXT_BYTES));
    update.var_uint(0);
    update.into_vec()
}
