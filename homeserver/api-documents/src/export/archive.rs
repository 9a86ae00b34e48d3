//! A zip archive of a document: its content in all forms, the versions that have a name, and the signed log for those who may
//! export it. What is left out is listed in the archive.
//!
//! Must not hold more than [`MAX_ARCHIVE_LOG_BYTES`] of the log.

use std::io::Write as _;

use bytes::Bytes;
use flate2::{Compression, write::DeflateEncoder};
use rawzip::{CompressionMethod, Error, ZipArchiveWriter};
use ruma::UserId;
use serde_json::{Value, json};
use weft_http::errors::ApiResult;
use weft_render::Format;
use weft_room_read::{Direction, Types};
use weft_wire::limits::{MAX_ARCHIVE_LOG_BYTES, MAX_HISTORY_EVENTS};

use super::{Content, broken, may_audit};
use crate::{audit, caller::Open, history::version_of};

/// Events that are read at a time.
const EVENTS_AT_ONCE: usize = 200;

#[derive(Default)]
struct Archive {
    files: Vec<(&'static str, Bytes)>,
    skipped: Vec<Value>,
}

impl Archive {
    fn add(&mut self, name: &'static str, content: impl Into<Bytes>) {
        self.files.push((name, content.into()));
    }

    fn skip(&mut self, name: &str, reason: &str) {
        self.skipped.push(json!({"file": name, "reason": reason}));
    }

    fn written(self) -> Result<Vec<u8>, Error> {
        let mut bytes = Vec::new();
        let mut archive = ZipArchiveWriter::new(&mut bytes);
        for (name, content) in self.files {
            let (mut entry, config) = archive
                .new_file(name)
                .compression_method(CompressionMethod::DEFLATE)
                .start()?;
            let mut file = config.wrap(DeflateEncoder::new(&mut entry, Compression::default()));
            file.write_all(&content)?;
            let (encoder, descriptor) = file.finish()?;
            encoder.finish()?;
            entry.finish(descriptor)?;
        }
        archive.finish()?;
        Ok(bytes)
    }
}

/// The archive. `is_present`: the content is not that of an earlier point.
pub(super) async fn of(content: &Content<'_>, opened: &Open, user: &UserId, is_present: bool) -> ApiResult<Bytes> {
    let mut archive = Archive::default();
    for (name, format) in [
        ("content.txt", Format::Text),
        ("content.md", Format::Markdown),
        ("content.json", Format::Json),
    ] {
        archive.add(name, content.rendered(format).await?);
    }
    archive.add("content.html", content.page().await?);
    archive.add("content.yjs", content.state.clone());
    let versions = versions(content, user).await?;
    archive.add(
        "versions.json",
        serde_json::to_vec_pretty(&versions).unwrap_or_default(),
    );
    match log(content, opened, user, is_present).await? {
        Ok(log) => archive.add("audit.jsonl", log),
        Err(reason) => archive.skip("audit.jsonl", reason),
    }
    archive.skip("attachments", "attachments are not exported yet");
    let manifest = json!({"document": content.document, "skipped": archive.skipped});
    archive.add(
        "manifest.json",
        serde_json::to_vec_pretty(&manifest).unwrap_or_default(),
    );
    // Compressing megabytes would delay the other tasks of this thread.
    let written = tokio::task::spawn_blocking(|| archive.written()).await;
    let written = written.map_err(|error| broken(&error))?;
    Ok(written.map_err(|error| broken(&error))?.into())
}

/// The versions with a name that the caller may see, newest first.
async fn versions(content: &Content<'_>, user: &UserId) -> ApiResult<Vec<Value>> {
    let (reader, room) = (content.ports.rooms.reader(), &content.document.doc_id);
    let (mut found, mut before, mut read) = (Vec::new(), None, 0);
    loop {
        let page = reader.timeline(room, before, Direction::Backward, Types::WithoutUpdates, EVENTS_AT_ONCE);
        let page = page.await?;
        read += page.events.len();
        let events = reader.visible_to_user(room, user, page.events).await?;
        let versions = events.iter().filter_map(|event| version_of(&event.pdu));
        found.extend(versions.map(|version| json!(version)));
        before = page.next;
        if before.is_none() || read >= MAX_HISTORY_EVENTS {
            return Ok(found);
        }
    }
}

/// The signed log, or why it is not in the archive.
async fn log(
    content: &Content<'_>,
    opened: &Open,
    user: &UserId,
    is_present: bool,
) -> ApiResult<Result<Vec<u8>, &'static str>> {
    if !is_present {
        return Ok(Err("the content is that of an earlier point"));
    }
    if !may_audit(opened, user) {
        return Ok(Err("your role does not allow you to export the signed log"));
    }
    let mut export = audit::begin(content.ports, opened, user, None).await?;
    let mut log = Vec::new();
    while let Some((part, next)) = export.part().await.map_err(|error| broken(&error))? {
        log.extend_from_slice(&part);
        if log.len() > MAX_ARCHIVE_LOG_BYTES {
            return Ok(Err("the signed log is too large for an archive; export it by itself"));
        }
        export = next;
    }
    Ok(Ok(log))
}
