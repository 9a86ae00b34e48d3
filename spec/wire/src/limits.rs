//! Every number that comes from outside has its limit here, with the reason. Limits of the update encoding itself
//! (nesting, counts) are beside the algebra, in `weft_crdt::limits`.
//!
//! A limit that changes what servers accept changes the protocol: it needs its line in `spec/docs`.

// --- Connections and bytes in flight ------------------------------------------------------------------------------------

/// Connections at one time. Each takes a file descriptor and about 40 KB with TLS; fewer where the system gives fewer
/// descriptors. (`[limits] connections`)
pub const MAX_CONNECTIONS: u64 = 8_192;
/// Connections of one network (an IPv4 address, the /64 of an IPv6 address) on which nobody has authenticated: an office
/// whose people all come back at once, and 10 MB at most (T120). (`[limits] connections_per_network`)
pub const MAX_STRANGER_CONNECTIONS_PER_NETWORK: u64 = 256;
/// Bytes of requests and answers that strangers of one network hold: one signed request of another server in full
/// ([`MAX_FEDERATION_REQUEST_BYTES`]), because its signature covers its body, and some more (T121, T122).
/// (`[limits] stranger_in_flight_bytes_per_network`)
pub const MAX_STRANGER_BYTES_PER_NETWORK: u64 = 16 * 1024 * 1024;
/// The same of all strangers together. (`[limits] stranger_in_flight_bytes`)
pub const MAX_STRANGER_BYTES: u64 = 64 * 1024 * 1024;
/// Bytes of requests and answers that one account holds: the largest document ([`MAX_DOCUMENT_BYTES`]) once, and half of
/// it for all else (T130). (`[limits] account_in_flight_bytes_per_user`)
pub const MAX_ACCOUNT_BYTES_PER_USER: u64 = 96 * 1024 * 1024;
/// The same of all accounts together. (`[limits] account_in_flight_bytes`)
pub const MAX_ACCOUNT_BYTES: u64 = 256 * 1024 * 1024;
/// Whole texts of documents that are made at one time for one user and are not charged yet, for `GET content` and again for
/// live sockets: each has up to [`MAX_DOCUMENT_BYTES`]. The others wait for their turn (T130).
pub const MAX_TEXT_READS_PER_USER: usize = 2;
/// `GET content` requests of one user that are answered or wait: a page that opens several documents at once.
pub const MAX_CONTENT_READS_PER_USER: u64 = 16;
/// The same of all users.
pub const MAX_CONTENT_READS_WAITING: u64 = 1_024;
/// Bytes of requests and answers that another server holds: the largest answer ([`MAX_FEDERATION_RESPONSE_BYTES`]), and
/// some more. (`[limits] server_in_flight_bytes_per_server`)
pub const MAX_SERVER_BYTES_PER_SERVER: u64 = 144 * 1024 * 1024;
/// The same of all other servers together. (`[limits] server_in_flight_bytes`)
pub const MAX_SERVER_BYTES: u64 = 256 * 1024 * 1024;
/// What a request is counted as, bytes, beside its path, its headers and its body: its task and what it is parsed into.
pub const REQUEST_OVERHEAD_BYTES: u64 = 8 * 1024;
/// Milliseconds until the first request of a connection is there; also of the TLS handshake before it. Mobile networks
/// need seconds.
pub const FIRST_REQUEST_MS: u64 = 20_000;
/// Milliseconds after which a connection ends on which no request is under way: idle, or with a request whose headers
/// don't come to their end.
pub const CONNECTION_IDLE_MS: u64 = 30_000;
/// Bytes of one request's path, query and headers. A filter in a query has up to 64 KB.
pub const MAX_HEAD_BYTES: usize = 96 * 1024;
/// Milliseconds without a byte after which the body of a request is given up.
pub const BODY_GRACE_MS: u64 = 15_000;
/// Bytes a second that a body must come with, beside [`BODY_GRACE_MS`]: half of a slow mobile line.
pub const MIN_BODY_BYTES_PER_SECOND: u64 = 8 * 1024;
/// Bytes of a refused body that are read and thrown away, so that the client reads the answer instead of seeing a broken
/// connection: the largest upload that people try.
pub const MAX_DISCARDED_BYTES: u64 = 64 * 1024 * 1024;
/// Milliseconds for that.
pub const DISCARD_MS: u64 = 30_000;
/// Milliseconds after which a connection ends whose other end takes nothing of what is written; what it takes puts that
/// off by the time that [`MIN_LIVE_BYTES_PER_SECOND`] needs for it.
pub const WRITE_STALL_MS: u64 = 60_000;
/// Bytes that the system keeps of what is written and not sent yet: a slow reader is noticed early, and holds little.
pub const MAX_UNSENT_BYTES: u32 = 128 * 1024;
/// Streams of one HTTP/2 connection at one time. Browsers need a few dozen.
pub const MAX_STREAMS_PER_CONNECTION: u32 = 64;
/// Bytes of bodies that one HTTP/2 connection may send before somebody reads them, and that one stream may.
pub const HTTP2_CONNECTION_WINDOW_BYTES: u32 = 256 * 1024;
/// See [`HTTP2_CONNECTION_WINDOW_BYTES`].
pub const HTTP2_STREAM_WINDOW_BYTES: u32 = 128 * 1024;
/// Milliseconds between pings to the other end of an HTTP/2 connection, and for their answers.
pub const HTTP2_PING_MS: u64 = 20_000;

// --- Documents and live sockets -------------------------------------------------------------------------------------

/// Raw bytes of one update inside an event. An event has at most 65,536 bytes and base64 adds a third; what is left
/// carries the envelope, the ranges and the signatures.
pub const MAX_SEALED_UPDATE_BYTES: usize = 45_000;

/// Event ids in the field `dev.weft.stands` of one event; a longer list names nothing. A server names only what it has not
/// followed alone, so that a few suffice; 16 are about 750 bytes, which an event with a full update may not have left.
pub const MAX_NAMED_EVENTS: usize = 16;
/// Milliseconds after which a server sends a witness event, counted from the first update of another server that none of
/// its own events follows: at most six an hour and document, and claims that come later than that meet its answer.
pub const WITNESS_INTERVAL_MS: u64 = 10 * 60 * 1_000;
/// Branches of one server's events up to which its events count between claims to the same clocks. The events of a server
/// form one chain, and a second one only after it was restored from a backup; a lying server could make thousands, and
/// each costs a look for each two claims.
pub const MAX_SERVER_BRANCHES: usize = 8;

/// One WebSocket message on a live socket, bytes. A pasted text of 6 MB is one message, and so is all that a person wrote
/// offline (sync step 2): the largest live update (`weft_crdt::limits::LIVE_BYTES`) with its envelope, a name included. It is
/// split at [`MAX_SEALED_UPDATE_BYTES`] when sealed.
pub const MAX_LIVE_FRAME_BYTES: usize = 8 * 1024 * 1024 + 1_024;

/// Bytes of a live socket's messages that wait for the disk: above it the socket is not read from. One message may go over it.
pub const MAX_INBOX_BYTES_PER_SOCKET: usize = 1024 * 1024;

/// Pieces of refused content that one notice names; a notice is for a person.
pub const MAX_NOTICE_BLOCKS: usize = 16;

/// The whole compacted document, bytes. Ten times the largest text people were seen to keep in one document; above
/// it, edits are refused with `M_TOO_LARGE` and nothing that was acknowledged is lost.
pub const MAX_DOCUMENT_BYTES: usize = 64 * 1024 * 1024;

/// Different Yjs client ids in one document. Each costs about six bytes in every state vector for ever (T110).
pub const MAX_CLIENTS_PER_DOCUMENT: usize = 65_536;

/// Pending (acknowledged, not yet sealed) edits of one room before sealing is forced, so that a restart replays little.
pub const MAX_JOURNAL_ENTRIES: usize = 4_096;

/// Documents that one socket may carry (Hocuspocus multiplexes by name). What its own server allows before sign-in.
pub const MAX_DOCUMENTS_PER_SOCKET: usize = 100;

/// Frames that are kept while a socket's token is being checked, and their bytes together (GHSA-xwhh-v746-pj9m).
pub const MAX_FRAMES_BEFORE_AUTH: usize = 1_000;
/// See [`MAX_FRAMES_BEFORE_AUTH`].
pub const MAX_BYTES_BEFORE_AUTH: usize = 5 * 1024 * 1024;

/// Milliseconds until a live socket that was opened without a token has signed in to a document. Whatever it sends
/// meanwhile doesn't put that off (T121).
pub const LIVE_SIGN_IN_MS: u64 = 15_000;
/// Bytes that wait to be written to a live socket beside the message that is being written: answers to pings (T121).
pub const MAX_LIVE_CONTROL_BYTES: usize = 16 * 1024;

/// Changes that wait for one slow reader before its queue is given up and it is brought up to date by a diff instead.
pub const MAX_QUEUE_PER_SOCKET: usize = 256;
/// Bytes of them, and bytes that wait to be written to one socket: above it nothing is added to what waits. One message
/// may go over it, or none larger could ever be sent.
pub const MAX_QUEUE_BYTES_PER_SOCKET: usize = 512 * 1024;

/// Bytes of a document's name in a Hocuspocus frame: a room id or alias (255) and a session id.
pub const MAX_DOCUMENT_NAME_BYTES: usize = 512;

/// Bytes of a reason or a stateless payload in a frame.
pub const MAX_FRAME_TEXT_BYTES: usize = 64 * 1024;

// --- Awareness ------------------------------------------------------------------------------------------------------

/// JSON state of one client, bytes, without `user.id` and `user.name`, which the server writes (colour, cursor: about 300 in
/// stock editors).
pub const MAX_AWARENESS_STATE_BYTES: usize = 2_048;
/// Nesting of such a state: that of values in updates, and far from what a JSON parser takes of a transaction around it
/// ([`MAX_JSON_DEPTH`]).
pub const MAX_AWARENESS_STATE_DEPTH: usize = 32;
/// Client ids that one device may introduce to a room, over all its sockets: an editor has one, a tab is an editor, a page
/// with several views has a few (T112).
pub const MAX_AWARENESS_CLIENTS_PER_DEVICE: usize = 16;
/// Client ids of one user in a room, over all sockets and devices. A server makes up its users' devices as it likes: with
/// no bound on the user, one viewer could take all places of the room (T57, T112).
pub const MAX_AWARENESS_CLIENTS_PER_USER: usize = 128;
/// Entries in one awareness message: those of a whole room ([`MAX_AWARENESS_CLIENTS_PER_ROOM`]) that a stock client repeats.
pub const MAX_AWARENESS_ENTRIES: usize = 4_096;
/// Live client ids of one room, own and remote.
pub const MAX_AWARENESS_CLIENTS_PER_ROOM: usize = 4_096;
/// Milliseconds after which an entry that was not renewed is dropped; clients renew every 15 s (y-protocols).
pub const AWARENESS_EXPIRY_MS: u64 = 30_000;
/// Milliseconds for which the clock of a removed client id is remembered. A client that was away for longer than 15 s has
/// raised its clock meanwhile (y-protocols).
pub const AWARENESS_MEMORY_MS: u64 = 60_000;
/// Awareness messages a second that are taken from one socket; what is above is coalesced to the newest.
pub const MAX_AWARENESS_PER_SECOND: u32 = 20;
/// Silence in milliseconds after which the server says something: y-websocket 3 gives up after 30 s without a message.
pub const LIVE_KEEP_ALIVE_MS: u64 = 20_000;
/// Bytes a second of which a client must be able to take a large message, beside [`LIVE_IDLE_MS`] for any: a slow mobile line.
pub const MIN_LIVE_BYTES_PER_SECOND: u64 = 16 * 1024;
/// Silence of a client in milliseconds after which its socket is closed. Hocuspocus' own server: 60 s.
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

/// Text of one received event before it is brought into canonical form, bytes. White space and escapes may make it
/// longer than [`MAX_EVENT_BYTES`]: a letter written as `\u0041` takes six bytes.
pub const MAX_EVENT_TEXT_BYTES: usize = 6 * MAX_EVENT_BYTES;
/// Signing keys of one server that are looked up for one event. Servers sign with one; two while they rotate.
pub const MAX_SIGNING_KEYS_PER_SERVER: usize = 8;
/// `depth` of an event (Matrix specification): the largest canonical integer; at the limit it stays there (T04).
pub const MAX_DEPTH: u64 = (1 << 53) - 1;
/// How far an event that ours rest on may be ahead of our clock for ours to claim a time after it, milliseconds. Clocks that
/// nobody sets differ by minutes; what claims more would move the times of all that follows.
pub const MAX_CLOCK_LEAD_MS: u64 = 5 * 60 * 1_000;
/// Extremities that our own events cite. More are allowed ([`MAX_PREV_EVENTS`]), but each costs everybody a look at
/// one more state; what is left over is cited by the events that follow.
pub const MAX_CITED_EXTREMITIES: usize = 10;
/// State groups between a group and the full snapshot below it: bounds the reads for one state. Synapse's number.
pub const MAX_STATE_GROUP_HOPS: u8 = 100;

// --- Federation -------------------------------------------------------------------------------------------------------

/// Events in a transaction (Matrix specification).
pub const MAX_TRANSACTION_PDUS: usize = 50;
/// EDUs in a transaction (Matrix specification).
pub const MAX_TRANSACTION_EDUS: usize = 100;
/// Body of one federation request, bytes: 50 events of full size and 100 EDUs of the same size, rounded up.
pub const MAX_FEDERATION_REQUEST_BYTES: usize = 200 * 65_536;
/// Body of one answer of another server, bytes: the state of a room with 50,000 members is about 50 MB.
pub const MAX_FEDERATION_RESPONSE_BYTES: usize = 128 * 1024 * 1024;
/// Bytes of answers that one other server holds here, from the first byte on until its events are checked: one of the largest
/// ([`MAX_FEDERATION_RESPONSE_BYTES`]), and some more for the ordinary ones beside it (T136).
pub const MAX_ANSWER_BYTES_PER_SERVER: u64 = 144 * 1024 * 1024;
/// The same of all other servers together.
pub const MAX_ANSWER_BYTES: u64 = 256 * 1024 * 1024;
/// Bytes at the beginning of an answer that are not charged to the two above: keys, acknowledgements and single events are
/// read also while long answers hold all of them.
pub const FREE_ANSWER_BYTES: usize = 128 * 1024;
/// Events in one list of an answer with a room's state: eight times the members that [`MAX_FEDERATION_RESPONSE_BYTES`] is
/// for. What is noted of each takes 32 bytes, however short its text is.
pub const MAX_EVENTS_PER_ANSWER: usize = 400_000;
/// Body of an answer with one event, bytes: the event's text and its envelope.
pub const MAX_EVENT_RESPONSE_BYTES: usize = MAX_EVENT_TEXT_BYTES + 4 * 1024;
/// Body of an answer to backfill or get_missing_events, bytes: [`MAX_BACKFILL_EVENTS`] events of full size, twice, because
/// escapes make text longer.
pub const MAX_EVENTS_RESPONSE_BYTES: usize = 2 * MAX_BACKFILL_EVENTS * MAX_EVENT_BYTES;
/// Body of an answer to state_ids, bytes: an id takes 47, so this is room for 350,000 events of state and auth chain.
pub const MAX_STATE_IDS_RESPONSE_BYTES: usize = 16 * 1024 * 1024;
/// Body of an answer to event_auth, bytes: 30,000 events of the usual size of a member event.
pub const MAX_AUTH_CHAIN_RESPONSE_BYTES: usize = 32 * 1024 * 1024;
/// Body of an answer to send_knock, bytes: stripped state up to its own limit, with escapes and an envelope.
pub const MAX_STRIPPED_RESPONSE_BYTES: usize = 2 * MAX_STRIPPED_STATE_BYTES;
/// Body of a profile, bytes: what the Matrix specification lets a profile have (T124).
pub const MAX_PROFILE_RESPONSE_BYTES: usize = 64 * 1024;
/// Body of a resolved alias, bytes: a room id and some hundred server names (T124).
pub const MAX_ALIAS_RESPONSE_BYTES: usize = 64 * 1024;
/// Rooms asked of another server's directory for one page. Synapse gives no more either.
pub const MAX_PUBLIC_ROOMS_PAGE: u32 = 100;
/// Body of a page of another server's directory, bytes: 10 KB for each of [`MAX_PUBLIC_ROOMS_PAGE`] rooms (T124).
pub const MAX_PUBLIC_ROOMS_RESPONSE_BYTES: usize = 1024 * 1024;
/// Body of an answer that says no more than that a request was taken, bytes: fifty event ids with reasons at most.
pub const MAX_SHORT_RESPONSE_BYTES: usize = 64 * 1024;
/// Body of an answer that refuses, bytes: an error code and a sentence.
pub const MAX_ERROR_RESPONSE_BYTES: usize = 16 * 1024;
/// Body of a document's snapshot, bytes: base64 adds a third; then the ids and some room.
pub const MAX_SNAPSHOT_RESPONSE_BYTES: usize = MAX_DOCUMENT_BYTES / 3 * 4 + 64 * 1024;
/// Body of a server's keys, bytes. A real one has about 500 (T44).
pub const MAX_KEY_RESPONSE_BYTES: usize = 64 * 1024;
/// Body of `.well-known/matrix/server`, bytes (T45).
pub const MAX_WELL_KNOWN_BYTES: usize = 50 * 1024;
/// Events that are handed out for one backfill or get_missing_events, whatever was asked for (T12).
pub const MAX_BACKFILL_EVENTS: usize = 100;
/// Event ids in one get_missing_events (`latest_events`, `earliest_events`) or `at` list.
pub const MAX_EVENT_IDS_PER_REQUEST: usize = 100;
/// Events fetched to fill one gap before the state at the gap is asked for instead.
pub const MAX_GAP_EVENTS: usize = 1_000;
/// Bytes of events that are held while what one event lacks is fetched: a state of 10,000 members is about 12 MB, and several
/// fetches run at a time.
pub const MAX_FETCHED_BYTES: usize = 64 * 1024 * 1024;
/// Events of one room that wait in the staging table; above it the newest are dropped and fetched again later (T19).
pub const MAX_STAGED_EVENTS_PER_ROOM: usize = 10_000;
/// Bytes of events in transactions of one server that are taken in a day; more is refused with the time to wait, so that the
/// other server keeps it until then. Ten events a second of 2 KB each are 1.7 GB (`[limits] event_bytes_per_server_and_day`).
pub const MAX_EVENT_BYTES_PER_SERVER_AND_DAY: u64 = 4 * 1024 * 1024 * 1024;
/// Stripped state events with an invite, and their bytes together (T31).
pub const MAX_STRIPPED_STATE_EVENTS: usize = 100;
/// See [`MAX_STRIPPED_STATE_EVENTS`].
pub const MAX_STRIPPED_STATE_BYTES: usize = 256 * 1024;

/// Bytes of stripped state that are kept with one invitation: ten times what a room with a long topic has. What does not fit is
/// left out, names first, topics last; the invitation stands.
pub const MAX_STORED_STRIPPED_BYTES: u64 = 64 * 1024;
/// Open invitations (and knocks) of one user to rooms that this server is not in (T127). A person looks through some dozen; the
/// rest is room for somebody who was away for a year.
pub const MAX_OPEN_INVITATIONS_PER_USER: usize = 500;
/// Those that one server may have open for one user, so that no server alone fills the user's places.
pub const MAX_OPEN_INVITATIONS_PER_USER_AND_SERVER: usize = 50;
/// Those that one server may have open for all users of this one.
pub const MAX_OPEN_INVITATIONS_PER_SERVER: usize = 2_000;
/// Bytes of stripped state of all open invitations of one user: a first sync shows all of it.
pub const MAX_OPEN_INVITATION_BYTES_PER_USER: u64 = 4 * 1024 * 1024;
/// Characters that are kept of the reason for which an invitation was withdrawn: a paragraph.
pub const MAX_STORED_REASON_CHARS: usize = 1_000;

// --- Federation: keys, discovery, queues ------------------------------------------------------------------------------

/// Keys, current and old, of one server. One that rotates monthly has 120 after ten years.
pub const MAX_KEYS_PER_SERVER: usize = 256;
/// Answers of one server that are kept beside its newest one, because they name keys that it dropped. A server that forgets its
/// old keys at each rotation has this many rotations.
pub const MAX_EARLIER_KEY_ANSWERS: usize = 8;
/// Servers in one notary query: each may cost a request to a stranger.
pub const MAX_SERVERS_PER_KEY_QUERY: usize = 50;
/// An `Authorization` header of another server, bytes: names of 255, a key id and a signature of 86 (T47).
pub const MAX_X_MATRIX_BYTES: usize = 2_048;
/// Redirects followed for `.well-known/matrix/server` (T45).
pub const MAX_WELL_KNOWN_REDIRECTS: usize = 5;
/// One EDU, bytes of JSON (T56).
pub const MAX_EDU_BYTES: usize = 65_536;
/// Receipts that are taken from one EDU. Servers send what their users read since the last transaction.
pub const MAX_RECEIPTS_PER_EDU: usize = 200;
/// EDUs that wait in memory for one server that can't be reached; the oldest go first. Ten transactions.
pub const MAX_QUEUED_EDUS: usize = 1_000;
/// Other servers about which something is kept in memory (addresses, keys, failures, answered transactions).
pub const MAX_REMEMBERED_SERVERS: usize = 10_000;
/// Answers of transactions that are kept for a server that asks again (T11).
pub const MAX_REMEMBERED_TRANSACTIONS: usize = 4;
/// Servers that are asked in turn when joining a room.
pub const MAX_VIA_SERVERS: usize = 10;

// --- Federation: requests that others cause ---------------------------------------------------------------------------

/// Requests to other servers that one stranger (an address without a token or a signature) may have under way at a time:
/// profiles, aliases, directories, keys. A page of profiles loads with it, and a server that many others call at once
/// learns their keys, also behind a proxy that hides their addresses. (`[limits] outgoing_requests_per_stranger`)
pub const MAX_OUTGOING_PER_STRANGER: u64 = 8;
/// The same for all strangers together (T124): what they can keep from other strangers, and from nobody else.
/// (`[limits] outgoing_requests_for_strangers`)
pub const MAX_OUTGOING_FOR_STRANGERS: u64 = 32;
/// Requests to other servers in a minute that one stranger may cause.
pub const OUTGOING_PER_MINUTE_FOR_STRANGER: u32 = 120;
/// Requests to other servers that one account may have under way at a time, for the same questions.
/// (`[limits] outgoing_requests_per_account`)
pub const MAX_OUTGOING_PER_ACCOUNT: u64 = 8;
/// The same for all accounts together. (`[limits] outgoing_requests_for_accounts`)
pub const MAX_OUTGOING_FOR_ACCOUNTS: u64 = 128;
/// Joins, leaves, knocks and invitations that one account may have under way at a time: each may ask other servers and goes on
/// where its client hangs up. A space with its rooms is joined with it.
pub const MAX_MEMBERSHIP_CHANGES_PER_ACCOUNT: u64 = 24;
/// The same for all accounts together.
pub const MAX_MEMBERSHIP_CHANGES: u64 = 1_024;
/// Seconds that an answer to such a question may take: a person waits for it.
pub const MAX_LOOKUP_SECONDS: u64 = 10;
/// Seconds for which a server that could not be reached is not asked again on a stranger's behalf.
pub const UNREACHABLE_FOR_STRANGERS_SECONDS: u64 = 30;

// --- Client-server API ------------------------------------------------------------------------------------------------

/// Body of one client request, bytes, where the endpoint has no limit of its own.
pub const MAX_CLIENT_REQUEST_BYTES: usize = 1024 * 1024;
/// Events of one page of messages, and around one event in context.
pub const MAX_PAGE_EVENTS: usize = 500;
/// Events of one room's timeline in a sync.
pub const MAX_SYNC_TIMELINE_EVENTS: usize = 100;
/// Milliseconds that a sync may wait.
pub const MAX_SYNC_TIMEOUT_MS: u64 = 120_000;

// --- Presence ---------------------------------------------------------------------------------------------------------

/// The words that a user has of himself, bytes: a line of text. Longer ones are refused, of another server left out.
pub const MAX_STATUS_MESSAGE_BYTES: usize = 1_024;
/// Users of other servers whose presence is known, of all of them: some 20 MB where few of them have a status (T52).
pub const MAX_PRESENCE_USERS: usize = 100_000;
/// The same of one server, so that one alone can't take all places.
pub const MAX_PRESENCE_USERS_PER_SERVER: usize = 20_000;
/// Changes of presence that are looked at for one sync; what is left comes with the next. Each costs reads of rooms.
pub const MAX_PRESENCE_PER_ANSWER: usize = 100;
/// Rooms of a user in which others hear of his presence, and he of theirs: each is read at every change.
pub const MAX_PRESENCE_ROOMS: usize = 500;
/// Threads of one room in which a user's receipts are kept; the oldest one makes room. Each is two rows, and all members
/// are told of it.
pub const MAX_RECEIPT_THREADS: usize = 200;
/// A password, bytes: argon2 reads all of it.
pub const MAX_PASSWORD_BYTES: usize = 1_024;
/// The shortest password that can be set, characters (NIST SP 800-63B, section 5.1.1). Older ones go on working.
pub const MIN_PASSWORD_CHARS: usize = 8;
/// Password hashes that are computed or wait for it. At some 40 ms each and two at a time the last of them waits little
/// more than a second (T123).
pub const MAX_PASSWORD_HASHES: u64 = 64;
/// The same of those who are known (signed-in devices, networks from which the user signed in lately, the operator), beside
/// them: strangers with many addresses leave these places free.
pub const MAX_KNOWN_PASSWORD_HASHES: u64 = 32;
/// The same for one network, so that one stranger delays others by less than a fifth of a second; more than that many people
/// behind one address don't sign in in the same moment.
pub const MAX_PASSWORD_HASHES_PER_NETWORK: u64 = 8;
/// A device id, bytes: a part of keys, and of EDUs to other servers. Clients use about ten.
pub const MAX_DEVICE_ID_BYTES: usize = 255;
/// A device's name, bytes: a line of text in a list. Stock clients put the browser's and the system's name there.
pub const MAX_DEVICE_NAME_BYTES: usize = 512;
/// Devices of one user. Somebody who signs in daily with a script that never signs out gets there in three years; the
/// oldest session then ends when a new one begins.
pub const MAX_DEVICES_PER_USER: usize = 1_000;
/// The address of an avatar, bytes; it goes into the member events of all the user's rooms. Synapse: 1,000.
pub const MAX_AVATAR_URL_BYTES: usize = 1_000;
/// Types in a filter of one kind of events: each event of an answer is held against each of them.
pub const MAX_FILTER_PATTERNS: usize = 100;
/// Wildcards in one of them: each is a search through the type.
pub const MAX_FILTER_WILDCARDS: usize = 8;
/// Rooms or senders in a filter of one kind of events.
pub const MAX_FILTER_IDS: usize = 1_000;
/// A stored filter, bytes.
pub const MAX_FILTER_BYTES: usize = 64 * 1024;
/// One account-data value, bytes.
pub const MAX_ACCOUNT_DATA_BYTES: usize = 256 * 1024;
/// All account data of one user, bytes, where the operator sets no other number (`[limits] account_data_bytes`). Stock
/// clients keep some 100 KB, and each first sync reads all of it (T126).
pub const ACCOUNT_DATA_QUOTA_BYTES: u64 = 4 * 1024 * 1024;
/// Pieces of account data of one user: clients keep two of each room.
pub const MAX_ACCOUNT_DATA_ROWS: u64 = 20_000;
/// All stored filters of one user, bytes: each new one is compared with them. (`[limits] filter_bytes`)
pub const FILTERS_QUOTA_BYTES: u64 = 512 * 1024;
/// Accounts in one page of the operator's list: some 100 KB.
pub const OPERATOR_PAGE_ACCOUNTS: usize = 1_000;
/// A document's title, bytes: it must fit a state event with room to spare, and a browser's tab.
pub const MAX_TITLE_BYTES: usize = 1_024;
/// A display name, bytes.
pub const MAX_DISPLAY_NAME_BYTES: usize = 512;
/// Rooms that anybody may join whose members are found in the user directory, beside those of the public directory. A search
/// looks at 10,000 people, and most rooms have a few.
pub const MAX_ROOMS_SEARCHED_FOR_USERS: usize = 10_000;
/// Requests a minute that one user may make (`[limits] rate_limit`).
pub const REQUESTS_PER_MINUTE: u32 = 1_000;
/// Invitations in one createRoom.
pub const MAX_INVITES_PER_REQUEST: usize = 100;
/// `initial_state` events of one createRoom. Clients send a handful and bridges a few dozen; each one is signed and
/// checked, and all of them are one commit (T125).
pub const MAX_INITIAL_STATE_EVENTS: usize = 200;
