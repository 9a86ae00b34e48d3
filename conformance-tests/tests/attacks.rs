//! Attacks by unauthenticated clients and by accounts on a real server: its memory grows by a bounded amount, it
//! continues to serve regular users, and afterwards it releases what the attack held (T120, T121, T122, T130).
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    reason = "tests fail by panicking, and print figures for the reader"
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
    external::needs_own_servers,
    server::{Server, free_port},
    world::World,
};

/// Maximum growth of the server's memory by unauthenticated clients, bytes.
const UNAUTHENTICATED_GROWTH: u64 = 64 << 20;
/// The same for one account: its in-flight limit, and what is allocated before a request is refused.
const ACCOUNT_GROWTH: u64 = 160 << 20;
/// The limit of unauthenticated connections per network; more than an account opens in these tests.
const CONNECTIONS: usize = 256;
/// Messages that the regular user sends in each check.
const MESSAGES: usize = 20;
/// Maximum time until descriptors are closed after an attack. Only a failing test waits that long.
const TIMEOUT: Duration = Duration::from_secs(60);

/// Measurements of the memory after an attack, a tenth of a second apart.
const MEASUREMENTS: usize = 30;
/// Growth that is ignored, bytes.
const NEGLIGIBLE: u64 = 4 << 20;

struct Stage {
    world: World,
    user: Client,
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
        let user = world.user(0, "regular").await?;
        let room = user.create_document("What matters").await?;
        let target = Target {
            address: ([127, 0, 0, 1], port).into(),
            from: foreign_address(),
            account: None,
        };
        let stage = Self {
            world,
            user,
            room,
            target,
        };
        stage.check_service().await.context("before the attack")?;
        Ok(stage)
    }

    fn server(&self) -> &Server {
        &self.world.servers[0]
    }

    /// Checks that the regular user can send messages and read them.
    async fn check_service(&self) -> Result<()> {
        for number in 0..MESSAGES {
            self.user.say(&self.room, &format!("message {number}")).await?;
        }
        let messages = self.user.messages(&self.room).await?;
        ensure!(
            messages
                .first()
                .is_some_and(|last| last == &format!("message {}", MESSAGES - 1))
        );
        Ok(())
    }

    /// Creates the attacker's account, with a document of a few megabytes.
    async fn add_attacker_account(&mut self) -> Result<()> {
        self.target.account = Some(account_with_large_document(&self.world, "mallory").await?);
        Ok(())
    }

    /// Runs the attack and checks the conditions in the file header.
    async fn run_attack(&self, attack: &dyn Attack, growth: u64) -> Result<()> {
        let server = self.server();
        let (before, files) = (server.resident_bytes()?, server.open_files()?);
        let (course, mut control) = course();
        let mut most = before;
        let watching = async {
            while !control.is_held() {
                most = most.max(server.resident_bytes()?);
                let _ = tokio::time::timeout(Duration::from_millis(10), control.held()).await;
            }
            self.check_service().await.context("during the attack")?;
            most = most.max(server.resident_bytes()?);
            control.stop();
            server.open_files()
        };
        let (figures, during) = tokio::join!(attack.run(&self.target, course), watching);
        let (figures, during) = (figures?, during?);
        self.check_service().await.context("after the attack")?;
        most = most.max(server.resident_bytes()?);
        let grown = most.saturating_sub(before);
        ensure!(
            during <= files + CONNECTIONS + 16,
            "{}: {during} descriptors instead of {files}",
            attack.name()
        );
        ensure!(grown <= growth, "{}: grew by {} MB", attack.name(), grown >> 20);
        let closed = async {
            // The store and the regular user may have opened descriptors.
            while server.open_files()? > files + 16 {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            Ok::<_, anyhow::Error>(())
        };
        tokio::time::timeout(TIMEOUT, closed)
            .await
            .with_context(|| format!("{}: descriptors are not closed", attack.name()))??;
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

    /// The minimum of the server's memory shortly after an attack. It is only printed: there is no limit on what the
    /// allocator retains.
    async fn memory_afterwards(&self, before: u64) -> Result<u64> {
        let mut least = u64::MAX;
        for _ in 0..MEASUREMENTS {
            least = least.min(self.server().resident_bytes()?);
            if least <= before + NEGLIGIBLE {
                break;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        Ok(least)
    }
}

async fn run_unauthenticated_attacks(test: &str, attacks: &[&dyn Attack]) -> Result<()> {
    if needs_own_servers(test) {
        return Ok(());
    }
    let stage = Stage::new().await?;
    for attack in attacks {
        stage.run_attack(*attack, UNAUTHENTICATED_GROWTH).await?;
    }
    Ok(())
}

#[tokio::test]
async fn idle_connections_do_not_exhaust_the_server() -> Result<()> {
    let attacks: [&dyn Attack; 2] = [&Idle { connections: 700 }, &SlowHeaders { connections: 700 }];
    run_unauthenticated_attacks("idle_connections_do_not_exhaust_the_server", &attacks).await
}

#[tokio::test]
async fn live_sockets_without_login_do_not_exhaust_the_server() -> Result<()> {
    let pings = Pings { bytes: 256 << 20 };
    let attacks: [&dyn Attack; 3] = [&pings, &Fragments { sockets: 100 }, &BeforeSignIn { sockets: 100 }];
    run_unauthenticated_attacks("live_sockets_without_login_do_not_exhaust_the_server", &attacks).await
}

#[tokio::test]
async fn unfinished_requests_do_not_exhaust_the_server() -> Result<()> {
    if needs_own_servers("unfinished_requests_do_not_exhaust_the_server") {
        return Ok(());
    }
    let stage = Stage::new().await?;
    for (kind, requests) in [(Kind::SignIn, 300), (Kind::Unsigned, 60), (Kind::Forged, 60)] {
        let server = stage.server().name.clone();
        let attack = UnfinishedBodies { kind, requests, server };
        stage.run_attack(&attack, UNAUTHENTICATED_GROWTH).await?;
    }
    stage
        .run_attack(&UnfinishedStreams { streams: 300 }, UNAUTHENTICATED_GROWTH)
        .await
}

#[tokio::test]
async fn unread_responses_do_not_exhaust_the_server() -> Result<()> {
    if needs_own_servers("unread_responses_do_not_exhaust_the_server") {
        return Ok(());
    }
    let mut stage = Stage::new().await?;
    stage.add_attacker_account().await?;
    stage
        .run_attack(&UnreadContent { requests: 150 }, ACCOUNT_GROWTH)
        .await?;
    stage.run_attack(&UnreadSockets { sockets: 150 }, ACCOUNT_GROWTH).await
}
