//! Real editing histories through live sockets: the known text results on every server, from the sealed events alone,
//! from the compacted document, for a late joiner, and in Yjs.
//!
//! `make histories` replays them completely, otherwise only their beginnings. `WEFT_HISTORIES_SEED` repeats a run's
//! cuts. Must not assert a duration.
//!
//! Two authors who take turns wait at each turn until the other's edits are sealed: immediately, because they show
//! their cursors. Otherwise it would be a pause of two seconds per turn, and half an hour for the whole history.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    clippy::as_conversions,
    clippy::cast_possible_truncation,
    reason = "tests fail by panicking, and a long run shows how far it is"
)]

#[path = "../../spec/crdt/tests/support/trace.rs"]
mod trace;

use std::{
    env,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use trace::History;
use weft_conformance_tests::{
    client::Client,
    editors::Provider,
    external::needs_own_servers,
    live::{LiveEditor, trust},
    world::World,
};
use yrs::{Doc, GetString as _, Transact as _, Update, updates::decoder::Decode as _};

/// Maximum of unacknowledged edits.
const WINDOW: usize = 256;

/// This many edits, or all with `make histories`.
fn size(beginning: usize) -> usize {
    if env::var_os("WEFT_HISTORIES_WHOLE").is_some() {
        260_000
    } else {
        beginning
    }
}

fn text_of<'a>(updates: impl IntoIterator<Item = &'a Vec<u8>>) -> Result<String> {
    let doc = Doc::new();
    let body = doc.get_or_insert_text("body");
    for update in updates {
        doc.transact_mut().apply_update(Update::decode_v1(update)?)?;
    }
    let text = body.get_string(&doc.transact());
    Ok(text)
}

/// The expected text; for a whole history, the one that the history contains.
fn known_text(history: &History) -> Result<String> {
    let text = text_of(history.updates.iter().map(|(_, update)| update))?;
    ensure!(
        history.end.as_ref().is_none_or(|end| *end == text),
        "the history was read wrongly"
    );
    Ok(text)
}

/// Sends one author's edits, each after everything that its author had received.
async fn replay(name: &str, history: &History, author: usize, editor: &LiveEditor) -> Result<()> {
    editor.synced().await?;
    for (number, (by, update)) in history.updates.iter().enumerate() {
        if *by != author {
            continue;
        }
        if let Some(vector) = history.heard.get(number) {
            editor.received(vector).await?;
        }
        editor.waits_for_at_most(WINDOW).await?;
        editor.send(&number.to_string(), update)?;
        if number % 5_000 == 0 {
            println!("{name}: edit {number} of {}", history.updates.len());
        }
    }
    editor.saved().await
}

/// Checks one server's text in all ways in which it can be read.
async fn check(world: &World, client: &Client, room: &str, text: &str, number: u64) -> Result<usize> {
    let late = LiveEditor::open(&trust(&world.authority)?, client, room, 1_000 + number)?;
    late.synced().await?;
    let deadline = Instant::now() + Duration::from_secs(90);
    while late.text() != text {
        ensure!(
            Instant::now() < deadline,
            "a late joiner of server {number} sees a different text"
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    ensure!(
        text_of([&client.content(room).await?])? == text,
        "compacted, server {number}"
    );
    // Pending edits are sealed after a pause.
    let sealed = async || {
        let sealed = client.sealed_updates(room).await?;
        Ok((text_of(&sealed)? == text).then_some(sealed.len()))
    };
    let sealed = client.until("the text from the sealed events alone", sealed).await?;
    let yjs = world
        .editors
        .open(&format!("yjs-{number}"), Provider::Plain, client, room)
        .await?;
    yjs.until_text(text).await?;
    Ok(sealed)
}

async fn one_author(what: &str, name: &str, beginning: usize) -> Result<()> {
    if needs_own_servers(what) {
        return Ok(());
    }
    let history = trace::sequential(name, size(beginning));
    let text = known_text(&history)?;
    let world = World::new(1).await?;
    let alice = world.user(0, "alice").await?;
    let room = alice.create_document(name).await?;
    let editor = LiveEditor::open(&trust(&world.authority)?, &alice, &room, 1)?;
    let began = Instant::now();
    replay(name, &history, 0, &editor).await?;
    let seconds = began.elapsed().as_secs_f64();
    let sealed = check(&world, &alice, &room, &text, 0).await?;
    let (edits, real) = (history.updates.len(), history.real);
    println!("{name}: {edits} edits on disk in {seconds:.1} s, {sealed} sealed events, real {real}");
    Ok(())
}

#[tokio::test]
async fn a_papers_history_gives_its_text() -> Result<()> {
    one_author("a_papers_history_gives_its_text", "automerge-paper", 20_000).await
}

#[tokio::test]
async fn a_blog_posts_history_gives_its_text() -> Result<()> {
    one_author("a_blog_posts_history_gives_its_text", "seph-blog1", 20_000).await
}

/// Cuts and heals the links until dropped; they are cut half of the time.
async fn cut_and_heal(world: &World, seed: u64, cuts: &mut usize) {
    let mut dice = StdRng::seed_from_u64(seed);
    loop {
        tokio::time::sleep(Duration::from_millis(dice.random_range(100..2_000))).await;
        world.cut();
        *cuts += 1;
        tokio::time::sleep(Duration::from_millis(dice.random_range(100..2_000))).await;
        world.heal();
    }
}

#[tokio::test]
async fn two_authors_on_two_servers_with_cut_links_get_the_text_of_the_history() -> Result<()> {
    if needs_own_servers("two_authors_on_two_servers_with_cut_links_get_the_text_of_the_history") {
        return Ok(());
    }
    let seed = env::var("WEFT_HISTORIES_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed: u64 = seed.unwrap_or_else(rand::random);
    println!("WEFT_HISTORIES_SEED={seed}");
    let history = trace::concurrent_or_made("friendsforever", size(2_500));
    let text = known_text(&history)?;
    let world = World::with_links(2, "").await?;
    let (alice, bob, room) = world.shared_document().await?;
    let trust = trust(&world.authority)?;
    let hers = LiveEditor::open(&trust, &alice, &room, 1)?;
    let his = LiveEditor::open(&trust, &bob, &room, 2)?;
    hers.show_cursor();
    his.show_cursor();
    let (began, mut cuts) = (Instant::now(), 0);
    let both = async {
        tokio::try_join!(
            replay("friendsforever, one", &history, 0, &hers),
            replay("friendsforever, two", &history, 1, &his)
        )
    };
    tokio::select! {
        done = both => drop(done?),
        () = cut_and_heal(&world, seed, &mut cuts) => {}
    }
    world.heal();
    let seconds = began.elapsed().as_secs_f64();
    let mut sealed = 0;
    for (number, client) in [(0, &alice), (1, &bob)] {
        sealed = check(&world, client, &room, &text, number).await?;
    }
    let (edits, real) = (history.updates.len(), history.real);
    println!(
        "friendsforever: {edits} edits on two servers in {seconds:.1} s, links cut {cuts} times, {sealed} sealed events, real {real}"
    );
    Ok(())
}
