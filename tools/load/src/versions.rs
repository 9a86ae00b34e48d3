//! A document with a very long history by two authors: the content at a version and the difference of two versions at the
//! start, in the middle and at the end, blame, opening beside a fresh document of the same text, and bytes on disk.
//! Must not assert a duration.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use weft_conformance_tests::client::{Client, segment};

use crate::{
    edit::as_f64,
    growth::{Typing, at_rest, on_disk},
    history::{self, Author, Patch},
    http::Connection,
    local::Local,
    process, progress,
    report::{Figure, percentiles},
    socket::{self, Endpoint},
    target::Target,
};

/// Size of the run.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// Changes of the history that are typed.
    #[arg(long, default_value_t = 259_778)]
    pub edits: usize,
    /// Changes that one author types before the other one goes on. What one author types without a pause is one event, so a
    /// history of people, who are signed each few seconds, has as many events as this.
    #[arg(long, default_value_t = 25)]
    pub span: usize,
    /// Unacknowledged edits at a time. With 1, each edit is a version of its own; what arrives together is one version.
    #[arg(long, default_value_t = 1)]
    pub window: usize,
    /// Requests of each kind.
    #[arg(long, default_value_t = 50)]
    pub requests: usize,
    /// Versions between the two of a difference.
    #[arg(long, default_value_t = 1_000)]
    pub between: usize,
    /// Openings of each of the two documents.
    #[arg(long, default_value_t = 200)]
    pub openings: usize,
    /// Seconds until the size on disk is measured: everything is sealed by then.
    #[arg(long, default_value_t = 8)]
    pub settle: u64,
}

impl Options {
    /// The size of a test.
    #[must_use]
    pub fn small() -> Self {
        Self {
            edits: 600,
            span: 25,
            window: 1,
            requests: 2,
            between: 100,
            openings: 2,
            settle: 6,
        }
    }
}

/// A text at a version, to compare it with the answers.
struct Mark {
    name: &'static str,
    version: usize,
    text: String,
}

/// Measures a Weft server of its own.
///
/// # Errors
/// When the server returns an error, or a content that was not typed.
pub(crate) async fn measure(options: &Options) -> Result<Vec<Figure>> {
    let mut local = Local::start(1).await?;
    let (alice, bob) = (local.user(0, "alice").await?, local.user(0, "bob").await?);
    let empty = on_disk(&local.data(0))?;
    let room = alice.create_document("A long history").await?;
    alice.give_role(&room, &bob.user, "editor").await?;
    bob.accept_invitation(&room).await?;
    let marks = type_history(&local, [&alice, &bob], &room, options).await?;
    let disk = at_rest(&mut local, options.settle).await?.saturating_sub(empty);
    let server = local.servers.first_mut().context("no server")?;
    server.boot().await?;
    let per_edit = as_f64(disk) / as_f64(options.edits.max(1));
    let mut figures = vec![Figure::new("Weft", "on disk, 10,000 edits", per_edit * 10.0, "KB")];
    figures.extend(read(&local, &alice, &room, &marks, options).await?);
    let text = marks.last().map(|mark| mark.text.clone()).unwrap_or_default();
    figures.extend(open(&local, &alice, &room, text, options).await?);
    Ok(figures)
}

/// Types the history, the two authors in turn; returns the texts at three versions.
async fn type_history(local: &Local, users: [&Client; 2], room: &str, options: &Options) -> Result<Vec<Mark>> {
    let (patches, real) = history::patches(options.edits)?;
    if !real {
        progress("the paper's history is not available: a synthetic one of the same shape is typed");
    }
    progress(&format!("two authors type {} edits", patches.len()));
    let mut writers = Vec::new();
    for user in users {
        let target = Target::weft(user.clone(), None, local.server(0)?.pid(), true);
        writers.push((Author::new(), Typing::open(&target.endpoint(room)?).await?));
    }
    let wanted = [
        ("the start", options.between),
        ("the middle", patches.len() / 2),
        ("the end", patches.len()),
    ];
    let reader = users.first().context("no user")?;
    let (mut marks, mut typed) = (Vec::new(), 0);
    for span in patches.chunks(options.span.max(1)) {
        if let [(author, typing), (other, _)] = writers.as_mut_slice() {
            let updates: Vec<Vec<u8>> = span.iter().map(|patch| author.make(patch)).collect();
            for update in &updates {
                typing.send_update(update).await?;
                typing.taken(options.window.saturating_sub(1)).await?;
                other.take(update)?;
            }
            typing.taken(0).await?;
            typed += span.len();
        }
        writers.reverse();
        let due = wanted.get(marks.len()).filter(|(_, version)| *version <= typed);
        if let (Some((name, _)), Some((author, _))) = (due, writers.first()) {
            let document = reader.get(&path_of(room)).await?;
            let version = document.get("version").and_then(Value::as_u64).context("no version")?;
            marks.push(Mark {
                name,
                version: usize::try_from(version)?,
                text: author.text(),
            });
        }
    }
    Ok(marks)
}

fn path_of(room: &str) -> String {
    format!("/_weft/client/v1/documents/{}", segment(room))
}

/// Content at a version, differences, and blame.
async fn read(local: &Local, client: &Client, room: &str, marks: &[Mark], options: &Options) -> Result<Vec<Figure>> {
    let pid = local.server(0)?.pid().context("no process")?;
    let mut connection = Connection::open(&client.url, &client.token).await?;
    let base = path_of(room);
    let mut figures = Vec::new();
    for Mark { name, version, text } in marks {
        progress(&format!("reading at {name}"));
        let path = |back: usize| format!("{base}?format=text&at={}", version - back);
        let content = connection.get(&path(0)).await?;
        let (found, typed) = (content.len(), text.len());
        ensure!(
            content == text,
            "the content at version {version} has {found} bytes, and {typed} were typed"
        );
        let what = format!("content at {name}");
        figures.extend(timed(&mut connection, pid, &what, options, path).await?);
        let path = |back: usize| {
            let to = version.saturating_sub(back).max(options.between);
            format!("{base}/diff?from={}&to={to}", to - options.between)
        };
        let what = format!("difference at {name}");
        figures.extend(timed(&mut connection, pid, &what, options, path).await?);
    }
    let last = marks.last().context("nothing was typed")?;
    let path = format!("{base}/blame");
    let blame: Value = serde_json::from_str(connection.get(&path).await?)?;
    let runs = blame.get("runs").and_then(Value::as_array).context("no runs")?;
    let text: String = runs.iter().filter_map(|run| run.get("text")?.as_str()).collect();
    ensure!(text == last.text, "blame has another text");
    let authors = |run: &&Value| run.get("author").is_none_or(Value::is_null);
    ensure!(!runs.iter().any(|run| authors(&run)), "a run has no author");
    figures.push(Figure::new("Weft", "runs of blame", as_f64(runs.len()), ""));
    figures.extend(timed(&mut connection, pid, "blame", options, |_| path.clone()).await?);
    let path = format!("{base}/diff?from={}&to={}", options.between, last.version);
    figures.extend(
        timed(&mut connection, pid, "difference of nearly all", options, |_| {
            path.clone()
        })
        .await?,
    );
    Ok(figures)
}

/// Requests one after another; `path` is the path of each by its number.
async fn timed(
    connection: &mut Connection,
    pid: u32,
    what: &str,
    options: &Options,
    path: impl Fn(usize) -> String,
) -> Result<Vec<Figure>> {
    let mut times = Vec::with_capacity(options.requests);
    let (cpu, all) = (process::cpu(pid)?, process::cpu_of_all(pid)?);
    for number in 0..options.requests {
        let path = path(number);
        let began = Instant::now();
        connection.get(&path).await?;
        times.push(began.elapsed());
    }
    let requests = as_f64(options.requests.max(1));
    let used = (process::cpu(pid)? - cpu).as_secs_f64() * 1e3 / requests;
    let all = process::cpu_of_all(pid)?.saturating_sub(all).as_secs_f64() * 1e3 / requests;
    let mut figures = percentiles("Weft", what, times);
    let name = format!("{what}, server CPU");
    figures.push(Figure::new("Weft", name, used, "ms"));
    let name = format!("{what}, CPU of the workers");
    figures.push(Figure::new("Weft", name, (all - used).max(0.0), "ms"));
    Ok(figures)
}

/// Opens the document and a fresh one of the same text, in turn.
async fn open(local: &Local, client: &Client, room: &str, text: String, options: &Options) -> Result<Vec<Figure>> {
    progress("opening it and a fresh document of the same text");
    let target = Target::weft(client.clone(), None, local.server(0)?.pid(), false);
    let fresh = target.document().await?;
    let (mut sender, mut receiver, _) = socket::open(&fresh).await?;
    let update = Author::new().make(&Patch(0, 0, text));
    sender.upload(&mut receiver, &update).await?;
    drop((sender, receiver));
    // It is sealed and compacted as the other one.
    tokio::time::sleep(Duration::from_secs(options.settle)).await;
    let long = target.endpoint(room)?;
    let (mut of_long, mut of_fresh) = (Openings::default(), Openings::default());
    for _ in 0..options.openings {
        of_long.open(&long).await?;
        of_fresh.open(&fresh).await?;
    }
    let (with, without) = (of_long.milliseconds(), of_fresh.milliseconds());
    Ok(vec![
        Figure::new("Weft", "opening", with, "ms"),
        Figure::new("Weft", "opening, bytes", as_f64(of_long.bytes) / 1e3, "KB"),
        Figure::new("Weft", "opening a fresh document of the same text", without, "ms"),
        Figure::new("Weft", "opening a fresh one, bytes", as_f64(of_fresh.bytes) / 1e3, "KB"),
        Figure::new("Weft", "opening, times a fresh one", with / without, "×"),
    ])
}

/// Openings of one document.
#[derive(Default)]
struct Openings {
    times: Vec<Duration>,
    bytes: usize,
}

impl Openings {
    async fn open(&mut self, endpoint: &Endpoint) -> Result<()> {
        let began = Instant::now();
        let (sender, receiver, bytes) = socket::open(endpoint).await?;
        self.times.push(began.elapsed());
        self.bytes = bytes;
        drop((sender, receiver));
        Ok(())
    }

    /// The median.
    fn milliseconds(&mut self) -> f64 {
        self.times.sort();
        let middle = self.times.get(self.times.len() / 2);
        middle.map_or(f64::NAN, |time| time.as_secs_f64() * 1e3)
    }
}
