//! POST /_matrix/client/v3/search
//!
//! Messages of documents (chat and comments), by the index of `weft-search`. The index knows no rights: a query names the
//! rooms that the caller is in at this moment, and each message that is found is read from the store and shown only if it is
//! visible. Must not show messages of ignored users.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use axum::{Json, Router, extract::State};
use ruma::{
    OwnedRoomId, OwnedUserId, RoomId,
    api::client::search::search_events::v3::{self, Criteria, GroupingKey, OrderBy, SearchKeys},
};
use serde_json::{Map, Value, json};
use weft_accounts::Accounts;
use weft_dag::Pdu;
use weft_http::{
    authentication::Authenticated,
    errors::{ApiError, ApiResult},
    ruma_json::{Ruma, RumaRoutes},
};
use weft_room_api::Clock;
use weft_room_read::{Direction, Reader};
use weft_search::{Part, Phrase, Query, SearchRefused, Searches, phrases, visible_message};
use weft_wire::limits::{
    MAX_SEARCH_CONTEXT, MAX_SEARCH_OFFSET, MAX_SEARCH_QUERY_BYTES, MAX_SEARCH_RESULTS, MAX_SEARCH_WORDS,
};

use super::{
    Ports,
    event::Around,
    events::{Shown, client_event, passes, passes_room},
    filters::check_events,
    ignored::{Ignored, ignored_users},
    tokens::TimelineToken,
    unsigned::{Viewer, shown_events, shown_timeline},
};

pub(super) fn routes() -> Router<Ports> {
    Router::new().endpoint::<v3::Request, _, _>(search)
}

/// Results of a page if the filter does not say.
const RESULTS: usize = 10;

/// The search of one caller.
struct Search<'a> {
    reader: &'a Reader,
    caller: &'a Authenticated,
    ignored: &'a Ignored,
    criteria: &'a Criteria,
    shown: Shown,
}

/// A message that was found.
struct Found {
    pdu: Arc<Pdu>,
    /// From 1, of the best, to almost 0.
    rank: f64,
}

async fn search(
    State(reader): State<Reader>,
    State(accounts): State<Accounts>,
    State(searches): State<Searches>,
    State(clock): State<Arc<dyn Clock>>,
    caller: Authenticated,
    Ruma(request): Ruma<v3::Request>,
) -> ApiResult<Json<Value>> {
    let Some(criteria) = &request.search_categories.room_events else {
        return Ok(Json(json!({"search_categories": {}})));
    };
    check_events(&criteria.filter)?;
    let search = Search {
        reader: &reader.for_request(),
        ignored: &ignored_users(&accounts, &caller.user_id).await?,
        caller: &caller,
        criteria,
        shown: Shown::in_full(clock.now().get().into()),
    };
    let words = words(criteria)?;
    let offset = offset(request.next_batch.as_deref())?;
    let found = search.found(&searches, words.clone()).await?;
    let room_events = search.answer(&found, offset, &words).await?;
    Ok(Json(json!({"search_categories": {"room_events": room_events}})))
}

fn words(criteria: &Criteria) -> ApiResult<Vec<Phrase>> {
    if criteria.search_term.len() > MAX_SEARCH_QUERY_BYTES {
        let message = format!("search_term has at most {MAX_SEARCH_QUERY_BYTES} bytes.");
        return Err(ApiError::invalid_param(message));
    }
    let phrases = phrases(&criteria.search_term);
    let words = phrases.iter().map(|phrase| phrase.0.len()).sum::<usize>();
    if words > MAX_SEARCH_WORDS {
        let message = format!("search_term has at most {MAX_SEARCH_WORDS} words.");
        return Err(ApiError::invalid_param(message));
    }
    Ok(phrases)
}

/// The number of results before a page. `next_batch` is that number.
fn offset(token: Option<&str>) -> ApiResult<usize> {
    let Some(token) = token else { return Ok(0) };
    let offset = token.parse().ok().filter(|offset| *offset <= MAX_SEARCH_OFFSET);
    offset.ok_or_else(|| ApiError::invalid_param("next_batch is that of an answer to the same search."))
}

impl Search<'_> {
    /// The messages that the caller may see among the best hits, in the order that was requested.
    async fn found(&self, searches: &Searches, phrases: Vec<Phrase>) -> ApiResult<Vec<Found>> {
        let keys = self.criteria.keys.as_deref();
        if phrases.is_empty() || keys.is_some_and(|keys| !keys.contains(&SearchKeys::ContentBody)) {
            return Ok(Vec::new());
        }
        let user = &*self.caller.user_id;
        let documents = self.reader.documents_of(user).await?.into_iter();
        let documents = documents.filter(|document| document.in_bin_since.is_none());
        let documents: Vec<OwnedRoomId> = documents
            .map(|document| document.doc_id)
            .filter(|room| passes_room(&self.criteria.filter, room))
            .collect();
        let query = Query {
            phrases,
            parts: vec![Part::Comment, Part::Chat],
            documents,
            offset: 0,
            limit: MAX_SEARCH_OFFSET,
        };
        let hits = searches.search(query).await.map_err(refused)?;
        let (all, mut found) = (hits.len(), Vec::new());
        for (index, hit) in hits.iter().enumerate() {
            let Some(pdu) = visible_message(self.reader, user, hit).await? else {
                continue;
            };
            if passes(&self.criteria.filter, &pdu) && !self.ignored.hides(&pdu) {
                found.push(Found {
                    pdu,
                    rank: ratio(all - index, all),
                });
            }
        }
        if self.criteria.order_by == Some(OrderBy::Recent) {
            found.sort_by_key(|found| std::cmp::Reverse(found.pdu.origin_server_ts()));
        }
        Ok(found)
    }

    async fn answer(&self, found: &[Found], offset: usize, words: &[Phrase]) -> ApiResult<Map<String, Value>> {
        let limit = self
            .criteria
            .filter
            .limit
            .and_then(|limit| usize::try_from(u64::from(limit)).ok());
        let limit = limit.unwrap_or(RESULTS).clamp(1, MAX_SEARCH_RESULTS);
        let page = found.get(offset..).unwrap_or_default();
        let (page, rest) = page.split_at(page.len().min(limit));
        let mut results = Vec::new();
        for found in page {
            results.push(self.result(found).await?);
        }
        let highlights: BTreeSet<&String> = words.iter().flat_map(|phrase| &phrase.0).collect();
        let mut answer = Map::from_iter([
            ("count".to_owned(), found.len().into()),
            ("results".to_owned(), results.into()),
            ("highlights".to_owned(), json!(highlights)),
        ]);
        if !rest.is_empty() {
            answer.insert("next_batch".to_owned(), (offset + page.len()).to_string().into());
        }
        let groups = self.groups(page);
        if !groups.is_empty() {
            answer.insert("groups".to_owned(), groups.into());
        }
        if self.criteria.include_state == Some(true) {
            answer.insert("state".to_owned(), self.states(page).await?.into());
        }
        Ok(answer)
    }

    async fn result(&self, found: &Found) -> ApiResult<Value> {
        let room = found.pdu.room_id();
        let viewer = Viewer {
            session: self.caller,
            ignored: self.ignored,
        };
        let mut event = shown_events(self.reader, room, viewer, self.shown, &[Arc::clone(&found.pdu)]).await?;
        Ok(json!({
            "rank": found.rank,
            "result": event.pop(),
            "context": self.context(room, found, viewer).await?,
        }))
    }

    /// The events around a message, as many as were requested.
    async fn context(&self, room: &RoomId, found: &Found, viewer: Viewer<'_>) -> ApiResult<Value> {
        let Some(order) = self.reader.order(room, found.pdu.event_id()).await? else {
            return Ok(json!({}));
        };
        let context = &self.criteria.event_context;
        let count = |limit: ruma::UInt| {
            usize::try_from(u64::from(limit)).map_or(MAX_SEARCH_CONTEXT, |limit| limit.min(MAX_SEARCH_CONTEXT))
        };
        let filter = ruma::api::client::filter::RoomEventFilter::default();
        let around = Around {
            reader: self.reader,
            room,
            user: &self.caller.user_id,
            filter: &filter,
            ignored: self.ignored,
        };
        let before = around
            .side(order, Direction::Backward, count(context.before_limit))
            .await?;
        let after = around
            .side(order, Direction::Forward, count(context.after_limit))
            .await?;
        let start = before.last().map_or(order, |event| event.order);
        let end = after.last().map_or(order, |event| event.order).saturating_add(1);
        let mut answer = Map::from_iter([
            ("start".to_owned(), TimelineToken(start).to_string().into()),
            ("end".to_owned(), TimelineToken(end).to_string().into()),
            (
                "events_before".to_owned(),
                json!(shown_timeline(self.reader, room, viewer, self.shown, &before).await?),
            ),
            (
                "events_after".to_owned(),
                json!(shown_timeline(self.reader, room, viewer, self.shown, &after).await?),
            ),
        ]);
        if context.include_profile {
            let events = before.iter().chain(&after).map(|event| &*event.pdu);
            let senders = events.chain([&*found.pdu]).map(|pdu| pdu.sender().to_owned()).collect();
            answer.insert("profile_info".to_owned(), self.profiles(room, order, senders).await?);
        }
        Ok(answer.into())
    }

    /// The names and avatars of users at a place in the timeline; at present for one before this server's join.
    async fn profiles(&self, room: &RoomId, order: i64, users: BTreeSet<OwnedUserId>) -> ApiResult<Value> {
        let keys: Vec<(&str, &str)> = users.iter().map(|user| ("m.room.member", user.as_str())).collect();
        let state = match u64::try_from(order) {
            Ok(position) => self.reader.state_entries_at(room, position, &keys).await?,
            Err(_) => self.reader.state_entries(room, &keys).await?,
        };
        let mut profiles = Map::new();
        for pdu in state.iter().flat_map(|state| state.iter()) {
            let content: Map<String, Value> = pdu.content_as().unwrap_or_default();
            let fields = content
                .into_iter()
                .filter(|(name, _)| name == "displayname" || name == "avatar_url");
            let user = pdu.state_key().unwrap_or_default().to_owned();
            profiles.insert(user, Value::Object(fields.collect()));
        }
        Ok(profiles.into())
    }

    /// The results of the page by room or by sender, as requested.
    fn groups(&self, page: &[Found]) -> Map<String, Value> {
        let mut groups = Map::new();
        for grouping in &self.criteria.groupings.group_by {
            let of = |pdu: &Pdu| match &grouping.key {
                Some(GroupingKey::RoomId) => Some(pdu.room_id().to_string()),
                Some(GroupingKey::Sender) => Some(pdu.sender().to_string()),
                _ => None,
            };
            let mut ids: BTreeMap<String, (usize, Vec<&str>)> = BTreeMap::new();
            for found in page {
                let Some(group) = of(&found.pdu) else { continue };
                let order = ids.len() + 1;
                let (_, ids) = ids.entry(group).or_insert_with(|| (order, Vec::new()));
                ids.push(found.pdu.event_id().as_str());
            }
            let named = ids.into_iter();
            let named = named.map(|(group, (order, results))| (group, json!({"order": order, "results": results})));
            if let Some(key) = &grouping.key {
                groups.insert(key.to_string(), Value::Object(named.collect()));
            }
        }
        groups
    }

    /// The present state of the rooms of a page, of memberships only those of the senders: a room may have 100,000.
    async fn states(&self, page: &[Found]) -> ApiResult<Map<String, Value>> {
        let mut states = Map::new();
        let senders: BTreeSet<&str> = page.iter().map(|found| found.pdu.sender().as_str()).collect();
        let rooms: BTreeSet<&RoomId> = page.iter().map(|found| found.pdu.room_id()).collect();
        for room in rooms {
            let Some(state) = self.reader.state(room).await? else {
                continue;
            };
            let wanted = state.iter().filter(|pdu| {
                pdu.kind() != "m.room.member" || pdu.state_key().is_some_and(|user| senders.contains(user))
            });
            let events: Vec<_> = wanted.filter_map(|pdu| client_event(pdu, self.shown)).collect();
            states.insert(room.to_string(), json!(events));
        }
        Ok(states)
    }
}

#[expect(clippy::cast_precision_loss, reason = "at most a thousand")]
fn ratio(part: usize, whole: usize) -> f64 {
    part as f64 / whole.max(1) as f64
}

fn refused(refused: SearchRefused) -> ApiError {
    match refused {
        SearchRefused::Failed(error) => ApiError::internal("a search", &error),
        refused => ApiError::unavailable(refused.to_string()),
    }
}
