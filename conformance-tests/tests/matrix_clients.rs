//! Stock Matrix clients on two servers: matrix-js-sdk and matrix-nio, each as host and as guest, with their own sync
//! loops. Must not patch a client.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests fail by panicking"
)]

#[path = "matrix_clients/accounts.rs"]
mod accounts;
#[path = "matrix_clients/comments.rs"]
mod comments;
#[path = "matrix_clients/documents.rs"]
mod documents;
#[path = "matrix_clients/doors.rs"]
mod doors;
#[path = "matrix_clients/files.rs"]
mod files;
#[path = "matrix_clients/history.rs"]
mod history;
#[path = "matrix_clients/lacking.rs"]
mod lacking;
#[path = "matrix_clients/pair.rs"]
mod pair;
#[path = "matrix_clients/rooms.rs"]
mod rooms;
#[path = "matrix_clients/together.rs"]
mod together;
