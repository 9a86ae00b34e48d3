//! A workload on two servers while the first may be attacked: editors in shared documents and a chat. Measures response
//! times and the resources of the servers. Must not know the attacks.

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

/// Size and rate of the workload.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Number of shared documents.
    pub documents: usize,
    /// Editors per document, half of them on either server.
    pub editors: usize,
    /// Time between two words of one editor.
    pub pause: Duration,
}

/// Time between two chat messages; their response times are measured.
const MESSAGE_EVERY: Duration = Duration::from_millis(100);
/// Users per server; each has several editors open.
const USERS: usize = 4;

/// A document and its editors.
struct Document {
    room: String,
    editors: Vec<LiveEditor>,
}

/// All editors and the chat.
pub struct Team {
    documents: Vec<Document>,
    chat: String,
    talker: Arc<Client>,
}

/// The resources of a server at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Holding {
    /// Resident memory, bytes.
    pub memory: u64,
    /// Open files and sockets.
    pub files: usize,
    /// Threads.
    pub threads: usize,
}

/// What was done, and the response times.
#[derive(Debug, Default)]
pub struct Work {
    /// Response time of each message.
    pub waits: Vec<Duration>,
    /// Messages that the server accepted.
    pub messages: Vec<String>,
    /// Number of words typed.
    pub words: usize,
}

impl Holding {
    /// Reads the figures from `/proc`.
    ///
    /// # Errors
    /// When the server is not running.
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
    /// The response time at this quantile, in thousandths.
    #[must_use]
    pub fn quantile(&self, thousandths: usize) -> Duration {
        let mut waits = self.waits.clone();
        waits.sort_unstable();
        let last = waits.len().saturating_sub(1);
        waits.get(last * thousandths / 1_000).copied().unwrap_or_default()
    }
}

impl Team {
    /// Creates accounts and documents on the first two servers of a world, and opens all editors.
    ///
    /// # Errors
    /// When a server returns an error.
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

    /// Types and chats until `over` becomes true.
    ///
    /// # Errors
    /// When a message is rejected.
    pub async fn work(&self, options: Options, mut over: watch::Receiver<bool>) -> Result<Work> {
        let talking = tokio::spawn(talk(Arc::clone(&self.talker), self.chat.clone(), over.clone()));
        let all: Vec<&LiveEditor> = self.documents.iter().flat_map(|document| &document.editors).collect();
        let pause = options.pause / u32::try_from(all.len().max(1))?;
        let mut ticks = tokio::time::interval(pause);
        let mut words = 0;
        while !*over.borrow() {
            tokio::select! {
                _ = ticks.tick() => {
                    // Neighbours in the list write in the same document; the step of 7 selects another document for the
                    // next word.
                    let editor = all.get(words * 7 % all.len()).context("no editors")?;
                    editor.type_word(u32::try_from(words * 37 % 1_000)?, &format!("<{words}>"));
                    words += 1;
                }
                changed = over.changed() => changed.context("the sender of `over` was dropped")?,
            }
        }
        let mut work = talking.await??;
        work.words = words;
        Ok(work)
    }

    /// Waits until all typed words of every editor are acknowledged.
    ///
    /// # Errors
    /// When the deadline passes or an edit is rejected.
    pub async fn saved(&self) -> Result<()> {
        for editor in self.documents.iter().flat_map(|document| &document.editors) {
            editor.synced().await?;
            editor.saved().await?;
        }
        Ok(())
    }

    /// Checks that nothing is lost: all editors of a document converge to the same text, which contains every
    /// acknowledged word once, and every accepted message can be read once.
    ///
    /// # Errors
    /// When something is missing or duplicated.
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
            ensure!(read.get(message) == Some(&1), "{message} is missing or duplicated");
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
            Some(sent) = waiting.join_next() => work.note(sent??),
            changed = over.changed() => changed.context("the sender of `over` was dropped")?,
        }
    }
    while let Some(sent) = waiting.join_next().await {
        work.note(sent??);
    }
    Ok(work)
}

impl Work {
    fn note(&mut self, (text, wait): (String, Duration)) {
        self.messages.push(text);
        self.waits.push(wait);
    }
}
