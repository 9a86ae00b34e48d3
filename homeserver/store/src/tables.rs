//! The tables, grouped by what they serve. Each file declares its tables with [`crate::tables!`] and holds their rows.
//!
//! A tag is never used again for another meaning, also when its table has gone.

pub mod accounts;
pub mod documents;
pub mod federation;
pub mod meta;
pub mod receipts;
pub mod rooms;
