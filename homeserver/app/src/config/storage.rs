//! `[storage]`: the layout of a new store. Must not have a setting that a store could change later.

use weft_store::{Lanes, MAX_LANES};

use super::source::Fields;

/// See the module.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Storage {
    /// The number of lanes. `None`: that of the existing store, and one for a new store.
    pub(crate) lanes: Option<Lanes>,
}

/// See the module.
pub(super) fn read(mut fields: Fields<'_>) -> Storage {
    let lanes = fields.count("lanes").and_then(|found| {
        let lanes = u16::try_from(found.value).ok().and_then(Lanes::new);
        if lanes.is_none() {
            fields.wrong("lanes", &found.origin, format!("is more than {MAX_LANES}"));
        }
        lanes
    });
    fields.finish();
    Storage { lanes }
}
