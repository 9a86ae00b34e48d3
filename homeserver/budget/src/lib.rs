//! Budgets: how much of a resource strangers, accounts and other servers may hold at one time, counted so that metrics
//! can show it. A budget has a name, a limit and a figure of what is in use; whoever takes from it holds a [`Share`], and
//! dropping the share gives the amount back.
//!
//! The limits themselves are in `weft_wire::limits`, with their reasons, or in the configuration. A budget bounds what is
//! held at one time; rates belong to a rate limiter, and stored bytes are counted in the store. Must not wait: a request
//! that finds a budget exhausted is refused at once.

mod budget;
mod keyed;
mod registry;

pub use budget::{Budget, Exhausted, Share};
pub use keyed::{KeyedBudget, KeyedShare};
pub use registry::{Budgets, Usage};
