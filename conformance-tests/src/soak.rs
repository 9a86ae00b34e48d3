//! People at work on two servers while somebody may attack the first of them: editors in shared documents and people who
//! chat, what they wait for an answer, and what the servers hold meanwhile. Must not know the attacks.

use std::{
    collections::BTreeMap,
    fs,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use tokio::{sync::watch, task::JoinSet};

use crate::{
    client::Client,
    live::{LiveEditor, trust},
    server::Server,
    world::World,
};

/// How many people work, and how fast.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Shared documents.
    pub documents: usize,
    /// Editors of each, half of them on either server.
    pub editors: usize,
    /// From one word of an editor to the next.
    pub pause: Duration,
}

/// Between two messages of the person whose waiting times are measured.
const MESSAGE_EVERY: Duration = Duration::from_millis(100);
/// Users of each server; each has several editors open.
const USERS: usize = 4;

/// A document, and those who write in it.
struct Document {
    room: String,
    editors: Vec<LiveEditor>,
}

/// Everybody at work.
pub struct Team {
    documents: Vec<Document>,
    chat: String,
    talker: Arc<Client>,
}

/// What a server held at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Holding {
    /// Resident memory, bytes.
    pub memory: u64,
    /// Open files and sockets.
    pub files: usize,
    /// Threads.
    pub threads: usize,
}

/// What was done, and how long it took.
#[derive(Debug, Default)]
pub struct Work {
    /// Of each message, how long its answer took.
    pub waits: Vec<Duration>,
    /// The messages that were accepted.
    pub messages: Vec<String>,
    /// Words that were typed.
    pub words: usize,
}

impl Holding {
    /// Looks.
    ///
    /// # Errors
    /// When the server doesn't run.
    pub fn of(server: &Server) -> Result<Self> {
        let pid = server.pid().context("not running")?;
        Ok(Self {
            memory: server.resident_bytes()?,
            files: server.open_files()?,
            threads: fs::read_dir(format!("/proc/{pid}/task"))?.count(),
        })
    }
}

impl Work {
    /// The time below which so many of a thousand messages were answered.
    #[must_use]
    pub fn quantile(&self, thousandths: usize) -> Duration {
        let mut waits = self.waits.clone();
        waits.sort_unstable();
        let last = waits.len().saturating_sub(1);
        waits.get(last * thousandths / 1_000).copied().unwrap_or_default()
    }
}

impl Team {
    /// Makes accounts and documents on the first two servers of a world, and opens all editors.
    ///
    /// # Errors
    /// When a server refuses something.
    pub async fn at_work(world: &World, options: Options) -> Result<Self> {
        let mut users = Vec::new();
        for number in 0..USERS {
            let here = world.user(0, &format!("here-{number}")).await?;
            let there = world.user(1, &format!("there-{number}")).await?;
            users.push([here, there]);
        }
        let trust = trust(&world.authority)?;
        let [owner, _] = users.first().context("no users")?.clone();
        let mut documents = Vec::new();
        for number in 0..options.documents {
            let room = owner.create_document(&format!("Plan {number}")).await?;
            for user in users.iter().flatten().filter(|user| user.user != owner.user) {
                owner.give_role(&room, &user.user, "editor").await?;
                user.accept_invitation(&room).await?;
            }
            let mut editors = Vec::new();
            for place in 0..options.editors {
                let pair = users.get(place / 2 % USERS).context("no such user")?;
                let client_id = u64::try_from(number * options.editors + place + 1)?;
                let [here, there] = pair;
                let user = if place % 2 == 0 { here } else { there };
                let editor = LiveEditor::open(&trust, user, &room, client_id)?;
                editor.show_cursor();
                editors.push(editor);
            }
            documents.push(Document { room, editors });
        }
        let team = Self {
            chat: owner.create_room(serde_json::json!({"preset": "private_chat"})).await?,
            documents,
            talker: Arc::new(owner),
        };
        team.saved().await?;
        Ok(team)
    }

    /// Types and chats until `over` says so.
    ///
    /// # Errors
    /// When a message is refused.
    pub async fn work(&self, options: Options, mut over: watch::Receiver<bool>) -> Result<Work> {
        let talking = tokio::spawn(talk(Arc::clone(&self.talker), self.chat.clone(), over.clone()));
        let all: Vec<&LiveEditor> = self.documents.iter().flat_map(|document| &document.editors).collect();
        let pause = options.pause / u32::try_from(all.len().max(1))?;
        let mut ticks = tokio::time::interval(pause);
        let mut words = 0;
        while !*over.borrow() {
            tokio::select! {
                _ = ticks.tick() => {
                    // Neighbours in the list write in one document: the next word comes in another one.
                    let editor = all.get(words * 7 % all.len()).context("no editors")?;
                    editor.type_word(u32::try_from(words * 37 % 1_000)?, &format!("<{words}>"));
                    words += 1;
                }
                changed = over.changed() => changed.context("nobody says when it is over")?,
            }
        }
        let mut work = talking.await??;
        work.words = words;
        Ok(work)
    }

    /// Until every editor has all that it typed on disk.
    ///
    /// # Errors
    /// When that takes too long, or something was refused.
    pub async fn saved(&self) -> Result<()> {
        for editor in self.documents.iter().flat_map(|document| &document.editors) {
            editor.synced().await?;
            editor.saved().await?;
        }
        Ok(())
    }

    /// Checks that nothing is lost: all editors of a document come to the same text, every acknowledged word is in it
    /// once, and every accepted message can be read.
    ///
    /// # Errors
    /// When something is missing.
    pub async fn nothing_is_lost(&self, work: &Work) -> Result<()> {
        for document in &self.documents {
            let first = document.editors.first().context("no editors")?;
            let agree = || async {
                let text = first.text();
                let same = document.editors.iter().all(|editor| editor.text() == text);
                anyhow::Ok(same.then_some(text))
            };
            let text = self
                .talker
                .until(&format!("one text in {}", document.room), agree)
                .await?;
            let mut count: BTreeMap<&str, usize> = BTreeMap::new();
            for word in text.split_inclusive('>') {
                *count.entry(word).or_default() += 1;
            }
            for word in document.editors.iter().flat_map(LiveEditor::acknowledged) {
                let found = count.get(&*word).copied().unwrap_or_default();
                ensure!(found == 1, "{word} is in {} {found} times", document.room);
            }
        }
        let read = self.talker.all_messages(&self.chat).await?;
        for message in &work.messages {
            ensure!(read.get(message) == Some(&1), "{message} is not there once");
        }
        Ok(())
    }
}

async fn talk(talker: Arc<Client>, room: String, mut over: watch::Receiver<bool>) -> Result<Work> {
    let mut work = Work::default();
    let mut ticks = tokio::time::interval(MESSAGE_EVERY);
    let mut waiting = JoinSet::new();
    while !*over.borrow() {
        tokio::select! {
            _ = ticks.tick() => {
                let (talker, room) = (Arc::clone(&talker), room.clone());
                let text = format!("message {}", work.messages.len() + waiting.len());
                waiting.spawn(async move {
                    let began = Instant::now();
                    talker.say(&room, &text).await?;
                    anyhow::Ok((text, began.elapsed()))
                });
            }
            Some(said) = waiting.join_next() => work.note(said??),
            changed = over.changed() => changed.context("nobody says when it is over")?,
        }
    }
    while let Some(said) = waiting.join_next().await {
        work.note(said??);
    }
    Ok(work)
}

impl Work {
    fn note(&mut self, (text, wait): (String, Duration)) {
        self.messages.push(text);
        self.waits.push(wait);
    }
}
