//! Editors and people who chat on two servers, once alone and once beside attackers who try T120 to T133 in turn: nothing
//! acknowledged is lost, and the attacked server holds no more than without them. What the innocent wait is printed;
//! `make soak HOURS=2` runs a release build for longer and holds the waits to their limit.
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
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use tokio::sync::watch;
use weft_conformance_tests::{
    attacks::{
        Account, Attack, Target, accounts,
        answers::{UnreadContent, UnreadSockets},
        connections::{Idle, SlowHeaders},
        course, foreign_address,
        live_sockets::{BeforeSignIn, Fragments, Pings},
        requests::{Kind, UnfinishedBodies, UnfinishedStreams},
    },
    given::cannot_be_put_to_given_servers,
    server::free_port,
    soak::{Holding, Options, Team},
    world::World,
};

const TEAM: Options = Options {
    documents: 10,
    editors: 20,
    pause: Duration::from_secs(10),
};
/// Bytes by which the attacked server may hold more than one that was left alone.
const MORE_MEMORY: u64 = 64 << 20;
/// Connections and threads that may come and go by themselves.
const SPARE: usize = 24;
/// How long the end of the attacks may take to be noticed. Only a failing test waits that long.
const PATIENCE: Duration = Duration::from_secs(60);

/// What a run came to.
struct Outcome {
    took: Duration,
    before: Holding,
    after: Holding,
    median: Duration,
    p99: Duration,
    messages: usize,
    words: usize,
}

fn attacks(server: &str) -> Vec<Box<dyn Attack>> {
    let mut all: Vec<Box<dyn Attack>> = vec![
        Box::new(Idle { connections: 700 }),
        Box::new(SlowHeaders { connections: 300 }),
        Box::new(Pings { bytes: 64 << 20 }),
        Box::new(Fragments { sockets: 50 }),
        Box::new(BeforeSignIn { sockets: 50 }),
        Box::new(UnfinishedStreams { streams: 300 }),
        Box::new(UnreadContent { requests: 50 }),
        Box::new(UnreadSockets { sockets: 50 }),
    ];
    for kind in [Kind::SignIn, Kind::Unsigned, Kind::Forged] {
        let server = server.to_owned();
        all.push(Box::new(UnfinishedBodies {
            kind,
            requests: 60,
            server,
        }));
    }
    all.extend(accounts::ALL.map(|burst| Box::new(burst) as Box<dyn Attack>));
    all
}

/// One attack after the other until the time is over.
async fn attack_in_turn(world: &World, target: &Target, time: Duration) -> Result<()> {
    let all = attacks(&world.servers[0].name);
    let each = time / u32::try_from(all.len())?;
    for attack in &all {
        let (course, control) = course();
        let stopping = async {
            tokio::time::sleep(each).await;
            control.stop();
        };
        let (figures, ()) = tokio::join!(attack.run(target, course), stopping);
        let memory = world.servers[0].resident_bytes()? >> 20;
        println!("{}: {:?}, {memory} MB", attack.name(), figures.context(attack.name())?);
    }
    Ok(())
}

/// How long a run takes, and what disturbs it.
#[derive(Clone, Copy)]
enum Beside {
    /// Attacks, as long as all of them together take, at least for this time.
    Attacks(Duration),
    /// Nothing.
    Nothing(Duration),
}

async fn run(beside: Beside) -> Result<Outcome> {
    let port = free_port()?;
    // The editors of this test have one address, like the people behind one office's router.
    let extra = format!(
        "connections_per_network = 600\n[[listen]]\naddress = \"127.0.0.1:{port}\"\nserve = [\"client\", \"documents\", \"federation\", \"web\"]\n"
    );
    let mut world = World::with_config(1, &extra).await?;
    world.add_server("connections_per_network = 600\n").await?;
    let mallory = world.user(0, "mallory").await?;
    let document = mallory.create_document("Large").await?;
    let target = Target {
        address: ([127, 0, 0, 1], port).into(),
        from: foreign_address(),
        account: Some(Account {
            user: mallory.user.clone(),
            token: mallory.token.clone(),
            document,
        }),
    };
    let team = Team::at_work(&world, TEAM).await?;
    let before = Holding::of(&world.servers[0])?;
    let (began, (end, over)) = (Instant::now(), watch::channel(false));
    let disturbing = async {
        match beside {
            Beside::Attacks(time) => attack_in_turn(&world, &target, time).await?,
            Beside::Nothing(time) => tokio::time::sleep(time).await,
        }
        end.send_replace(true);
        anyhow::Ok(())
    };
    let (work, disturbed) = tokio::join!(team.work(TEAM, over), disturbing);
    disturbed?;
    let (work, took) = (work?, began.elapsed());
    team.saved().await?;
    team.nothing_is_lost(&work).await?;
    let after = settled(&world, before).await?;
    Ok(Outcome {
        took,
        before,
        after,
        median: work.quantile(500),
        p99: work.quantile(990),
        messages: work.messages.len(),
        words: work.words,
    })
}

/// What the first server holds once descriptors and threads have come back.
async fn settled(world: &World, before: Holding) -> Result<Holding> {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        let now = Holding::of(&world.servers[0])?;
        if now.files <= before.files + SPARE && now.threads <= before.threads + SPARE {
            return Ok(now);
        }
        ensure!(
            tokio::time::Instant::now() < deadline,
            "does not come back: {before:?}, now {now:?}"
        );
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attacks_take_nothing_from_the_innocent() -> Result<()> {
    if cannot_be_put_to_given_servers("attacks_take_nothing_from_the_innocent") {
        return Ok(());
    }
    let seconds: u64 = env::var("WEFT_SOAK_SECONDS").map_or(25, |text| text.parse().unwrap());
    let time = Duration::from_secs(seconds);
    let beside = run(Beside::Attacks(time)).await.context("with attacks")?;
    // For as long: what people write takes memory too.
    let alone = run(Beside::Nothing(beside.took)).await.context("without attacks")?;
    for (name, outcome) in [("alone", &alone), ("beside attacks", &beside)] {
        println!(
            "{name}: {} words, {} messages, P50 {:?}, P99 {:?}, {} -> {} MB, {} -> {} descriptors, {} -> {} threads",
            outcome.words,
            outcome.messages,
            outcome.median,
            outcome.p99,
            outcome.before.memory >> 20,
            outcome.after.memory >> 20,
            outcome.before.files,
            outcome.after.files,
            outcome.before.threads,
            outcome.after.threads,
        );
    }
    let more = beside.after.memory.saturating_sub(alone.after.memory);
    ensure!(more <= MORE_MEMORY, "the attacked server holds {} MB more", more >> 20);
    if env::var_os("WEFT_SOAK_P99_MS").is_some() {
        let limit = Duration::from_millis(env::var("WEFT_SOAK_P99_MS")?.parse()?);
        ensure!(beside.p99 < limit, "the innocent wait {:?}", beside.p99);
    }
    Ok(())
}
