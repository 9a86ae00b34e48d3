//! Servers are killed while twenty editors type: by kill -9 at random moments, and at every step of the write path. No
//! acknowledged edit is lost or duplicated, and both servers and all editors converge.
//!
//! `make kills KILLS=10000` runs more; `WEFT_KILLS_SEED` repeats a run's plan. Must not assert a duration.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "tests fail by panicking, and a long run shows how far it is"
)]

use std::{
    collections::BTreeSet,
    env,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use tempfile::TempDir;
use tokio::task::JoinHandle;
use weft_conformance_tests::{
    authority::Authority,
    client::Client,
    external::needs_own_servers,
    live::{LiveEditor, trust},
    server::Server,
};
use yrs::{Doc, GetString as _, Transact as _, Update, updates::decoder::Decode as _};

const EDITORS: usize = 20;
/// Deadline for reaching a fail point that every edit passes; a loaded machine is slow.
const TIMEOUT: Duration = Duration::from_secs(120);

/// Two servers, a document, and editors that type without pause.
struct Load {
    servers: Vec<Server>,
    people: Vec<Client>,
    room: String,
    editors: Vec<Arc<LiveEditor>>,
    typing: Arc<AtomicBool>,
    typists: Vec<JoinHandle<()>>,
    trust: Arc<rustls::ClientConfig>,
    _folder: TempDir,
}

impl Load {
    async fn new() -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let authority = Authority::new(folder.path())?;
        let trust = trust(&authority)?;
        let (mut servers, mut people) = (Vec::new(), Vec::new());
        for (label, name) in [("one", "alice"), ("two", "bob")] {
            let server = Server::start(&authority, folder.path(), label, "").await?;
            people.push(Client::register(&authority.http()?, &server.url, name).await?);
            servers.push(server);
        }
        let room = people[0].create_document("Under fire").await?;
        people[0].give_role(&room, &people[1].user, "editor").await?;
        people[1].accept_invitation(&room).await?;
        let mut load = Self {
            servers,
            people,
            room,
            editors: Vec::new(),
            typing: Arc::new(AtomicBool::new(true)),
            typists: Vec::new(),
            trust,
            _folder: folder,
        };
        for number in 0..EDITORS {
            let client = &load.people[number % 2];
            let editor = LiveEditor::open(&load.trust, client, &load.room, 1_000 + number as u64)?;
            load.editors.push(Arc::new(editor));
        }
        for editor in &load.editors {
            editor.synced().await?;
        }
        for (number, editor) in load.editors.iter().enumerate() {
            load.typists.push(tokio::spawn(typist(
                number,
                Arc::clone(editor),
                Arc::clone(&load.typing),
            )));
        }
        Ok(load)
    }

    /// Stops typing; then all edits must be saved, and all texts equal, complete, and derivable from the sealed events.
    async fn check(mut self) -> Result<usize> {
        self.typing.store(false, Ordering::Relaxed);
        for typist in self.typists.drain(..) {
            typist.await?;
        }
        let mut acknowledged = BTreeSet::new();
        for editor in &self.editors {
            editor.saved().await?;
            acknowledged.extend(editor.acknowledged());
        }
        ensure!(acknowledged.len() > EDITORS, "too little was typed");
        let text = self.until_equal().await?;
        for word in &acknowledged {
            let count = text.matches(word.as_str()).count();
            ensure!(count == 1, "the acknowledged {word} occurs {count} times");
        }
        for (number, client) in self.people.iter().enumerate() {
            let sealed = sealed_text(client, &self.room).await?;
            ensure!(
                sealed == text,
                "the sealed events of server {number} give a different text"
            );
        }
        Ok(acknowledged.len())
    }

    /// Waits until all editors of both servers, and a new one, show the same text.
    async fn until_equal(&self) -> Result<String> {
        let deadline = tokio::time::Instant::now() + Duration::from_secs(120);
        loop {
            let mut texts: Vec<String> = self.editors.iter().map(|editor| editor.text()).collect();
            for (number, client) in self.people.iter().enumerate() {
                let late = LiveEditor::open(&self.trust, client, &self.room, 5_000 + number as u64)?;
                late.synced().await?;
                texts.push(late.text());
            }
            if texts.iter().all(|text| *text == texts[0]) {
                return Ok(texts.swap_remove(0));
            }
            let lengths: Vec<usize> = texts.iter().map(String::len).collect();
            ensure!(
                tokio::time::Instant::now() < deadline,
                "texts differ, their lengths: {lengths:?}"
            );
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }
}

/// Types words until `typing` becomes false.
async fn typist(number: usize, editor: Arc<LiveEditor>, typing: Arc<AtomicBool>) {
    static WORDS: AtomicU64 = AtomicU64::new(0);
    let mut dice = StdRng::seed_from_u64(number as u64);
    while typing.load(Ordering::Relaxed) {
        // An editor that waits for acknowledgements continues to type, up to a limit.
        if editor.waiting() < 20 {
            let word = format!("<{}>", WORDS.fetch_add(1, Ordering::Relaxed));
            editor.type_word(dice.random_range(0..=1_000), &word);
        }
        tokio::time::sleep(Duration::from_millis(dice.random_range(20..120))).await;
    }
}

/// The text of the signed events alone, as a server sends them to a Matrix client.
async fn sealed_text(client: &Client, room: &str) -> Result<String> {
    let doc = Doc::new();
    let body = doc.get_or_insert_text("body");
    for update in client.sealed_updates(room).await? {
        doc.transact_mut().apply_update(Update::decode_v1(&update)?)?;
    }
    let text = body.get_string(&doc.transact());
    Ok(text)
}

/// The names of all fail points, as the program lists them.
async fn fail_points(server: &mut Server) -> Result<Vec<String>> {
    server.kill();
    server.spawn(&[("WEFT_FAIL_AT", "?:1")])?;
    ensure!(server.until_dead(TIMEOUT).await?, "an unknown fail point was accepted");
    let log = server.log();
    let names = log.split("the names are ").nth(1).context("no names")?;
    Ok(names
        .lines()
        .next()
        .unwrap_or_default()
        .split(' ')
        .map(str::to_owned)
        .collect())
}

/// Arms a fail point and waits until the server has died there.
async fn die_at(load: &mut Load, server: usize, name: &str, count: u64) -> Result<()> {
    let setting = format!("{name}:{count}");
    let variables = [("WEFT_FAIL_AT", setting.as_str())];
    load.servers[server].kill();
    load.servers[server].spawn(&variables)?;
    if name.starts_with("room::adopt") {
        join_something_new(load, server).await?;
    }
    let died = load.servers[server].until_dead(TIMEOUT).await?;
    ensure!(died, "{setting}: not reached on server {server}");
    load.servers[server].boot().await
}

/// Makes the server join another room through the other one, which kills it.
async fn join_something_new(load: &mut Load, server: usize) -> Result<()> {
    let other = &load.people[1 - server];
    let me = &load.people[server];
    let room = other.create_document("One more").await?;
    let deadline = tokio::time::Instant::now() + TIMEOUT;
    // The invited user's server is only starting.
    while other.give_role(&room, &me.user, "editor").await.is_err() {
        ensure!(tokio::time::Instant::now() < deadline, "the invitation did not arrive");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    // There will be no response.
    let _ = me.accept_invitation(&room).await;
    Ok(())
}

fn number(name: &str, default: u64) -> u64 {
    env::var(name).map_or(default, |text| text.parse().unwrap())
}

/// Random moments: a few in `make test`, `WEFT_KILLS` of them otherwise.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kills_at_random_moments_lose_nothing_that_was_acknowledged() -> Result<()> {
    if needs_own_servers("kills_at_random_moments") {
        return Ok(());
    }
    let (kills, seed) = (number("WEFT_KILLS", 60), number("WEFT_KILLS_SEED", rand::random()));
    eprintln!("seed {seed}: WEFT_KILLS_SEED={seed} repeats it");
    let mut dice = StdRng::seed_from_u64(seed);
    let (mut done, mut words, began) = (0, 0, Instant::now());
    while done < kills {
        // A text that grows forever would measure the text, not the kills.
        let mut load = Load::new().await?;
        for _ in 0..kills.min(done + 100) - done {
            let server = dice.random_range(0..2);
            tokio::time::sleep(Duration::from_millis(dice.random_range(0..700))).await;
            load.servers[server].kill();
            load.servers[server].boot().await?;
            done += 1;
            if done % 10 == 0 {
                eprintln!("{done} of {kills} kills after {} s", began.elapsed().as_secs());
            }
        }
        words += load.check().await?;
        eprintln!("{done} of {kills} kills: {words} acknowledged words, none is lost or duplicated");
    }
    println!(
        "kills: {done} in {} s (seed {seed}), {EDITORS} editors on two servers, {words} acknowledged words: 0 lost, 0 duplicated, \
         all texts equal",
        began.elapsed().as_secs()
    );
    Ok(())
}

/// Every fail point on each server, at the first pass and at a later one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crash_at_any_step_of_the_write_path_loses_no_acknowledged_edit() -> Result<()> {
    if needs_own_servers("dying_at_any_step") {
        return Ok(());
    }
    let mut load = Load::new().await?;
    let names = fail_points(&mut load.servers[0]).await?;
    load.servers[0].boot().await?;
    ensure!(names.len() >= 20, "{names:?}");
    let mut deaths = 0;
    for (at, name) in names.iter().enumerate() {
        for (server, count) in [(at % 2, 1), (1 - at % 2, 3)] {
            // Passed once per start, once per join, or once in some hundred events.
            let rare = ["recovery", "adopt", "snapshot"].iter().any(|step| name.contains(step));
            let count = if rare { 1 } else { count };
            die_at(&mut load, server, name, count)
                .await
                .with_context(|| format!("{name}:{count}"))?;
            deaths += 1;
        }
    }
    println!(
        "{deaths} deaths at {} fail points, {} acknowledged words",
        names.len(),
        load.check().await?
    );
    Ok(())
}
