//! The searches under way: a few at a time, each in a thread, because the index is files. Must not decide who may see a hit.

use std::{sync::Arc, time::Duration};

use ruma::UserId;
use serde_json::Value;
use tokio::{sync::Semaphore, time::timeout};
use weft_dag::Pdu;
use weft_room_api::Unavailable;
use weft_room_read::Reader;
use weft_wire::limits::{MAX_SEARCHES, SEARCH_WAIT_MS};

use crate::{Hit, Query, SearchError, SearchIndex};

/// Why there are no results.
#[derive(Debug, thiserror::Error)]
pub enum SearchRefused {
    /// There is no index.
    #[error("This server has no search index now.")]
    NoIndex,
    /// Too many searches are under way.
    #[error("Too many searches are under way. Try again.")]
    Busy,
    /// The index failed.
    #[error(transparent)]
    Failed(#[from] SearchError),
}

/// The index and the searches in it. Cheap to clone; clones share the limit.
#[derive(Debug, Clone)]
pub struct Searches {
    index: Option<Arc<SearchIndex>>,
    turns: Arc<Semaphore>,
}

impl Searches {
    /// Searches in an index; without one each search is refused.
    #[must_use]
    pub fn new(index: Option<Arc<SearchIndex>>) -> Self {
        Self {
            index,
            turns: Arc::new(Semaphore::new(MAX_SEARCHES)),
        }
    }

    /// Searches the index, when it is this search's turn.
    ///
    /// # Errors
    /// There is no index, too many searches are under way, or the index can't be read.
    pub async fn search(&self, query: Query) -> Result<Vec<Hit>, SearchRefused> {
        let index = self.index.clone().ok_or(SearchRefused::NoIndex)?;
        let turn = timeout(
            Duration::from_millis(SEARCH_WAIT_MS),
            Arc::clone(&self.turns).acquire_owned(),
        );
        let Ok(Ok(turn)) = turn.await else {
            return Err(SearchRefused::Busy);
        };
        let search = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            index.search(&query)
        });
        Ok(search.await.map_err(|_| SearchError::Ended)??)
    }
}

/// The message of a hit, if it is one that the user may see at this moment and that is not redacted.
///
/// # Errors
/// When the store can't be read.
pub async fn visible_message(reader: &Reader, user: &UserId, hit: &Hit) -> Result<Option<Arc<Pdu>>, Unavailable> {
    let Some(event) = &hit.event else { return Ok(None) };
    let stored = reader.events(&hit.document, std::slice::from_ref(event)).await?;
    let pdus = stored.into_iter().filter(|stored| stored.is_visible());
    let pdus = pdus.map(|stored| stored.pdu).collect();
    let visible = reader.visible_to_user(&hit.document, user, pdus).await?;
    let has_text = |content: Value| content.get("body").is_some_and(Value::is_string);
    Ok(visible
        .into_iter()
        .next()
        .filter(|pdu| pdu.content_as().is_ok_and(has_text)))
}
