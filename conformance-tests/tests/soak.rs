//! Editors and chatting users on two servers, once alone and once during attacks T120 to T136 in turn: unauthenticated
//! clients and accounts attack the first server, malicious servers attack both. No acknowledged edit or message is
//! lost, and the servers use about as much memory as without attacks. The latencies of the users are printed; `make
//! soak HOURS=2` runs a release build for longer and asserts their limit.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "tests fail by panicking, and a long run prints its progress"
)]

use std::{
    collections::BTreeSet,
    env,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use tokio::sync::watch;
use weft_conformance_tests::{
    attacks::{
        Attack, Control, Course, Figures, Target, accounts,
        answers::{UnreadContent, UnreadSockets, account_with_large_document},
        connections::{Idle, SlowHeaders},
        course,
        federation::{self, ByServer, Round},
        foreign_address,
        live_sockets::{BeforeSignIn, Fragments, Pings},
        requests::{Kind, UnfinishedBodies, UnfinishedStreams},
        sessions::{EndedSessions, MadeUpLinks, OtherUser},
    },
    client::Client,
    external::needs_own_servers,
    malicious::{MaliciousServer, Room},
    server::{Server, free_port},
    soak::{Holding, Options, Team},
    world::World,
};

const TEAM: Options = Options {
    documents: 10,
    editors: 20,
    pause: Duration::from_secs(10),
};
/// Maximum additional memory of an attacked server over one that was not attacked, bytes.
const MORE_MEMORY: u64 = 64 << 20;
/// Descriptors and threads that a server may have opened without the attacks.
const SPARE: usize = 24;
/// Maximum time until descriptors and threads are released after the attacks. Only a failing test waits that long.
const TIMEOUT: Duration = Duration::from_secs(60);

/// The result of a run.
struct Outcome {
    took: Duration,
    before: [Holding; 2],
    after: [Holding; 2],
    median: Duration,
    p99: Duration,
    messages: usize,
    words: usize,
}

/// The attacks by unauthenticated clients and by accounts on one server.
fn attacks_by_clients(server: &str, data: &Path) -> Vec<Box<dyn Attack>> {
    let mut all: Vec<Box<dyn Attack>> = vec![
        Box::new(Idle { connections: 700 }),
        Box::new(SlowHeaders { connections: 300 }),
        Box::new(Pings { bytes: 64 << 20 }),
        Box::new(Fragments { sockets: 50 }),
        Box::new(BeforeSignIn { sockets: 50 }),
        Box::new(UnfinishedStreams { streams: 300 }),
        Box::new(EndedSessions),
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
    all.push(Box::new(MadeUpLinks));
    all.push(Box::new(OtherUser { data: data.to_owned() }));
    all
}

/// A malicious server with a user who has joined a room on one of the servers under test.
struct Opponent {
    malicious: MaliciousServer,
    victim: Client,
    room: (Room, String),
}

impl Opponent {
    async fn of(world: &World, server: usize) -> Result<Self> {
        let malicious = MaliciousServer::start(&world.authority, &format!("malicious-{server}")).await?;
        let victim = world.user(server, "victim").await?;
        let options = serde_json::json!({ "preset": "public_chat", "room_version": "12" });
        let id = victim.create_room(options).await?;
        let mallory = malicious.user("mallory");
        let room = Room::join(&malicious, &world.servers[server], &id, &mallory).await?;
        victim.until_membership(&id, &mallory, "join").await?;
        Ok(Self {
            malicious,
            victim,
            room: (room, mallory),
        })
    }

    fn attack<'a>(&'a self, round: Round, server: &'a Server, http: &reqwest::Client) -> ByServer<'a> {
        ByServer {
            round,
            server,
            malicious: &self.malicious,
            http: http.clone(),
            victim: &self.victim,
            room: self.room.clone(),
        }
    }
}

/// Runs an attack for `time`.
async fn run_for(attack: &dyn Attack, target: &Target, time: Duration) -> Result<Figures> {
    let (course, control): (Course, Control) = course();
    let stopping = async {
        tokio::time::sleep(time).await;
        control.stop();
    };
    let (figures, ()) = tokio::join!(attack.run(target, course), stopping);
    let figures = figures.context(attack.name())?;
    if attack.is_always_refused() {
        let what = format!("{}: {figures:?}", attack.name());
        ensure!(figures.tried == figures.closed, "not refused: {what}");
    }
    Ok(figures)
}

/// Runs the attacks one after the other for `time` in total; those by malicious servers run against both servers at
/// once.
async fn attack_in_turn(world: &World, opponents: &[Opponent], target: &Target, time: Duration) -> Result<()> {
    let [first, second] = &*world.servers else {
        anyhow::bail!("The world must have two servers.")
    };
    let all = attacks_by_clients(&first.name, &first.data());
    let each = time / u32::try_from(all.len() + federation::ALL.len())?;
    for attack in &all {
        let figures = run_for(&**attack, target, each).await?;
        let memory = first.resident_bytes()? >> 20;
        println!("{}: {figures:?}, {memory} MB", attack.name());
    }
    let http = world.authority.http()?;
    for round in federation::ALL {
        let here = opponents[0].attack(round, first, &http);
        let there = opponents[1].attack(round, second, &http);
        let (here, there) = tokio::join!(run_for(&here, target, each), run_for(&there, target, each));
        let memory = [first.resident_bytes()? >> 20, second.resident_bytes()? >> 20];
        println!("{}: {:?}, {:?}, {memory:?} MB", round.name(), here?, there?);
    }
    Ok(())
}

/// The load in addition to the team's, and its duration.
#[derive(Clone, Copy)]
enum Load {
    /// All attacks, for at least this time in total.
    Attacks(Duration),
    /// No other load.
    Nothing(Duration),
}

async fn run(load: Load) -> Result<Outcome> {
    let port = free_port()?;
    // All editors of this test have one address, like users behind the router of an office.
    let extra = format!(
        "connections_per_network = 600\n[[listen]]\naddress = \"127.0.0.1:{port}\"\nserve = [\"client\", \"documents\", \"federation\", \"web\"]\n"
    );
    let mut world = World::with_config(0, "").await?;
    for extra in [&*extra, "connections_per_network = 600\n"] {
        world.prepare_open_data()?;
        world.add_server(extra).await?;
    }
    let target = Target {
        address: ([127, 0, 0, 1], port).into(),
        from: foreign_address(),
        account: Some(account_with_large_document(&world, "mallory").await?),
    };
    let opponents = [Opponent::of(&world, 0).await?, Opponent::of(&world, 1).await?];
    let team = Team::at_work(&world, TEAM).await?;
    let before = holdings(&world)?;
    let (began, (end, over)) = (Instant::now(), watch::channel(false));
    let attacking = async {
        let attacked = match load {
            Load::Attacks(time) => attack_in_turn(&world, &opponents, &target, time).await,
            Load::Nothing(time) => {
                tokio::time::sleep(time).await;
                Ok(())
            }
        };
        // Also if an attack has failed: otherwise the team would never stop.
        end.send_replace(true);
        attacked
    };
    let (work, attacked) = tokio::join!(team.work(TEAM, over), attacking);
    attacked?;
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

fn holdings(world: &World) -> Result<[Holding; 2]> {
    Ok([Holding::of(&world.servers[0])?, Holding::of(&world.servers[1])?])
}

/// The resources of the servers after descriptors and threads are released.
async fn settled(world: &World, before: [Holding; 2]) -> Result<[Holding; 2]> {
    let is_released = |(before, now): (&Holding, &Holding)| {
        now.files <= before.files + SPARE && now.threads <= before.threads + SPARE
    };
    let deadline = tokio::time::Instant::now() + TIMEOUT;
    loop {
        let now = holdings(world)?;
        if before.iter().zip(&now).all(is_released) {
            return Ok(now);
        }
        ensure!(
            tokio::time::Instant::now() < deadline,
            "descriptors or threads are not released: {before:?}, now {now:?}"
        );
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attacks_do_not_lose_data_or_take_memory() -> Result<()> {
    if needs_own_servers("attacks_do_not_lose_data_or_take_memory") {
        return Ok(());
    }
    let seconds: u64 = env::var("WEFT_SOAK_SECONDS").map_or(25, |text| text.parse().unwrap());
    let time = Duration::from_secs(seconds);
    let attacked = run(Load::Attacks(time)).await.context("with attacks")?;
    // As long as the attacks are configured to take: on a slow machine they take longer, and few edits are made
    // meanwhile.
    let alone = run(Load::Nothing(time)).await.context("without attacks")?;
    for (name, outcome) in [("alone", &alone), ("during attacks", &attacked)] {
        println!(
            "{name}: {:?}, {} words, {} messages, P50 {:?}, P99 {:?}",
            outcome.took, outcome.words, outcome.messages, outcome.median, outcome.p99
        );
        for (number, (before, after)) in outcome.before.iter().zip(&outcome.after).enumerate() {
            println!(
                "  server {}: {} -> {} MB, {} -> {} descriptors, {} -> {} threads",
                number + 1,
                before.memory >> 20,
                after.memory >> 20,
                before.files,
                after.files,
                before.threads,
                after.threads,
            );
        }
    }
    for (number, (attacked, alone)) in attacked.after.iter().zip(&alone.after).enumerate() {
        let more = attacked.memory.saturating_sub(alone.memory);
        ensure!(more <= MORE_MEMORY, "server {} uses {} MB more", number + 1, more >> 20);
    }
    if env::var_os("WEFT_SOAK_P99_MS").is_some() {
        let limit = Duration::from_millis(env::var("WEFT_SOAK_P99_MS")?.parse()?);
        ensure!(attacked.p99 < limit, "P99 of the users is {:?}", attacked.p99);
    }
    Ok(())
}

/// Otherwise an attack without a driver would remain unnoticed.
#[test]
fn every_attack_number_has_a_driver() {
    let all = attacks_by_clients("x", Path::new("x"));
    let names = all.iter().map(|attack| attack.name());
    let names = names.chain(federation::ALL.map(Round::name));
    let numbers: BTreeSet<u32> = names
        .map(|name| {
            name.strip_prefix('T')
                .unwrap()
                .split(' ')
                .next()
                .unwrap()
                .parse()
                .unwrap()
        })
        .collect();
    assert_eq!(numbers, (120..=136).collect());
}
