//! `GET /documents/{id}/history/activity`: how much each author did on each day. Must not show events that the caller may
//! not see.

use std::{cmp::Reverse, collections::BTreeMap};

use axum::{
    Json,
    extract::{Query, State, rejection::QueryRejection},
};
use ruma::OwnedUserId;
use weft_http::{
    authentication::Authenticated,
    errors::{ApiError, ApiResult},
};
use weft_wire::rest::{ActiveDay, Activity, NamedVersion};

use super::{Collected, DocumentPorts, HistoryQuery, Named, collect, joined, sessions::Work};

const DAY_MS: u64 = 24 * 60 * 60 * 1_000;

/// One page, the newest day first.
pub(crate) async fn list(
    State(ports): State<DocumentPorts>,
    Authenticated(session): Authenticated,
    named: Named,
    query: Result<Query<HistoryQuery>, QueryRejection>,
) -> ApiResult<Json<Activity>> {
    let Query(query) = query.map_err(|error| ApiError::invalid_param(error.body_text()))?;
    let wanted = query.wanted()?;
    let _permit = ports.content_reads.permit(&session.user_id).await?;
    let room = joined(&ports, &named, &session.user_id).await?;
    let mut days = Days::default();
    let next = collect(&ports, &session.user_id, &room, &wanted, &mut days).await?;
    Ok(Json(Activity {
        days: days.0.into_values().collect(),
        next_page: next.map(|next| next.to_string()),
    }))
}

/// By day, the newest first, and author.
#[derive(Default)]
struct Days(BTreeMap<(Reverse<u64>, OwnedUserId), ActiveDay>);

impl Collected for Days {
    fn is_complete_before(&self, limit: usize, at: u64) -> bool {
        let oldest = self.0.keys().next_back().map(|(Reverse(day), _)| *day);
        self.0.len() >= limit && oldest.is_some_and(|oldest| at < oldest)
    }

    fn take(&mut self, work: Work) {
        let day = work.at - work.at % DAY_MS;
        let key = (Reverse(day), work.author.clone());
        let entry = self.0.entry(key).or_insert_with(|| ActiveDay {
            day,
            author: work.author,
            events: 0,
            inserted: 0,
            deleted: 0,
        });
        entry.events += 1;
        entry.inserted = entry.inserted.saturating_add(work.inserted);
        entry.deleted = entry.deleted.saturating_add(work.deleted);
    }

    fn name(&mut self, _: NamedVersion) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    fn work(author: &str, at: u64) -> Work {
        Work {
            author: OwnedUserId::try_from(format!("@{author}:a.example")).unwrap(),
            at,
            event_id: ruma::OwnedEventId::try_from(format!("${at}")).unwrap(),
            versions: None,
            inserted: 3,
            deleted: 1,
            told: crate::purposes::Told::default(),
            edits: Vec::new(),
        }
    }

    #[test]
    fn work_is_counted_by_day_and_author_and_a_page_ends_with_a_day() {
        let mut days = Days::default();
        for (author, at) in [
            ("b", 3 * DAY_MS + 5),
            ("a", 3 * DAY_MS),
            ("b", 3 * DAY_MS),
            ("a", DAY_MS * 2 + 7),
        ] {
            days.take(work(author, at));
        }
        assert!(!days.is_complete_before(4, DAY_MS));
        assert!(!days.is_complete_before(3, 2 * DAY_MS));
        assert!(days.is_complete_before(3, 2 * DAY_MS - 1));
        let shown: Vec<_> = days
            .0
            .into_values()
            .map(|day| {
                (
                    day.day / DAY_MS,
                    day.author.localpart().to_owned(),
                    day.events,
                    day.inserted,
                )
            })
            .collect();
        let expected = [(3, "a", 1, 3), (3, "b", 2, 6), (2, "a", 1, 3)];
        assert_eq!(
            shown,
            expected.map(|(day, author, events, inserted)| (day, author.to_owned(), events, inserted))
        );
    }
}
