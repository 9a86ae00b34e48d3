//! HTTP answers for the errors of the crates below. A single table, so that the same failure always has the same code.

mod accounts;
mod media;
mod render;
mod request;
mod rooms;
mod store;
mod traffic;
mod webhooks;
