//! The index on disk. All calls but [`SearchIndex::search`] are of the one task that follows the rooms. Calls block: they read and
//! write files.
//!
//! Must not read a room.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};

use parking_lot::Mutex;
use ruma::{EventId, OwnedEventId, OwnedRoomId, RoomId};
use tantivy::{
    Index, IndexReader, IndexWriter, ReloadPolicy, TantivyDocument, Term,
    collector::{FilterCollector, TopDocs},
    directory::MmapDirectory,
    query::{BooleanQuery, ConstScoreQuery, Occur, PhraseQuery, Query as TantivyQuery, TermQuery, TermSetQuery},
    schema::{FAST, Field, IndexRecordOption, STORED, STRING, Schema, TextFieldIndexing, TextOptions, Value as _},
};
use weft_wire::limits::SEARCH_WRITER_BYTES;

use crate::{
    error::SearchError,
    passages::passages,
    query::{Hit, Part, Query},
    words::{Phrase, Words},
};

/// The name of a file in the folder of the index: if it exists, the index is built again.
pub const REBUILD_MARK: &str = "rebuild";
/// Changes with the fields and the words: an index of another format is built again.
const FORMAT: &str = "format-2";
/// How the names of all formats begin.
const FORMATS: &str = "format-";
const TOKENIZER: &str = "weft";
/// The field of [`number_of`] a document's id.
const DOCUMENT_NUMBER: &str = "document_number";

/// The fields of an entry.
#[derive(Debug, Clone, Copy)]
struct Fields {
    /// What is replaced together: the texts of a document, its title, a message.
    key: Field,
    document: Field,
    document_number: Field,
    part: Field,
    event: Field,
    body: Field,
}

/// See the module.
pub struct SearchIndex {
    folder: PathBuf,
    fields: Fields,
    index: Index,
    reader: IndexReader,
    writer: Mutex<IndexWriter>,
}

impl std::fmt::Debug for SearchIndex {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SearchIndex")
            .field("folder", &self.folder)
            .finish_non_exhaustive()
    }
}

fn schema() -> (Schema, Fields) {
    let mut schema = Schema::builder();
    let words = TextFieldIndexing::default()
        .set_tokenizer(TOKENIZER)
        .set_index_option(IndexRecordOption::WithFreqsAndPositions);
    let fields = Fields {
        key: schema.add_text_field("key", STRING),
        document: schema.add_text_field("document", STORED),
        document_number: schema.add_u64_field(DOCUMENT_NUMBER, FAST),
        part: schema.add_text_field("part", STRING | STORED),
        event: schema.add_text_field("event", STORED),
        body: schema.add_text_field("body", TextOptions::default().set_indexing_options(words).set_stored()),
    };
    (schema.build(), fields)
}

impl SearchIndex {
    /// Opens the index in a folder. One of another format, or one that can't be read, is deleted, and an empty one is made.
    ///
    /// # Errors
    /// When the folder can't be used.
    pub fn open(folder: &Path) -> Result<Self, SearchError> {
        match Self::open_as_it_is(folder) {
            Ok(index) => Ok(index),
            Err(error) => {
                tracing::warn!(event = "search.index_rebuilt", %error, "the search index can't be read and is built again");
                if folder.exists() {
                    fs::remove_dir_all(folder)?;
                }
                Self::open_as_it_is(folder)
            }
        }
    }

    fn open_as_it_is(folder: &Path) -> Result<Self, SearchError> {
        let place = folder.join(FORMAT);
        fs::create_dir_all(&place)?;
        remove_other_formats(folder)?;
        let (schema, fields) = schema();
        let directory = MmapDirectory::open(&place).map_err(tantivy::TantivyError::from)?;
        let index = Index::open_or_create(directory, schema)?;
        index.tokenizers().register(TOKENIZER, Words);
        Ok(Self {
            folder: folder.to_owned(),
            fields,
            reader: index.reader_builder().reload_policy(ReloadPolicy::Manual).try_into()?,
            writer: Mutex::new(index.writer_with_num_threads(1, SEARCH_WRITER_BYTES)?),
            index,
        })
    }

    /// Whether an operator wants the index to be built again.
    #[must_use]
    pub fn is_rebuild_wanted(&self) -> bool {
        self.folder.join(REBUILD_MARK).exists()
    }

    /// What [`SearchIndex::commit`] noted last; `None` in a new index.
    pub(crate) fn noted(&self) -> Result<Option<String>, SearchError> {
        Ok(self.index.load_metas()?.payload)
    }

    /// Deletes all entries.
    pub(crate) fn clear(&self) -> Result<(), SearchError> {
        self.writer.lock().delete_all_documents()?;
        let mark = self.folder.join(REBUILD_MARK);
        if mark.exists() {
            fs::remove_file(mark)?;
        }
        Ok(())
    }

    /// Replaces the title or the text of a document; an empty one is deleted.
    pub(crate) fn replace(&self, document: &RoomId, part: Part, text: &str) -> Result<(), SearchError> {
        let key = format!("{document}\0{}", part.name());
        self.put(&key, document, part, None, text)
    }

    /// Replaces a message.
    pub(crate) fn replace_message(
        &self,
        document: &RoomId,
        part: Part,
        event: &EventId,
        text: &str,
    ) -> Result<(), SearchError> {
        self.put(event.as_str(), document, part, Some(event), text)
    }

    /// Deletes a message.
    pub(crate) fn delete_message(&self, event: &EventId) {
        let key = Term::from_field_text(self.fields.key, event.as_str());
        self.writer.lock().delete_term(key);
    }

    fn put(
        &self,
        key: &str,
        document: &RoomId,
        part: Part,
        event: Option<&EventId>,
        text: &str,
    ) -> Result<(), SearchError> {
        let writer = self.writer.lock();
        writer.delete_term(Term::from_field_text(self.fields.key, key));
        for passage in passages(text) {
            let mut entry = TantivyDocument::default();
            entry.add_text(self.fields.key, key);
            entry.add_text(self.fields.document, document.as_str());
            entry.add_u64(self.fields.document_number, number_of(document));
            entry.add_text(self.fields.part, part.name());
            entry.add_text(self.fields.event, event.map_or("", |event| event.as_str()));
            entry.add_text(self.fields.body, passage);
            writer.add_document(entry)?;
        }
        Ok(())
    }

    /// Makes what was changed visible to searches, and durable together with a note.
    pub(crate) fn commit(&self, note: &str) -> Result<(), SearchError> {
        let mut writer = self.writer.lock();
        let mut commit = writer.prepare_commit()?;
        commit.set_payload(note);
        commit.commit()?;
        drop(writer);
        Ok(self.reader.reload()?)
    }

    /// The best hits. The cost follows the number of entries with the rarest word of the query, and that of the documents.
    ///
    /// Documents are told apart by a 64-bit number: a hit may be of another document whose id has the same one, so the
    /// caller must check each hit.
    ///
    /// # Errors
    /// When the index can't be read.
    pub fn search(&self, query: &Query) -> Result<Vec<Hit>, SearchError> {
        if query.limit == 0 || query.phrases.is_empty() || query.documents.is_empty() {
            return Ok(Vec::new());
        }
        let searcher = self.reader.searcher();
        let top = TopDocs::with_limit(query.limit).and_offset(query.offset);
        let wanted: HashSet<u64> = query.documents.iter().map(|id| number_of(id)).collect();
        let is_wanted = move |number: u64| wanted.contains(&number);
        let collector = FilterCollector::new(DOCUMENT_NUMBER.to_owned(), is_wanted, top.order_by_score());
        let found = searcher.search(&self.query(query), &collector)?;
        let mut hits = Vec::new();
        for (_, place) in found {
            let entry: TantivyDocument = searcher.doc(place)?;
            hits.extend(self.hit(&entry));
        }
        Ok(hits)
    }

    fn query(&self, query: &Query) -> BooleanQuery {
        let Fields { part, body, .. } = self.fields;
        let mut all: Vec<(Occur, Box<dyn TantivyQuery>)> = Vec::new();
        if query.parts.len() < Part::ALL.len() {
            let parts = query.parts.iter().map(|one| Term::from_field_text(part, one.name()));
            let parts = ConstScoreQuery::new(Box::new(TermSetQuery::new(parts)), 0.0);
            all.push((Occur::Must, Box::new(parts)));
        }
        all.extend(query.phrases.iter().filter_map(|Phrase(words)| {
            let mut terms: Vec<Term> = words.iter().map(|word| Term::from_field_text(body, word)).collect();
            let query: Box<dyn TantivyQuery> = if terms.len() > 1 {
                Box::new(PhraseQuery::new(terms))
            } else {
                Box::new(TermQuery::new(terms.pop()?, IndexRecordOption::WithFreqs))
            };
            Some((Occur::Must, query))
        }));
        BooleanQuery::new(all)
    }

    fn hit(&self, entry: &TantivyDocument) -> Option<Hit> {
        let text = |field: Field| entry.get_first(field)?.as_str();
        Some(Hit {
            document: OwnedRoomId::try_from(text(self.fields.document)?).ok()?,
            part: Part::from_name(text(self.fields.part)?)?,
            event: text(self.fields.event).and_then(|event| OwnedEventId::try_from(event).ok()),
            passage: text(self.fields.body)?.to_owned(),
        })
    }
}

/// Deletes indexes that an earlier version of the program made.
fn remove_other_formats(folder: &Path) -> Result<(), SearchError> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        let is_format = name.to_str().is_some_and(|name| name.starts_with(FORMATS));
        if is_format && name != FORMAT {
            fs::remove_dir_all(entry.path())?;
        }
    }
    Ok(())
}

/// A number for a document's id, the same for ever (FNV-1a).
fn number_of(document: &RoomId) -> u64 {
    let bytes = document.as_bytes().iter();
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

    use ruma::room_id;

    use super::*;
    use crate::words::phrases;

    fn found(index: &SearchIndex, text: &str, documents: &[&RoomId]) -> Vec<String> {
        let query = Query {
            phrases: phrases(text),
            parts: Part::ALL.to_vec(),
            documents: documents.iter().map(|id| (*id).to_owned()).collect(),
            offset: 0,
            limit: 10,
        };
        let mut found: Vec<String> = index
            .search(&query)
            .unwrap()
            .into_iter()
            .map(|hit| format!("{} {}", hit.document, hit.part.name()))
            .collect();
        found.sort();
        found
    }

    #[test]
    fn texts_of_many_scripts_are_found_in_the_named_documents_only() {
        let folder = tempfile::tempdir().unwrap();
        let index = SearchIndex::open(folder.path()).unwrap();
        let (one, two) = (room_id!("!one:a.example"), room_id!("!two:a.example"));
        index.replace(one, Part::Title, "Minutes of Monday").unwrap();
        index
            .replace(
                one,
                Part::Text,
                "Protokoll über Äpfel. Протокол. 東京都の議事録。회의록입니다",
            )
            .unwrap();
        index.replace(two, Part::Text, "minutes and hours").unwrap();
        index.commit("1").unwrap();
        let both = [one, two];
        assert_eq!(
            found(&index, "MINUTES", &both),
            ["!one:a.example title", "!two:a.example text"]
        );
        assert_eq!(found(&index, "minutes", &[two]), ["!two:a.example text"]);
        for query in [
            "äpfel",
            "ПРОТОКОЛ",
            "東京",
            "京都",
            "都",
            "議事録",
            "회의록",
            "über äpfel",
        ] {
            assert_eq!(found(&index, query, &both), ["!one:a.example text"], "{query}");
        }
        let query = Query {
            phrases: phrases("minutes"),
            parts: vec![Part::Title],
            documents: both.map(ToOwned::to_owned).to_vec(),
            offset: 0,
            limit: 10,
        };
        assert_eq!(index.search(&query).unwrap().len(), 1, "only in titles");
        for query in ["minutes monday hours", "東都", "録議", "min", "*", "minutes OR nothing"] {
            assert_eq!(found(&index, query, &both), Vec::<String>::new(), "{query}");
        }
    }

    #[test]
    fn replaced_and_deleted_entries_are_gone_also_after_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let index = SearchIndex::open(folder.path()).unwrap();
        let room = room_id!("!one:a.example");
        let event = ruma::event_id!("$one");
        index.replace(room, Part::Text, "first").unwrap();
        index.replace_message(room, Part::Chat, event, "hello first").unwrap();
        index.commit("1").unwrap();
        assert_eq!(found(&index, "first", &[room]).len(), 2);
        index.replace(room, Part::Text, "second").unwrap();
        index.delete_message(event);
        assert_eq!(found(&index, "first", &[room]).len(), 2, "not committed yet");
        index.commit("2").unwrap();
        drop(index);
        let index = SearchIndex::open(folder.path()).unwrap();
        assert_eq!(index.noted().unwrap().as_deref(), Some("2"));
        assert_eq!(found(&index, "first", &[room]), Vec::<String>::new());
        assert_eq!(found(&index, "second", &[room]).len(), 1);
    }

    #[test]
    fn an_index_that_cannot_be_read_is_made_anew() {
        let folder = tempfile::tempdir().unwrap();
        let older = folder.path().join("format-1");
        fs::create_dir_all(&older).unwrap();
        drop(SearchIndex::open(folder.path()).unwrap());
        assert!(!older.exists(), "an index of an older format");
        fs::write(folder.path().join(FORMAT).join("meta.json"), "nonsense").unwrap();
        let index = SearchIndex::open(folder.path()).unwrap();
        assert_eq!(index.noted().unwrap(), None);
    }
}
