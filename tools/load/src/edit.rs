//! Writers and observers of one document: processor time per edit, and edits per second.
//!
//! An edit counts when every other socket has received it (and in Hocuspocus' framing, when its writer has received the
//! acknowledgement). Weft sends neither before the edit is durable, so its figures include journal and fsync. Must not
//! assert a duration.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use tokio::task::JoinSet;

use crate::{
    progress,
    report::Figure,
    socket::{self, Endpoint, Framing, Received, Receiver, Sender},
    target::Target,
    typing::Typist,
};

/// Size of the run.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// Editors that type.
    #[arg(long, default_value_t = 4)]
    pub writers: usize,
    /// Editors that only read.
    #[arg(long, default_value_t = 10)]
    pub observers: usize,
    /// Edits of the first part, of all writers together, at full speed.
    #[arg(long, default_value_t = 40_000)]
    pub edits: usize,
    /// Edits per second of all writers together in the second part, in which each edit is sent alone.
    #[arg(long, default_value_t = 1_000)]
    pub pace: usize,
    /// Edits of the second part.
    #[arg(long, default_value_t = 5_000)]
    pub paced_edits: usize,
}

impl Options {
    /// The size of a test.
    #[must_use]
    pub fn small() -> Self {
        Self {
            writers: 2,
            observers: 3,
            edits: 200,
            pace: 1_000,
            paced_edits: 100,
        }
    }
}

/// One editor of the document.
struct Editor {
    typist: Typist,
    sender: Sender,
    receiver: Receiver,
    /// The clock received from each Yjs client id.
    received: HashMap<u64, u32>,
    named: bool,
}

/// Measures one server.
///
/// # Errors
/// When the server returns an error or does not deliver an edit to every editor.
pub async fn measure(target: &Target, options: &Options) -> Result<Vec<Figure>> {
    let endpoint = target.document().await?;
    let mut editors = Vec::new();
    for _ in 0..options.writers + options.observers {
        editors.push(join(&endpoint).await?);
    }
    let per_writer = (options.edits / options.writers).max(1);
    // A warm-up: runtimes with a JIT compile the busy code first.
    editors = burst(editors, options.writers, (per_writer / 10).max(1), None).await?;
    progress(&format!("{}: {} edits as fast as they go", target.name, options.edits));
    let (began, cpu) = (Instant::now(), target.cpu()?);
    editors = burst(editors, options.writers, per_writer, None).await?;
    let (took, used) = (began.elapsed(), target.cpu()? - cpu);
    let count = as_f64(per_writer * options.writers);
    let mut figures = vec![
        Figure::new(
            &target.name,
            "server CPU an edit, as fast as they go",
            used.as_secs_f64() * 1e6 / count,
            "µs",
        ),
        Figure::new(&target.name, "edits a second", count / took.as_secs_f64(), "1/s"),
    ];
    let per_writer = (options.paced_edits / options.writers).max(1);
    progress(&format!(
        "{}: {} edits at {} a second",
        target.name, options.paced_edits, options.pace
    ));
    let cpu = target.cpu()?;
    let tick = Duration::from_secs(1) * u32::try_from(options.writers)? / u32::try_from(options.pace.max(1))?;
    editors = burst(editors, options.writers, per_writer, Some(tick)).await?;
    let (used, count) = (target.cpu()? - cpu, as_f64(per_writer * options.writers));
    let name = format!("server CPU an edit, {} a second", options.pace);
    figures.push(Figure::new(&target.name, name, used.as_secs_f64() * 1e6 / count, "µs"));
    for editor in editors {
        editor.sender.close().await;
    }
    Ok(figures)
}

async fn join(endpoint: &Endpoint) -> Result<Editor> {
    let (sender, receiver, _) = socket::open(endpoint).await?;
    Ok(Editor {
        typist: Typist::new(),
        sender,
        receiver,
        received: HashMap::new(),
        named: matches!(endpoint.framing, Framing::Named { .. }),
    })
}

/// The first `writers` editors type `letters` letters each; returns when every editor has received all edits of the
/// others.
async fn burst(editors: Vec<Editor>, writers: usize, letters: usize, tick: Option<Duration>) -> Result<Vec<Editor>> {
    let mut tasks = JoinSet::new();
    for (number, editor) in editors.into_iter().enumerate() {
        let own = if number < writers { letters } else { 0 };
        let others = (writers - usize::from(number < writers)) * letters;
        tasks.spawn(async move { Ok::<_, anyhow::Error>((number, editor.exchange(own, others, tick).await?)) });
    }
    let mut done = Vec::new();
    while let Some(editor) = tasks.join_next().await {
        done.push(editor??);
    }
    done.sort_by_key(|(number, _)| *number);
    Ok(done.into_iter().map(|(_, editor)| editor).collect())
}

impl Editor {
    async fn exchange(self, own: usize, others: usize, tick: Option<Duration>) -> Result<Self> {
        let Self {
            mut typist,
            mut sender,
            mut receiver,
            mut received,
            named,
        } = self;
        let me = typist.client;
        let typing = tokio::spawn(async move {
            let mut ticks = tick.map(tokio::time::interval);
            for _ in 0..own {
                if let Some(ticks) = &mut ticks {
                    ticks.tick().await;
                }
                sender.send_update(&typist.letter()).await?;
            }
            Ok::<_, anyhow::Error>((typist, sender))
        });
        let (mut missing, mut statuses) = (others, if named { own } else { 0 });
        while missing > 0 || statuses > 0 {
            match receiver
                .next_message()
                .await
                .with_context(|| format!("{missing} edits were not received"))?
            {
                Received::Change(ranges) => {
                    for (client, (_, end)) in ranges {
                        let client = client.get();
                        let known = received.entry(client).or_default();
                        if client != me && end > *known {
                            missing = missing.saturating_sub(usize::try_from(end - *known)?);
                            *known = end;
                        }
                    }
                }
                Received::Status(_) => statuses = statuses.saturating_sub(1),
                _ => {}
            }
        }
        let (typist, sender) = typing.await??;
        Ok(Self {
            typist,
            sender,
            receiver,
            received,
            named,
        })
    }
}

/// A count as a floating-point number.
#[expect(clippy::cast_precision_loss, reason = "counts of a run are far below 2^52")]
#[must_use]
pub fn as_f64(count: usize) -> f64 {
    count as f64
}
