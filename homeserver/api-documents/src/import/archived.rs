//! The archive of a document as a new one: its content is written anew by one edit, its attachments become files of the user.
//! History, members and messages stay in the archive, and are listed as lost.
//!
//! Must not take a size or a name from the archive without a limit.

use std::collections::BTreeMap;

use axum::http::StatusCode;
use bytes::Bytes;
use ruma::UserId;
use tokio::task::spawn_blocking;
use weft_http::errors::{ApiError, ApiResult};
use weft_media::Declared;
use weft_wire::{
    archive::{ArchivedFile, CONTENT, Manifest},
    errcode,
    limits::{MAX_ARCHIVE_ATTACHMENTS, MAX_IMPORT_BYTES},
    rest::Lost,
};

use super::{Target, anew, upload::upload};
use crate::{
    DocumentPorts,
    archive::{ArchiveError, ArchiveReader},
    creation::EMPTY_UPDATE,
};

/// Bytes of all files of an archive that are read. Content that was edited for long is mostly deleted text, and small when
/// compressed.
const READ_BYTES: usize = 8 * MAX_IMPORT_BYTES;

/// An archive in memory.
pub(super) struct Archived {
    pub(super) manifest: Manifest,
    content: Bytes,
    /// The attachments that the content names.
    files: Vec<(ArchivedFile, Vec<u8>)>,
}

/// Reads an archive.
///
/// # Errors
/// 422 if it is none, 413 if it is too large.
pub(super) async fn read(file: Bytes) -> ApiResult<Archived> {
    let read = spawn_blocking(move || opened(file)).await;
    let read = read.map_err(|error| ApiError::internal("reading an archive", &error))?;
    read.map_err(|error| match error {
        ArchiveError::TooLarge { .. } => ApiError::too_large(format!("The import failed: {error}.")),
        error => ApiError::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            errcode::NOT_RENDERED,
            format!("The import failed: {error}."),
        ),
    })
}

fn opened(file: Bytes) -> Result<Archived, ArchiveError> {
    let archive = ArchiveReader::of_bytes(file)?;
    let mut manifest = archive.manifest()?;
    let content = archive.read(CONTENT, READ_BYTES)?;
    let mut left = READ_BYTES.saturating_sub(content.len());
    let mut files = Vec::new();
    for file in std::mem::take(&mut manifest.attachments) {
        if !file.in_content || files.len() >= MAX_ARCHIVE_ATTACHMENTS {
            manifest.attachments.push(file);
            continue;
        }
        let bytes = archive.read(&file.file, left)?;
        left = left.saturating_sub(bytes.len());
        files.push((file, bytes));
    }
    Ok(Archived {
        manifest,
        content: content.into(),
        files,
    })
}

/// The edit that has the content, and what is lost.
pub(super) async fn converted(
    ports: &DocumentPorts,
    user: &UserId,
    archive: Archived,
    target: Target,
) -> ApiResult<(Bytes, Vec<Lost>)> {
    let Archived {
        mut manifest,
        content,
        files,
    } = archive;
    let mut addresses = BTreeMap::new();
    for (file, bytes) in files {
        let declared = Declared::new(Some(&file.content_type), file.name.as_deref());
        match upload(&ports.media, user, declared, &bytes).await? {
            Some(uri) => drop(addresses.insert(file.uri, uri)),
            None => manifest.attachments.push(file),
        }
    }
    let lost = lost(&manifest);
    if content == EMPTY_UPDATE {
        return Ok((EMPTY_UPDATE, lost));
    }
    Ok((anew(ports, target, content, addresses).await?, lost))
}

/// What the new document does not have. The attachments of the manifest are those that were not imported.
pub(crate) fn lost(manifest: &Manifest) -> Vec<Lost> {
    let attachments = manifest.attachments.first();
    let attachment = attachments.map(|file| file.name.clone().unwrap_or_else(|| file.uri.clone()));
    let count = |number: usize| u64::try_from(number).unwrap_or(u64::MAX);
    let skipped = manifest
        .skipped
        .iter()
        .filter(|skipped| skipped.file.starts_with("mxc://"));
    let missing = count(manifest.attachments.len()).saturating_add(count(skipped.count()));
    let lost = [
        ("attachment", missing, attachment),
        ("message", manifest.messages, None),
        ("member", manifest.members.saturating_sub(1), None),
        ("history", 1, None),
    ];
    let lost = lost.into_iter().filter(|(_, count, _)| *count > 0);
    lost.map(|(kind, count, example)| Lost {
        kind: kind.to_owned(),
        count,
        example,
    })
    .collect()
}

/// Reads any bytes as an archive and as an office file.
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn read_any(file: Bytes) {
    if let Ok(archived) = opened(file.clone()) {
        let read = archived.files.iter().map(|(_, bytes)| bytes.len()).sum::<usize>();
        assert!(
            archived.content.len() + read <= READ_BYTES,
            "more was read than is allowed"
        );
        drop(lost(&archived.manifest));
    }
    drop(super::images::pictures(file));
}
