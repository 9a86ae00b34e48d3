//! Becomes pandoc, after it has limited itself: memory, processor time, written files, and no network. Limits and the filter
//! of system calls outlast the change of the program.
//!
//! Must not read the file that is converted.

use std::io::{self, Write as _};
use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitCode};

use weft_render::{Direction, PANDOC_MISSING};

use crate::sandbox;

/// Replaces this process by pandoc. Returns only if that fails.
#[must_use]
pub fn main(direction: &str) -> ExitCode {
    let Some(direction) = Direction::from_name(direction) else {
        return ExitCode::FAILURE;
    };
    if let Err(error) = sandbox::limit_converter() {
        let _ = writeln!(io::stderr(), "weft convert-worker: {error}");
        return ExitCode::FAILURE;
    }
    let arguments: &[&str] = match direction {
        // What a file names is neither opened nor fetched.
        Direction::DocxToHtml => &["--sandbox", "--from=docx", "--to=html"],
        // Pandoc's own files, of which it makes a DOCX, are outside of its sandbox.
        Direction::HtmlToDocx => &["--from=html", "--to=docx", "--output=-"],
    };
    let error = Command::new("pandoc")
        .args(arguments)
        .env("PATH", "/usr/local/bin:/usr/bin:/bin")
        .env("LC_ALL", "C.UTF-8")
        .exec();
    match error.kind() {
        io::ErrorKind::NotFound => ExitCode::from(PANDOC_MISSING),
        _ => ExitCode::FAILURE,
    }
}
