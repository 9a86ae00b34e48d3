//! `GET /documents/{id}/audit`: the signed log of a document as JSON lines (`spec/docs/audit.md`), a page of events at a
//! time.
//!
//! A reader that is too slow is disconnected like any other, and the whole answer has a deadline: it then ends without its
//! last line. Must not hold more than a page, and must not send what the caller may not see.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    sync::Arc,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use axum::{
    body::Body,
    extract::{Query, State, rejection::QueryRejection},
    http::{HeaderValue, header},
    response::{IntoResponse, Response},
};
use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD},
};
use bytes::Bytes;
use futures_util::stream::try_unfold;
use ruma::{EventId, OwnedEventId, OwnedRoomId, OwnedServerName, OwnedUserId, ServerName, UInt, UserId};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use weft_budget::{Budget, KeyedBudget, KeyedShare};
use weft_crdt::Update;
use weft_dag::{KeyValidity, Pdu, RoomVersion, VerifyKeys, redact::redact};
use weft_http::{
    authentication::Authenticated,
    errors::{ApiError, ApiResult},
    openapi::{Operation, Routes},
};
use weft_render::{Format, RenderRequest, Renderer};
use weft_room_api::Clock;
use weft_room_read::{AuditItem, AuditLog, Reader, kind_of};
use weft_wire::{
    audit::{AUDIT_FORMAT, AUDIT_RIGHT, AuditCut, AuditEnd, AuditHeader, AuditKey, AuditKeys, AuditKeysLine},
    document::DocumentKind,
    event_types::WITNESS,
    limits::{AUDIT_EXPORT_SECONDS, MAX_AUDIT_EXPORTS, MAX_AUDIT_EXPORTS_PER_USER},
    schema,
};

use super::{
    DocumentPorts, Read,
    caller::{Named, Open, open},
    failures::may_not,
};

pub(super) fn routes() -> Routes<DocumentPorts> {
    Routes::new("Audit").get(
        "/_weft/client/v1/documents/{id}/audit",
        export,
        Operation::new("exportAuditLog", "The signed log")
            .answers(200, "The log, one JSON value a line.")
            .media("application/jsonl")
            .refuses(403, "Below manager."),
    )
}

/// The keys that are known of a server, without asking it.
#[async_trait]
pub trait KnownKeys: Send + Sync + 'static {
    /// The keys with which it signs and signed; none if it is unknown.
    async fn known_keys(&self, server: &ServerName) -> VerifyKeys;
}

/// Keys in memory.
#[async_trait]
impl KnownKeys for VerifyKeys {
    async fn known_keys(&self, server: &ServerName) -> VerifyKeys {
        self.only([&server.to_owned()])
    }
}

/// What exports need besides the rooms. Cheap to clone.
#[derive(Clone)]
pub struct AuditPorts {
    server_name: OwnedServerName,
    keys: Arc<dyn KnownKeys>,
    clock: Arc<dyn Clock>,
    under_way: Arc<KeyedBudget<OwnedUserId>>,
}

impl AuditPorts {
    /// The exports of this server.
    #[must_use]
    pub fn new(server_name: OwnedServerName, keys: Arc<dyn KnownKeys>, clock: Arc<dyn Clock>) -> Self {
        Self {
            server_name,
            keys,
            clock,
            under_way: KeyedBudget::new("audit_exports", MAX_AUDIT_EXPORTS_PER_USER, MAX_AUDIT_EXPORTS),
        }
    }

    /// The budget of exports under way, for metrics.
    #[must_use]
    pub fn budget(&self) -> &Arc<Budget> {
        self.under_way.total()
    }
}

/// The query of the export.
#[derive(Debug, Deserialize, JsonSchema)]
pub(super) struct Asked {
    /// An event id: only this event and those that arrived after it.
    #[schemars(with = "Option<schema::EventId>")]
    from: Option<String>,
}

/// Answers with the log, for users who may send the state event [`AUDIT_RIGHT`].
async fn export(
    State(ports): State<DocumentPorts>,
    Authenticated(session): Authenticated,
    named: Named,
    asked: Result<Query<Asked>, QueryRejection>,
) -> ApiResult<Response> {
    let Query(asked) = asked.map_err(|error| ApiError::invalid_param(error.body_text()))?;
    let from = asked.from.map(EventId::parse).transpose();
    let from = from.map_err(|_| ApiError::invalid_param("from is an event id."))?;
    let document = open(&ports, &named, &session.user_id).await?;
    let export = begin(&ports, &document, Some(&session.user_id), from).await?;
    let headers = [
        (header::CONTENT_TYPE, "application/jsonl"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::CACHE_CONTROL, "private, no-store"),
    ];
    let mut answer = (headers, Body::from_stream(try_unfold(export, Export::part))).into_response();
    answer.headers_mut().insert(
        header::CONTENT_DISPOSITION,
        HeaderValue::from_static("attachment; filename=\"audit.jsonl\""),
    );
    Ok(answer)
}

/// Begins an export for a user who may make it; without one, for the operator, who sees everything.
///
/// # Errors
/// When the user may not, has too many exports under way, or `from` is unknown.
pub(super) async fn begin(
    ports: &DocumentPorts,
    document: &Open,
    user: Option<&UserId>,
    from: Option<OwnedEventId>,
) -> ApiResult<Export> {
    let share = match user {
        Some(user) => {
            if !document.state.can_send_state(user, AUDIT_RIGHT) {
                return Err(may_not("export the signed log"));
            }
            let share = ports.audit.under_way.try_take(&user.to_owned(), 1)?;
            ports.access.note(user, &document.room, Read::Audit);
            Some(share)
        }
        None => None,
    };
    // Edits that are not signed yet are no part of the log.
    let reader = ports.rooms.reader().clone();
    let log = reader.audit_log(&document.room, from.as_deref()).await?;
    let version = document.state.version().clone();
    let header = AuditHeader {
        weft_audit: AUDIT_FORMAT,
        room_id: document.room.clone(),
        room_version: version.id().clone(),
        exported_at: ports.audit.clock.now(),
        server: ports.audit.server_name.clone(),
        keys: AuditKeys::new(),
        from,
    };
    let mut first = Vec::new();
    write_line(&mut first, &header).map_err(|error| ApiError::internal("the first line of an export", &error))?;
    let export = Export {
        reader,
        renderer: Arc::clone(&ports.renderer),
        kind: kind_of(&document.state),
        room: document.room.clone(),
        version,
        user: user.map(ToOwned::to_owned),
        keys: Arc::clone(&ports.audit.keys),
        log,
        first: Some(first),
        signers: BTreeSet::new(),
        heads: BTreeSet::new(),
        events: 0,
        is_whole: header.from.is_none(),
        is_done: false,
        ends_at: Instant::now() + Duration::from_secs(AUDIT_EXPORT_SECONDS),
        _share: share,
    };
    Ok(export)
}

/// An export under way.
pub(super) struct Export {
    reader: Reader,
    renderer: Arc<dyn Renderer>,
    kind: DocumentKind,
    room: OwnedRoomId,
    version: RoomVersion,
    user: Option<OwnedUserId>,
    keys: Arc<dyn KnownKeys>,
    log: AuditLog,
    first: Option<Vec<u8>>,
    /// Servers whose keys are in the file, or unknown.
    signers: BTreeSet<OwnedServerName>,
    heads: BTreeSet<OwnedEventId>,
    events: u64,
    /// Nothing is cut off.
    is_whole: bool,
    is_done: bool,
    ends_at: Instant,
    _share: Option<KeyedShare<OwnedUserId>>,
}

impl Export {
    /// The next bytes of the answer, and the export after them.
    pub(super) async fn part(mut self) -> io::Result<Option<(Bytes, Self)>> {
        if self.is_done {
            return Ok(None);
        }
        if Instant::now() > self.ends_at {
            return Err(io::Error::new(io::ErrorKind::TimedOut, "the export took too long"));
        }
        let mut bytes = self.first.take().unwrap_or_default();
        match self.log.next().await.map_err(io::Error::other)? {
            Some(items) => self.write_all(&mut bytes, items).await?,
            None => {
                self.is_done = true;
                let end = self.end().await;
                write_line(&mut bytes, &end)?;
            }
        }
        Ok(Some((bytes.into(), self)))
    }

    async fn write_all(&mut self, bytes: &mut Vec<u8>, items: Vec<AuditItem>) -> io::Result<()> {
        let hidden = self.hidden(&items).await?;
        for item in items {
            match item {
                AuditItem::Cut { cut, state } => {
                    self.is_whole = false;
                    write_line(bytes, &AuditCut { cut, state })?;
                }
                AuditItem::Before(pdu) => {
                    self.write_keys(bytes, &pdu).await?;
                    write_event(bytes, &pdu, true)?;
                }
                AuditItem::Event { pdu, .. } => {
                    self.write_keys(bytes, &pdu).await?;
                    self.events += 1;
                    for referenced in pdu.prev_events().iter().chain(pdu.auth_events()) {
                        self.heads.remove(referenced);
                    }
                    self.heads.insert(pdu.event_id().to_owned());
                    if hidden.contains(pdu.event_id()) {
                        let bare = redact(&pdu, &self.version).map_err(io::Error::other)?;
                        write_event(bytes, &bare, false)?;
                    } else {
                        write_event(bytes, &pdu, false)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Events that are exported without their content: messages and updates that the caller may not see by the room's
    /// history visibility. An update may have text that was deleted since; without it, the text can't be judged.
    async fn hidden(&self, items: &[AuditItem]) -> io::Result<BTreeSet<OwnedEventId>> {
        let Some(user) = &self.user else {
            return Ok(BTreeSet::new());
        };
        let messages = items.iter().filter_map(|item| match item {
            AuditItem::Event { pdu, accepted: true } if pdu.state_key().is_none() && pdu.kind() != WITNESS => {
                Some(Arc::clone(pdu))
            }
            _ => None,
        });
        let messages: Vec<Arc<Pdu>> = messages.collect();
        let mut hidden: BTreeSet<OwnedEventId> = messages.iter().map(|pdu| pdu.event_id().to_owned()).collect();
        let visible = self.reader.visible_to_user(&self.room, user, messages).await;
        for pdu in visible.map_err(io::Error::other)? {
            hidden.remove(pdu.event_id());
        }
        Ok(hidden)
    }

    /// Writes the keys of the servers that signed an event, before the first event that each signed.
    async fn write_keys(&mut self, bytes: &mut Vec<u8>, pdu: &Pdu) -> io::Result<()> {
        let mut keys = AuditKeys::new();
        for server in signers(pdu) {
            if !self.signers.insert(server.clone()) {
                continue;
            }
            let known = self.keys.known_keys(&server).await;
            let known: BTreeMap<String, AuditKey> =
                known.iter().map(|(_, id, key)| (id.to_owned(), line(key))).collect();
            if !known.is_empty() {
                keys.insert(server, known);
            }
        }
        if keys.is_empty() {
            return Ok(());
        }
        write_line(bytes, &AuditKeysLine { keys })
    }

    async fn end(&self) -> AuditEnd {
        let heads: Vec<OwnedEventId> = self.heads.iter().cloned().collect();
        let text = match self.is_whole {
            true => self.text(&heads).await,
            false => None,
        };
        let (state_hash, text_hash) = match text {
            Some((hash, text)) => (Some(hash), self.text_hash(text).await),
            None => (None, None),
        };
        AuditEnd {
            heads,
            events: UInt::new_saturating(self.events),
            state_hash,
            text_hash,
        }
    }

    /// The text at the heads with its hash; `None` if this server can't tell: clocks are claimed twice, or history is missing.
    async fn text(&self, heads: &[OwnedEventId]) -> Option<(String, Bytes)> {
        if self.reader.is_disputed(&self.room).await.ok()? {
            return None;
        }
        let text = self.reader.content_at(&self.room, heads).await.ok()?;
        let hash = Update::parse(text.clone()).ok()?.state_hash();
        Some((URL_SAFE_NO_PAD.encode(hash.as_bytes()), text))
    }

    /// The hash of the rendered text; `None` if it can't be rendered, or no worker is free within the wait of the pool.
    async fn text_hash(&self, state: Bytes) -> Option<String> {
        let request = RenderRequest {
            kind: self.kind,
            state,
            format: Format::Json,
        };
        let rendered = self.renderer.render(self.room.as_str(), request).await.ok()?;
        Some(format!("{:?}", rendered.text_hash))
    }
}

/// The servers that must sign an event. Anybody may have added other signatures.
fn signers(pdu: &Pdu) -> Vec<OwnedServerName> {
    #[derive(Deserialize)]
    struct Content {
        join_authorised_via_users_server: Option<OwnedUserId>,
    }
    let mut signers = vec![pdu.sender().server_name().to_owned()];
    if pdu.kind() == "m.room.member"
        && let Ok(content) = pdu.content_as::<Content>()
    {
        let authoriser = content.join_authorised_via_users_server;
        signers.extend(authoriser.map(|user| user.server_name().to_owned()));
    }
    signers
}

fn line(key: &weft_dag::VerifyKey) -> AuditKey {
    let (valid_until, expired) = match key.validity() {
        KeyValidity::ValidUntil(until) => (Some(until), None),
        KeyValidity::ExpiredAt(at) => (None, Some(at)),
    };
    AuditKey {
        key: STANDARD_NO_PAD.encode(key.public()),
        valid_until,
        expired,
    }
}

fn write_line(bytes: &mut Vec<u8>, line: &impl Serialize) -> io::Result<()> {
    serde_json::to_writer(&mut *bytes, line)?;
    bytes.push(b'\n');
    Ok(())
}

/// The event as it is stored: canonical JSON, not read and written again.
fn write_event(bytes: &mut Vec<u8>, pdu: &Pdu, before: bool) -> io::Result<()> {
    bytes.extend_from_slice(b"{\"event_id\":");
    serde_json::to_writer(&mut *bytes, pdu.event_id())?;
    if before {
        bytes.extend_from_slice(b",\"before\":true");
    }
    bytes.extend_from_slice(b",\"pdu\":");
    bytes.extend_from_slice(pdu.json().as_bytes());
    bytes.extend_from_slice(b"}\n");
    Ok(())
}
