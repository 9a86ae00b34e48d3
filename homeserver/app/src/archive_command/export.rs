//! `weft export`: an archive of each document. An archive gets its name when it is complete and on disk, so a file with that
//! name is whole. Must not write a document that has not changed since its archive.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::Client;
use weft_gateway::documents::archive::ArchiveFile;
use weft_gateway::documents::operator::{DocumentPage, ListedDocument};

use super::{ArchiveCommandError, at, print};
use crate::config::Config;
use crate::operator_client::{OperatorError, answer, encoded, sent, url};
use crate::terminal;

/// Characters of a document's id that are not in the name of its file.
const NOT_IN_NAMES: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'!');

/// See the module.
pub(super) async fn run(client: &Client, config: &Config, folder: &Path) -> Result<(), ArchiveCommandError> {
    fs::create_dir_all(folder).map_err(at(folder))?;
    let (mut all, mut unchanged, mut failed, mut bytes) = (0, 0, 0, 0);
    let mut after = String::new();
    loop {
        let page: DocumentPage = answer(client.get(url(&format!("documents{after}")))).await?;
        for document in &page.documents {
            all += 1;
            let name = utf8_percent_encode(document.doc_id.as_str(), NOT_IN_NAMES);
            let path = folder.join(format!("{name}.zip"));
            if is_unchanged(config, document, &path) {
                unchanged += 1;
                continue;
            }
            match write(client, document, &path).await {
                Ok(size) => {
                    bytes += size;
                    print(&format!("{all}\t{}\t{size} bytes", document.doc_id))?;
                }
                Err(error) => {
                    failed += 1;
                    terminal::print_error(&format!("{}: {error}", document.doc_id));
                }
            }
        }
        let Some(next) = page.next else { break };
        after = format!("?after={}", encoded(next.as_str()));
    }
    let written = all - unchanged - failed;
    print(&format!(
        "{all} documents: {written} exported ({bytes} bytes), {unchanged} unchanged, {failed} failed"
    ))?;
    match failed {
        0 => Ok(()),
        failed => Err(ArchiveCommandError::Some { failed, all }),
    }
}

/// Whether there is an archive of the document as it is now.
fn is_unchanged(config: &Config, document: &ListedDocument, path: &Path) -> bool {
    let Ok(file) = File::open(path) else { return false };
    let Ok(manifest) = ArchiveFile::of_file(file).and_then(|archive| archive.manifest()) else {
        return false;
    };
    manifest.server.as_ref() == Some(&config.server_name)
        && manifest.document.doc_id == document.doc_id
        && (manifest.position, manifest.document.version) == (document.position, document.version)
        // What another server did not send may be there now.
        && !manifest.skipped.iter().any(|skipped| skipped.file.starts_with("mxc://"))
}

/// Writes an archive. Returns its size.
async fn write(client: &Client, document: &ListedDocument, path: &Path) -> Result<u64, ArchiveCommandError> {
    let path_of_archive = format!("documents/{}/archive", encoded(document.doc_id.as_str()));
    let mut archive = sent(client.get(url(&path_of_archive))).await?;
    let unfinished: PathBuf = path.with_extension("part");
    let mut file = File::create(&unfinished).map_err(at(&unfinished))?;
    let mut size = 0_u64;
    while let Some(part) = archive.chunk().await.map_err(OperatorError::from)? {
        file.write_all(&part).map_err(at(&unfinished))?;
        size = size.saturating_add(u64::try_from(part.len()).unwrap_or(u64::MAX));
    }
    file.sync_all().map_err(at(&unfinished))?;
    fs::rename(&unfinished, path).map_err(at(path))?;
    if let Some(folder) = path.parent() {
        File::open(folder)
            .and_then(|folder| folder.sync_all())
            .map_err(at(folder))?;
    }
    Ok(size)
}
