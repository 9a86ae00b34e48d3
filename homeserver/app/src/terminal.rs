//! Input and output of commands on the terminal. Must not be used by the running server, which logs instead.

use std::io::{BufRead as _, IsTerminal as _, Write as _};

/// Prints a line to standard output.
pub(crate) fn print(line: &str) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}")?;
    out.flush()
}

/// Prints a line to standard error. A failure is ignored: there is nowhere to report it.
pub(crate) fn print_error(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// Reads one line of standard input, without the line terminator.
pub(crate) fn read_line() -> std::io::Result<String> {
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line)?;
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}

/// Whether standard input is a terminal, so that a user can be prompted.
pub(crate) fn is_interactive() -> bool {
    std::io::stdin().is_terminal()
}
