//! A server is down while many events are sent: events for it are queued on disk and not in memory, and all of them
//! arrive once when it is back.
//!
//! `make absent EVENTS=20000` sends more. Must not assert a duration.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "tests fail by panicking, and a long run shows how far it is"
)]

use std::{
    env,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use serde_json::json;
use tempfile::TempDir;
use tokio::{task::JoinSet, time::sleep};
use weft_conformance_tests::{authority::Authority, client::Client, external::needs_own_servers, server::Server};

/// Concurrent senders.
const TALKERS: usize = 8;
/// Limit of the growth: what the store may hold in memory (two write buffers of 64 MB, 128 MB of blocks), and as much
/// again for everything else.
const MOST_GROWTH: u64 = 512 << 20;
/// Deadline for the next event.
const TIMEOUT: Duration = Duration::from_secs(120);

/// The growth of a process.
struct Growth {
    before: u64,
    most: u64,
}

impl Growth {
    fn of(server: &Server) -> Result<Self> {
        let before = server.resident_bytes()?;
        Ok(Self { before, most: before })
    }

    fn look(&mut self, server: &Server) -> Result<()> {
        self.most = self.most.max(server.resident_bytes()?);
        Ok(())
    }

    fn bytes(&self) -> u64 {
        self.most - self.before
    }
}

/// Sends `events` messages and measures the server's memory meanwhile.
async fn talk(alice: &Arc<Client>, room: &str, events: u64, server: &Server, growth: &mut Growth) -> Result<()> {
    let next = Arc::new(AtomicU64::new(0));
    let mut talkers = JoinSet::new();
    for _ in 0..TALKERS {
        let (alice, room, next) = (Arc::clone(alice), room.to_owned(), Arc::clone(&next));
        talkers.spawn(async move {
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= events {
                    return anyhow::Ok(());
                }
                alice.say(&room, &format!("<{number}>")).await?;
                if number % 5_000 == 4_999 {
                    eprintln!("{} of {events} events while the other server is away", number + 1);
                }
            }
        });
    }
    while let Some(talker) = tokio::select! {
        talker = talkers.join_next() => talker,
        () = sleep(Duration::from_millis(200)) => Some(Ok(Ok(()))),
    } {
        talker??;
        growth.look(server)?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_for_a_server_that_is_down_are_queued_on_disk_and_arrive() -> Result<()> {
    if needs_own_servers("events_for_a_server_that_is_down_are_queued_on_disk_and_arrive") {
        return Ok(());
    }
    let events: u64 = env::var("WEFT_ABSENT").map_or(1_500, |text| text.parse().unwrap());
    let folder = TempDir::new()?;
    let authority = Authority::new(folder.path())?;
    let one = Server::start(&authority, folder.path(), "one", "").await?;
    let mut two = Server::start(&authority, folder.path(), "two", "").await?;
    let alice = Arc::new(Client::register(&authority.http()?, &one.url, "alice").await?);
    let bob = Client::register(&authority.http()?, &two.url, "bob").await?;
    let options = json!({"preset": "public_chat", "room_version": "12"});
    let room = alice.create_room(options).await?;
    bob.join(&room, Some(&one.name)).await?;

    two.terminate().await?;
    let (mut growth, began) = (Growth::of(&one)?, Instant::now());
    talk(&alice, &room, events, &one, &mut growth).await?;
    let talked = began.elapsed();
    two.boot().await?;
    let (mut growth_there, began) = (Growth::of(&two)?, Instant::now());
    // A transaction from a server ends the backoff towards it.
    bob.say(&room, "<back>").await?;
    let (mut last, mut moved) = (0, Instant::now());
    let arrived = loop {
        growth.look(&one)?;
        growth_there.look(&two)?;
        let found = bob.all_messages(&room).await?;
        if found.len() as u64 > events {
            break found;
        }
        if found.len() > last {
            eprintln!(
                "{} of {events} events have arrived after {} s",
                found.len() - 1,
                began.elapsed().as_secs()
            );
            (last, moved) = (found.len(), Instant::now());
        }
        ensure!(
            moved.elapsed() < TIMEOUT,
            "{last} of {events} events have arrived, and no more arrive"
        );
        sleep(Duration::from_secs(1)).await;
    };
    let took = began.elapsed();
    ensure!(arrived.values().all(|count| *count == 1), "an event is duplicated");
    println!(
        "absent: {events} events for a server that was down, sent in {} s, arrived in {} s after its return; memory grew by \
         {} MB where they were kept, {} MB where they arrived",
        talked.as_secs(),
        took.as_secs(),
        growth.bytes() >> 20,
        growth_there.bytes() >> 20
    );
    ensure!(growth.bytes() < MOST_GROWTH && growth_there.bytes() < MOST_GROWTH);
    Ok(())
}
