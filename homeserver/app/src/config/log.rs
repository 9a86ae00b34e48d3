//! `[log]`: what is logged and how.

use super::source::Fields;

/// How lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Format {
    /// For people.
    #[default]
    Pretty,
    /// For machines: one JSON object a line.
    Json,
}

/// See the module.
#[derive(Clone, Debug)]
pub(crate) struct Log {
    pub(crate) format: Format,
    /// In the manner of `RUST_LOG`: `info`, `weft_room=debug,info`.
    pub(crate) filter: String,
}

/// What is logged where nobody says otherwise. State resolution tells at level info how it came to each decision.
const DEFAULT_FILTER: &str = "info,ruma_state_res=warn";

impl Default for Log {
    fn default() -> Self {
        Self {
            format: Format::Pretty,
            filter: DEFAULT_FILTER.to_owned(),
        }
    }
}

/// See the module.
pub(super) fn read(mut fields: Fields<'_>) -> Log {
    let mut log = Log::default();
    if let Some(found) = fields.text("format") {
        match found.value.as_str() {
            "pretty" => log.format = Format::Pretty,
            "json" => log.format = Format::Json,
            other => fields.wrong("format", &found.origin, format!("{other:?} is neither pretty nor json")),
        }
    }
    if let Some(found) = fields.text("filter") {
        match tracing_subscriber::EnvFilter::try_new(&found.value) {
            Ok(_) => log.filter = found.value,
            Err(error) => fields.wrong("filter", &found.origin, format!("{:?}: {error}", found.value)),
        }
    }
    fields.finish();
    log
}
