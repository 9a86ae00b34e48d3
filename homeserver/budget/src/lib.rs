//! Budgets: how much of a resource anonymous clients, accounts and other servers may hold at one time, with figures for
//! metrics. A budget has a name, a limit and a figure of what is in use. A caller that takes from it holds a [`Share`];
//! dropping the share returns the amount.
//!
//! The limits are in `weft_wire::limits`, with their reasons, or in the configuration. A budget bounds what is held at
//! one time; rates belong to a rate limiter, and stored bytes are counted in the store. Must not wait: a request that
//! finds a budget exhausted is refused at once.

mod budget;
mod keyed;
mod registry;

pub use budget::{Budget, Exhausted, Share};
pub use keyed::{KeyedBudget, KeyedShare};
pub use registry::{Budgets, Usage};
