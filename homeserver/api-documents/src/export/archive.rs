//! A zip archive of a document (`spec/docs/archive.md`): its content in all forms, attachments, members, the versions that have
//! a name, and the signed log for those who may export it. What is left out is listed in the manifest.
//!
//! Attachments and the log are streams: must not hold them in memory.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    time::Duration,
};

use axum::body::Body;
use bytes::Bytes;
use futures_util::TryStreamExt as _;
use ruma::{OwnedServerName, OwnedUserId};
use serde_json::{Value, json};
use tokio::time::timeout;
use weft_budget::KeyedShare;
use weft_http::errors::ApiResult;
use weft_media::{Found, Wait};
use weft_render::Format;
use weft_room_read::{Direction, TimelineEvent, Types};
use weft_wire::{
    archive::{
        ARCHIVE_FORMAT, ATTACHMENTS, AUDIT_LOG, ArchivedFile, CONTENT, MANIFEST, MEMBERS, Manifest, Skipped, VERSIONS,
    },
    audit::AUDIT_RIGHT,
    errcode,
    limits::{ARCHIVE_ATTACHMENT_SECONDS, MAX_ARCHIVE_ATTACHMENT_BYTES, MAX_ARCHIVE_ATTACHMENTS, MAX_HISTORY_EVENTS},
    mxc,
};

use super::{Content, stream::ZipStream};
use crate::{audit, caller::Open, history::version_of, members};

/// Events that are read at a time.
const EVENTS_AT_ONCE: usize = 200;

/// The forms of the content. In HTML and Markdown attachments have their names in the archive.
const FORMS: [(&str, Format, bool); 4] = [
    ("content.json", Format::Json, false),
    ("content.txt", Format::Text, false),
    ("content.md", Format::Markdown, true),
    ("content.html", Format::Html, true),
];

/// An archive that is being made.
struct Archive {
    content: Content,
    manifest: Manifest,
    /// The forms of the content that could be rendered.
    forms: BTreeMap<&'static str, Bytes>,
    versions: Vec<Value>,
    members: Bytes,
    log: Option<audit::Export>,
    /// The `mxc` URIs of attachments, and whether the content names them; those come first.
    named: Vec<(String, bool)>,
}

/// The archive as the body of an answer. `is_present`: the content is not that of an earlier point.
///
/// # Errors
/// When the store or all render workers fail. What fails later ends the body early.
pub(super) async fn of(
    content: Content,
    opened: Open,
    is_present: bool,
    share: Option<KeyedShare<OwnedUserId>>,
) -> ApiResult<Body> {
    let archive = Archive::prepared(content, &opened, is_present).await?;
    let (zip, body) = ZipStream::start();
    tokio::spawn(async move {
        let _share = share;
        let document = archive.manifest.document.doc_id.clone();
        if let Err(error) = archive.written(zip).await {
            tracing::debug!(%document, %error, "an archive was not completed");
        }
    });
    Ok(body)
}

impl Archive {
    async fn prepared(content: Content, opened: &Open, is_present: bool) -> ApiResult<Self> {
        let members = members::all(&opened.state);
        let position = content.ports.rooms.reader().last_position(&opened.room).await?;
        let mut archive = Self {
            manifest: Manifest {
                weft_archive: ARCHIVE_FORMAT,
                server: Some(content.ports.media.server_name().to_owned()),
                document: content.document.clone(),
                position,
                messages: 0,
                members: u64::try_from(members.members.len()).unwrap_or(u64::MAX),
                attachments: Vec::new(),
                skipped: Vec::new(),
            },
            content,
            forms: BTreeMap::new(),
            versions: Vec::new(),
            members: pretty(&members),
            log: None,
            named: Vec::new(),
        };
        archive.render().await?;
        let in_messages = archive.read_messages().await?;
        archive.name(in_messages);
        archive.begin_log(opened, is_present).await?;
        Ok(archive)
    }

    fn skip(&mut self, file: &str, reason: impl Into<String>) {
        self.manifest.skipped.push(Skipped {
            file: file.to_owned(),
            reason: reason.into(),
        });
    }

    /// Renders the content. A document that can't be rendered has an archive all the same.
    async fn render(&mut self) -> ApiResult<()> {
        for (name, format, _) in FORMS {
            let rendered = match format {
                Format::Html => self.content.page().await,
                format => self.content.rendered(format).await,
            };
            match rendered {
                Ok(rendered) => drop(self.forms.insert(name, rendered)),
                Err(error) if error.errcode() == errcode::NOT_RENDERED => self.skip(name, error.message()),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Reads the versions with a name, and the number of messages. Returns the files that messages name.
    async fn read_messages(&mut self) -> ApiResult<BTreeSet<String>> {
        let (reader, room) = (
            self.content.ports.rooms.reader().clone(),
            self.manifest.document.doc_id.clone(),
        );
        let (mut named, mut before, mut read) = (BTreeSet::new(), None, 0);
        loop {
            let page = reader.timeline(
                &room,
                before,
                Direction::Backward,
                Types::WithoutUpdates,
                EVENTS_AT_ONCE,
            );
            let page = page.await?;
            read += page.events.len();
            let events: Vec<TimelineEvent> = match self.content.is_operator {
                true => page.events,
                false => reader.visible_to_user(&room, &self.content.user, page.events).await?,
            };
            for event in &events {
                self.versions
                    .extend(version_of(&event.pdu).map(|version| json!(version)));
                if event.pdu.kind() != "m.room.member" {
                    named.extend(mxc::uris(event.pdu.json()).map(str::to_owned));
                }
                self.manifest.messages += u64::from(event.pdu.kind() == "m.room.message");
            }
            before = page.next;
            let is_enough = read >= MAX_HISTORY_EVENTS && !self.content.is_operator;
            if before.is_none() || is_enough {
                return Ok(named);
            }
        }
    }

    /// Lists the attachments: those of the content in their order, then those of messages.
    fn name(&mut self, mut in_messages: BTreeSet<String>) {
        let json = self.forms.get("content.json").cloned().unwrap_or_default();
        let json = String::from_utf8_lossy(&json);
        let mut seen = BTreeSet::new();
        for uri in mxc::uris(&json).filter(|uri| seen.insert(*uri)) {
            in_messages.remove(uri);
            self.named.push((uri.to_owned(), true));
        }
        self.named.extend(in_messages.into_iter().map(|uri| (uri, false)));
        if self.content.is_operator || self.named.len() <= MAX_ARCHIVE_ATTACHMENTS {
            return;
        }
        for (uri, _) in self.named.split_off(MAX_ARCHIVE_ATTACHMENTS) {
            self.skip(
                &uri,
                format!("an archive has at most {MAX_ARCHIVE_ATTACHMENTS} attachments"),
            );
        }
    }

    async fn begin_log(&mut self, opened: &Open, is_present: bool) -> ApiResult<()> {
        let user = match self.content.is_operator {
            true => None,
            false => Some(self.content.user.clone()),
        };
        let may_audit = user
            .as_ref()
            .is_none_or(|user| opened.state.can_send_state(user, AUDIT_RIGHT));
        if !is_present {
            self.skip(AUDIT_LOG, "the content is that of an earlier point");
        } else if !may_audit {
            self.skip(AUDIT_LOG, "your role does not allow you to export the signed log");
        } else {
            self.log = Some(audit::begin(&self.content.ports, opened, user.as_deref(), None).await?);
        }
        Ok(())
    }

    async fn written(mut self, zip: ZipStream) -> io::Result<()> {
        zip.whole(CONTENT, self.content.state.clone()).await?;
        zip.whole(VERSIONS, pretty(&self.versions)).await?;
        zip.whole(MEMBERS, self.members.clone()).await?;
        self.write_attachments(&zip).await?;
        let names: BTreeMap<&str, &str> = self
            .manifest
            .attachments
            .iter()
            .map(|file| (&*file.uri, &*file.file))
            .collect();
        for (name, _, links) in FORMS {
            let Some(form) = self.forms.remove(name) else { continue };
            let form = match links {
                true => linked(&form, &names),
                false => form,
            };
            zip.whole(name, form).await?;
        }
        if let Some(mut log) = self.log.take() {
            zip.file(AUDIT_LOG, true).await?;
            while let Some((part, next)) = log.part().await? {
                zip.bytes(part).await?;
                log = next;
            }
        }
        zip.whole(MANIFEST, pretty(&self.manifest)).await?;
        zip.end().await
    }

    async fn write_attachments(&mut self, zip: &ZipStream) -> io::Result<()> {
        let mut left = match self.content.is_operator {
            true => u64::MAX,
            false => MAX_ARCHIVE_ATTACHMENT_BYTES,
        };
        for (uri, in_content) in std::mem::take(&mut self.named) {
            let found = match self.find(&uri).await {
                Ok(found) => found,
                Err(reason) => {
                    self.skip(&uri, reason);
                    continue;
                }
            };
            if found.size > left {
                self.skip(&uri, "the attachments are too large for an archive");
                continue;
            }
            left -= found.size;
            let file = self.file_name(&uri, &found);
            let content = self.content.ports.media.read(&found, 0..found.size).await;
            let mut content = content.map_err(io::Error::other)?;
            zip.file(&file, !found.content_type.starts_with("image/")).await?;
            while let Some(part) = content.try_next().await.map_err(io::Error::other)? {
                zip.bytes(part).await?;
            }
            self.manifest.attachments.push(ArchivedFile {
                uri,
                file,
                content_type: found.content_type,
                name: found.name,
                size: found.size,
                in_content,
            });
        }
        Ok(())
    }

    /// A file, or why it is not there.
    async fn find(&self, uri: &str) -> Result<Found, String> {
        let server = mxc::parts(uri).and_then(|(server, id)| Some((OwnedServerName::try_from(server).ok()?, id)));
        let Some((server, id)) = server else {
            return Err("the address is not valid".to_owned());
        };
        let wait = Wait {
            at_most: Duration::ZERO,
            fetch: true,
        };
        let found = self.content.ports.media.find(&self.content.user, &server, id, wait);
        match timeout(Duration::from_secs(ARCHIVE_ATTACHMENT_SECONDS), found).await {
            Ok(found) => found.map_err(|error| error.to_string()),
            Err(_) => Err(format!(
                "{server} did not send it in {ARCHIVE_ATTACHMENT_SECONDS} seconds"
            )),
        }
    }

    /// The name of an attachment: its number, so that no two are equal, its id, and an ending that programs know.
    fn file_name(&self, uri: &str, found: &Found) -> String {
        let id = mxc::parts(uri).map_or("", |(_, id)| id);
        let number = self.manifest.attachments.len().saturating_add(1);
        let ending = match &*found.content_type {
            "image/png" => ".png",
            "image/jpeg" => ".jpg",
            "image/gif" => ".gif",
            "image/webp" => ".webp",
            "application/pdf" => ".pdf",
            _ => "",
        };
        format!("{ATTACHMENTS}{number}-{id}{ending}")
    }
}

/// A form of the content with links to the files of the archive.
fn linked(form: &Bytes, names: &BTreeMap<&str, &str>) -> Bytes {
    let form = String::from_utf8_lossy(form);
    let linked = mxc::replaced(&form, |uri| names.get(uri).map(|name| (*name).to_owned()));
    linked.into_owned().into()
}

/// JSON for people. Values of these types can always be written.
fn pretty(value: &impl serde::Serialize) -> Bytes {
    serde_json::to_vec_pretty(value).unwrap_or_default().into()
}
