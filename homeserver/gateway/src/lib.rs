//! The HTTP interface of the homeserver: the routers of its APIs, the web page and the health checks, under one name.
//!
//! Each API is a crate of its own over `weft-http`, and is tested here together with the others. Must not contain an
//! endpoint of an API, and must not log tokens, keys or document text.

pub mod docs;
pub mod health;
pub mod openapi;
pub mod web;

pub use weft_api_client as client;
pub use weft_api_documents as documents;
pub use weft_api_server as server;
pub use weft_http::{
    authentication, client_address, cors, errors, membership_lock, public_rooms, ratelimit, ruma_json, text_reads,
    traffic,
};
pub use weft_live as live;
