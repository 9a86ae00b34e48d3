//! Budgets: how much of a resource anonymous clients, accounts and other servers may use, with figures for metrics. Of a
//! [`Budget`] a caller holds a [`Share`] while it uses the resource; dropping the share returns the amount. A
//! [`DailyBudget`] limits what is spent in a day, and a [`StoredBudget`] what is stored.
//!
//! The limits are in `weft_wire::limits`, with their reasons, or in the configuration. Numbers of requests belong to a
//! rate limiter. Must not wait: a request that finds a budget exhausted is refused at once.

mod budget;
mod daily;
mod keyed;
mod registry;
mod stored;

pub use budget::{Budget, Exhausted, Share};
pub use daily::{DailyBudget, Overspent};
pub use keyed::{KeyedBudget, KeyedShare};
pub use registry::{Budgets, Counted, Usage};
pub use stored::StoredBudget;
