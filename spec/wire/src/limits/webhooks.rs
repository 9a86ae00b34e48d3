//! Limits of webhooks (`spec/docs/webhooks.md`).

/// Webhooks of a document, and of a user for all documents: more than a person can tell apart.
pub const MAX_WEBHOOKS_PER_OWNER: usize = 20;
/// Webhooks that one user has created, with those of documents: a user can create any number of documents.
pub const MAX_WEBHOOKS_PER_USER: usize = 100;
/// Webhooks of a server. Each is a task and its rows: some 5 KB of memory.
pub const MAX_WEBHOOKS: usize = 10_000;
/// Bytes of the URL of a webhook: what proxies and servers accept everywhere.
pub const MAX_WEBHOOK_URL_BYTES: usize = 2_048;
/// Seconds of one delivery, with DNS, connection and answer: what the Standard Webhooks specification recommends at least.
pub const WEBHOOK_SECONDS: u64 = 15;
/// Bytes of an answer that are read: a connection can be used again after a short answer. Nothing in it is used.
pub const MAX_WEBHOOK_ANSWER_BYTES: u64 = 4_096;
/// For how long edits of a document are collected for one delivery, milliseconds: an edit is signed some seconds after it is
/// typed, and receivers look at the document and not at keystrokes.
pub const WEBHOOK_EDITS_MS: u64 = 5_000;
/// Events that are divided into deliveries at a time. Their edits are one delivery a document.
pub const MAX_WEBHOOK_SPAN_EVENTS: usize = 500;
/// Authors that are named in a delivery of edits.
pub const MAX_WEBHOOK_AUTHORS: usize = 100;
/// Deliveries of a webhook in an hour, repetitions included; further ones wait. One a second is more than a chat has.
pub const WEBHOOK_DELIVERIES_PER_HOUR: u32 = 3_600;
/// Deliveries of it that need not wait for one another: a discussion of a minute.
pub const WEBHOOK_DELIVERIES_AT_ONCE: u32 = 60;
/// Tests of webhooks that a user sends in an hour: people send a few, and each is a request to an address that the user chose.
pub const WEBHOOK_TESTS_PER_HOUR: u32 = 60;
/// Deliveries in progress to one host. Many webhooks have the same host: a chat service, for example.
pub const MAX_WEBHOOK_DELIVERIES_PER_HOST: usize = 4;
/// Deliveries in progress by webhooks of one user, so that a user's slow receivers don't delay those of others.
pub const MAX_WEBHOOK_DELIVERIES_PER_USER: usize = 8;
/// Deliveries in progress: sockets, and some 100 KB each with TLS and a large event.
pub const MAX_WEBHOOK_DELIVERIES: usize = 256;
/// The pause after a failed delivery, doubled with each further failure, milliseconds: a restart of a receiver takes seconds.
pub const WEBHOOK_FIRST_PAUSE_MS: u64 = 5_000;
/// The longest pause, milliseconds.
pub const WEBHOOK_LONGEST_PAUSE_MS: u64 = 60 * 60 * 1_000;
/// For how long a delivery is repeated before the webhook is paused, milliseconds: a night and a working day.
pub const WEBHOOK_GIVE_UP_MS: u64 = 24 * 60 * 60 * 1_000;
/// Milliseconds for which deliveries are also signed with the old secret of a webhook: a day to configure the receiver.
pub const WEBHOOK_OLD_SECRET_MS: u64 = 24 * 60 * 60 * 1_000;
/// Deliveries that are shown of a webhook.
pub const MAX_WEBHOOK_DELIVERIES_SHOWN: usize = 20;
/// Stream positions after which the position of a webhook is written although it had nothing to deliver: what is read again
/// after a restart.
pub const WEBHOOK_POSITION_STEP: u64 = 10_000;
