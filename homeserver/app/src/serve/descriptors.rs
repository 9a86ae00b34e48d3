//! File descriptors: as many as the system gives, and who gets how many of them. The store comes first, because without
//! descriptors it can't write; other servers that are called come next; what is left is for connections.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// More than anybody needs: some systems give billions, and tables in the system grow with it.
const WANTED: u64 = 65_536;
/// Where the system doesn't say.
const ASSUMED: u64 = 1_024;
/// Table files that the store holds open at most.
const STORE_FILES: u64 = 1_024;
/// Of the store's other files: logs, locks, and those that are made while it compacts.
const STORE_OTHER_FILES: u64 = 96;
/// Connections to other servers, standard streams, certificates that are read again.
const OTHERS: u64 = 512;

/// How many descriptors there are for what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Descriptors {
    limit: u64,
}

impl Descriptors {
    /// Raises this process' limit to what the system allows.
    pub(crate) fn raise() -> Self {
        let found = getrlimit(Resource::Nofile);
        let wanted = found.maximum.unwrap_or(WANTED).min(WANTED);
        if found.current.is_some_and(|current| current < wanted) {
            let raised = Rlimit {
                current: Some(wanted),
                maximum: found.maximum,
            };
            if let Err(error) = setrlimit(Resource::Nofile, raised) {
                tracing::warn!(%error, wanted, "the limit of open files can't be raised");
            }
        }
        Self::now()
    }

    /// What this process may have now.
    pub(crate) fn now() -> Self {
        let limit = getrlimit(Resource::Nofile).current.unwrap_or(WANTED);
        Self {
            limit: if limit == 0 { ASSUMED } else { limit },
        }
    }

    /// Table files that the store may hold open.
    pub(crate) fn store_files(self) -> i32 {
        i32::try_from(STORE_FILES.min(self.limit / 4)).unwrap_or(i32::MAX)
    }

    /// Connections that fit, at most as many as are wanted.
    pub(crate) fn connections(self, wanted: u64) -> u64 {
        let store = STORE_FILES.min(self.limit / 4) + STORE_OTHER_FILES;
        let left = self.limit.saturating_sub(store + OTHERS.min(self.limit / 8));
        wanted.min(left).max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_leave_the_store_what_it_needs() {
        for (limit, wanted, connections) in [
            (65_536, 8_192, 8_192),
            (4_096, 8_192, 4_096 - 1_024 - 96 - 512),
            (1_024, 8_192, 1_024 - 256 - 96 - 128),
            (1_024, 100, 100),
            (64, 8_192, 1),
        ] {
            assert_eq!(
                Descriptors { limit }.connections(wanted),
                connections,
                "{limit} {wanted}"
            );
        }
        assert_eq!(Descriptors { limit: 1_024 }.store_files(), 256);
        assert_eq!(Descriptors { limit: 65_536 }.store_files(), 1_024);
    }
}
