//! Writers and observers of one document: what an edit costs the server, and how many it takes a second.
//!
//! An edit counts when every other socket has heard it (and in Hocuspocus' framing, when its writer was told that it is
//! taken). Weft tells nobody before it is on disk, so its figures are with journal and fsync.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use tokio::task::JoinSet;

use super::{
    progress,
    report::Figure,
    socket::{self, Endpoint, Heard, Receiver, Sender, Speech},
    target::Target,
    typing::Typist,
};

/// How much is done.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// People who type.
    #[arg(long, default_value_t = 4)]
    pub writers: usize,
    /// People who watch.
    #[arg(long, default_value_t = 10)]
    pub observers: usize,
    /// Edits as fast as they go, of all writers together.
    #[arg(long, default_value_t = 40_000)]
    pub edits: usize,
    /// Edits a second of all writers together in the second part, where each edit travels alone.
    #[arg(long, default_value_t = 1_000)]
    pub pace: usize,
    /// Edits at that pace.
    #[arg(long, default_value_t = 5_000)]
    pub paced_edits: usize,
}

impl Options {
    /// As a test runs it.
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

/// One open document.
struct Editor {
    typist: Typist,
    mouth: Sender,
    ears: Receiver,
    /// Up to where each client's letters were heard.
    heard: HashMap<u64, u32>,
    named: bool,
}

/// Measures one server.
///
/// # Errors
/// When the server refuses something or does not bring an edit to everybody.
pub async fn measure(target: &Target, options: &Options) -> Result<Vec<Figure>> {
    let endpoint = target.document().await?;
    let mut editors = Vec::new();
    for _ in 0..options.writers + options.observers {
        editors.push(join(&endpoint).await?);
    }
    let per_writer = (options.edits / options.writers).max(1);
    // Interpreters compile what is hot; nobody is measured cold.
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
        editor.mouth.close().await;
    }
    Ok(figures)
}

async fn join(endpoint: &Endpoint) -> Result<Editor> {
    let (mouth, ears, _) = socket::open(endpoint).await?;
    Ok(Editor {
        typist: Typist::new(),
        mouth,
        ears,
        heard: HashMap::new(),
        named: matches!(endpoint.speech, Speech::Named { .. }),
    })
}

/// The first `writers` type so many letters each; ends when everybody has heard all of everybody else's.
async fn burst(editors: Vec<Editor>, writers: usize, letters: usize, tick: Option<Duration>) -> Result<Vec<Editor>> {
    let mut tasks = JoinSet::new();
    for (number, editor) in editors.into_iter().enumerate() {
        let own = if number < writers { letters } else { 0 };
        let others = (writers - usize::from(number < writers)) * letters;
        tasks.spawn(async move { Ok::<_, anyhow::Error>((number, editor.take_part(own, others, tick).await?)) });
    }
    let mut done = Vec::new();
    while let Some(editor) = tasks.join_next().await {
        done.push(editor??);
    }
    done.sort_by_key(|(number, _)| *number);
    Ok(done.into_iter().map(|(_, editor)| editor).collect())
}

impl Editor {
    async fn take_part(self, own: usize, others: usize, tick: Option<Duration>) -> Result<Self> {
        let Self {
            mut typist,
            mut mouth,
            mut ears,
            mut heard,
            named,
        } = self;
        let me = typist.client;
        let typing = tokio::spawn(async move {
            let mut ticks = tick.map(tokio::time::interval);
            for _ in 0..own {
                if let Some(ticks) = &mut ticks {
                    ticks.tick().await;
                }
                mouth.say(&typist.letter()).await?;
            }
            Ok::<_, anyhow::Error>((typist, mouth))
        });
        let (mut missing, mut statuses) = (others, if named { own } else { 0 });
        while missing > 0 || statuses > 0 {
            match ears
                .hear()
                .await
                .with_context(|| format!("{missing} edits were not heard"))?
            {
                Heard::Change(ranges) => {
                    for (client, (_, end)) in ranges {
                        let client = client.get();
                        let known = heard.entry(client).or_default();
                        if client != me && end > *known {
                            missing = missing.saturating_sub(usize::try_from(end - *known)?);
                            *known = end;
                        }
                    }
                }
                Heard::Status(_) => statuses = statuses.saturating_sub(1),
                _ => {}
            }
        }
        let (typist, mouth) = typing.await??;
        Ok(Self {
            typist,
            mouth,
            ears,
            heard,
            named,
        })
    }
}

/// A count as a number to divide by.
#[expect(clippy::cast_precision_loss, reason = "counts of a run are far below 2^52")]
#[must_use]
pub fn as_f64(count: usize) -> f64 {
    count as f64
}
