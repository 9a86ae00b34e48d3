//! Tables of jobs: work that must be done, also after a restart. Tags 0x06xx. Must not use tags of other groups.

use serde::{Deserialize, Serialize};

use crate::lane::Lane;

crate::tables! {
    JOBS: (Lane, String, String) => JobRow, Lane(Lane), Ground, 0x0601,
        "Lane, kind, key: work that must be done, once for each kind and key. Written by the batch that makes it necessary.";
    DUE_JOBS: (Lane, String, u64, String) => (), Lane(Lane), Derived, 0x0602,
        "Lane, kind, time in milliseconds since 1970, key: when a row of JOBS is due. An entry whose time differs from that of its row is obsolete.";
}

/// A job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobRow {
    /// When it is due, in milliseconds since 1970.
    pub due: u64,
    /// Differs for each request, so that a request that arrives while the job runs is not removed with it.
    pub generation: u64,
    /// Failed attempts since the request.
    #[serde(default)]
    pub attempts: u32,
    /// What the handler needs besides the key.
    #[serde(default)]
    pub payload: String,
}

crate::json_value!(JobRow);
