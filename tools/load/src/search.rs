//! Search in many documents: the latency of queries by a user who may read all of them and by one who may read few, alone
//! and while a thousand edits a second are made, and how long after the last edit its text is found. Must not assert a
//! duration.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use rand::{SeedableRng as _, rngs::StdRng, seq::IndexedRandom as _};
use serde_json::Value;
use tokio::task::JoinSet;
use weft_conformance_tests::client::{Client, segment};
use weft_crdt::lib0::Writer;

use crate::{
    edit::as_f64,
    history::{self, Author},
    http::Connection,
    local::Local,
    progress,
    report::{Figure, percentiles},
};

/// Size of the run.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// Documents of the user who has many.
    #[arg(long, default_value_t = 10_000)]
    pub documents: usize,
    /// Documents of the user who has few.
    #[arg(long, default_value_t = 100)]
    pub few: usize,
    /// Words of each document.
    #[arg(long, default_value_t = 200)]
    pub words: usize,
    /// Queries of each kind.
    #[arg(long, default_value_t = 1_000)]
    pub queries: usize,
    /// Edits a second while the index follows.
    #[arg(long, default_value_t = 1_000)]
    pub pace: usize,
    /// Documents that are edited, one edit of each in turn.
    #[arg(long, default_value_t = 500)]
    pub edited: usize,
    /// Seconds of these edits.
    #[arg(long, default_value_t = 30)]
    pub seconds: u64,
}

impl Options {
    /// The size of a test.
    #[must_use]
    pub fn small() -> Self {
        Self {
            documents: 20,
            few: 5,
            words: 30,
            queries: 5,
            pace: 20,
            edited: 10,
            seconds: 1,
        }
    }
}

/// Connections that create and edit documents.
const CONNECTIONS: usize = 16;
/// Words of a query.
const WORDS_OF_A_QUERY: usize = 2;
/// Until when a text must be found.
const DEADLINE: Duration = Duration::from_secs(300);

/// A document and the end of its text, for edits by one client id.
#[derive(Clone)]
struct Written {
    room: String,
    /// Code units of the text, all of one client id.
    length: u32,
}

/// The client id of the texts.
const CLIENT: u64 = 1;

/// Measures a Weft server of its own.
///
/// # Errors
/// When the server returns an error, or a result that the user may not see, or does not find a text.
pub(crate) async fn measure(options: &Options) -> Result<Vec<Figure>> {
    let local = Local::start(1).await?;
    let (alice, bob) = (local.user(0, "alice").await?, local.user(0, "bob").await?);
    let words = vocabulary()?;
    let began = Instant::now();
    let many = create(&alice, "a", options.documents, &words, options).await?;
    let few = create(&bob, "b", options.few, &words, options).await?;
    let made = as_f64(many.len() + few.len()) / began.elapsed().as_secs_f64();
    progress("waiting until all are found");
    let began = Instant::now();
    for (client, name, count) in [(&alice, "a", many.len()), (&bob, "b", few.len())] {
        until_found(client, &mark(name, count.saturating_sub(1))).await?;
    }
    let indexed = began.elapsed().as_secs_f64();
    let mut figures = vec![
        Figure::new("Weft", "documents made a second", made, "1/s"),
        Figure::new("Weft", "last document to found", indexed, "s"),
    ];
    progress(&format!("{} queries of each user", options.queries));
    let name = format!("query in {} documents", many.len());
    figures.extend(percentiles(
        "Weft",
        &name,
        queries(&alice, &many, &words, options).await?,
    ));
    let name = format!("query in {} of {} documents", few.len(), few.len() + many.len());
    figures.extend(percentiles("Weft", &name, queries(&bob, &few, &words, options).await?));
    figures.extend(followed(&alice, &many, &words, options).await?);
    Ok(figures)
}

/// The different words of the text of the paper's history; those that occur often are often in it.
fn vocabulary() -> Result<Vec<String>> {
    let author = Author::new();
    for patch in &history::patches(40_000)?.0 {
        author.make(patch);
    }
    let words = author.text();
    let words = words.split(|letter: char| !letter.is_ascii_alphabetic());
    let words: Vec<String> = words.filter(|word| word.len() > 2).map(str::to_owned).collect();
    ensure!(!words.is_empty(), "a history without words");
    Ok(words)
}

/// A word that is in one document only.
fn mark(name: &str, number: usize) -> String {
    format!("mark{name}{number}")
}

/// Creates documents with texts of random words and their marks.
async fn create(
    client: &Client,
    name: &str,
    count: usize,
    words: &[String],
    options: &Options,
) -> Result<Vec<Written>> {
    progress(&format!("creating {count} documents"));
    let mut tasks = JoinSet::new();
    for first in 0..CONNECTIONS {
        let (client, mut random) = (client.clone(), StdRng::seed_from_u64(u64::try_from(first)?));
        let texts: Vec<(usize, String)> = (first..count)
            .step_by(CONNECTIONS)
            .map(|number| {
                (
                    number,
                    text(&mut random, words, options.words) + " " + &mark(name, number),
                )
            })
            .collect();
        tasks.spawn(async move {
            let mut connection = Connection::open(&client.url, &client.token).await?;
            let mut written = Vec::new();
            for (number, text) in texts {
                let body = format!(r#"{{"title":"Document {number}","kind":"text"}}"#);
                let answer: Value =
                    serde_json::from_str(connection.post("/_weft/client/v1/documents", body.as_bytes()).await?)?;
                let room = answer.get("docId").and_then(Value::as_str).context("no docId")?;
                send(&mut connection, room, &insert(0, &text)).await?;
                let (room, length) = (room.to_owned(), u32::try_from(text.len())?);
                written.push((number, Written { room, length }));
            }
            anyhow::Ok(written)
        });
    }
    let mut written = Vec::new();
    while let Some(done) = tasks.join_next().await {
        written.extend(done??);
    }
    written.sort_by_key(|(number, _)| *number);
    Ok(written.into_iter().map(|(_, document)| document).collect())
}

fn text(random: &mut StdRng, words: &[String], count: usize) -> String {
    let words: Vec<&str> = (0..count)
        .filter_map(|_| words.choose(random).map(String::as_str))
        .collect();
    words.join(" ")
}

/// The update that appends ASCII text to a text of this length. Encoded without a CRDT, as [`crate::typing`].
fn insert(length: u32, text: &str) -> Vec<u8> {
    let mut update = Writer::with_capacity(text.len() + 32);
    update.var_uint(1);
    update.var_uint(1);
    update.var_uint(CLIENT);
    update.var_uint(u64::from(length));
    if let Some(before) = length.checked_sub(1) {
        update.u8(0x84);
        update.var_uint(CLIENT);
        update.var_uint(u64::from(before));
    } else {
        update.u8(4);
        update.var_uint(1);
        update.var_str("body");
    }
    update.var_str(text);
    update.var_uint(0);
    update.into_vec()
}

async fn send(connection: &mut Connection, room: &str, update: &[u8]) -> Result<()> {
    let path = format!("/_weft/client/v1/documents/{}/updates", segment(room));
    connection.post(&path, update).await.map(drop)
}

fn path_of(query: &str) -> String {
    format!("/_weft/client/v1/search?in=text&q={}", segment(query))
}

/// Waits until a word is found.
async fn until_found(client: &Client, word: &str) -> Result<()> {
    let mut connection = Connection::open(&client.url, &client.token).await?;
    let deadline = Instant::now() + DEADLINE;
    while Instant::now() < deadline {
        if !rooms_of(connection.get(&path_of(word)).await?)?.is_empty() {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    bail!("{word} is not found")
}

fn rooms_of(answer: &str) -> Result<Vec<String>> {
    let answer: Value = serde_json::from_str(answer)?;
    let results = answer.get("results").and_then(Value::as_array).context("no results")?;
    let rooms = results.iter().filter_map(|result| result.get("docId")?.as_str());
    Ok(rooms.map(str::to_owned).collect())
}

/// Queries of two words of the vocabulary, one after another. Each result must be one of the user's documents.
async fn queries(client: &Client, documents: &[Written], words: &[String], options: &Options) -> Result<Vec<Duration>> {
    let rooms: std::collections::HashSet<&str> = documents.iter().map(|document| document.room.as_str()).collect();
    let mut connection = Connection::open(&client.url, &client.token).await?;
    let mut random = StdRng::seed_from_u64(7);
    let (mut times, mut results) = (Vec::with_capacity(options.queries), 0);
    for _ in 0..options.queries {
        let path = path_of(&text(&mut random, words, WORDS_OF_A_QUERY));
        let began = Instant::now();
        let answer = connection.get(&path).await?;
        times.push(began.elapsed());
        let found = rooms_of(answer)?;
        results += found.len();
        ensure!(
            found.iter().all(|room| rooms.contains(room.as_str())),
            "a result of others"
        );
    }
    ensure!(results > 0, "nothing was found");
    Ok(times)
}

/// Edits at a pace, and queries beside them; then waits until the last edit is found.
async fn followed(client: &Client, documents: &[Written], words: &[String], options: &Options) -> Result<Vec<Figure>> {
    progress(&format!("{} edits a second for {} s", options.pace, options.seconds));
    let edited = documents.get(..options.edited.min(documents.len())).unwrap_or_default();
    let began = Instant::now();
    let mut tasks = JoinSet::new();
    for (number, some) in edited.chunks(edited.len().div_ceil(CONNECTIONS).max(1)).enumerate() {
        let (client, some, options) = (client.clone(), some.to_vec(), options.clone());
        let share = as_f64(some.len()) / as_f64(edited.len()) * as_f64(options.pace);
        tasks.spawn(async move { edit(&client, some, number, share, options.seconds).await });
    }
    let beside = tokio::spawn({
        let (client, documents, words) = (client.clone(), documents.to_vec(), words.to_vec());
        let few = Options {
            queries: 20,
            ..options.clone()
        };
        async move {
            let mut times = Vec::new();
            let until = Instant::now() + Duration::from_secs(few.seconds);
            while Instant::now() < until {
                times.extend(queries(&client, &documents, &words, &few).await?);
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
            anyhow::Ok(times)
        }
    });
    let (mut edits, mut last) = (0, Vec::new());
    while let Some(done) = tasks.join_next().await {
        let (made, word) = done??;
        edits += made;
        last.push(word);
    }
    let pace = as_f64(edits) / began.elapsed().as_secs_f64();
    let ended = Instant::now();
    for word in &last {
        until_found(client, word).await?;
    }
    let lag = ended.elapsed().as_secs_f64();
    let times = beside.await??;
    let mut figures = vec![
        Figure::new("Weft", "edits a second while the index follows", pace, "1/s"),
        Figure::new("Weft", "last of these edits to found", lag, "s"),
    ];
    figures.extend(percentiles("Weft", "query beside these edits", times));
    Ok(figures)
}

/// Appends words to documents in turn, `pace` a second; returns the number of edits, and the last word.
async fn edit(
    client: &Client,
    mut documents: Vec<Written>,
    number: usize,
    pace: f64,
    seconds: u64,
) -> Result<(usize, String)> {
    let mut connection = Connection::open(&client.url, &client.token).await?;
    let began = Instant::now();
    let (mut made, mut word) = (0, String::new());
    while began.elapsed() < Duration::from_secs(seconds) {
        let count = documents.len().max(1);
        let document = documents.get_mut(made % count).context("no document")?;
        word = format!("edit{number}x{made}");
        let text = format!(" {word}");
        send(&mut connection, &document.room, &insert(document.length, &text)).await?;
        document.length += u32::try_from(text.len())?;
        made += 1;
        let due = began + Duration::from_secs_f64(as_f64(made) / pace.max(0.001));
        tokio::time::sleep_until(due.into()).await;
    }
    Ok((made, word))
}
