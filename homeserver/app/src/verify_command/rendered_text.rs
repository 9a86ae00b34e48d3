//! Renders the text of a verified log, in a render worker like the server's: a process in a sandbox, because the text of an export may be
//! hostile. Must not render in this process.

use weft_render::{Format, Pool, PoolConfig, RenderRequest, Renderer as _};
use weft_verify::{Report, Wrong};

/// What the rendered text says about a file.
pub(super) enum TextCheck {
    /// The file says its hash, and it is this one.
    Same(String),
    /// The file says none.
    NotStated(String),
    /// The file says another one.
    Wrong(Box<Wrong>),
    /// It can't be judged.
    NotRendered(String),
}

/// Renders the text, and compares its hash with the one that the file says.
pub(super) fn check(report: &Report) -> TextCheck {
    let (Some(text), Some(kind)) = (&report.text, report.kind) else {
        return TextCheck::NotRendered("the text is not known, or too large".to_owned());
    };
    let request = RenderRequest {
        kind,
        state: text.clone().into(),
        format: Format::Json,
    };
    let hash = match rendered(report.room_id.as_str(), request) {
        Ok(hash) => hash,
        Err(error) => return TextCheck::NotRendered(error),
    };
    match report.check_text_hash(&hash) {
        Ok(true) => TextCheck::Same(hash),
        Ok(false) => TextCheck::NotStated(hash),
        Err(wrong) => TextCheck::Wrong(Box::new(wrong)),
    }
}

fn rendered(room: &str, request: RenderRequest) -> Result<String, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| error.to_string())?;
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    runtime.block_on(async {
        let pool = Pool::start(PoolConfig::new(program, vec!["render-worker".to_owned()], 1));
        let rendered = pool.render(room, request).await.map_err(|error| error.to_string())?;
        Ok(format!("{:?}", rendered.text_hash))
    })
}
