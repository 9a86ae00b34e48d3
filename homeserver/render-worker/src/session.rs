//! The life of a worker: sandbox, greeting, then one request after the other until standard input ends. Must not keep
//! anything of a request.

use std::io::{self, Read, Write};
use std::panic::{self, AssertUnwindSafe};
use std::process::ExitCode;

use bytes::Bytes;
use parking_lot::Mutex;
use rustix::time::{ClockId, clock_gettime};
use serde::Serialize;
use weft_render::protocol::{self, Answer, Frame, FrameError, Hello, Lengths, PARTS, PREFIX_BYTES, Reply, Task};
use weft_render::{NotRendered, PlaceError};
use weft_wire::limits::{MAX_RENDERED_BYTES, RENDER_STACK_BYTES};

use crate::engine;
use crate::sandbox::{self, SandboxError};

/// Where the last panic was.
static PANICKED_AT: Mutex<String> = Mutex::new(String::new());

/// Why a worker ended, other than by the end of its input.
#[derive(Debug, thiserror::Error)]
enum SessionError {
    #[error(transparent)]
    Sandbox(#[from] SandboxError),
    #[error(transparent)]
    Frame(#[from] FrameError),
    #[error("the thread can't be started: {0}")]
    Thread(io::Error),
    #[error("the engine panicked")]
    Panicked,
}

/// Runs a worker until its standard input ends. Must be called before any other thread is started.
#[must_use]
pub fn main() -> ExitCode {
    match start() {
        Ok(()) => ExitCode::SUCCESS,
        Err(SessionError::Panicked) => ExitCode::FAILURE,
        Err(error) => {
            let _ = writeln!(io::stderr(), "weft render-worker: {error}");
            ExitCode::FAILURE
        }
    }
}

fn start() -> Result<(), SessionError> {
    // A message may contain text of the document, so only the place is kept.
    panic::set_hook(Box::new(|info| {
        let place = info.location().map(ToString::to_string).unwrap_or_default();
        *PANICKED_AT.lock() = place;
    }));
    sandbox::limit_resources()?;
    let thread = std::thread::Builder::new()
        .stack_size(RENDER_STACK_BYTES)
        .spawn(serve)
        .map_err(SessionError::Thread)?;
    thread.join().unwrap_or(Err(SessionError::Panicked))
}

fn serve() -> Result<(), SessionError> {
    // The first call looks up how the system tells the time, with calls that the sandbox excludes.
    cpu_ms();
    sandbox::restrict_system_calls()?;
    write(&Frame::new(Hello {
        version: protocol::VERSION,
    }))?;
    while let Some(request) = read()? {
        sandbox::allow_time(cpu_ms() / 1_000)?;
        let (answer, parts) = match request {
            Ok(request) => answer(request),
            Err(answer) => (answer, Default::default()),
        };
        let panicked = matches!(
            answer,
            Answer::NotRendered {
                reason: NotRendered::Panicked { .. }
            }
        );
        let header = Reply {
            answer,
            cpu_ms: cpu_ms(),
        };
        write(&Frame { header, parts })?;
        if panicked {
            // The engine's memory may be inconsistent.
            return Err(SessionError::Panicked);
        }
    }
    Ok(())
}

/// Computes the answer, and turns a panic of the engine into one.
fn answer(request: Frame<Task>) -> (Answer, [Bytes; PARTS]) {
    let computed = panic::catch_unwind(AssertUnwindSafe(|| engine::perform(request)));
    let (answer, parts) = computed.unwrap_or_else(|cause| {
        // Dropping a panic's payload may panic.
        std::mem::forget(cause);
        (panicked(), Default::default())
    });
    match parts.iter().map(Bytes::len).max() {
        Some(bytes) if bytes > MAX_RENDERED_BYTES => (Answer::TooLarge { bytes }, Default::default()),
        _ => (answer, parts),
    }
}

fn panicked() -> Answer {
    let place = PANICKED_AT.lock().clone();
    // The directories are those of the machine that compiled the program.
    let place = place
        .rsplit_once("/src/")
        .map_or(place.clone(), |(_, file)| file.to_owned());
    Answer::NotRendered {
        reason: NotRendered::Panicked { place },
    }
}

/// Reads a request. `None`: the input ended between two requests. An answer: the header is not a task, for example because
/// the values of an edit are nested too deeply.
fn read() -> Result<Option<Result<Frame<Task>, Answer>>, FrameError> {
    let mut input = io::stdin().lock();
    let mut prefix = [0; PREFIX_BYTES];
    let mut filled = 0;
    while let Some(rest) = prefix.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match input.read(rest)? {
            0 if filled == 0 => return Ok(None),
            0 => return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
            bytes => filled += bytes,
        }
    }
    let lengths = Lengths::of_request(prefix)?;
    let mut exactly = |length: usize| -> io::Result<Bytes> {
        let mut bytes = Vec::new();
        let wanted = u64::try_from(length).unwrap_or(u64::MAX);
        input.by_ref().take(wanted).read_to_end(&mut bytes)?;
        if bytes.len() == length {
            Ok(bytes.into())
        } else {
            Err(io::ErrorKind::UnexpectedEof.into())
        }
    };
    let header = exactly(lengths.header)?;
    let [first, second, third] = lengths.parts;
    let parts = [exactly(first)?, exactly(second)?, exactly(third)?];
    let task = serde_json::from_slice(&header).map(|header| Frame { header, parts });
    Ok(Some(task.map_err(|error| Answer::Refused {
        change: 0,
        error: PlaceError::Invalid {
            message: format!("the changes can't be read: {error}"),
        },
    })))
}

fn write<H: Serialize>(frame: &Frame<H>) -> Result<(), FrameError> {
    let mut output = io::stdout().lock();
    output.write_all(&protocol::head(frame)?)?;
    for part in &frame.parts {
        output.write_all(part)?;
    }
    output.flush()?;
    Ok(())
}

/// Processor time of the process since its start.
fn cpu_ms() -> u64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    let (seconds, nanoseconds) = (time.tv_sec.unsigned_abs(), time.tv_nsec.unsigned_abs());
    seconds * 1_000 + nanoseconds / 1_000_000
}
