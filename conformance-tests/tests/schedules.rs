//! Seeded schedules of faults between real server processes, each in a network namespace of its own: frames are
//! delayed, reordered, duplicated, lost and cut by direction, processes are killed with -9 and restarted, while users
//! write, chat, join and are removed. Once the faults end, all servers have the same state, events, text and titles,
//! and every acknowledged word is there once.
//!
//! `make schedules SEEDS=200` runs more; `WEFT_SCHEDULE_SEED` runs one of them alone, `WEFT_SCHEDULE_PLAN` a file with
//! the plan that a failure printed, which can be reduced by hand. Must not assert a duration.
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
    env, fs,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use futures_util::{StreamExt as _, stream};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use reqwest::Method;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::task::JoinSet;
use weft_conformance_tests::{
    authority::Authority,
    client::{Client, segment},
    external::needs_own_servers,
    live::{LiveEditor, trust},
    namespaces::{NetworkConditions, Switch},
    server::Server,
};
use yrs::{Doc, GetString as _, Transact as _, Update, updates::decoder::Decode as _};

/// Deadline for convergence after the faults. A loaded machine is slow, not broken.
const TIMEOUT: Duration = Duration::from_secs(120);
/// Deadline of a request during the faults; its effect is checked at the end.
const SHORT_TIMEOUT: Duration = Duration::from_secs(5);
const CALM: NetworkConditions = NetworkConditions {
    delay_ms: [0, 0],
    lose: 0.0,
    double: 0.0,
};

/// Numbers are servers; each has a writer, who is always a member, and a guest, who joins and leaves.
#[derive(Clone, Debug, Serialize, Deserialize)]
enum Action {
    Type { at: usize, thousandths: u32 },
    Say { at: usize },
    Title { at: usize },
    Invite { guest: usize },
    Join { guest: usize, through: usize },
    Kick { guest: usize },
    Ban { guest: usize },
    Cut { from: usize, to: usize },
    Isolate { server: usize },
    Heal,
    Network(NetworkConditions),
    Kill { server: usize },
    Start { server: usize },
    Pass { ms: u64 },
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Plan {
    seed: u64,
    servers: usize,
    actions: Vec<Action>,
}

impl Plan {
    fn new(seed: u64) -> Self {
        let mut dice = StdRng::seed_from_u64(seed);
        let servers = dice.random_range(3..=5);
        let actions = (0..40).map(|_| action(&mut dice, servers)).collect();
        Self { seed, servers, actions }
    }
}

fn action(dice: &mut StdRng, servers: usize) -> Action {
    let at = dice.random_range(0..servers);
    let other = (at + dice.random_range(1..servers)) % servers;
    match dice.random_range(0..100) {
        0..30 => Action::Type {
            at,
            thousandths: dice.random_range(0..=1_000),
        },
        30..36 => Action::Say { at },
        36..39 => Action::Title { at },
        39..44 => Action::Invite { guest: at },
        44..50 => Action::Join {
            guest: at,
            through: other,
        },
        50..53 => Action::Kick { guest: at },
        53..55 => Action::Ban { guest: at },
        55..62 => Action::Cut { from: at, to: other },
        62..66 => Action::Isolate { server: at },
        66..72 => Action::Heal,
        72..77 => Action::Network(NetworkConditions {
            delay_ms: [0, dice.random_range(1..60)],
            lose: dice.random_range(0.0..0.05),
            double: dice.random_range(0.0..0.2),
        }),
        77..82 => Action::Kill { server: at },
        82..88 => Action::Start { server: at },
        _ => Action::Pass {
            ms: dice.random_range(20..400),
        },
    }
}

/// The part on which all servers must agree.
#[derive(Debug, PartialEq)]
struct View {
    state: BTreeSet<String>,
    shown: BTreeSet<String>,
    text: String,
    sealed: String,
}

struct Run {
    servers: Vec<Server>,
    writers: Vec<Client>,
    guests: Vec<Client>,
    editors: Vec<LiveEditor>,
    room: String,
    cut: BTreeSet<(usize, usize)>,
    under_way: JoinSet<Option<String>>,
    switch: Switch,
    words: usize,
    _folder: TempDir,
}

impl Run {
    async fn new(plan: &Plan, switch: Switch) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let authority = Authority::new(folder.path())?;
        let trust = trust(&authority)?;
        let (mut servers, mut writers, mut guests) = (Vec::new(), Vec::new(), Vec::new());
        for (number, namespace) in switch.namespaces.iter().enumerate() {
            let label = format!("server-{number}");
            let server = Server::start_in(&authority, folder.path(), &label, "", namespace).await?;
            let http = authority.http()?;
            writers.push(Client::register(&http, &server.url, &format!("writer{number}")).await?);
            guests.push(Client::register(&http, &server.url, &format!("guest{number}")).await?);
            servers.push(server);
        }
        let room = writers[0].create_document("Through thick and thin").await?;
        for writer in &writers[1..] {
            writers[0].give_role(&room, &writer.user, "editor").await?;
            writer.accept_invitation(&room).await?;
        }
        let mut editors = Vec::new();
        for (number, writer) in writers.iter().enumerate() {
            let editor = LiveEditor::open(&trust, writer, &room, plan.seed * 100 + 10 + number as u64)?;
            editor.synced().await?;
            editors.push(editor);
        }
        Ok(Self {
            servers,
            writers,
            guests,
            editors,
            room,
            cut: BTreeSet::new(),
            under_way: JoinSet::new(),
            switch,
            words: 0,
            _folder: folder,
        })
    }

    /// Sends a request without waiting for it; the event id of the response is recorded, if there is one.
    fn ask(&mut self, who: &Client, method: Method, path: String, body: Value) {
        let who = who.clone();
        self.under_way.spawn(async move {
            let asked = who.request(method, &path, Some(body));
            let answer = tokio::time::timeout(SHORT_TIMEOUT, asked).await.ok()?.ok()?;
            let event = answer.body.get("event_id").and_then(Value::as_str);
            event.filter(|_| answer.status.is_success()).map(str::to_owned)
        });
    }

    fn membership(&mut self, what: &str, guest: usize) {
        let (alice, user) = (self.writers[0].clone(), self.guests[guest].user.clone());
        let path = Client::in_room(&self.room, what);
        self.ask(&alice, Method::POST, path, json!({"user_id": user}));
    }

    async fn act(&mut self, action: &Action) -> Result<()> {
        self.words += 1;
        let word = format!("<{}>", self.words);
        match *action {
            Action::Type { at, thousandths } => self.editors[at].type_word(thousandths, &word),
            Action::Say { at } => {
                let path = Client::in_room(&self.room, &format!("send/m.room.message/{}", self.words));
                let body = json!({"msgtype": "m.text", "body": word});
                self.ask(&self.writers[at].clone(), Method::PUT, path, body);
            }
            Action::Title { at } => {
                let path = format!("/_weft/client/v1/documents/{}", segment(&self.room));
                self.ask(&self.writers[at].clone(), Method::PATCH, path, json!({"title": word}));
            }
            Action::Invite { guest } => self.membership("invite", guest),
            Action::Kick { guest } => self.membership("kick", guest),
            Action::Ban { guest } => self.membership("ban", guest),
            Action::Join { guest, through } => {
                let (room, via) = (segment(&self.room), segment(&self.servers[through].name));
                let path = format!("/_matrix/client/v3/join/{room}?via={via}&server_name={via}");
                self.ask(&self.guests[guest].clone(), Method::POST, path, json!({}));
            }
            Action::Cut { from, to } => {
                self.cut.insert((from, to));
            }
            Action::Isolate { server } => {
                let others = (0..self.servers.len()).filter(|other| *other != server);
                self.cut
                    .extend(others.flat_map(|other| [(server, other), (other, server)]));
            }
            Action::Heal => self.cut.clear(),
            Action::Network(conditions) => self.switch.set_conditions(conditions)?,
            Action::Kill { server } => self.servers[server].kill(),
            Action::Start { server } if self.servers[server].pid().is_none() => self.servers[server].spawn(&[])?,
            Action::Start { .. } => {}
            Action::Pass { ms } => tokio::time::sleep(Duration::from_millis(ms)).await,
        }
        self.switch.cut(&self.cut.iter().copied().collect::<Vec<_>>())
    }

    /// Ends the faults: all servers run and are connected.
    async fn end_faults(&mut self) -> Result<()> {
        self.cut.clear();
        self.switch.cut(&[])?;
        self.switch.set_conditions(CALM)?;
        for server in &mut self.servers {
            if server.pid().is_none() {
                server.spawn(&[])?;
            }
        }
        // A server started at the end of the plan may not listen yet.
        for server in &mut self.servers {
            server.until_ready().await?;
        }
        Ok(())
    }

    async fn view(&self, at: usize) -> Result<View> {
        let writer = &self.writers[at];
        let state = writer.get(&Client::in_room(&self.room, "state")).await?;
        let filter = segment(r#"{"types":["dev.weft.update","m.room.message"]}"#);
        let mut shown = BTreeSet::new();
        let mut from = String::new();
        loop {
            let path = format!("messages?dir=f&limit=500&filter={filter}{from}");
            let page = writer.get(&Client::in_room(&self.room, &path)).await?;
            shown.extend(ids(&page["chunk"]));
            match page["end"].as_str() {
                Some(end) => from = format!("&from={}", segment(end)),
                None => break,
            }
        }
        let doc = Doc::new();
        let body = doc.get_or_insert_text("body");
        for update in writer.sealed_updates(&self.room).await? {
            doc.transact_mut().apply_update(Update::decode_v1(&update)?)?;
        }
        let sealed = body.get_string(&doc.transact());
        Ok(View {
            state: ids(&state).collect(),
            shown,
            text: self.editors[at].text(),
            sealed,
        })
    }

    async fn until_equal(&self) -> Result<View> {
        let deadline = Instant::now() + TIMEOUT;
        loop {
            let mut views = Vec::new();
            for at in 0..self.servers.len() {
                views.push(self.view(at).await?);
            }
            if views.iter().all(|view| *view == views[0] && view.text == view.sealed) {
                return Ok(views.swap_remove(0));
            }
            ensure!(
                Instant::now() < deadline,
                "servers differ after the faults:\n{views:#?}"
            );
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    /// Returns the number of words and of other acknowledged events.
    async fn check(&mut self) -> Result<(usize, usize)> {
        let mut event_ids = BTreeSet::new();
        while let Some(event) = self.under_way.join_next().await {
            event_ids.extend(event?);
        }
        let mut acknowledged = Vec::new();
        for editor in &self.editors {
            editor.saved().await?;
            acknowledged.extend(editor.acknowledged());
        }
        let view = self.until_equal().await?;
        for word in &acknowledged {
            let count = view.text.matches(word.as_str()).count();
            ensure!(count == 1, "the acknowledged {word} occurs {count} times");
        }
        for event in &event_ids {
            ensure!(view.shown.contains(event), "the acknowledged {event} is missing");
        }
        Ok((acknowledged.len(), event_ids.len()))
    }
}

fn ids(events: &Value) -> impl Iterator<Item = String> {
    let events = events.as_array().cloned().unwrap_or_default();
    events
        .into_iter()
        .filter_map(|event| event["event_id"].as_str().map(str::to_owned))
}

/// A summary line, or `None` if this machine has no network namespaces.
async fn run(plan: &Plan) -> Result<Option<String>> {
    let began = Instant::now();
    let switch = match Switch::new(plan.servers, plan.seed)? {
        Ok(switch) => switch,
        Err(why) => {
            eprintln!("schedules: SKIPPED, NOT RUN: no network namespaces here: {why}");
            return Ok(None);
        }
    };
    let mut run = Run::new(plan, switch).await.context("before the faults")?;
    for action in &plan.actions {
        run.act(action).await?;
    }
    run.end_faults().await?;
    let (words, events) = run.check().await?;
    Ok(Some(format!(
        "seed {}: {} servers, {words} words and {events} events acknowledged, all servers equal after {} s; frames {}",
        plan.seed,
        plan.servers,
        began.elapsed().as_secs(),
        run.switch.report()?
    )))
}

fn number(name: &str, default: u64) -> u64 {
    env::var(name).map_or(default, |text| text.parse().unwrap())
}

/// The plans to run: one from a file, one seed, or all.
fn plans() -> Result<Vec<Plan>> {
    if let Ok(file) = env::var("WEFT_SCHEDULE_PLAN") {
        return Ok(vec![serde_json::from_str(&fs::read_to_string(file)?)?]);
    }
    if let Ok(seed) = env::var("WEFT_SCHEDULE_SEED") {
        return Ok(vec![Plan::new(seed.parse()?)]);
    }
    Ok((1..=number("WEFT_SCHEDULES", 20)).map(Plan::new).collect())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn servers_converge_after_each_schedule() -> Result<()> {
    if needs_own_servers("servers_converge_after_each_schedule") {
        return Ok(());
    }
    let plans = plans()?;
    let (all, began) = (plans.len(), Instant::now());
    let mut runs =
        stream::iter(plans.into_iter().map(|plan| async move { (run(&plan).await, plan) })).buffer_unordered(3);
    let (mut done, mut failed) = (0, Vec::new());
    while let Some((outcome, plan)) = runs.next().await {
        match outcome {
            Ok(None) => return Ok(()),
            Ok(Some(line)) => eprintln!("{line}"),
            Err(error) => {
                eprintln!(
                    "seed {} FAILED: {error:#}\nits plan: {}",
                    plan.seed,
                    serde_json::to_string(&plan)?
                );
                failed.push(plan.seed);
            }
        }
        done += 1;
        eprintln!("{done} of {all} schedules after {} s", began.elapsed().as_secs());
    }
    if !failed.is_empty() {
        bail!(
            "{} of {all} schedules failed: seeds {failed:?}; WEFT_SCHEDULE_SEED repeats one",
            failed.len()
        );
    }
    println!(
        "schedules: {done} in {} s, all servers equal afterwards, nothing lost",
        began.elapsed().as_secs()
    );
    Ok(())
}
