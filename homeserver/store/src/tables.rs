//! The tables, grouped by purpose. Each file declares its tables with [`crate::tables!`] and defines their rows.
//!
//! Must not reuse a tag for another meaning, even if its table no longer exists.

pub mod accounts;
pub mod documents;
pub mod federation;
pub mod jobs;
pub mod media;
pub mod meta;
pub mod receipts;
pub mod rooms;
pub mod webhooks;
