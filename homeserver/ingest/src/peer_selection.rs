//! Peer selection: which of a room's other servers receive a request for missing events. A few at a time, and others
//! with each attempt, because the first ones may be offline for long or not have the events.
//!
//! Must not send requests, and must not depend on their purpose.

use std::collections::BTreeSet;

use ruma::{OwnedServerName, ServerName};

/// At most `most` of the servers, without `except`; successive attempts rotate through all of them.
pub fn select_peers(
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
    fn attempts_rotate_through_all_servers_but_the_excluded() {
        let servers: BTreeSet<_> = names(&["a", "b", "c", "d", "e", "us"]).into_iter().collect();
        let us = ServerName::parse("us").unwrap();
        let ask = |attempt| select_peers(servers.clone(), &[&us], attempt, 2);
        assert_eq!(ask(0), names(&["a", "b"]));
        assert_eq!(ask(1), names(&["c", "d"]));
        assert_eq!(ask(2), names(&["e", "a"]));
        assert_eq!(ask(3), names(&["b", "c"]));
    }

    #[test]
    fn few_servers_are_all_selected_and_none_is_no_error() {
        let servers: BTreeSet<_> = names(&["a", "b"]).into_iter().collect();
        let mut asked = select_peers(servers.clone(), &[], 7, 8);
        asked.sort();
        assert_eq!(asked, names(&["a", "b"]));
        let (a, b) = (ServerName::parse("a").unwrap(), ServerName::parse("b").unwrap());
        assert!(select_peers(servers, &[&a, &b], usize::MAX, 8).is_empty());
    }
}
