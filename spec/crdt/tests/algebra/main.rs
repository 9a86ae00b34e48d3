//! What the algebra gives is judged by the engines: yrs, and Yjs in Node. One binary, so that it is linked once.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    missing_docs,
    reason = "a test that meets the unexpected has to stop there"
)]

mod engines;
mod judged;
mod oracle;
mod peers;
