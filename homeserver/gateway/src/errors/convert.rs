//! Errors of the crates below, as HTTP answers. One table, so that the same failure always has the same code.

mod accounts;
mod request;
mod rooms;
mod store;
mod traffic;
