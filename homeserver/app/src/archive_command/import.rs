//! `weft import`: a document for each archive. Attachments and the signed log are uploaded as files of the account first, then
//! the document is created with its content. Files that an interrupted run uploaded are recognised, because their ids follow from
//! their content. Must not create a document before all its files are on disk.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::{Body, Client, StatusCode};
use ruma::OwnedUserId;
use weft_gateway::documents::archive::{ArchiveFile, chunks};
use weft_gateway::documents::operator::{ArchiveImported, ImportArchive, Outcome, Uploaded};
use weft_wire::archive::{AUDIT_LOG, CONTENT, Manifest};
use weft_wire::limits::MAX_DOCUMENT_BYTES;

use super::{ArchiveCommandError, at, in_archive, print};
use crate::operator_client::{OperatorError, answer, encoded, url};
use crate::terminal;

/// An archive that is imported.
struct Import<'a> {
    client: &'a Client,
    user: &'a OwnedUserId,
    path: &'a Path,
    archive: Arc<ArchiveFile>,
}

/// See the module.
pub(super) async fn run(client: &Client, user: &OwnedUserId, from: &Path) -> Result<(), ArchiveCommandError> {
    let paths = archives(from)?;
    let (all, mut failed) = (paths.len(), 0);
    for (index, path) in paths.iter().enumerate() {
        match import(client, user, path).await {
            Ok(line) => print(&format!("{} of {all}\t{line}", index + 1))?,
            Err(error) => {
                failed += 1;
                terminal::print_error(&format!("{} of {all}\t{error}", index + 1));
            }
        }
    }
    match failed {
        0 => Ok(()),
        failed => Err(ArchiveCommandError::Some { failed, all }),
    }
}

/// The archives in a folder, or the one file.
fn archives(from: &Path) -> Result<Vec<PathBuf>, ArchiveCommandError> {
    if !from.is_dir() {
        return Ok(vec![from.to_owned()]);
    }
    let mut paths = Vec::new();
    for entry in fs::read_dir(from).map_err(at(from))? {
        let path = entry.map_err(at(from))?.path();
        if path.extension().is_some_and(|end| end == "zip") {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

/// Imports an archive. Returns a line about it.
async fn import(client: &Client, user: &OwnedUserId, path: &Path) -> Result<String, ArchiveCommandError> {
    let archive = ArchiveFile::of_file(File::open(path).map_err(at(path))?);
    let import = Import {
        client,
        user,
        path,
        archive: Arc::new(archive.map_err(in_archive(path))?),
    };
    let manifest = import.archive.manifest().map_err(in_archive(path))?;
    if manifest.server.is_none() {
        return Err(ArchiveCommandError::NoServer { path: path.to_owned() });
    }
    let source = manifest.document.doc_id.clone();
    let request = ImportArchive {
        user: user.clone(),
        manifest: manifest.clone(),
        content: None,
        addresses: BTreeMap::new(),
        log: None,
    };
    let known = import.send(&request).await?;
    let imported = match known.outcome {
        Outcome::Missing => import.send(&import.complete(manifest).await?).await?,
        _ => known,
    };
    Ok(format!("{source}\t{}", described(&imported)))
}

fn described(imported: &ArchiveImported) -> String {
    let document = imported.doc_id.as_ref().map(ToString::to_string).unwrap_or_default();
    let lost = imported.lost.iter().map(|lost| format!("{} {}", lost.count, lost.kind));
    let lost = lost.collect::<Vec<_>>().join(", ");
    match imported.outcome {
        Outcome::StillHere => "is still on this server".to_owned(),
        Outcome::ImportedBefore => format!("was imported before as {document}"),
        Outcome::Created | Outcome::Missing => format!("imported as {document}; not in it: {lost}"),
    }
}

impl Import<'_> {
    async fn send(&self, request: &ImportArchive) -> Result<ArchiveImported, ArchiveCommandError> {
        Ok(answer(self.client.post(url("imports")).json(request)).await?)
    }

    /// The request with the content, after everything else is uploaded.
    async fn complete(&self, mut manifest: Manifest) -> Result<ImportArchive, ArchiveCommandError> {
        let mut addresses = BTreeMap::new();
        for file in std::mem::take(&mut manifest.attachments) {
            let uploaded = match file.in_content {
                true => {
                    self.upload(&file.file, &file.content_type, file.name.as_deref())
                        .await?
                }
                false => None,
            };
            match uploaded {
                Some(uri) => drop(addresses.insert(file.uri, uri)),
                None => manifest.attachments.push(file),
            }
        }
        let log = match self.archive.names().any(|name| name == AUDIT_LOG) {
            true => self.upload(AUDIT_LOG, "application/jsonl", Some(AUDIT_LOG)).await?,
            false => None,
        };
        if log.is_none() {
            terminal::print_error(&format!(
                "{}: the signed log is not kept on this server",
                self.path.display()
            ));
        }
        let content = self
            .archive
            .read(CONTENT, MAX_DOCUMENT_BYTES)
            .map_err(in_archive(self.path))?;
        Ok(ImportArchive {
            user: self.user.clone(),
            manifest,
            content: Some(STANDARD.encode(content)),
            addresses,
            log,
        })
    }

    /// Uploads a file of the archive. Returns its `mxc` URI; `None` if the server does not accept it.
    async fn upload(&self, file: &str, kind: &str, name: Option<&str>) -> Result<Option<String>, ArchiveCommandError> {
        let (archive, of_thread) = (Arc::clone(&self.archive), file.to_owned());
        let (mut writer, stream) = chunks();
        let copied = tokio::task::spawn_blocking(move || {
            archive.copy(&of_thread, u64::MAX - 1, &mut writer)?;
            // A server that refused the file does not read to its end.
            let _ = writer.end();
            Ok(())
        });
        let name = name.map(|name| format!("&name={}", encoded(name))).unwrap_or_default();
        let request = self
            .client
            .post(url(&format!("media?user={}{name}", encoded(self.user.as_str()))));
        let request = request
            .header(reqwest::header::CONTENT_TYPE, kind)
            .body(Body::wrap_stream(stream));
        let uploaded = answer::<Uploaded>(request).await;
        let copied = copied.await.map_err(std::io::Error::other).map_err(at(self.path))?;
        match uploaded {
            Ok(uploaded) => Ok(Some(uploaded.content_uri)),
            Err(OperatorError::Refused { status, message })
                if [StatusCode::PAYLOAD_TOO_LARGE, StatusCode::FORBIDDEN].contains(&status) =>
            {
                terminal::print_error(&format!("{}: {file}: {message}", self.path.display()));
                Ok(None)
            }
            Err(error) => {
                // A damaged archive is the cause rather than the request that it ended.
                copied.map_err(in_archive(self.path))?;
                Err(error.into())
            }
        }
    }
}
