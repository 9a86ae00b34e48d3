//! `[documents]`: when edits become signed events, and how long documents stay in the bin. Must not be needed for durability: edits are on disk before.

use std::time::Duration;

use super::source::Fields;

/// Upper limit of `seal_max`: unsealed edits exist only on this server and are lost if its disk fails.
const SEAL_MAX_LIMIT: Duration = Duration::from_secs(60);

/// See the module.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Documents {
    /// Edits become an event after this time without a further edit.
    pub(crate) seal_idle: Duration,
    /// Edits become an event at the latest this time after the first of them.
    pub(crate) seal_max: Duration,
    /// Days after which a document leaves the bin for good, if it has no other member; 0: never.
    pub(crate) bin_days: u64,
}

impl Default for Documents {
    fn default() -> Self {
        Self {
            seal_idle: Duration::from_secs(2),
            seal_max: Duration::from_secs(5),
            bin_days: 30,
        }
    }
}

/// See the module.
pub(super) fn read(mut fields: Fields<'_>) -> Documents {
    let default = Documents::default();
    let idle = fields.duration("seal_idle");
    let max = fields.duration("seal_max");
    let documents = Documents {
        seal_idle: idle.as_ref().map_or(default.seal_idle, |found| found.value),
        seal_max: max.as_ref().map_or(default.seal_max, |found| found.value),
        bin_days: fields.days("bin_days").unwrap_or(default.bin_days),
    };
    let origin = max.or(idle).map(|found| found.origin);
    if let Some(origin) = origin {
        if documents.seal_max > SEAL_MAX_LIMIT {
            fields.wrong(
                "seal_max",
                &origin,
                "is more than a minute: edits would be unsigned for too long".to_owned(),
            );
        }
        if documents.seal_idle > documents.seal_max {
            fields.wrong("seal_max", &origin, "is less than documents.seal_idle".to_owned());
        }
    }
    fields.finish();
    documents
}
