//! Which documents of a user one page of `GET /documents` has, and in what order. Must not read the store.

use std::cmp::Ordering;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use ruma::{OwnedRoomId, RoomId, UserId};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use weft_http::errors::{ApiError, ApiResult};
use weft_wire::{
    document::DocumentKind,
    limits::{MAX_DOCUMENTS_PER_PAGE, MAX_TITLE_BYTES, MAX_UNREAD_DOCUMENTS_PER_PAGE},
    rest::Document,
};

/// The query of `GET /documents`.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
pub(super) struct ListQuery {
    /// Only documents that the caller created, or only others.
    filter: Option<Filter>,
    /// Only documents of this kind.
    kind: Option<DocumentKind>,
    /// A part of the title, in any case.
    #[schemars(length(max = MAX_TITLE_BYTES))]
    search: Option<String>,
    /// What the order is by.
    #[serde(default)]
    sort: Sort,
    /// Times descend and titles ascend, if this is not given.
    order: Option<Order>,
    /// The length of a page; with `unread` at most 100.
    #[schemars(range(min = 1, max = MAX_DOCUMENTS_PER_PAGE))]
    limit: Option<usize>,
    /// `nextPage` of the page before.
    from: Option<String>,
    /// Only templates, or only other documents; both without it.
    template: Option<bool>,
    /// What is in the bin, instead of what is not.
    #[serde(default)]
    bin: bool,
    /// With the numbers of unread events.
    #[serde(default)]
    unread: bool,
    /// Only documents in this folder.
    #[schemars(with = "Option<weft_wire::schema::RoomId>")]
    folder: Option<OwnedRoomId>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum Filter {
    /// The caller created it.
    Mine,
    /// Another user created it.
    Shared,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
enum Sort {
    #[default]
    LastModified,
    CreatedAt,
    Title,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum Order {
    Asc,
    Desc,
}

/// Where a document is in the order.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(untagged)]
enum Key {
    Time(u64),
    Title(String),
}

/// The end of a page: the key and the id of its last document, which may have been changed or deleted since.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct PageEnd(Sort, Order, Key, OwnedRoomId);

/// One page, and where the next one begins.
#[derive(Debug)]
pub(super) struct Page {
    pub(super) documents: Vec<Document>,
    pub(super) next: Option<String>,
}

impl ListQuery {
    /// Whether this is the first page.
    pub(super) const fn is_first(&self) -> bool {
        self.from.is_none()
    }

    /// Whether the numbers of unread events are wanted.
    pub(super) const fn with_unread(&self) -> bool {
        self.unread
    }

    /// The folder whose documents are wanted.
    pub(super) fn folder(&self) -> Option<&RoomId> {
        self.folder.as_deref()
    }

    /// The number of documents on a page.
    fn limit(&self) -> ApiResult<usize> {
        let most = if self.unread {
            MAX_UNREAD_DOCUMENTS_PER_PAGE
        } else {
            MAX_DOCUMENTS_PER_PAGE
        };
        let limit = self.limit.unwrap_or(most);
        if (1..=most).contains(&limit) {
            Ok(limit)
        } else {
            Err(ApiError::invalid_param(format!("limit is 1 to {most}.")))
        }
    }

    /// The page of a user's documents that is asked for.
    ///
    /// # Errors
    /// When a value is out of its range, or `from` is not of a page with the same order.
    pub(super) fn page(&self, mut documents: Vec<Document>, user: &UserId) -> ApiResult<Page> {
        let limit = self.limit()?;
        if self
            .search
            .as_ref()
            .is_some_and(|search| search.len() > MAX_TITLE_BYTES)
        {
            return Err(ApiError::invalid_param(format!(
                "search has at most {MAX_TITLE_BYTES} bytes."
            )));
        }
        let after = self.from.as_deref().map(|token| self.page_end(token)).transpose()?;
        self.retain(&mut documents, user);
        documents.sort_by(|a, b| self.compare((&self.key(a), &a.doc_id), (&self.key(b), &b.doc_id)));
        if let Some(PageEnd(_, _, key, id)) = &after {
            documents.retain(|document| {
                self.compare((&self.key(document), &document.doc_id), (key, id)) == Ordering::Greater
            });
        }
        let is_last = documents.len() <= limit;
        documents.truncate(limit);
        let next = documents.last().filter(|_| !is_last).map(|last| self.token(last));
        Ok(Page { documents, next })
    }

    fn retain(&self, documents: &mut Vec<Document>, user: &UserId) {
        let search = self.search.as_ref().map(|search| search.to_lowercase());
        documents.retain(|document| {
            let is_mine = document.owner_id == *user;
            let is_wanted = self.filter.is_none_or(|filter| is_mine == (filter == Filter::Mine));
            let is_of_kind = self.kind.is_none_or(|kind| kind == document.kind);
            let is_found = search
                .as_ref()
                .is_none_or(|part| document.title.to_lowercase().contains(part));
            let is_there = document.in_bin_since.is_some() == self.bin;
            let is_template = self.template.is_none_or(|template| template == document.template);
            is_wanted && is_of_kind && is_found && is_there && is_template
        });
    }

    /// Times descend and titles ascend, if the query does not say otherwise.
    fn order(&self) -> Order {
        let usual = if self.sort == Sort::Title {
            Order::Asc
        } else {
            Order::Desc
        };
        self.order.unwrap_or(usual)
    }

    fn key(&self, document: &Document) -> Key {
        match self.sort {
            Sort::LastModified => Key::Time(document.last_modified),
            Sort::CreatedAt => Key::Time(document.created_at),
            Sort::Title => Key::Title(document.title.to_lowercase()),
        }
    }

    /// Documents with the same key are in the order of their ids, ascending.
    fn compare(&self, a: (&Key, &OwnedRoomId), b: (&Key, &OwnedRoomId)) -> Ordering {
        let by_key = match self.order() {
            Order::Asc => a.0.cmp(b.0),
            Order::Desc => b.0.cmp(a.0),
        };
        by_key.then_with(|| a.1.cmp(b.1))
    }

    fn token(&self, last: &Document) -> String {
        let end = PageEnd(self.sort, self.order(), self.key(last), last.doc_id.clone());
        URL_SAFE_NO_PAD.encode(serde_json::to_vec(&end).unwrap_or_default())
    }

    fn page_end(&self, token: &str) -> ApiResult<PageEnd> {
        let end = URL_SAFE_NO_PAD.decode(token).ok();
        let end: Option<PageEnd> = end.and_then(|end| serde_json::from_slice(&end).ok());
        let is_of_this_order = |end: &PageEnd| {
            let is_title = matches!(end.2, Key::Title(_));
            end.0 == self.sort && end.1 == self.order() && is_title == (self.sort == Sort::Title)
        };
        end.filter(is_of_this_order).ok_or_else(|| {
            ApiError::invalid_param("from is not the nextPage of a request with the same sort and order.")
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

    use ruma::{OwnedUserId, RoomId};
    use weft_wire::Role;

    use super::*;

    fn user(name: &str) -> OwnedUserId {
        OwnedUserId::try_from(format!("@{name}:alpha.example")).unwrap()
    }

    /// Documents 0 to 9: every third one is of bob, every second one a text, two have the same times, and 4 is a template.
    fn documents() -> Vec<Document> {
        let document = |n: u64| Document {
            doc_id: RoomId::parse(format!("!{n}:alpha.example")).unwrap(),
            title: format!(
                "{} {n}",
                ["Minutes", "minutes", "Plän"][usize::try_from(n % 3).unwrap()]
            ),
            kind: if n.is_multiple_of(2) {
                DocumentKind::Text
            } else {
                DocumentKind::RichText
            },
            owner_id: user(if n.is_multiple_of(3) { "bob" } else { "alice" }),
            version: n,
            role: Role::Owner,
            created_at: 100 - n,
            last_modified: n / 2,
            in_bin_since: None,
            template: n == 4,
            locked: false,
            unread: None,
        };
        (0..10).map(document).collect()
    }

    fn ids(query: &ListQuery) -> String {
        let page = query.page(documents(), &user("alice")).unwrap();
        let id = |document: &Document| document.doc_id.as_str()[1..2].to_owned();
        page.documents.iter().map(id).collect()
    }

    fn query(json: serde_json::Value) -> ListQuery {
        serde_json::from_value(json).unwrap()
    }

    #[test]
    fn documents_are_filtered_and_sorted() {
        for (asked, found) in [
            (serde_json::json!({}), "8967452301"),
            (serde_json::json!({"order": "asc"}), "0123456789"),
            (serde_json::json!({"sort": "createdAt"}), "0123456789"),
            (serde_json::json!({"sort": "title", "filter": "mine"}), "147258"),
            (
                serde_json::json!({"sort": "title", "order": "desc", "filter": "shared"}),
                "9630",
            ),
            (serde_json::json!({"kind": "text", "search": "PLÄN"}), "82"),
            (serde_json::json!({"search": "nothing"}), ""),
            (serde_json::json!({"template": true}), "4"),
            (serde_json::json!({"template": false, "kind": "text"}), "8620"),
            (serde_json::json!({"bin": true}), ""),
        ] {
            assert_eq!(ids(&query(asked.clone())), found, "{asked}");
        }
    }

    #[test]
    fn pages_have_every_document_once_also_if_one_is_deleted_between_them() {
        for (sort, expected) in [("lastModified", "8967452301"), ("title", "0134679258")] {
            let mut asked = query(serde_json::json!({"sort": sort, "limit": 3}));
            let mut found = String::new();
            loop {
                let mut left = documents();
                // The last document of each page is gone when the next one is requested.
                left.retain(|document| !found.ends_with(&document.doc_id.as_str()[1..2]));
                let page = asked.page(left, &user("alice")).unwrap();
                found.extend(
                    page.documents
                        .iter()
                        .map(|document| document.doc_id.as_str()[1..2].to_owned()),
                );
                let Some(next) = page.next else { break };
                asked.from = Some(next);
            }
            assert_eq!(found, expected, "{sort}");
        }
    }

    #[test]
    fn a_wrong_limit_or_place_is_refused() {
        let first = query(serde_json::json!({"limit": 2}))
            .page(documents(), &user("alice"))
            .unwrap();
        let next = first.next.unwrap();
        for asked in [
            serde_json::json!({"limit": 0}),
            serde_json::json!({"limit": MAX_DOCUMENTS_PER_PAGE + 1}),
            serde_json::json!({"limit": MAX_UNREAD_DOCUMENTS_PER_PAGE + 1, "unread": true}),
            serde_json::json!({"from": "nonsense"}),
            serde_json::json!({"from": next, "order": "asc"}),
            serde_json::json!({"from": next, "sort": "title"}),
            serde_json::json!({"search": "x".repeat(MAX_TITLE_BYTES + 1)}),
        ] {
            assert!(
                query(asked.clone()).page(documents(), &user("alice")).is_err(),
                "{asked}"
            );
        }
        assert!(
            query(serde_json::json!({"from": next}))
                .page(documents(), &user("alice"))
                .is_ok()
        );
    }
}
