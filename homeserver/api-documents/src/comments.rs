//! `/documents/{id}/comments`: comments are threads of Matrix whose first message has an anchor (`spec/docs/comments.md`). Everything can
//! also be done through Matrix endpoints. Must not show what the caller may not see.

mod anchoring;
mod threads;

use std::sync::Arc;

use axum::{
    Json,
    extract::{Query, State, rejection::QueryRejection},
    http::{HeaderMap, StatusCode},
};
use ruma::{EventId, OwnedEventId, OwnedRoomId, OwnedUserId, RoomId, UserId};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use weft_dag::Pdu;
use weft_http::{
    authentication::Authenticated,
    errors::{ApiError, ApiResult},
    openapi::{Operation, Routes},
    path::InPath,
};
use weft_render::Unit;
use weft_room_api::NewEvent;
use weft_wire::{
    event_types,
    limits::{MAX_COMMENTS_PER_PAGE, MAX_MENTIONS},
    resolution::{Outcome, ResolutionContent},
    rest::{Comment, CommentList, CommentResolved, CommentThread, SendReply},
    schema,
};

use self::{
    anchoring::NewAnchor,
    threads::{Found, Root},
};
use super::{
    DocumentPorts, Read,
    caller::{Named, joined},
    chat::transaction,
    pages::{self, Extent, Sought},
    request::{JsonBody, idempotency_key, with_idempotency_key},
    resolutions::{self, named},
};

pub(super) use self::threads::{Reading, is_answer};

/// Comments or replies of a page if the request does not say.
const ENTRIES: usize = 50;
const BASE: &str = "/_weft/client/v1/documents/{id}/comments";

pub(super) fn routes() -> Routes<DocumentPorts> {
    Routes::new("Comments")
        .post(
            BASE,
            create,
            with_idempotency_key(
                Operation::new("createComment", "Comments on a place in the text, or on the document")
                    .refuses(403, "Below commenter.")
                    .refuses(409, "This server does not know the text at that version.")
                    .refuses(422, "The document can't be rendered on this server."),
            ),
        )
        .get(BASE, list, Operation::new("listComments", "Comments, the newest first"))
        .get(
            &format!("{BASE}/{{event}}"),
            show,
            Operation::new("getComment", "A thread: the comment and its replies")
                .path::<schema::EventId>("event", "The comment, or a suggestion."),
        )
        .post(
            &format!("{BASE}/{{event}}/replies"),
            reply,
            with_idempotency_key(
                Operation::new("replyToComment", "Replies in a thread")
                    .path::<schema::EventId>("event", "The comment, or a suggestion.")
                    .refuses(403, "Below commenter."),
            ),
        )
        .post(
            &format!("{BASE}/{{event}}/resolve"),
            resolve,
            Operation::new("resolveComment", "Resolves a comment")
                .path::<schema::EventId>("event", "The comment.")
                .refuses(403, "Below commenter."),
        )
        .post(
            &format!("{BASE}/{{event}}/reopen"),
            reopen,
            Operation::new("reopenComment", "Opens a resolved comment again")
                .path::<schema::EventId>("event", "The comment.")
                .refuses(403, "Below commenter."),
        )
}

/// The body of `POST /documents/{id}/comments`.
#[derive(Debug, Deserialize, JsonSchema)]
struct NewComment {
    /// Plain text, not empty.
    #[schemars(length(min = 1))]
    body: String,
    /// Users who are notified.
    #[serde(default)]
    #[schemars(with = "Vec<schema::UserId>", length(max = MAX_MENTIONS))]
    mentions: Vec<OwnedUserId>,
    #[serde(flatten)]
    about: NewAnchor,
}

/// The query of lists.
#[derive(Debug, Default, Deserialize, JsonSchema)]
struct ListQuery {
    /// Only resolved comments, or only others.
    resolved: Option<bool>,
    /// `nextPage` of the page before.
    from: Option<String>,
    /// The length of a page, by default 50.
    #[schemars(range(min = 1, max = MAX_COMMENTS_PER_PAGE))]
    limit: Option<usize>,
    /// The unit of positions.
    #[serde(default)]
    unit: Unit,
}

impl ListQuery {
    fn limit(&self) -> ApiResult<usize> {
        let limit = self.limit.unwrap_or(ENTRIES);
        if (1..=MAX_COMMENTS_PER_PAGE).contains(&limit) {
            return Ok(limit);
        }
        Err(ApiError::invalid_param(format!(
            "limit is 1 to {MAX_COMMENTS_PER_PAGE}."
        )))
    }

    fn from(&self) -> ApiResult<Option<i64>> {
        let from = self.from.as_deref().map(str::parse).transpose();
        from.map_err(|_| ApiError::invalid_param("from is the nextPage of a page."))
    }
}

/// The event in the path, after the document.
type InDocument = InPath<(String, String)>;

fn event_id(InPath((_, event)): InDocument) -> ApiResult<OwnedEventId> {
    EventId::parse(event).map_err(|_| ApiError::invalid_param("The path needs an event id such as $…."))
}

/// 201 with the comment.
async fn create(
    State(ports): State<DocumentPorts>,
    Authenticated(session): Authenticated,
    named: Named,
    headers: HeaderMap,
    JsonBody(request): JsonBody<NewComment>,
) -> ApiResult<(StatusCode, Json<Comment>)> {
    let user = &*session.user_id;
    let key = idempotency_key(&headers)?.map(transaction);
    let mut content = message(&request.body, &request.mentions)?;
    let unit = request.about.unit;
    let _permit = ports.content_reads.permit(user).await?;
    let room = joined(&ports, &named, user).await?;
    let anchor = anchoring::make(&ports, &room, user, request.about).await?;
    if !anchor.quote.is_empty() {
        let html = format!(
            "<blockquote>{}</blockquote>{}",
            escaped(&anchor.quote),
            escaped(&request.body)
        );
        content.insert("format".to_owned(), json!("org.matrix.custom.html"));
        content.insert("formatted_body".to_owned(), json!(html));
    }
    let anchor = serde_json::to_value(anchor).map_err(|error| ApiError::internal("an anchor", &error))?;
    content.insert(event_types::ANCHOR.to_owned(), anchor);
    let event = sent(user, content, key.map(|key| (session.device_id.clone(), key)));
    let id = ports.rooms.send(&room, event).await?;
    let reading = Reading::of(&ports, &room, user).await?;
    let Some(root) = reading.root(&id).await? else {
        return Err(ApiError::not_found("The comment was redacted."));
    };
    let comment = shown(&reading, vec![root], unit).await?.pop();
    let comment = comment.ok_or_else(|| ApiError::not_found("The comment was redacted."))?;
    Ok((StatusCode::CREATED, Json(comment)))
}

/// The content of a text message that mentions users.
pub(super) fn message(body: &str, mentions: &[OwnedUserId]) -> ApiResult<Map<String, Value>> {
    if body.is_empty() {
        return Err(ApiError::invalid_param("A comment must not be empty."));
    }
    if mentions.len() > MAX_MENTIONS {
        return Err(ApiError::too_large(format!(
            "At most {MAX_MENTIONS} users can be mentioned."
        )));
    }
    let mentions = match mentions {
        [] => json!({}),
        users => json!({ "user_ids": users }),
    };
    Ok(Map::from_iter([
        ("msgtype".to_owned(), json!("m.text")),
        ("body".to_owned(), json!(body)),
        ("m.mentions".to_owned(), mentions),
    ]))
}

fn escaped(text: &str) -> String {
    let text = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    text.replace('"', "&quot;").replace('\n', "<br>")
}

fn sent(
    user: &UserId,
    content: Map<String, Value>,
    txn: Option<(ruma::OwnedDeviceId, ruma::OwnedTransactionId)>,
) -> NewEvent {
    NewEvent {
        sender: user.to_owned(),
        kind: "m.room.message".to_owned(),
        state_key: None,
        content,
        redacts: None,
        txn,
        timestamp: None,
    }
}

/// One page of comments, the newest first.
async fn list(
    State(ports): State<DocumentPorts>,
    Authenticated(session): Authenticated,
    named: Named,
    query: Result<Query<ListQuery>, QueryRejection>,
) -> ApiResult<Json<CommentList>> {
    let Query(query) = query.map_err(|error| ApiError::invalid_param(error.body_text()))?;
    let extent = Extent {
        before: query.from()?,
        limit: query.limit()?,
    };
    let _permit = ports.content_reads.permit(&session.user_id).await?;
    let room = joined(&ports, &named, &session.user_id).await?;
    let reading = Reading::of(&ports, &room, &session.user_id).await?;
    let comments = Begun {
        reading: &reading,
        resolved: query.resolved,
    };
    let (found, next_page) = pages::page(&ports, &room, &session.user_id, &comments, extent).await?;
    ports.access.note(&session.user_id, &room, Read::Rendered);
    Ok(Json(CommentList {
        comments: shown(&reading, found, query.unit).await?,
        next_page,
    }))
}

/// Comments, of which only the resolved or only the open ones may be asked for.
struct Begun<'a> {
    reading: &'a Reading<'a>,
    resolved: Option<bool>,
}

impl Sought for Begun<'_> {
    type Found = Root;

    fn may_be(pdu: &Pdu) -> bool {
        may_begin(pdu)
    }

    async fn read(&self, pdu: Arc<Pdu>) -> ApiResult<Option<Root>> {
        let root = self.reading.begun(pdu).await?;
        let is_wanted = |root: &Root| self.resolved.is_none_or(|wanted| wanted == root.is_resolved());
        Ok(root.filter(is_wanted))
    }

    fn is_exhausted(&self) -> bool {
        self.reading.is_exhausted()
    }
}

/// Whether a thread may begin with the event.
fn may_begin(pdu: &Pdu) -> bool {
    pdu.kind() == "m.room.message" && pdu.state_key().is_none()
}

/// The comments with their places in the text.
async fn shown(reading: &Reading<'_>, roots: Vec<Root>, unit: Unit) -> ApiResult<Vec<Comment>> {
    let anchors: Vec<_> = roots.iter().map(|root| root.anchor.clone()).collect();
    let places = anchoring::locate(reading.ports, reading.room, reading.user, anchors, unit).await?;
    let with_place = roots.into_iter().zip(places);
    Ok(with_place.map(|(root, place)| reading.comment(root, place)).collect())
}

/// A thread: the comment, and a page of its replies.
async fn show(
    State(ports): State<DocumentPorts>,
    Authenticated(session): Authenticated,
    named: Named,
    path: InDocument,
    query: Result<Query<ListQuery>, QueryRejection>,
) -> ApiResult<Json<CommentThread>> {
    let Query(query) = query.map_err(|error| ApiError::invalid_param(error.body_text()))?;
    let (limit, before, id) = (query.limit()?, query.from()?, event_id(path)?);
    let _permit = ports.content_reads.permit(&session.user_id).await?;
    let room = joined(&ports, &named, &session.user_id).await?;
    let reading = Reading::of(&ports, &room, &session.user_id).await?;
    let comment = match reading.found(&id).await? {
        Found::Comment(root) => shown(&reading, vec![*root], query.unit).await?.pop(),
        Found::Suggestion => None,
    };
    let (replies, next) = reading.replies(&id, before, limit).await?;
    ports.access.note(&session.user_id, &room, Read::Rendered);
    Ok(Json(CommentThread {
        comment,
        replies,
        next_page: next.map(|next| next.to_string()),
    }))
}

/// 201 with the message.
async fn reply(
    State(ports): State<DocumentPorts>,
    Authenticated(session): Authenticated,
    named: Named,
    path: InDocument,
    headers: HeaderMap,
    JsonBody(request): JsonBody<SendReply>,
) -> ApiResult<(StatusCode, Json<weft_wire::rest::MessageSent>)> {
    let (key, root) = (idempotency_key(&headers)?.map(transaction), event_id(path)?);
    let mut content = message(&request.body, &request.mentions)?;
    let room = joined(&ports, &named, &session.user_id).await?;
    let reading = Reading::of(&ports, &room, &session.user_id).await?;
    reading.found(&root).await?;
    let (newest, _) = reading.replies(&root, None, 1).await?;
    let answered = newest.first().map_or(&root, |reply| &reply.event_id);
    let relation = json!({
        "rel_type": "m.thread",
        "event_id": root,
        "is_falling_back": true,
        "m.in_reply_to": {"event_id": answered},
    });
    content.insert("m.relates_to".to_owned(), relation);
    let event = sent(
        &session.user_id,
        content,
        key.map(|key| (session.device_id.clone(), key)),
    );
    let message_id = ports.rooms.send(&room, event).await?;
    let event = ports.rooms.reader().event(Some(&room), &message_id).await?;
    let timestamp = event.map_or(0, |pdu| pdu.origin_server_ts().get().into());
    let sent = weft_wire::rest::MessageSent { message_id, timestamp };
    Ok((StatusCode::CREATED, Json(sent)))
}

async fn resolve(
    State(ports): State<DocumentPorts>,
    Authenticated(session): Authenticated,
    named: Named,
    path: InDocument,
) -> ApiResult<Json<CommentResolved>> {
    let room = joined(&ports, &named, &session.user_id).await?;
    decide(&ports, &room, &session.user_id, &event_id(path)?, Outcome::Resolved).await
}

async fn reopen(
    State(ports): State<DocumentPorts>,
    Authenticated(session): Authenticated,
    named: Named,
    path: InDocument,
) -> ApiResult<Json<CommentResolved>> {
    let room = joined(&ports, &named, &session.user_id).await?;
    decide(&ports, &room, &session.user_id, &event_id(path)?, Outcome::Open).await
}

/// Resolves or reopens a comment, unless it is so already.
async fn decide(
    ports: &DocumentPorts,
    room: &OwnedRoomId,
    user: &UserId,
    about: &OwnedEventId,
    outcome: Outcome,
) -> ApiResult<Json<CommentResolved>> {
    let reading = Reading::of(ports, room, user).await?;
    let Found::Comment(root) = reading.found(about).await? else {
        return Err(ApiError::invalid_param(
            "A suggestion is accepted, rejected or withdrawn.",
        ));
    };
    let resolved = outcome == Outcome::Resolved;
    if root.is_resolved() == resolved {
        let event_id = root.standing.last().map(|one| one.event.clone());
        return Ok(Json(CommentResolved { resolved, event_id }));
    }
    let content = ResolutionContent {
        outcome,
        after: named(&root.standing),
        update: None,
    };
    let event_id = Some(resolutions::decide(ports, room, user, about, content).await?);
    Ok(Json(CommentResolved { resolved, event_id }))
}

/// A visible event of the document; 404 for any other one.
pub(super) async fn visible_event(
    ports: &DocumentPorts,
    room: &RoomId,
    user: &UserId,
    id: &OwnedEventId,
) -> ApiResult<Arc<Pdu>> {
    let reader = ports.rooms.reader();
    let stored = reader.events(room, std::slice::from_ref(id)).await?;
    let pdus: Vec<_> = stored
        .into_iter()
        .filter(|stored| stored.is_visible())
        .map(|stored| stored.pdu)
        .collect();
    let seen = reader.visible_to_user(room, user, pdus).await?.pop();
    seen.ok_or_else(|| ApiError::not_found("Comment not found, or you do not have permission to view it."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_comment_is_escaped_in_html() {
        assert_eq!(escaped("a<b>&\"\n"), "a&lt;b&gt;&amp;&quot;<br>");
    }
}
