//! `GET /search`: titles, texts, comments and chat of the documents that the caller may read at this moment.
//!
//! The index does not know who may read what: a query names the caller's documents, and each message that is found is read from
//! the store and shown only if it is visible and not redacted. Must not show a passage of anything else.

use std::collections::BTreeSet;

use axum::{
    Json,
    extract::{Query as UrlQuery, State, rejection::QueryRejection},
};
use ruma::{OwnedRoomId, UserId};
use schemars::JsonSchema;
use serde::Deserialize;
use weft_http::{
    authentication::Authenticated,
    errors::{ApiError, ApiResult},
    openapi::{Operation, Routes},
};
use weft_room_read::Reader;
use weft_search::{Hit, Part, Phrase, Query, SearchRefused, Searches, phrases, snippet, visible_message};
use weft_wire::{
    limits::{MAX_SEARCH_OFFSET, MAX_SEARCH_QUERY_BYTES, MAX_SEARCH_RESULTS, MAX_SEARCH_WORDS},
    rest::{Document, SearchResult, SearchResults},
    schema,
};

use super::DocumentPorts;

/// Results of a page if the request does not say.
const RESULTS: usize = 20;

pub(super) fn routes() -> Routes<DocumentPorts> {
    Routes::new("Search").get(
        "/_weft/client/v1/search",
        search,
        Operation::new("search", "What is found in the caller's documents, the best first"),
    )
}

#[derive(Debug, Deserialize, JsonSchema)]
struct Asked {
    /// Words, all of which must be there.
    #[schemars(length(min = 1, max = MAX_SEARCH_QUERY_BYTES))]
    q: String,
    /// A list of `title`, `text`, `comments` and `chat`, separated by commas; by default all.
    #[serde(rename = "in")]
    parts: Option<String>,
    /// Only in this document.
    #[schemars(with = "Option<schema::RoomId>")]
    document: Option<OwnedRoomId>,
    /// The length of a page, by default 20.
    #[schemars(range(min = 1, max = MAX_SEARCH_RESULTS))]
    limit: Option<usize>,
    /// `nextPage` of the page before.
    #[schemars(range(max = MAX_SEARCH_OFFSET))]
    from: Option<usize>,
}

impl Asked {
    /// What is searched, in these documents.
    fn query(&self, mut documents: Vec<OwnedRoomId>) -> ApiResult<Query> {
        if self.q.len() > MAX_SEARCH_QUERY_BYTES {
            let message = format!("q has at most {MAX_SEARCH_QUERY_BYTES} bytes.");
            return Err(ApiError::invalid_param(message));
        }
        let phrases = phrases(&self.q);
        let words = phrases.iter().map(|phrase| phrase.0.len()).sum::<usize>();
        if !(1..=MAX_SEARCH_WORDS).contains(&words) {
            let message = format!("q needs a letter or digit, and has at most {MAX_SEARCH_WORDS} words.");
            return Err(ApiError::invalid_param(message));
        }
        let limit = self.limit.unwrap_or(RESULTS);
        if !(1..=MAX_SEARCH_RESULTS).contains(&limit) {
            return Err(ApiError::invalid_param(format!("limit is 1 to {MAX_SEARCH_RESULTS}.")));
        }
        let offset = self.from.unwrap_or(0);
        if offset > MAX_SEARCH_OFFSET {
            return Err(ApiError::invalid_param(format!("from is at most {MAX_SEARCH_OFFSET}.")));
        }
        if let Some(wanted) = &self.document {
            documents.retain(|id| id == wanted);
        }
        Ok(Query {
            phrases,
            parts: self.parts()?,
            documents,
            offset,
            limit,
        })
    }

    fn parts(&self) -> ApiResult<Vec<Part>> {
        let Some(names) = &self.parts else {
            return Ok(Part::ALL.to_vec());
        };
        let parts: Option<BTreeSet<Part>> = names.split(',').map(Part::from_name).collect();
        let parts = parts.ok_or_else(|| ApiError::invalid_param("in is a list of title, text, comments, chat."))?;
        Ok(parts.into_iter().collect())
    }
}

/// The best results first.
async fn search(
    State(ports): State<DocumentPorts>,
    Authenticated(session): Authenticated,
    query: Result<UrlQuery<Asked>, QueryRejection>,
) -> ApiResult<Json<SearchResults>> {
    let UrlQuery(asked) = query.map_err(|error| ApiError::invalid_param(error.body_text()))?;
    let user = &*session.user_id;
    let reader = &ports.rooms.reader().for_request();
    let query = asked.query(reader.ids_of_documents(user).await?)?;
    let (offset, limit, phrases) = (query.offset, query.limit, query.phrases.clone());
    let hits = found(&ports.search, query).await?;
    let is_last = hits.len() < limit || offset + limit > MAX_SEARCH_OFFSET;
    let mut results = Vec::new();
    for hit in hits {
        // They may have left it, or been removed, while the index was searched.
        let document = reader.document_of(user, &hit.document).await?;
        if let Some(document) = document.filter(|document| document.in_bin_since.is_none()) {
            results.extend(result(reader, user, &document, hit, &phrases).await?);
        }
    }
    let next_page = (!is_last).then(|| (offset + limit).to_string());
    Ok(Json(SearchResults { results, next_page }))
}

/// Searches the index.
async fn found(searches: &Searches, query: Query) -> ApiResult<Vec<Hit>> {
    searches.search(query).await.map_err(|refused| match refused {
        SearchRefused::Failed(error) => ApiError::internal("a search", &error),
        refused => ApiError::unavailable(refused.to_string()),
    })
}

/// A hit as it is shown; `None` if the caller may not see it any more.
async fn result(
    reader: &Reader,
    user: &UserId,
    document: &Document,
    hit: Hit,
    phrases: &[Phrase],
) -> ApiResult<Option<SearchResult>> {
    let message = visible_message(reader, user, &hit).await?;
    if hit.event.is_some() && message.is_none() {
        return Ok(None);
    }
    let shown = snippet(&hit.passage, phrases);
    Ok(Some(SearchResult {
        doc_id: hit.document,
        title: document.title.clone(),
        part: hit.part.name().to_owned(),
        event_id: hit.event,
        sender: message.as_ref().map(|pdu| pdu.sender().to_owned()),
        timestamp: message.as_ref().map(|pdu| pdu.origin_server_ts().get().into()),
        snippet: shown.text,
        matches: shown.matches,
    }))
}
