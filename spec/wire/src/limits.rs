//! Limits for every number that comes from outside, each with its reason. Limits of the update encoding (nesting,
//! counts) are in `weft_crdt::limits`.
//!
//! A limit that changes what servers accept is part of the protocol and must be described in `spec/docs`.

mod webhooks;

pub use webhooks::*;

// --- Connections and bytes in flight ------------------------------------------------------------------------------------

/// Open connections. Each takes a file descriptor and about 40 KB with TLS. The limit is lower if the system allows
/// fewer descriptors. (`[limits] connections`)
pub const MAX_CONNECTIONS: u64 = 8_192;
/// Unauthenticated connections of one network (an IPv4 address, the /64 of an IPv6 address): enough for an office whose
/// clients all reconnect at once, and 10 MB at most (T120). (`[limits] connections_per_network`)
pub const MAX_STRANGER_CONNECTIONS_PER_NETWORK: u64 = 256;
/// Bytes of requests and responses in memory for unauthenticated clients of one network: one complete signed request of
/// another server ([`MAX_FEDERATION_REQUEST_BYTES`]), because its signature covers its body, and some more (T121,
/// T122). (`[limits] stranger_in_flight_bytes_per_network`)
pub const MAX_STRANGER_BYTES_PER_NETWORK: u64 = 16 * 1024 * 1024;
/// The same for all unauthenticated clients. (`[limits] stranger_in_flight_bytes`)
pub const MAX_STRANGER_BYTES: u64 = 64 * 1024 * 1024;
/// Bytes of requests and responses in memory for one account: the largest document ([`MAX_DOCUMENT_BYTES`]) once; one of
/// the usual length leaves nearly all of it for everything else (T130). (`[limits] account_in_flight_bytes_per_user`)
pub const MAX_ACCOUNT_BYTES_PER_USER: u64 = 96 * 1024 * 1024;
/// The same for all accounts. (`[limits] account_in_flight_bytes`)
pub const MAX_ACCOUNT_BYTES: u64 = 256 * 1024 * 1024;
/// Concurrent builds of a document's whole text for one user whose bytes are not charged yet; counted separately for
/// `GET content` and for live sockets. Each text has up to [`MAX_DOCUMENT_BYTES`]. Further requests wait (T130).
pub const MAX_TEXT_READS_PER_USER: usize = 2;
/// Seconds for which a request waits for one of these builds: far longer than the largest text takes, and shorter than
/// the time after which browsers and proxies end a request without an answer.
pub const TEXT_READ_WAIT_SECONDS: u64 = 30;
/// `GET content` requests of one user in progress or waiting: enough for a page that opens several documents at once.
pub const MAX_CONTENT_READS_PER_USER: u64 = 16;
/// The same for all users.
pub const MAX_CONTENT_READS_WAITING: u64 = 1_024;
/// Bytes of requests and responses in memory for one other server: the largest response
/// ([`MAX_FEDERATION_RESPONSE_BYTES`]), and some more. (`[limits] server_in_flight_bytes_per_server`)
pub const MAX_SERVER_BYTES_PER_SERVER: u64 = 144 * 1024 * 1024;
/// The same for all other servers. (`[limits] server_in_flight_bytes`)
pub const MAX_SERVER_BYTES: u64 = 256 * 1024 * 1024;
/// Bytes charged for a request in addition to its path, headers and body: its task and its parsed form.
pub const REQUEST_OVERHEAD_BYTES: u64 = 8 * 1024;
/// Milliseconds until the first request of a connection must have arrived; the same limit applies to the TLS handshake
/// before it. Mobile networks need seconds.
pub const FIRST_REQUEST_MS: u64 = 20_000;
/// Milliseconds after which a connection without a request in progress is closed: an idle one, or one with incomplete
/// request headers.
pub const CONNECTION_IDLE_MS: u64 = 30_000;
/// Bytes of one request's path, query and headers. A filter in a query has up to 64 KB.
pub const MAX_HEAD_BYTES: usize = 96 * 1024;
/// Milliseconds without a byte after which the body of a request times out.
pub const BODY_GRACE_MS: u64 = 15_000;
/// Minimum rate of a request body in bytes a second, after [`BODY_GRACE_MS`]: half of a slow mobile connection.
pub const MIN_BODY_BYTES_PER_SECOND: u64 = 8 * 1024;
/// Bytes of a refused body that are read and discarded, so that the client reads the response and does not see a reset
/// connection: the largest upload that people try.
pub const MAX_DISCARDED_BYTES: u64 = 64 * 1024 * 1024;
/// Milliseconds for that.
pub const DISCARD_MS: u64 = 30_000;
/// Milliseconds after which a connection is closed if the peer does not read. Bytes that the peer reads extend the
/// deadline by the time that they take at [`MIN_LIVE_BYTES_PER_SECOND`].
pub const WRITE_STALL_MS: u64 = 60_000;
/// Bytes in the system's send buffer: with a small one a slow reader is detected early and holds little memory.
pub const MAX_UNSENT_BYTES: u32 = 128 * 1024;
/// Concurrent streams of one HTTP/2 connection. Browsers need a few dozen.
pub const MAX_STREAMS_PER_CONNECTION: u32 = 64;
/// Flow control window of an HTTP/2 connection, bytes: the unread bytes of request bodies.
pub const HTTP2_CONNECTION_WINDOW_BYTES: u32 = 256 * 1024;
/// The same for one stream.
pub const HTTP2_STREAM_WINDOW_BYTES: u32 = 128 * 1024;
/// Milliseconds between pings on an HTTP/2 connection, and until the response to a ping must have arrived.
pub const HTTP2_PING_MS: u64 = 20_000;

// --- Documents and live sockets -------------------------------------------------------------------------------------

/// Raw bytes of one update inside an event. An event has at most 65,536 bytes and base64 adds a third; the rest is for
/// the envelope, the ranges and the signatures.
pub const MAX_SEALED_UPDATE_BYTES: usize = 45_000;

/// Event ids in the field `dev.weft.stands` of one event; a longer list counts as empty. A server names only events
/// that none of its own events references alone, so a few suffice. 16 ids are about 750 bytes; an event with a full
/// update may not have room for them.
pub const MAX_NAMED_EVENTS: usize = 16;
/// Milliseconds after which a server sends a witness event, counted from the first update of another server that none
/// of its own events references: at most six per hour and document. A conflicting claim that arrives later finds the
/// first one confirmed.
pub const WITNESS_INTERVAL_MS: u64 = 10 * 60 * 1_000;
/// Branches of one server's events up to which its events count between conflicting claims. The events of a server form
/// one chain, and a second one only after it was restored from a backup. A malicious server could create thousands, and
/// each costs one comparison for every two claims.
pub const MAX_SERVER_BRANCHES: usize = 8;

/// One WebSocket message on a live socket, bytes: the largest live update (`weft_crdt::limits::LIVE_BYTES`) with its
/// envelope and a document name. A pasted text of 6 MB is one message, and so are all offline edits of a user (sync
/// step 2). The update is split at [`MAX_SEALED_UPDATE_BYTES`] when it is sealed.
pub const MAX_LIVE_FRAME_BYTES: usize = 8 * 1024 * 1024 + 1_024;

/// Bytes of a live socket's messages that wait for the commit: above the limit the socket is not read. One message may
/// exceed it.
pub const MAX_INBOX_BYTES_PER_SOCKET: usize = 1024 * 1024;

/// Refused blocks that one notice lists; a notice is shown to a user.
pub const MAX_NOTICE_BLOCKS: usize = 16;

/// The compacted document, bytes: a text of 100 MB, and half a MB for its encoding. Above it, edits are refused with
/// `M_TOO_LARGE`, and no acknowledged edit is lost. A server needs three to four times as much memory while it
/// compacts or opens a document, and an answer with the whole text must fit [`MAX_ACCOUNT_BYTES_PER_USER`] and, in base64,
/// [`MAX_SERVER_BYTES_PER_SERVER`] and [`MAX_ANSWER_BYTES_PER_SERVER`].
pub const MAX_DOCUMENT_BYTES: usize = 100_500_000;

/// Bytes that a block of a document counts as at least: a document that is parsed takes some 72 bytes for each block, so
/// one of the shortest blocks would need a hundred times its length. Typed text has longer ones.
pub const MIN_BLOCK_BYTES: usize = 12;

/// Different Yjs client ids in one document. Each permanently costs about six bytes in every state vector (T110).
pub const MAX_CLIENTS_PER_DOCUMENT: usize = 65_536;

/// Per cent of [`MAX_DOCUMENT_BYTES`] or [`MAX_CLIENTS_PER_DOCUMENT`] above which editors are told that the document is nearly
/// full: enough is left to finish a thought and to begin another document.
pub const NEARLY_FULL_PERCENT: usize = 90;

/// Pending (acknowledged, not yet sealed) edits of one room before sealing is forced, so that a restart replays little.
pub const MAX_JOURNAL_ENTRIES: usize = 4_096;

/// Documents on one socket (Hocuspocus multiplexes by name): as many as its own server allows before authentication.
pub const MAX_DOCUMENTS_PER_SOCKET: usize = 100;

/// Frames that are buffered while a socket's token is checked (GHSA-xwhh-v746-pj9m).
pub const MAX_FRAMES_BEFORE_AUTH: usize = 1_000;
/// Total bytes of these frames.
pub const MAX_BYTES_BEFORE_AUTH: usize = 5 * 1024 * 1024;

/// Milliseconds until a live socket that was opened without a token must have authenticated for a document. Other
/// messages do not extend the deadline (T121).
pub const LIVE_SIGN_IN_MS: u64 = 15_000;
/// Bytes of control frames that wait to be written to a live socket, in addition to the message being written:
/// responses to pings (T121).
pub const MAX_LIVE_CONTROL_BYTES: usize = 16 * 1024;

/// Changes queued for one slow reader. Above the limit the queue is dropped, and the reader receives a difference
/// instead.
pub const MAX_QUEUE_PER_SOCKET: usize = 256;
/// Bytes of these changes, and bytes that wait to be written to one socket: above the limit nothing is added. One
/// message may exceed it; otherwise a larger message could never be sent.
pub const MAX_QUEUE_BYTES_PER_SOCKET: usize = 512 * 1024;

/// Bytes of a document's name in a Hocuspocus frame: a room id or alias (255) and a session id.
pub const MAX_DOCUMENT_NAME_BYTES: usize = 512;

/// Bytes of a reason or of a stateless payload in a frame.
pub const MAX_FRAME_TEXT_BYTES: usize = 64 * 1024;

// --- Render workers ---------------------------------------------------------------------------------------------------

/// Bytes of a document's state, and of any other update, that a render worker receives. The engine needs up to eight
/// times as much memory, and a worker has [`RENDER_MEMORY_BYTES`]. A larger document is kept and edited, and not rendered.
pub const MAX_RENDER_STATE_BYTES: usize = 32 * 1024 * 1024;
/// Bytes of a rendered document: markup and escapes can make a text several times larger.
pub const MAX_RENDERED_BYTES: usize = 64 * 1024 * 1024;
/// Bytes of the JSON that accompanies the updates in a frame between server and worker: the changes of an edit, whose
/// request has at most [`MAX_CLIENT_REQUEST_BYTES`], in a form that may be longer.
pub const MAX_RENDER_HEADER_BYTES: usize = 4 * 1024 * 1024;
/// Address space of a worker, bytes (T91 to T95: updates of 30 bytes for which engines reserve gigabytes).
pub const RENDER_MEMORY_BYTES: u64 = 512 * 1024 * 1024;
/// Stack of the worker's engine, bytes. Engines recurse over nested types (T97): 2 MiB end at 5,000 levels.
pub const RENDER_STACK_BYTES: usize = 16 * 1024 * 1024;
/// Processor seconds of a worker for one request. The largest text of a real document takes less than one.
pub const RENDER_CPU_SECONDS: u64 = 4;
/// Processor seconds of a worker in its life; the pool replaces it before.
pub const RENDER_LIFE_CPU_SECONDS: u64 = 120;
/// Milliseconds until an answer, after which the worker is ended. More than [`RENDER_CPU_SECONDS`], because workers have a
/// lower priority than the server.
pub const RENDER_ANSWER_MS: u64 = 10_000;
/// Milliseconds until a new worker is ready.
pub const RENDER_START_MS: u64 = 10_000;
/// Milliseconds that a request waits for a free worker.
pub const RENDER_WAIT_MS: u64 = 5_000;
/// Requests that wait for a worker; more are refused. Each may hold two states.
pub const MAX_RENDER_WAITING: usize = 32;
/// Requests after which a worker is replaced, so that leaked memory (T111) is returned.
pub const MAX_REQUESTS_PER_RENDER_WORKER: u32 = 256;
/// Milliseconds after which an unused worker is ended.
pub const RENDER_IDLE_MS: u64 = 60_000;
/// Milliseconds for which a document is not rendered again after it has ended two workers, or one by its deadline. The
/// time doubles with each further failure.
pub const RENDER_FIRST_PAUSE_MS: u64 = 1_000;
/// The longest such pause.
pub const RENDER_LONGEST_PAUSE_MS: u64 = 600_000;
/// Documents with such a pause that are remembered; beyond it the one whose pause ends first is forgotten.
pub const MAX_RENDER_PAUSES: usize = 4_096;
/// Nesting of types and values in a rendered document: rendering recurses. Real documents have fewer than 20 levels.
pub const MAX_RENDER_DEPTH: u32 = 256;

/// Bytes of a file that is imported, and of a converted one: a book of 1,000 pages has 2 MB of text. An import is one edit, so
/// more would not be one either (`weft_crdt::limits::LIVE_BYTES`).
pub const MAX_IMPORT_BYTES: usize = 8 * 1024 * 1024;
/// Blocks and texts of an imported file. Each is inserted by an engine in at most [`RENDER_CPU_SECONDS`].
pub const MAX_IMPORT_NODES: usize = 50_000;
/// Kinds of content that an answer to an import lists as left out; others are counted together.
pub const MAX_IMPORT_LOSSES: usize = 50;
/// Characters of an example of what was left out.
pub const MAX_LOST_EXAMPLE_CHARS: usize = 80;
/// Images of an imported file that are uploaded; further ones are left out. Each is a file of the user.
pub const MAX_IMPORT_IMAGES: usize = 500;
/// Attachments in an archive that a user exports. A document has few; each may be requested from another server.
pub const MAX_ARCHIVE_ATTACHMENTS: usize = 1_000;
/// Bytes of the attachments in an archive that a user exports.
pub const MAX_ARCHIVE_ATTACHMENT_BYTES: u64 = 4 * 1024 * 1024 * 1024;
/// Seconds for one attachment of an archive, which may have to come from another server.
pub const ARCHIVE_ATTACHMENT_SECONDS: u64 = 30;
/// Files in an archive that is imported: its attachments and a few others.
pub const MAX_ARCHIVE_FILES: usize = 100_000;
/// Bytes of the manifest of an archive that is imported: some hundred bytes for each attachment.
pub const MAX_MANIFEST_BYTES: usize = 64 * 1024 * 1024;
/// Bytes of an operator's request to import a document: the content in base64, and the addresses of its attachments.
pub const MAX_OPERATOR_IMPORT_BYTES: usize = 128 * 1024 * 1024;
/// Files whose names are looked for at a time; further ones wait a day. Each needs some hundred bytes.
pub const MAX_UNNAMED_MEDIA: usize = 100_000;
/// Documents in one page of the operator's list.
pub const OPERATOR_PAGE_DOCUMENTS: usize = 100;
/// Events on each side of a message that a search of Matrix clients finds.
pub const MAX_SEARCH_CONTEXT: usize = 20;
/// Bytes of a search query: a sentence.
pub const MAX_SEARCH_QUERY_BYTES: usize = 500;
/// Words of a search query; each is looked up. Of a language without spaces each pair of characters counts.
pub const MAX_SEARCH_WORDS: usize = 64;
/// Results in one page of a search.
pub const MAX_SEARCH_RESULTS: usize = 50;
/// Results before a page: the index ranks all of them again for each page.
pub const MAX_SEARCH_OFFSET: usize = 1_000;
/// Searches at one time: each uses a processor.
pub const MAX_SEARCHES: usize = 2;
/// Milliseconds that a search waits for its turn.
pub const SEARCH_WAIT_MS: u64 = 5_000;
/// Memory of the search index for entries that are not committed yet, bytes: the least that the library accepts is 15 MB.
pub const SEARCH_WRITER_BYTES: usize = 32 * 1024 * 1024;
/// Bytes of a passage, which is what a hit reads and what must have all words of a query: about ten pages.
pub const SEARCH_PASSAGE_BYTES: usize = 32 * 1024;
/// Bytes of a document's text that are indexed, from its beginning: a book of 2,000 pages.
pub const MAX_SEARCHED_TEXT_BYTES: usize = 4 * 1024 * 1024;
/// Events of a document, except updates, among which messages are indexed when the index is built; newer ones are
/// indexed when they arrive.
pub const MAX_SEARCHED_MESSAGES: usize = 100_000;
/// Events since the last note of the index that are indexed one by one; with more the index is built again.
pub const SEARCH_CATCH_UP_EVENTS: usize = 100_000;
/// Milliseconds after the last signed update of a document until its text is indexed: somebody who types causes one each few
/// seconds, and each rendering costs as much as the document is long.
pub const SEARCH_PAUSE_MS: u64 = 2_000;
/// Milliseconds after which the text of a document that is always edited is indexed all the same.
pub const SEARCH_LATEST_MS: u64 = 15_000;
/// Conversions of office files at one time: each may use [`CONVERSION_MEMORY_BYTES`].
pub const MAX_CONVERSIONS: usize = 1;
/// Address space of a converter, bytes. Its runtime reserves twice what it uses.
pub const CONVERSION_MEMORY_BYTES: u64 = 1024 * 1024 * 1024;
/// Processor time of a conversion, seconds: a DOCX of 1,000 pages needs about ten.
pub const CONVERSION_CPU_SECONDS: u64 = 20;
/// Milliseconds until a conversion is ended.
pub const CONVERSION_MS: u64 = 60_000;
/// Milliseconds that a request waits for a converter.
pub const CONVERSION_WAIT_MS: u64 = 10_000;
/// Changes of one edit by REST.
pub const MAX_CHANGES_PER_EDIT: usize = 1_000;
/// Conflicts that one edit returns: they inform a user.
pub const MAX_CONFLICTS_PER_EDIT: usize = 1_000;
/// Places at which a search replaces text.
pub const MAX_REPLACEMENTS_PER_CHANGE: usize = 100_000;

// --- Audit files ------------------------------------------------------------------------------------------------------

/// One line of an audit file, bytes. The longest is the list of the state at a cut: 48 bytes an event, for 300,000
/// members.
pub const MAX_AUDIT_LINE_BYTES: usize = 16 * 1024 * 1024;
/// Events of an audit file. A verifier keeps some 300 bytes of each.
pub const MAX_AUDIT_EVENTS: usize = 20_000_000;
/// Keys in an audit file, of all servers: a thousand servers with as many keys as [`MAX_KEYS_PER_SERVER`] allows two of.
pub const MAX_AUDIT_KEYS: usize = 100_000;
/// Heads of an audit file. Servers merge forward extremities; a thousand are an attack.
pub const MAX_AUDIT_HEADS: usize = 10_000;
/// Entries of states and state vectors that a verifier reads to resolve states and to merge vectors. A log of a million
/// events in a room with 200 members, each event after two others with different states, needs as many.
pub const MAX_AUDIT_WORK: u64 = 400_000_000;
/// Entries of the states of all cuts of an audit file: ten cuts of the largest rooms. Each state is in memory.
pub const MAX_AUDIT_CUT_ENTRIES: usize = 3_000_000;
/// Bytes of events that a verifier keeps to decide between claims to the same clocks, for which it needs all of them.
pub const MAX_AUDIT_KEPT_BYTES: usize = 1024 * 1024 * 1024;
/// Exports of one user at the same time: each holds a page of events.
pub const MAX_AUDIT_EXPORTS_PER_USER: u64 = 2;
/// The same for all users.
pub const MAX_AUDIT_EXPORTS: u64 = 16;
/// Seconds after which an export ends: the largest log over a slow connection. A file that ends early has no last line.
pub const AUDIT_EXPORT_SECONDS: u64 = 60 * 60;
/// Entries of the access log that wait to be written; a thread writes some 100,000 a second.
pub const MAX_ACCESS_LOG_QUEUE: usize = 16_384;
/// Bytes of the access log of one day: a million reads. Further ones are counted and not recorded.
pub const MAX_ACCESS_LOG_BYTES_PER_DAY: u64 = 256 * 1024 * 1024;
/// Events that an export reads at a time. Two pages of the largest events are 13 MB.
pub const AUDIT_PAGE_EVENTS: usize = 100;
/// Events that an export sends out of their order of arrival, because an earlier one references them: a gap that was
/// filled later. It keeps their ids until their turn comes.
pub const MAX_AUDIT_EVENTS_AHEAD: usize = 100_000;

// --- Awareness ------------------------------------------------------------------------------------------------------

/// JSON state of one client, bytes, without `user.id` and `user.name`, which the server writes. Colour and cursor take
/// about 300 in stock editors.
pub const MAX_AWARENESS_STATE_BYTES: usize = 2_048;
/// Nesting of such a state: the same as that of values in updates, and far below the limit of the JSON parser for the
/// transaction around it ([`MAX_JSON_DEPTH`]).
pub const MAX_AWARENESS_STATE_DEPTH: usize = 32;
/// Client ids of one device in a room, over all its sockets: each editor (tab) has one, a page with several views has a
/// few (T112).
pub const MAX_AWARENESS_CLIENTS_PER_DEVICE: usize = 16;
/// Client ids of one user in a room, over all sockets and devices. A server can invent devices of its users: without a
/// limit per user, one viewer could use up the room's limit (T57, T112).
pub const MAX_AWARENESS_CLIENTS_PER_USER: usize = 128;
/// Entries in one awareness message: stock clients repeat those of the whole room ([`MAX_AWARENESS_CLIENTS_PER_ROOM`]).
pub const MAX_AWARENESS_ENTRIES: usize = 4_096;
/// Live client ids of one room, local and remote.
pub const MAX_AWARENESS_CLIENTS_PER_ROOM: usize = 4_096;
/// Milliseconds after which an entry that was not renewed is dropped; clients renew every 15 s (y-protocols).
pub const AWARENESS_EXPIRY_MS: u64 = 30_000;
/// Milliseconds for which the clock of a removed client id is kept. A client that was disconnected for more than 15 s
/// has raised its clock meanwhile (y-protocols).
pub const AWARENESS_MEMORY_MS: u64 = 60_000;
/// Awareness messages per second and socket; above the limit they are coalesced to the newest.
pub const MAX_AWARENESS_PER_SECOND: u32 = 20;
/// Milliseconds without a message after which the server sends a keep-alive: y-websocket 3 reconnects after 30 s
/// without a message.
pub const LIVE_KEEP_ALIVE_MS: u64 = 20_000;
/// Minimum rate in bytes a second at which a client must read a large message, in addition to [`LIVE_IDLE_MS`] for any
/// message: a slow mobile connection.
pub const MIN_LIVE_BYTES_PER_SECOND: u64 = 16 * 1024;
/// Milliseconds without a message from a client after which its socket is closed. Hocuspocus' own server: 60 s.
pub const LIVE_IDLE_MS: u64 = 60_000;

// --- Events (Matrix specification, "Size limits") ---------------------------------------------------------------------

/// Canonical JSON of an event with its signatures, bytes.
pub const MAX_EVENT_BYTES: usize = 65_536;
/// `type`, `state_key`, `sender`, `room_id`, bytes each.
pub const MAX_EVENT_FIELD_BYTES: usize = 255;
/// `prev_events` of one event.
pub const MAX_PREV_EVENTS: usize = 20;
/// `auth_events` of one event.
pub const MAX_AUTH_EVENTS: usize = 10;
/// Nesting of JSON in an event. serde_json's own limit; deeper input is refused before it can use up a stack (T06).
pub const MAX_JSON_DEPTH: usize = 128;

/// Text of one received event before conversion to canonical JSON, bytes. White space and escapes may make it longer
/// than [`MAX_EVENT_BYTES`]: a letter written as `\u0041` takes six bytes.
pub const MAX_EVENT_TEXT_BYTES: usize = 6 * MAX_EVENT_BYTES;
/// Signing keys of one server that are looked up for one event. Servers sign with one key, and with two during a
/// rotation.
pub const MAX_SIGNING_KEYS_PER_SERVER: usize = 8;
/// `depth` of an event (Matrix specification): the largest canonical integer; the depth does not rise above it (T04).
pub const MAX_DEPTH: u64 = (1 << 53) - 1;
/// How far a previous event's time may be ahead of this server's clock, milliseconds, so that a new event gets a later
/// time than that event. Unsynchronised clocks differ by minutes. An event further ahead would otherwise move the times
/// of all later events.
pub const MAX_CLOCK_LEAD_MS: u64 = 5 * 60 * 1_000;
/// Extremities that an event of this server references. More are allowed ([`MAX_PREV_EVENTS`]), but each costs every
/// server the resolution of one more state. The events that follow reference the rest.
pub const MAX_CITED_EXTREMITIES: usize = 10;
/// State groups between a group and the full state below it: limits the reads for one state. The same number as in
/// Synapse.
pub const MAX_STATE_GROUP_HOPS: u8 = 100;

// --- Federation -------------------------------------------------------------------------------------------------------

/// Events in a transaction (Matrix specification).
pub const MAX_TRANSACTION_PDUS: usize = 50;
/// EDUs in a transaction (Matrix specification).
pub const MAX_TRANSACTION_EDUS: usize = 100;
/// Body of one federation request, bytes: 50 events of full size and 100 EDUs of the same size, rounded up.
pub const MAX_FEDERATION_REQUEST_BYTES: usize = 200 * 65_536;
/// Body of one response of another server, bytes: the state of a room with 50,000 members is about 50 MB.
pub const MAX_FEDERATION_RESPONSE_BYTES: usize = 128 * 1024 * 1024;
/// Bytes of responses of one other server in memory, from the first byte until the events are checked: one of the
/// largest ([`MAX_FEDERATION_RESPONSE_BYTES`]), and some more for ordinary concurrent ones (T136).
pub const MAX_ANSWER_BYTES_PER_SERVER: u64 = 144 * 1024 * 1024;
/// The same for all other servers.
pub const MAX_ANSWER_BYTES: u64 = 256 * 1024 * 1024;
/// Bytes at the start of a response that are not charged to the two limits above: keys, acknowledgements and single
/// events can be read even while long responses use up both.
pub const FREE_ANSWER_BYTES: usize = 128 * 1024;
/// Events in one list of a response with a room's state: eight times the members that [`MAX_FEDERATION_RESPONSE_BYTES`]
/// allows for. The index entry of an event takes 32 bytes, however short its text is.
pub const MAX_EVENTS_PER_ANSWER: usize = 400_000;
/// Body of a response with one event, bytes: the event's text and its envelope.
pub const MAX_EVENT_RESPONSE_BYTES: usize = MAX_EVENT_TEXT_BYTES + 4 * 1024;
/// Body of a response to `/backfill` or `/get_missing_events`, bytes: twice the size of [`MAX_BACKFILL_EVENTS`] events
/// of full size, because escapes make text longer.
pub const MAX_EVENTS_RESPONSE_BYTES: usize = 2 * MAX_BACKFILL_EVENTS * MAX_EVENT_BYTES;
/// Body of a response to `/state_ids`, bytes: an id takes 47, so 350,000 events of state and auth chain fit.
pub const MAX_STATE_IDS_RESPONSE_BYTES: usize = 16 * 1024 * 1024;
/// Body of a response to `/event_auth`, bytes: 30,000 events of the usual size of a member event.
pub const MAX_AUTH_CHAIN_RESPONSE_BYTES: usize = 32 * 1024 * 1024;
/// Body of a response to `/send_knock`, bytes: stripped state up to its own limit, with escapes and an envelope.
pub const MAX_STRIPPED_RESPONSE_BYTES: usize = 2 * MAX_STRIPPED_STATE_BYTES;
/// Body of a profile, bytes: the limit of the Matrix specification for a profile (T124).
pub const MAX_PROFILE_RESPONSE_BYTES: usize = 64 * 1024;
/// Body of a resolved alias, bytes: a room id and some hundred server names (T124).
pub const MAX_ALIAS_RESPONSE_BYTES: usize = 64 * 1024;
/// Rooms requested for one page of another server's directory. Synapse has the same limit.
pub const MAX_PUBLIC_ROOMS_PAGE: u32 = 100;
/// Body of a page of another server's directory, bytes: 10 KB for each of [`MAX_PUBLIC_ROOMS_PAGE`] rooms (T124).
pub const MAX_PUBLIC_ROOMS_RESPONSE_BYTES: usize = 1024 * 1024;
/// Body of a response that only acknowledges a request, bytes: at most fifty event ids with reasons.
pub const MAX_SHORT_RESPONSE_BYTES: usize = 64 * 1024;
/// Body of an error response, bytes: an error code and a sentence.
pub const MAX_ERROR_RESPONSE_BYTES: usize = 16 * 1024;
/// Body of a document's snapshot, bytes: base64 adds a third; the rest is for the ids.
pub const MAX_SNAPSHOT_RESPONSE_BYTES: usize = MAX_DOCUMENT_BYTES / 3 * 4 + 64 * 1024;
/// Body of a server's keys, bytes. A real one has about 500 (T44).
pub const MAX_KEY_RESPONSE_BYTES: usize = 64 * 1024;
/// Body of `.well-known/matrix/server`, bytes (T45).
pub const MAX_WELL_KNOWN_BYTES: usize = 50 * 1024;
/// Events in the response to one `/backfill` or `/get_missing_events`, whatever limit the request has (T12).
pub const MAX_BACKFILL_EVENTS: usize = 100;
/// Event ids in one list of `/get_missing_events` (`latest_events`, `earliest_events`).
pub const MAX_EVENT_IDS_PER_REQUEST: usize = 100;
/// Events fetched to fill one gap before the state at the gap is requested instead.
pub const MAX_GAP_EVENTS: usize = 1_000;
/// Bytes of events in memory while the missing ancestors of one event are fetched: a state of 10,000 members is about
/// 12 MB, and several fetches run at a time.
pub const MAX_FETCHED_BYTES: usize = 64 * 1024 * 1024;
/// Events of one room in the staging table; above the limit the newest are refused and fetched again later (T19).
pub const MAX_STAGED_EVENTS_PER_ROOM: usize = 10_000;
/// Bytes of these events. Above the limit the newest are refused, as above. [`MAX_STAGED_EVENTS_PER_ROOM`] events of
/// 1.5 KB are 15 MB; the rest is for large updates. (`[limits] staged_event_bytes_per_room`)
pub const MAX_STAGED_BYTES_PER_ROOM: u64 = 128 * 1024 * 1024;
/// The part of it that events from one server may use: one in this many. Its transactions are refused above that, with
/// the time to wait, so that the server sends them again. Other servers are not affected.
pub const STAGED_BYTES_PARTS: u64 = 4;
/// Seconds until a server whose transaction was refused for that reason may send it again: the waiting events of a room
/// are retried every 30 s.
pub const STAGING_RETRY_SECONDS: u64 = 30;
/// Bytes of events in transactions that are accepted from one server in a day. Further transactions are refused with
/// the time to wait, so that the other server keeps them until then. Ten events a second of 2 KB each are 1.7 GB
/// (`[limits] event_bytes_per_server_and_day`).
pub const MAX_EVENT_BYTES_PER_SERVER_AND_DAY: u64 = 4 * 1024 * 1024 * 1024;
/// Users of a document, joined and invited, above which this server's users can invite nobody and can't join it. Each member
/// is an event of the state that every join transfers, and a reader of every edit. (`[limits] participants_per_document`)
pub const MAX_PARTICIPANTS_PER_DOCUMENT: usize = 10_000;
/// Seconds over which the rate of edits is an average: programs edit in bursts.
pub const EDIT_RATE_SECONDS: u64 = 10;
/// Edits of one user in one document a second. What a live socket sends while an edit is written counts as one, so that the fastest
/// typist makes some twenty. (`[limits] edits_per_second_per_user`)
pub const MAX_EDITS_PER_SECOND_PER_USER: u64 = 200;
/// Edits of a document a second, by all users of this server. Each is written to disk and sent to all who have the document
/// open. (`[limits] edits_per_second_per_document`)
pub const MAX_EDITS_PER_SECOND_PER_DOCUMENT: u64 = 1_000;
/// Bytes of events and live edits that are accepted from one user of this server in a day; more is refused with the time
/// to wait, which is short, because the bytes become available again evenly. Every event is stored without end and sent
/// to all servers of its room. A person who types all day sends some 10 MB, a bridge that sends an event of 2 KB five
/// times a second 860 MB. (`[limits] event_bytes_per_user_and_day`)
pub const MAX_EVENT_BYTES_PER_USER_AND_DAY: u64 = 1024 * 1024 * 1024;
/// Bytes on disk of a room's fetched history that is not decided yet, with its index rows: events are requested newest
/// first and decided oldest first, so all of a history is fetched before its first event is decided. Two million events
/// of 2 KB fit. A server that invents ancestors fills this much disk for a room that was joined through it.
/// (`[limits] fetched_history_bytes_per_room`)
pub const MAX_FETCHED_HISTORY_BYTES_PER_ROOM: u64 = 4 * 1024 * 1024 * 1024;
/// The same of all rooms: four histories of maximum size at a time. Above that the room with the most drops what it
/// fetched and starts again after six hours, and the others go on. (`[limits] fetched_history_bytes`)
pub const MAX_FETCHED_HISTORY_BYTES: u64 = 4 * MAX_FETCHED_HISTORY_BYTES_PER_ROOM;
/// Stripped state events with an invite (T31).
pub const MAX_STRIPPED_STATE_EVENTS: usize = 100;
/// Total bytes of these events.
pub const MAX_STRIPPED_STATE_BYTES: usize = 256 * 1024;

/// Bytes of stripped state that are stored with one invitation: ten times those of a room with a long topic. Events
/// that do not fit are omitted; names are stored first, topics last. The invitation itself is stored.
pub const MAX_STORED_STRIPPED_BYTES: u64 = 64 * 1024;
/// Open invitations (and knocks) of one user to rooms that this server is not resident in (T127). A user reads some
/// dozens; the rest is for a user who was absent for a year.
pub const MAX_OPEN_INVITATIONS_PER_USER: usize = 500;
/// Open invitations from one server to one user, so that one server can't use up the user's limit.
pub const MAX_OPEN_INVITATIONS_PER_USER_AND_SERVER: usize = 50;
/// Open invitations from one server to all users of this server.
pub const MAX_OPEN_INVITATIONS_PER_SERVER: usize = 2_000;
/// Bytes of stripped state of all open invitations of one user: an initial sync contains all of it.
pub const MAX_OPEN_INVITATION_BYTES_PER_USER: u64 = 4 * 1024 * 1024;
/// Characters that are stored of the reason for which an invitation was withdrawn: a paragraph.
pub const MAX_STORED_REASON_CHARS: usize = 1_000;

// --- Federation: keys, discovery, queues ------------------------------------------------------------------------------

/// Current and old keys of one server. A server that rotates monthly has 120 after ten years.
pub const MAX_KEYS_PER_SERVER: usize = 256;
/// Earlier key responses of one server that are stored in addition to the newest, because they list keys that the
/// newest omits. A server that omits its old keys at each rotation has this many rotations.
pub const MAX_EARLIER_KEY_ANSWERS: usize = 8;
/// Servers in one notary query: each may cost a request to an unknown server.
pub const MAX_SERVERS_PER_KEY_QUERY: usize = 50;
/// An `Authorization` header of another server, bytes: names of 255 bytes, a key id and a signature of 86 bytes (T47).
pub const MAX_X_MATRIX_BYTES: usize = 2_048;
/// Redirects followed for `.well-known/matrix/server` (T45).
pub const MAX_WELL_KNOWN_REDIRECTS: usize = 5;
/// One EDU, bytes of JSON (T56).
pub const MAX_EDU_BYTES: usize = 65_536;
/// Receipts that are accepted from one EDU. Servers send the receipts of their users since the last transaction.
pub const MAX_RECEIPTS_PER_EDU: usize = 200;
/// Bytes of a `traceparent` header: the form of version 00 has exactly these. Anything else is ignored, so that a stranger can't
/// put long values into logs.
pub const TRACEPARENT_BYTES: usize = 55;
/// EDUs queued in memory for one unreachable server: ten transactions. The oldest are dropped first.
pub const MAX_QUEUED_EDUS: usize = 1_000;
/// Other servers with cached entries in memory (addresses, keys, failures, answered transactions).
pub const MAX_REMEMBERED_SERVERS: usize = 10_000;
/// Responses to transactions that are kept for one server, for its retries (T11).
pub const MAX_REMEMBERED_TRANSACTIONS: usize = 4;
/// Servers that are tried in turn for a join.
pub const MAX_VIA_SERVERS: usize = 10;

// --- Federation: requests that others cause ---------------------------------------------------------------------------

/// Concurrent requests to other servers on behalf of one unauthenticated client (an address without a token or a
/// signature): profiles, aliases, directories, keys. This suffices for a page of profiles, and for the keys of many
/// servers that send requests at once, also behind a proxy that hides their addresses. (`[limits]
/// outgoing_requests_per_stranger`)
pub const MAX_OUTGOING_PER_STRANGER: u64 = 8;
/// The same for all unauthenticated clients (T124): using it up delays only other unauthenticated clients.
/// (`[limits] outgoing_requests_for_strangers`)
pub const MAX_OUTGOING_FOR_STRANGERS: u64 = 32;
/// Requests to other servers per minute on behalf of one unauthenticated client.
pub const OUTGOING_PER_MINUTE_FOR_STRANGER: u32 = 120;
/// Concurrent requests to other servers on behalf of one account, for the same kinds of lookups.
/// (`[limits] outgoing_requests_per_account`)
pub const MAX_OUTGOING_PER_ACCOUNT: u64 = 8;
/// The same for all accounts. (`[limits] outgoing_requests_for_accounts`)
pub const MAX_OUTGOING_FOR_ACCOUNTS: u64 = 128;
/// Concurrent joins, leaves, knocks and invitations of one account: each may send requests to other servers, and
/// continues if its client disconnects. This suffices to join a space with its rooms.
pub const MAX_MEMBERSHIP_CHANGES_PER_ACCOUNT: u64 = 24;
/// The same for all accounts.
pub const MAX_MEMBERSHIP_CHANGES: u64 = 1_024;
/// Seconds until a lookup on another server times out: a user waits for it.
pub const MAX_LOOKUP_SECONDS: u64 = 10;
/// Seconds for which an unreachable server is not tried again on behalf of unauthenticated clients.
pub const UNREACHABLE_FOR_STRANGERS_SECONDS: u64 = 30;

// --- Client-server API ------------------------------------------------------------------------------------------------

/// Body of one client request, bytes, if the endpoint has no limit of its own.
pub const MAX_CLIENT_REQUEST_BYTES: usize = 1024 * 1024;
/// Documents in one page of `GET /documents`.
pub const MAX_DOCUMENTS_PER_PAGE: usize = 500;
/// Documents in one page with numbers of unread events: each is counted from up to [`MAX_UNREAD_EVENTS`] events.
pub const MAX_UNREAD_DOCUMENTS_PER_PAGE: usize = 100;
/// Entries in one page of a document's history: a screen shows some twenty.
pub const MAX_HISTORY_ENTRIES: usize = 200;
/// Events that are read for one page of a document's history: some 2 MB on disk. A longer session is cut in two.
pub const MAX_HISTORY_EVENTS: usize = 2_000;
/// Edits in one page of a document's history with `detail=edits`, some 2 MB. Beyond it, events are not opened.
pub const MAX_HISTORY_EDITS: usize = 10_000;
/// The description of a version with a name, bytes: it must fit an event with room to spare.
pub const MAX_VERSION_DESCRIPTION_BYTES: usize = 8_192;
/// The reason of a lock, the statement of an approval, bytes: they must fit an event with [`MAX_TEXT_HEADS`].
pub const MAX_STATEMENT_BYTES: usize = 8_192;
/// Heads of a text that a lock or an approval names, 46 bytes each. A server's next event joins up to
/// [`MAX_CITED_EXTREMITIES`] of them, so there are rarely more than a few.
pub const MAX_TEXT_HEADS: usize = 200;
/// Heads that an update names in its purpose, 46 bytes each: both lists must fit an event beside an update of
/// [`MAX_SEALED_UPDATE_BYTES`].
pub const MAX_PURPOSE_HEADS: usize = 20;
/// Ranges of a suggestion's clocks that an update names as taken over, some 14 bytes each: they must fit an event beside an update of
/// [`MAX_SEALED_UPDATE_BYTES`].
pub const MAX_TAKEN_RANGES: usize = 100;
/// Open share links of a document: more than a person can tell apart.
pub const MAX_LINKS_PER_DOCUMENT: usize = 100;
/// How long a share link lasts if its maker names no time, milliseconds: a week. A link that was forgotten must end.
pub const LINK_LASTS_MS: u64 = 7 * 24 * 60 * 60 * 1_000;
/// The same at most: a year.
pub const MAX_LINK_LASTS_MS: u64 = 365 * 24 * 60 * 60 * 1_000;
/// The reason of a request for access, bytes: a paragraph.
pub const MAX_REQUEST_REASON_BYTES: usize = 1_024;
/// Servers that are tried for one join or knock: each may use up the deadline of a request.
pub const MAX_VIA: usize = 10;
/// Guests of a share link at a time: more than a meeting has. Each is a member of the document.
pub const MAX_GUESTS_PER_LINK: usize = 100;
/// Guests of a server at a time. They are accounts that nobody registered; each costs a membership and a session.
pub const MAX_GUESTS: usize = 1_000;
/// The header `Idempotency-Key`, bytes: with its prefix it fits into a transaction id of 255 bytes.
pub const MAX_IDEMPOTENCY_KEY_BYTES: usize = 200;
/// How long the answer to an edit with an `Idempotency-Key` is kept at least, milliseconds: longer than a program repeats a
/// request. Each takes some 200 bytes.
pub const KEEP_EDIT_REQUESTS_MS: u64 = 24 * 60 * 60 * 1_000;
/// Users of documents for whom the client id of their last edit by request is kept in memory. Without it, the next such edit
/// uses another id, which is permanent ([`MAX_CLIENTS_PER_DOCUMENT`]).
pub const MAX_EDIT_WRITERS: u64 = 16_384;
/// Streams of events of one user at a time: enough for a program that follows each of its documents.
pub const MAX_EVENT_STREAMS_PER_USER: u64 = 100;
/// The same for all users: each holds a queue of a few kilobytes.
pub const MAX_EVENT_STREAMS: u64 = 10_000;
/// Events of the room with which a stream goes on from an earlier one; above it the client reads the messages itself.
pub const MAX_RESUMED_EVENTS: usize = 1_000;
/// Events in one page of `/messages`, and around one event in `/context`.
pub const MAX_PAGE_EVENTS: usize = 500;
/// Events in one room's timeline in a sync.
pub const MAX_SYNC_TIMELINE_EVENTS: usize = 100;
/// Lanes in a sync token, which is a part of a URL: with two bytes for a lane and up to ten for its position it has 4 kB,
/// and web servers accept 8 kB.
pub const MAX_SYNC_LANES: usize = 256;
/// Bytes of a sync token: the longest with that number of lanes has 4,163.
pub const MAX_SYNC_TOKEN_BYTES: usize = 4_200;
/// Maximum `timeout` of a sync, milliseconds.
pub const MAX_SYNC_TIMEOUT_MS: u64 = 120_000;

// --- Presence ---------------------------------------------------------------------------------------------------------

/// A user's status message (`status_msg`), bytes: a line of text. A longer one is refused, and omitted if another
/// server sent it.
pub const MAX_STATUS_MESSAGE_BYTES: usize = 1_024;
/// Users of other servers whose presence is in memory: some 20 MB if few of them have a status message (T52).
pub const MAX_PRESENCE_USERS: usize = 100_000;
/// The same for one server, so that one server can't use up the limit.
pub const MAX_PRESENCE_USERS_PER_SERVER: usize = 20_000;
/// Presence changes that are considered for one sync; the rest follow in the next one. Each costs reads of rooms.
pub const MAX_PRESENCE_PER_ANSWER: usize = 100;
/// Rooms of a user whose members receive the user's presence, and whose members' presence the user receives: each is
/// read at every change.
pub const MAX_PRESENCE_ROOMS: usize = 500;
/// Threads of one room for which a user's receipts are stored; a new one replaces the oldest. Each takes two rows and
/// is sent to all members.
pub const MAX_RECEIPT_THREADS: usize = 200;
/// Unread events of one room that are examined and counted for a user: clients show "99+", and each costs a read.
pub const MAX_UNREAD_EVENTS: usize = 200;
/// A password, bytes: Argon2 reads all of it.
pub const MAX_PASSWORD_BYTES: usize = 1_024;
/// Minimum length of a new password, characters (NIST SP 800-63B, section 5.1.1). Existing shorter passwords remain
/// valid.
pub const MIN_PASSWORD_CHARS: usize = 8;
/// Password hashes in computation or queued. At some 40 ms each and two at a time, the last one waits little more than
/// a second (T123).
pub const MAX_PASSWORD_HASHES: u64 = 64;
/// The same for known clients (devices with a session, networks from which the user logged in recently, the operator),
/// counted separately: unknown clients with many addresses can't use up this limit.
pub const MAX_KNOWN_PASSWORD_HASHES: u64 = 32;
/// The same for one network, so that one client delays others by less than a fifth of a second. More users than that
/// behind one address do not log in at the same moment.
pub const MAX_PASSWORD_HASHES_PER_NETWORK: u64 = 8;
/// A device id, bytes: part of row keys, and of EDUs to other servers. Clients use about ten.
pub const MAX_DEVICE_ID_BYTES: usize = 255;
/// A device's display name, bytes: a line of text in a list. Stock clients use the names of the browser and the system.
pub const MAX_DEVICE_NAME_BYTES: usize = 512;
/// Devices of one user. A script that logs in daily and never logs out reaches it in three years; each new session then
/// ends the oldest.
pub const MAX_DEVICES_PER_USER: usize = 1_000;
/// The URL of an avatar, bytes; it is part of the member events in all rooms of the user. Synapse: 1,000.
pub const MAX_AVATAR_URL_BYTES: usize = 1_000;
/// Types in one event filter: each event of a response is compared with each of them.
pub const MAX_FILTER_PATTERNS: usize = 100;
/// Wildcards in one of these types: each costs a search through the event's type.
pub const MAX_FILTER_WILDCARDS: usize = 8;
/// Rooms or senders in one event filter.
pub const MAX_FILTER_IDS: usize = 1_000;
/// A stored filter, bytes.
pub const MAX_FILTER_BYTES: usize = 64 * 1024;
/// One account-data value, bytes.
pub const MAX_ACCOUNT_DATA_BYTES: usize = 256 * 1024;
/// Total account data of one user, bytes, if the operator configures no other number (`[limits] account_data_bytes`).
/// Stock clients store some 100 KB, and each initial sync reads all of it (T126).
pub const ACCOUNT_DATA_QUOTA_BYTES: u64 = 4 * 1024 * 1024;
/// Account-data values of one user: clients store two for each room.
pub const MAX_ACCOUNT_DATA_ROWS: u64 = 20_000;
/// Total stored filters of one user, bytes: each new one is compared with them. (`[limits] filter_bytes`)
pub const FILTERS_QUOTA_BYTES: u64 = 512 * 1024;
/// Accounts in one page of the operator's list: some 100 KB.
pub const OPERATOR_PAGE_ACCOUNTS: usize = 1_000;
/// A document's title, bytes: it must fit a state event with room to spare, and a browser's tab.
pub const MAX_TITLE_BYTES: usize = 1_024;
/// A display name, bytes.
pub const MAX_DISPLAY_NAME_BYTES: usize = 512;
/// Publicly joinable rooms whose members the user directory contains, in addition to the rooms of the public directory.
/// A search reads 10,000 users, and most rooms have a few.
pub const MAX_ROOMS_SEARCHED_FOR_USERS: usize = 10_000;
/// Requests per minute and user (`[limits] rate_limit`).
pub const REQUESTS_PER_MINUTE: u32 = 1_000;
/// Invitations in one `createRoom`.
pub const MAX_INVITES_PER_REQUEST: usize = 100;
/// `initial_state` events of one `createRoom`. Clients send a handful and bridges a few dozen. Each event is signed and
/// checked, and all of them are one commit (T125).
pub const MAX_INITIAL_STATE_EVENTS: usize = 200;

// --- Comments ---------------------------------------------------------------------------------------------------------

/// The quotation in an anchor, bytes: a few sentences, so that a reader recognises what the comment was about.
pub const MAX_QUOTE_BYTES: usize = 1_024;
/// A name in an anchor (an element of a board, a root), bytes: ids of editors have some 20.
pub const MAX_ANCHOR_NAME_BYTES: usize = 512;
/// Events in an anchor's `heads`: as many as an event has predecessors.
pub const MAX_ANCHOR_HEADS: usize = 20;
/// Decisions that a `dev.weft.resolution` replaces: more than a few exist only if servers decided at the same time.
pub const MAX_RESOLUTIONS_NAMED: usize = 16;
/// Comments, replies or suggestions in one page. Each costs some reads, and comments a search for their place in the text.
pub const MAX_COMMENTS_PER_PAGE: usize = 100;
/// Events of a thread that are counted, and examined for decisions.
pub const MAX_THREAD_EVENTS: usize = 500;
/// The summary of a suggestion, bytes: a line or two.
pub const MAX_SUMMARY_BYTES: usize = 1_024;
/// Documents whose suggestions are being decided about: a lock for each.
pub const MAX_DECISIONS: u64 = 10_000;
/// Events of threads that are examined for one page of comments or suggestions: somebody may send hundreds of decisions about each.
pub const MAX_THREAD_EVENTS_PER_PAGE: usize = 5_000;
/// Users whom a message mentions: each is searched for in the rules of its readers.
pub const MAX_MENTIONS: usize = 100;
// --- Media ------------------------------------------------------------------------------------------------------------

/// Bytes of one uploaded file: photographs and short videos. (`[media] max_upload_bytes`)
pub const MAX_UPLOAD_BYTES: u64 = 100 * 1024 * 1024;
/// Bytes of all files of one user. (`[media] bytes_per_user`)
pub const MEDIA_BYTES_PER_USER: u64 = 10 * 1024 * 1024 * 1024;
/// Bytes of the files of all users; a file with several owners counts once. (`[media] bytes`)
pub const MEDIA_BYTES: u64 = 200 * 1024 * 1024 * 1024;
/// Files of one user: each is three rows, some 600 bytes.
pub const MAX_MEDIA_PER_USER: u64 = 100_000;
/// Files of a user in one page of their list.
pub const MAX_MEDIA_PER_PAGE: usize = 500;
/// Bytes of a file name: file systems have no longer ones.
pub const MAX_MEDIA_NAME_BYTES: usize = 255;
/// Bytes of a media type: the longest registered ones have 90.
pub const MAX_MEDIA_TYPE_BYTES: usize = 127;
/// Bytes of a media id, ours and those of other servers: file systems have no longer names, and servers use up to 64.
pub const MAX_MEDIA_ID_BYTES: usize = 255;
/// Uploads of one user at one time: a page that uploads several files at once.
pub const MAX_UPLOADS_PER_USER: u64 = 8;
/// Uploads of all users at one time: each has an open file.
pub const MAX_UPLOADS: u64 = 256;
/// Media ids of one user that wait for their upload: the files of one message.
pub const MAX_WAITING_MEDIA_PER_USER: usize = 32;
/// Milliseconds after which a media id that waits for its upload expires, as the Matrix specification recommends.
pub const WAITING_MEDIA_MS: u64 = 24 * 60 * 60 * 1_000;
/// Milliseconds that a download waits for an upload, if the client states no other time (Matrix specification, `timeout_ms`).
pub const MEDIA_WAIT_MS: u64 = 20_000;
/// The longest such time.
pub const MAX_MEDIA_WAIT_MS: u64 = 60_000;
/// Bytes of a file that are read at once for a download: large enough for a disk, and the memory of a download.
pub const MEDIA_CHUNK_BYTES: u64 = 256 * 1024;
/// Bytes of a part of a file in a request to an object store: the smallest part that S3 allows is 5 MiB.
pub const MEDIA_PART_BYTES: u64 = 8 * 1024 * 1024;
/// Bytes of a file that are read at once from an object store, and that a download is charged with: each request takes some
/// milliseconds, and the part is in memory until the reader has taken it.
pub const MEDIA_READ_BYTES: u64 = 2 * 1024 * 1024;
/// Bytes of the cached files of other servers, beyond which the least recently read ones are removed. (`[media] cache_bytes`)
pub const MEDIA_CACHE_BYTES: u64 = 10 * 1024 * 1024 * 1024;
/// Days after which a cached file that nobody read is removed. (`[media] cache_days`)
pub const MEDIA_CACHE_DAYS: u64 = 30;
/// Cached files, so that a run of the job that removes some reads at most this number of rows (some 60 MB).
pub const MAX_CACHED_MEDIA: u64 = 200_000;
/// Downloads from one other server at one time: a slow server must not use up those from others.
pub const MAX_MEDIA_FETCHES_PER_SERVER: u64 = 8;
/// Downloads from all other servers at one time.
pub const MAX_MEDIA_FETCHES: u64 = 64;
/// Seconds until another server has begun to answer a request for a file.
pub const MEDIA_FETCH_ANSWER_SECONDS: u64 = 30;
/// Seconds until a file of another server must be complete: 100 MiB over a slow connection.
pub const MEDIA_FETCH_SECONDS: u64 = 600;
/// Bytes of the headers and of the JSON of a multipart answer with a file.
pub const MAX_MULTIPART_HEAD_BYTES: u64 = 64 * 1024;
/// Bytes of an image of which a thumbnail is made.
pub const MAX_THUMBNAIL_SOURCE_BYTES: u64 = 24 * 1024 * 1024;
/// Pixels of an image of which a thumbnail is made (T77): with four bytes each, a third of [`RENDER_MEMORY_BYTES`].
pub const MAX_THUMBNAIL_PIXELS: u64 = 40_000_000;
/// Bytes that a decoder may allocate.
pub const MAX_THUMBNAIL_DECODER_BYTES: u64 = 256 * 1024 * 1024;
/// Bytes of images in memory that wait for a thumbnail or are being made one: two of the largest, and a dozen photographs.
pub const MAX_THUMBNAIL_BYTES: u64 = 64 * 1024 * 1024;
