//! What the program says to the person who started it. What the server has to say goes to the log instead.

use std::io::{BufRead as _, IsTerminal as _, Write as _};

/// A line on standard output.
pub(crate) fn say(line: &str) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}")?;
    out.flush()
}

/// A line on standard error. Where that is closed, nobody is there to tell.
pub(crate) fn complain(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// One line of standard input, without its end.
pub(crate) fn read_line() -> std::io::Result<String> {
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line)?;
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}

/// Is there a person who can be asked?
pub(crate) fn somebody_is_there() -> bool {
    std::io::stdin().is_terminal()
}
