//! File descriptors: raises the limit of the process and distributes them. The store comes first, because it can't write
//! without descriptors; then requests to other servers; the rest is for connections. Must not open files.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// More than are needed. Some systems allow billions, and their tables grow with the limit.
const WANTED: u64 = 65_536;
/// Assumed if the system reports no limit.
const ASSUMED: u64 = 1_024;
/// Maximum number of table files that the store keeps open.
const STORE_FILES: u64 = 1_024;
/// The store's other files: logs, locks, and files of compactions.
const STORE_OTHER_FILES: u64 = 96;
/// Connections to other servers, standard streams, reloaded certificates.
const OTHERS: u64 = 512;

/// The file descriptors of this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Descriptors {
    limit: u64,
}

impl Descriptors {
    /// Raises the soft limit of this process to the hard limit, up to [`WANTED`].
    pub(crate) fn raise() -> Self {
        let found = getrlimit(Resource::Nofile);
        let wanted = found.maximum.unwrap_or(WANTED).min(WANTED);
        if found.current.is_some_and(|current| current < wanted) {
            let raised = Rlimit {
                current: Some(wanted),
                maximum: found.maximum,
            };
            if let Err(error) = setrlimit(Resource::Nofile, raised) {
                tracing::warn!(
                    event = "server.descriptor_limit_fixed", %error, wanted,
                    "cannot raise the limit of open files"
                );
            }
        }
        Self::now()
    }

    /// The current limit of this process.
    pub(crate) fn now() -> Self {
        let limit = getrlimit(Resource::Nofile).current.unwrap_or(WANTED);
        Self {
            limit: if limit == 0 { ASSUMED } else { limit },
        }
    }

    /// Table files that the store may keep open.
    pub(crate) fn store_files(self) -> i32 {
        i32::try_from(STORE_FILES.min(self.limit / 4)).unwrap_or(i32::MAX)
    }

    /// Number of connections that the descriptors allow, at most `wanted`.
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
    fn connections_leave_enough_descriptors_for_the_store() {
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
