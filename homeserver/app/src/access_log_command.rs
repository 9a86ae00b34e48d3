//! `weft access-log`: prints who read which document, with or without a running server. Must not change the files.

use std::io;

use crate::access_log::{Entry, folder, read};
use crate::cli::AccessLogArguments;
use crate::config::{self, LoadError};
use crate::terminal;

/// The reason why the command failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AccessLogError {
    #[error(transparent)]
    Config(#[from] LoadError),
    #[error("the access log cannot be read: {0}")]
    Read(#[from] io::Error),
}

/// Prints the lines that match, oldest first, as they are in the files.
pub(crate) fn run(arguments: &AccessLogArguments) -> Result<(), AccessLogError> {
    let config = config::load(arguments.config.path.as_deref(), &config::variables())?;
    let is_wanted = |entry: &Entry| {
        let of_document = arguments.document.as_ref().is_none_or(|id| *id == entry.document);
        let of_user = arguments.user.as_ref().is_none_or(|id| *id == entry.user);
        // A line about lost ones may be about anything.
        entry.lost > 0 || (of_document && of_user)
    };
    read(&folder(&config.data_dir), |entry| {
        if is_wanted(entry) {
            terminal::print(&serde_json::to_string(entry)?)?;
        }
        Ok(())
    })?;
    Ok(())
}
