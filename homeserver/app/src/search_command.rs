//! `weft search-rebuild`: leaves a mark in the folder of the search index, which the server finds, also while it runs. Must not
//! open the index.

use std::fs;
use std::path::{Path, PathBuf};

use weft_search::REBUILD_MARK;

use crate::cli::ConfigFile;
use crate::config;
use crate::failure::Failure;
use crate::terminal;

/// Where the index is.
pub(crate) fn folder(data_dir: &Path) -> PathBuf {
    data_dir.join("search")
}

/// See the module.
pub(crate) fn rebuild(file: &ConfigFile) -> Result<(), Failure> {
    let config = config::load(file.path.as_deref(), &config::variables())?;
    let folder = folder(&config.data_dir);
    fs::create_dir_all(&folder)?;
    fs::write(folder.join(REBUILD_MARK), b"")?;
    terminal::print("the search index is built again by the running server, or at its next start")?;
    Ok(())
}
