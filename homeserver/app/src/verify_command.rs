//! `weft verify FILE`: verifies an exported log and prints what it found. Needs no configuration and no server. Must not print
//! the content of events.

mod rendered_text;

use std::{
    fs::File,
    io::{self, BufRead, BufReader, IsTerminal as _},
    path::{Path, PathBuf},
    process::ExitCode,
    time::{Duration, Instant},
};

use weft_dag::VerifyKeys;
use weft_verify::{Failed, KeysError, Options, Progress, Report, pinned_keys, verify};

use self::rendered_text::TextCheck;
use crate::cli::VerifyArguments;
use crate::terminal;

/// Something is wrong with the file.
const WRONG: u8 = 1;
/// The file, or a part of it, can't be judged.
const UNJUDGED: u8 = 2;
/// Between two lines of progress.
const PROGRESS_EVERY: Duration = Duration::from_secs(2);
/// Bytes that are read at a time.
const READ_BYTES: usize = 1024 * 1024;

/// Why nothing was verified.
#[derive(Debug, thiserror::Error)]
enum VerifyError {
    #[error("{path}: {source}", path = path.display())]
    File { path: PathBuf, source: io::Error },
    #[error("{path}: {source}", path = path.display())]
    Keys { path: PathBuf, source: KeysError },
}

/// See the module. It has exit codes of its own: 0 good, 1 wrong, 2 not judged.
pub(crate) fn run(arguments: &VerifyArguments) -> ExitCode {
    let verified = verified(arguments);
    let text = match &verified {
        Ok(Ok(report)) if arguments.text => Some(rendered_text::check(report)),
        _ => None,
    };
    let code = match (&verified, &text) {
        (Ok(Err(Failed::Wrong(_))), _) | (_, Some(TextCheck::Wrong(_))) => WRONG.into(),
        (Ok(Ok(report)), None | Some(TextCheck::Same(_) | TextCheck::NotStated(_))) if report.is_good() => {
            ExitCode::SUCCESS
        }
        _ => UNJUDGED.into(),
    };
    let printed = match verified {
        Ok(Ok(report)) => print_report(&report, text.as_ref()),
        Ok(Err(Failed::Wrong(wrong))) => print(&format!("WRONG: {wrong}")),
        Ok(Err(failed)) => print(&format!("NOT JUDGED: {failed}")),
        Err(error) => print(&format!("NOT JUDGED: {error}")),
    };
    match printed {
        Ok(()) => code,
        Err(_) => UNJUDGED.into(),
    }
}

fn verified(arguments: &VerifyArguments) -> Result<Result<Report, Failed>, VerifyError> {
    let keys = arguments.keys.as_deref().map(read_keys).transpose()?;
    let options = |keep_events| Options {
        pinned: keys.clone(),
        keep_events,
        keep_text: arguments.text,
    };
    if arguments.file == Path::new("-") {
        // It can't be read twice.
        return Ok(verify(io::stdin().lock(), options(true), Watch::new(None).report()));
    }
    let first = verify(open(&arguments.file)?, options(false), watch(&arguments.file)?);
    Ok(match first {
        Err(Failed::ClaimedTwice) => verify(open(&arguments.file)?, options(true), watch(&arguments.file)?),
        other => other,
    })
}

fn failed(path: &Path) -> impl Fn(io::Error) -> VerifyError {
    move |source| VerifyError::File {
        path: path.to_owned(),
        source,
    }
}

fn open(path: &Path) -> Result<impl BufRead + use<>, VerifyError> {
    Ok(BufReader::with_capacity(
        READ_BYTES,
        File::open(path).map_err(failed(path))?,
    ))
}

fn watch(path: &Path) -> Result<impl FnMut(Progress) + use<>, VerifyError> {
    let size = std::fs::metadata(path).map_err(failed(path))?.len();
    Ok(Watch::new(Some(size).filter(|size| *size > 0)).report())
}

fn read_keys(path: &Path) -> Result<VerifyKeys, VerifyError> {
    let json = std::fs::read(path).map_err(failed(path))?;
    pinned_keys(&json).map_err(|source| VerifyError::Keys {
        path: path.to_owned(),
        source,
    })
}

/// Prints how far a verification is, if somebody watches.
struct Watch {
    size: Option<u64>,
    last: Instant,
    is_watched: bool,
}

impl Watch {
    fn new(size: Option<u64>) -> Self {
        Self {
            size,
            last: Instant::now(),
            is_watched: io::stderr().is_terminal(),
        }
    }

    fn report(mut self) -> impl FnMut(Progress) {
        move |progress| {
            if !self.is_watched || self.last.elapsed() < PROGRESS_EVERY {
                return;
            }
            self.last = Instant::now();
            let part = self
                .size
                .and_then(|size| progress.bytes.saturating_mul(100).checked_div(size));
            let part = part.map_or_else(String::new, |part| format!(", {part} %"));
            terminal::print_error(&format!("{} events{part}", progress.events));
        }
    }
}

/// A time of an event, which its server chose: it may be in any year.
fn time(milliseconds: u64) -> String {
    /// The first millisecond of the year 10000, which has no form in RFC 3339.
    const YEAR_10000: u64 = 253_402_300_800_000;
    let at = std::time::SystemTime::UNIX_EPOCH.checked_add(Duration::from_millis(milliseconds));
    let at = at.filter(|_| milliseconds < YEAR_10000);
    at.map_or_else(
        || format!("{milliseconds} ms"),
        |at| humantime::format_rfc3339_seconds(at).to_string(),
    )
}

/// Prints a line. What the file says must not control the terminal.
fn print(line: &str) -> io::Result<()> {
    let shown: String = line
        .chars()
        .flat_map(|character| {
            let escaped = character.is_control().then(|| character.escape_default());
            let plain = (!character.is_control()).then_some(character);
            escaped.into_iter().flatten().chain(plain)
        })
        .collect();
    terminal::print(&shown)
}

fn print_report(report: &Report, text: Option<&TextCheck>) -> io::Result<()> {
    let print = |line: String| print(&line);
    print(format!(
        "room {} (version {}), exported by {}",
        report.room_id, report.room_version, report.server
    ))?;
    print(format!(
        "{} events, {} updates in the text, {} rejected, {} redacted",
        report.events, report.updates, report.rejected, report.redacted
    ))?;
    for (server, id, key) in &report.keys {
        print(format!("key {server} {id} {key}"))?;
    }
    print_witnesses(report)?;
    match &report.state_hash {
        Some(hash) if report.state_hash_stated => print(format!("text {hash}, as the file says"))?,
        Some(hash) => print(format!("text {hash}; the file does not say which it is"))?,
        None => print("text: not judged".to_owned())?,
    }
    if report.disputed {
        print("clocks are claimed twice: later events may change the text".to_owned())?;
    }
    for doubt in &report.doubts {
        print(format!("NOT JUDGED: {doubt}"))?;
    }
    match text {
        None => {}
        Some(TextCheck::Same(hash)) => print(format!("rendered text {hash}, as the file says"))?,
        Some(TextCheck::NotStated(hash)) => print(format!("rendered text {hash}; the file does not say which it is"))?,
        Some(TextCheck::NotRendered(why)) => return print(format!("NOT JUDGED: the text can't be rendered: {why}")),
        Some(TextCheck::Wrong(wrong)) => return print(format!("WRONG: {wrong}")),
    }
    if report.is_good() {
        print("GOOD".to_owned())?;
    }
    Ok(())
}

fn print_witnesses(report: &Report) -> io::Result<()> {
    for (server, witness) in &report.witnesses {
        print(&format!(
            "witness {server}: {} of {} events, by {} of {}",
            witness.events,
            report.events,
            witness.event,
            time(u64::from(witness.at.get()))
        ))?;
    }
    let Some(servers) = &report.servers else { return Ok(()) };
    let of_room = servers.iter().filter_map(|server| report.witnesses.get(server));
    let all = of_room
        .clone()
        .filter(|witness| witness.events == report.events)
        .count();
    print(&format!(
        "{} of the room's {} servers have confirmed a part of the log, {all} of them all of it",
        of_room.count(),
        servers.len()
    ))
}
