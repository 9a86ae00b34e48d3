//! Compares the tables of `spec/docs` with the code, in both directions: limits, close codes and message types.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests fail by panicking"
)]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use weft_crdt::limits as crdt;
use weft_wire::{
    limits as wire,
    live::{FrameError, close, hocuspocus, plain},
};

fn page(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs").join(name);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn on_one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The cells of each table row of a text, including header and delimiter rows.
fn rows(text: &str) -> Vec<Vec<String>> {
    let lines = text
        .lines()
        .filter_map(|line| line.strip_prefix('|')?.strip_suffix('|'));
    lines
        .map(|line| line.split('|').map(|cell| cell.trim().to_owned()).collect())
        .collect()
}

/// The text from a heading to the next heading.
fn section<'a>(text: &'a str, heading: &str) -> &'a str {
    let (_, rest) = text.split_once(&format!("\n## {heading}\n")).unwrap();
    rest.split("\n## ").next().unwrap()
}

macro_rules! constants {
    ($from:ident: $($name:ident)*) => {
        [$((stringify!($name), u64::try_from($from::$name).unwrap())),*]
    };
}

/// The constants in `spec/docs/limits.md`. A row with another name fails, and so does a name without a row.
fn constants() -> BTreeMap<&'static str, u64> {
    let crdt = constants!(crdt:
        EVENT_BYTES EVENT_CLIENTS EVENT_BLOCKS EVENT_DELETES TYPE_NESTING LIVE_BYTES LIVE_CLIENTS LIVE_BLOCKS LIVE_DELETES
        REFUSED_VALUE_NESTING CLIENT_ID_END CLOCK_END VALUE_NESTING
    );
    let wire = constants!(wire:
        MAX_SEALED_UPDATE_BYTES MAX_NAMED_EVENTS MAX_SERVER_BRANCHES WITNESS_INTERVAL_MS MAX_LIVE_FRAME_BYTES
        MAX_INBOX_BYTES_PER_SOCKET MAX_DOCUMENT_BYTES MIN_BLOCK_BYTES MAX_DOCUMENTS_PER_SOCKET MAX_FRAMES_BEFORE_AUTH MAX_BYTES_BEFORE_AUTH
        LIVE_SIGN_IN_MS MAX_STRANGER_BYTES_PER_NETWORK MAX_QUEUE_PER_SOCKET MAX_QUEUE_BYTES_PER_SOCKET
        MAX_ACCOUNT_BYTES_PER_USER MAX_DOCUMENT_NAME_BYTES MAX_FRAME_TEXT_BYTES MAX_TEXT_READS_PER_USER LIVE_KEEP_ALIVE_MS
        LIVE_IDLE_MS MIN_LIVE_BYTES_PER_SECOND MAX_NOTICE_BLOCKS NEARLY_FULL_PERCENT MAX_AWARENESS_STATE_BYTES MAX_AWARENESS_STATE_DEPTH
        MAX_AWARENESS_ENTRIES MAX_AWARENESS_CLIENTS_PER_DEVICE MAX_AWARENESS_CLIENTS_PER_USER
        MAX_AWARENESS_CLIENTS_PER_ROOM AWARENESS_EXPIRY_MS AWARENESS_MEMORY_MS MAX_AWARENESS_PER_SECOND MAX_EDU_BYTES
        MAX_TRANSACTION_PDUS MAX_TRANSACTION_EDUS MAX_RECEIPTS_PER_EDU MAX_BACKFILL_EVENTS MAX_EVENT_IDS_PER_REQUEST
        MAX_PREV_EVENTS MAX_AUTH_EVENTS MAX_CLOCK_LEAD_MS MAX_DEPTH MAX_OPEN_INVITATIONS_PER_USER
        MAX_OPEN_INVITATIONS_PER_USER_AND_SERVER MAX_OPEN_INVITATIONS_PER_SERVER MAX_OPEN_INVITATION_BYTES_PER_USER
        MAX_STORED_STRIPPED_BYTES MAX_WELL_KNOWN_BYTES MAX_WELL_KNOWN_REDIRECTS TRACEPARENT_BYTES MAX_CLIENT_REQUEST_BYTES
        MAX_AUDIT_LINE_BYTES MAX_AUDIT_EVENTS MAX_AUDIT_KEYS MAX_AUDIT_HEADS MAX_AUDIT_EXPORTS_PER_USER AUDIT_EXPORT_SECONDS
        REQUESTS_PER_MINUTE MAX_TITLE_BYTES MAX_DOCUMENTS_PER_PAGE MAX_UNREAD_DOCUMENTS_PER_PAGE MAX_IDEMPOTENCY_KEY_BYTES MAX_CHANGES_PER_EDIT
        MAX_IMPORT_BYTES MAX_IMPORT_NODES MAX_IMPORT_LOSSES MAX_LOST_EXAMPLE_CHARS MAX_IMPORT_IMAGES
        MAX_ARCHIVE_ATTACHMENTS MAX_ARCHIVE_ATTACHMENT_BYTES ARCHIVE_ATTACHMENT_SECONDS MAX_SEARCH_CONTEXT
        MAX_SEARCH_QUERY_BYTES MAX_SEARCH_WORDS MAX_SEARCH_RESULTS MAX_SEARCH_OFFSET SEARCH_PASSAGE_BYTES MAX_SEARCHED_TEXT_BYTES
        MAX_PURPOSE_HEADS MAX_TAKEN_RANGES MAX_HISTORY_ENTRIES MAX_HISTORY_EVENTS MAX_HISTORY_EDITS MAX_VERSION_DESCRIPTION_BYTES MAX_UNREAD_EVENTS
        MAX_STATEMENT_BYTES MAX_TEXT_HEADS MAX_LINKS_PER_DOCUMENT LINK_LASTS_MS MAX_LINK_LASTS_MS
        MAX_REQUEST_REASON_BYTES MAX_VIA MAX_GUESTS_PER_LINK MAX_GUESTS
        MAX_CONFLICTS_PER_EDIT KEEP_EDIT_REQUESTS_MS MAX_EVENT_STREAMS_PER_USER MAX_RESUMED_EVENTS BODY_GRACE_MS MIN_BODY_BYTES_PER_SECOND
        MAX_QUOTE_BYTES MAX_ANCHOR_NAME_BYTES MAX_ANCHOR_HEADS MAX_RESOLUTIONS_NAMED MAX_COMMENTS_PER_PAGE
        MAX_THUMBNAIL_SOURCE_BYTES MAX_THUMBNAIL_PIXELS MAX_WAITING_MEDIA_PER_USER WAITING_MEDIA_MS MAX_UPLOADS_PER_USER
        MAX_MEDIA_PER_PAGE MEDIA_FETCH_SECONDS
        MAX_THREAD_EVENTS MAX_THREAD_EVENTS_PER_PAGE MAX_MENTIONS MAX_SUMMARY_BYTES
        MAX_PARTICIPANTS_PER_DOCUMENT EDIT_RATE_SECONDS MAX_EDITS_PER_SECOND_PER_USER MAX_EDITS_PER_SECOND_PER_DOCUMENT
        MAX_WEBHOOKS_PER_OWNER MAX_WEBHOOKS_PER_USER MAX_WEBHOOKS MAX_WEBHOOK_URL_BYTES WEBHOOK_SECONDS WEBHOOK_EDITS_MS
        MAX_WEBHOOK_SPAN_EVENTS MAX_WEBHOOK_AUTHORS WEBHOOK_DELIVERIES_PER_HOUR WEBHOOK_DELIVERIES_AT_ONCE WEBHOOK_TESTS_PER_HOUR
        MAX_WEBHOOK_DELIVERIES_PER_HOST MAX_WEBHOOK_DELIVERIES_PER_USER MAX_WEBHOOK_DELIVERIES WEBHOOK_FIRST_PAUSE_MS
        WEBHOOK_LONGEST_PAUSE_MS WEBHOOK_GIVE_UP_MS WEBHOOK_OLD_SECRET_MS MAX_WEBHOOK_DELIVERIES_SHOWN
    );
    crdt.into_iter().chain(wire).collect()
}

#[test]
fn every_limit_in_the_table_equals_its_constant_and_is_on_its_page() {
    let constants = constants();
    let mut named = BTreeSet::new();
    for row in rows(&page("limits.md")).into_iter().skip(2) {
        let [what, limit, text, on, name] = row.as_slice() else {
            panic!("{row:?}");
        };
        let name = name.trim_matches('`');
        let number: u64 = limit.replace(',', "").parse().unwrap();
        assert_eq!(constants.get(name), Some(&number), "{what}: {name}");
        let on = on.trim_start_matches('[').split(']').next().unwrap();
        assert!(
            on_one_line(&page(on)).contains(text.as_str()),
            "{on} has no \"{text}\" ({name})"
        );
        assert!(named.insert(name.to_owned()), "{name} twice");
    }
    let constants: BTreeSet<String> = constants.into_keys().map(str::to_owned).collect();
    assert_eq!(named, constants, "a constant without a row");
}

/// The four-digit numbers in a text that begin with 44 or 45 and are words of their own.
fn close_codes(text: &str) -> BTreeSet<u16> {
    text.split(|letter: char| !letter.is_alphanumeric() && letter != ',')
        .filter(|word| word.len() == 4 && (word.starts_with("44") || word.starts_with("45")))
        .filter_map(|word| word.parse().ok())
        .collect()
}

#[test]
fn the_close_codes_of_both_pages_are_those_of_the_server() {
    let known: BTreeSet<u16> = close::ALL.iter().map(|close| close.code).collect();
    let live = page("live.md");
    let table: Vec<u16> = rows(section(&live, "Close codes"))
        .iter()
        .filter_map(|row| row[0].parse().ok())
        .collect();
    assert_eq!(table.iter().copied().collect::<BTreeSet<_>>(), known);
    assert_eq!(table.len(), known.len(), "a code has one row");
    let errors = page("errors.md");
    assert_eq!(close_codes(section(&errors, "Close codes of the live socket")), known);
    for name in ["live.md", "errors.md", "awareness.md", "admission.md", "versions.md"] {
        // The pages name the range 4400 to 4499; 4499 is not a code.
        let named: BTreeSet<u16> = close_codes(&page(name))
            .into_iter()
            .filter(|code| *code != 4499)
            .collect();
        assert!(named.is_subset(&known), "{name} names {:?}", named.difference(&known));
    }
}

fn var_uint(number: u64) -> Vec<u8> {
    let mut writer = weft_crdt::lib0::Writer::new();
    writer.var_uint(number);
    writer.into_vec()
}

/// Whether a framing has a message of this type: a message without a body then fails with an error other than unknown type,
/// or not at all.
fn has_type(parsed: Result<(), FrameError>) -> bool {
    !matches!(parsed, Err(FrameError::UnknownType { what: "message", .. }))
}

/// The numbers in the first column of a table: `0 sync, 1 awareness` gives two.
fn types(text: &str) -> BTreeSet<u64> {
    rows(text)
        .iter()
        .flat_map(|row| row[0].split(", ").map(str::to_owned).collect::<Vec<_>>())
        .filter_map(|cell| cell.split(' ').next()?.parse().ok())
        .collect()
}

#[test]
fn the_message_types_in_the_tables_are_those_that_the_parsers_accept() {
    let live = page("live.md");
    let plain: BTreeSet<u64> = (0..1_000)
        .filter(|number| has_type(plain::Frame::parse(&var_uint(*number)).map(drop)))
        .collect();
    assert_eq!(types(section(&live, "Plain frames")), plain);
    let named = |number: u64| [b"\x01n".to_vec(), var_uint(number)].concat();
    let mut hocuspocus: BTreeSet<u64> = (0..1_000)
        .filter(|number| has_type(hocuspocus::Frame::parse(&named(*number)).map(drop)))
        .collect();
    // Ping and pong are a single byte without a name.
    let alone = (0..=255_u8).filter(|byte| hocuspocus::Frame::parse(&[*byte]).is_ok());
    hocuspocus.extend(alone.map(u64::from));
    assert_eq!(types(section(&live, "Hocuspocus frames")), hocuspocus);
}
