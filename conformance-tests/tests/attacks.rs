//! Attacks by strangers and accounts on a real server: it grows by little, goes on serving the innocent, and afterwards all
//! is as before (T120, T121, T122, T130).
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    reason = "tests fail by panicking, and the figures are for people"
)]

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use weft_conformance_tests::{
    attacks::{
        Attack, Target,
        answers::{UnreadContent, UnreadSockets, account_with_large_document},
        connections::{Idle, SlowHeaders},
        course, foreign_address,
        live_sockets::{BeforeSignIn, Fragments, Pings},
        requests::{Kind, UnfinishedBodies, UnfinishedStreams},
    },
    client::Client,
    given::cannot_be_put_to_given_servers,
    server::{Server, free_port},
    world::World,
};

/// Bytes by which strangers may make a server grow.
const STRANGERS_GROWTH: u64 = 64 << 20;
/// The same for one account: what it may hold, and what is made for it before it is refused.
const ACCOUNT_GROWTH: u64 = 160 << 20;
/// Connections of one network without sign-in, and more than an account opens here.
const CONNECTIONS: usize = 256;
/// Messages of the innocent while an attack is held.
const MESSAGES: usize = 20;
/// How long the end of an attack may take to be noticed by everybody. Only a failing test waits that long.
const TIMEOUT: Duration = Duration::from_secs(60);

/// Looks at the memory after an attack, a tenth of a second apart.
const LOOKS: usize = 30;
/// Bytes above those before an attack that count as nothing.
const NEARLY: u64 = 4 << 20;

struct Stage {
    world: World,
    innocent: Client,
    room: String,
    target: Target,
}

impl Stage {
    async fn new() -> Result<Self> {
        let port = free_port()?;
        let listen = format!(
            "connections_per_network = {CONNECTIONS}\n[[listen]]\naddress = \"127.0.0.1:{port}\"\nserve = [\"client\", \"documents\", \"federation\", \"web\"]\n"
        );
        let world = World::with_config(1, &listen).await?;
        let innocent = world.user(0, "innocent").await?;
        let room = innocent.create_document("What matters").await?;
        let target = Target {
            address: ([127, 0, 0, 1], port).into(),
            from: foreign_address(),
            account: None,
        };
        let stage = Self {
            world,
            innocent,
            room,
            target,
        };
        stage.serves().await.context("before the attack")?;
        Ok(stage)
    }

    fn server(&self) -> &Server {
        &self.world.servers[0]
    }

    /// The innocent is served: writes, and reads back.
    async fn serves(&self) -> Result<()> {
        for number in 0..MESSAGES {
            self.innocent.say(&self.room, &format!("message {number}")).await?;
        }
        let messages = self.innocent.messages(&self.room).await?;
        ensure!(
            messages
                .first()
                .is_some_and(|last| last == &format!("message {}", MESSAGES - 1))
        );
        Ok(())
    }

    /// Somebody else, who has a document of a few megabytes.
    async fn with_large_document(&mut self) -> Result<()> {
        self.target.account = Some(account_with_large_document(&self.world, "mallory").await?);
        Ok(())
    }

    /// See the file.
    async fn withstands(&self, attack: &dyn Attack, growth: u64) -> Result<()> {
        let server = self.server();
        let (before, files) = (server.resident_bytes()?, server.open_files()?);
        let (course, mut control) = course();
        let mut most = before;
        let watching = async {
            while !control.is_held() {
                most = most.max(server.resident_bytes()?);
                let _ = tokio::time::timeout(Duration::from_millis(10), control.held()).await;
            }
            self.serves().await.context("during the attack")?;
            most = most.max(server.resident_bytes()?);
            control.stop();
            server.open_files()
        };
        let (figures, during) = tokio::join!(attack.run(&self.target, course), watching);
        let (figures, during) = (figures?, during?);
        self.serves().await.context("after the attack")?;
        most = most.max(server.resident_bytes()?);
        let grown = most.saturating_sub(before);
        ensure!(
            during <= files + CONNECTIONS + 16,
            "{}: {during} descriptors instead of {files}",
            attack.name()
        );
        ensure!(grown <= growth, "{}: grew by {} MB", attack.name(), grown >> 20);
        let returned = async {
            // The store and the innocent may have opened something of their own.
            while server.open_files()? > files + 16 {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            Ok::<_, anyhow::Error>(())
        };
        tokio::time::timeout(TIMEOUT, returned)
            .await
            .with_context(|| format!("{}: descriptors don't come back", attack.name()))??;
        let after = self.memory_afterwards(before).await?;
        println!(
            "{}: {figures:?}, {} MB -> {} MB, afterwards {} MB, {files} -> {during} descriptors",
            attack.name(),
            before >> 20,
            most >> 20,
            after >> 20
        );
        Ok(())
    }

    /// The least that the server holds within a moment after an attack. A figure for people: what the allocator keeps is
    /// not promised to anybody.
    async fn memory_afterwards(&self, before: u64) -> Result<u64> {
        let mut least = u64::MAX;
        for _ in 0..LOOKS {
            least = least.min(self.server().resident_bytes()?);
            if least <= before + NEARLY {
                break;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        Ok(least)
    }
}

async fn strangers_are_withstood(test: &str, attacks: &[&dyn Attack]) -> Result<()> {
    if cannot_be_put_to_given_servers(test) {
        return Ok(());
    }
    let stage = Stage::new().await?;
    for attack in attacks {
        stage.withstands(*attack, STRANGERS_GROWTH).await?;
    }
    Ok(())
}

#[tokio::test]
async fn connections_that_do_nothing_are_withstood() -> Result<()> {
    let attacks: [&dyn Attack; 2] = [&Idle { connections: 700 }, &SlowHeaders { connections: 700 }];
    strangers_are_withstood("connections_that_do_nothing_are_withstood", &attacks).await
}

#[tokio::test]
async fn live_sockets_without_sign_in_are_withstood() -> Result<()> {
    let pings = Pings { bytes: 256 << 20 };
    let attacks: [&dyn Attack; 3] = [&pings, &Fragments { sockets: 100 }, &BeforeSignIn { sockets: 100 }];
    strangers_are_withstood("live_sockets_without_sign_in_are_withstood", &attacks).await
}

#[tokio::test]
async fn unfinished_requests_are_withstood() -> Result<()> {
    if cannot_be_put_to_given_servers("unfinished_requests_are_withstood") {
        return Ok(());
    }
    let stage = Stage::new().await?;
    for (kind, requests) in [(Kind::SignIn, 300), (Kind::Unsigned, 60), (Kind::Forged, 60)] {
        let server = stage.server().name.clone();
        let attack = UnfinishedBodies { kind, requests, server };
        stage.withstands(&attack, STRANGERS_GROWTH).await?;
    }
    stage
        .withstands(&UnfinishedStreams { streams: 300 }, STRANGERS_GROWTH)
        .await
}

#[tokio::test]
async fn answers_that_are_not_read_are_withstood() -> Result<()> {
    if cannot_be_put_to_given_servers("answers_that_are_not_read_are_withstood") {
        return Ok(());
    }
    let mut stage = Stage::new().await?;
    stage.with_large_document().await?;
    stage
        .withstands(&UnreadContent { requests: 150 }, ACCOUNT_GROWTH)
        .await?;
    stage.withstands(&UnreadSockets { sockets: 150 }, ACCOUNT_GROWTH).await
}
