//! Which of a room's other servers are asked for something that isn't here: a few, and others with each attempt, for the
//! first ones may be away for long, or not have it.
//!
//! Must not ask, nor know what for.

use std::collections::BTreeSet;

use ruma::{OwnedServerName, ServerName};

/// At most `most` of the servers, without those `except`; the numbers of attempts take turns around all of them.
pub(crate) fn select_peers(
    servers: BTreeSet<OwnedServerName>,
    except: &[&ServerName],
    attempt: usize,
    most: usize,
) -> Vec<OwnedServerName> {
    let mut servers: Vec<OwnedServerName> = servers
        .into_iter()
        .filter(|server| !except.contains(&server.as_ref()))
        .collect();
    let first = attempt.wrapping_mul(most).checked_rem(servers.len()).unwrap_or(0);
    servers.rotate_left(first);
    servers.truncate(most);
    servers
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> Vec<OwnedServerName> {
        names.iter().map(|name| ServerName::parse(*name).unwrap()).collect()
    }

    #[test]
    fn all_are_asked_in_turn_but_us() {
        let servers: BTreeSet<_> = names(&["a", "b", "c", "d", "e", "us"]).into_iter().collect();
        let us = ServerName::parse("us").unwrap();
        let ask = |attempt| select_peers(servers.clone(), &[&us], attempt, 2);
        assert_eq!(ask(0), names(&["a", "b"]));
        assert_eq!(ask(1), names(&["c", "d"]));
        assert_eq!(ask(2), names(&["e", "a"]));
        assert_eq!(ask(3), names(&["b", "c"]));
    }

    #[test]
    fn few_are_all_asked_and_nobody_is_no_error() {
        let servers: BTreeSet<_> = names(&["a", "b"]).into_iter().collect();
        let mut asked = select_peers(servers.clone(), &[], 7, 8);
        asked.sort();
        assert_eq!(asked, names(&["a", "b"]));
        let (a, b) = (ServerName::parse("a").unwrap(), ServerName::parse("b").unwrap());
        assert!(select_peers(servers, &[&a, &b], usize::MAX, 8).is_empty());
    }
}
