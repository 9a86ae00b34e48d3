//! Minimises a plan that fails: removes actions as long as it still fails.

use super::{plan::Plan, world::run};

/// Returns the smallest plan that was found, and its failure.
pub fn shrink(mut plan: Plan, mut failure: String) -> (Plan, String) {
    let mut portion = (plan.actions.len() / 2).max(1);
    loop {
        let mut at = 0;
        let mut smaller = false;
        while at < plan.actions.len() {
            let mut without = plan.clone();
            let end = (at + portion).min(without.actions.len());
            without.actions.drain(at..end);
            match run(&without).result {
                Err(other) => {
                    (plan, failure) = (without, other);
                    smaller = true;
                }
                Ok(()) => at += portion,
            }
        }
        if portion == 1 && !smaller {
            return (plan, failure);
        }
        portion = (portion / 2).max(1);
    }
}
