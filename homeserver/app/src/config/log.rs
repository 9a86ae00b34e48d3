//! `[log]`: filter and format of the log. Must not start logging.

use weft_telemetry::LogFormat;

use super::source::Fields;

/// See the module.
#[derive(Clone, Debug)]
pub(crate) struct Log {
    pub(crate) format: LogFormat,
    /// Filter in the syntax of `RUST_LOG`: `info`, `weft_room=debug,info`.
    pub(crate) filter: String,
}

/// Default filter. State resolution logs the reason of each decision at level info, which is too much.
const DEFAULT_FILTER: &str = "info,ruma_state_res=warn";

impl Default for Log {
    fn default() -> Self {
        Self {
            format: LogFormat::Pretty,
            filter: DEFAULT_FILTER.to_owned(),
        }
    }
}

/// See the module.
pub(super) fn read(mut fields: Fields<'_>) -> Log {
    let mut log = Log::default();
    if let Some(found) = fields.text("format") {
        match found.value.as_str() {
            "pretty" => log.format = LogFormat::Pretty,
            "json" => log.format = LogFormat::Json,
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
