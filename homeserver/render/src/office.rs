//! Conversion between DOCX and HTML by pandoc, if that is installed: a process for each conversion, with limits on memory,
//! processor time, files and network, which `weft convert-worker` sets before it becomes pandoc.
//!
//! Must not be given a document's HTML with addresses of images: pandoc would fetch them. What pandoc answers is input from
//! outside.

use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::Command;
use tokio::sync::Semaphore;
use tokio::time::timeout;
use weft_wire::limits::{CONVERSION_MS, CONVERSION_WAIT_MS, MAX_CONVERSIONS, MAX_IMPORT_BYTES};

/// The exit code of a converter that finds no pandoc.
pub const PANDOC_MISSING: u8 = 127;

/// From what to what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// DOCX in, HTML out.
    DocxToHtml,
    /// HTML in, DOCX out.
    HtmlToDocx,
}

impl Direction {
    /// The name in the arguments of the converter.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::DocxToHtml => "docx-to-html",
            Self::HtmlToDocx => "html-to-docx",
        }
    }

    /// The direction with a name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::DocxToHtml, Self::HtmlToDocx]
            .into_iter()
            .find(|direction| direction.name() == name)
    }
}

/// A failed conversion.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OfficeError {
    /// There is no pandoc on this machine.
    #[error("pandoc is not installed")]
    NotInstalled,
    /// All converters are in use.
    #[error("all converters are in use")]
    Busy,
    /// The input is not of the form that was announced, or needs more memory or time than is allowed.
    #[error("the file can't be converted")]
    Failed,
    /// The result has more bytes than are allowed.
    #[error("the converted file has more than {limit} bytes")]
    TooLarge {
        /// The limit.
        limit: usize,
    },
}

/// Converts office documents.
#[async_trait]
pub trait Office: Send + Sync + 'static {
    /// Converts a file of at most `MAX_IMPORT_BYTES`.
    async fn convert(&self, direction: Direction, file: Bytes) -> Result<Bytes, OfficeError>;
}

/// Converts by pandoc. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Pandoc {
    program: PathBuf,
    permits: Arc<Semaphore>,
}

impl Pandoc {
    /// `program` is the program `weft`, whose command `convert-worker` becomes pandoc.
    #[must_use]
    pub fn new(program: PathBuf) -> Self {
        Self {
            program,
            permits: Arc::new(Semaphore::new(MAX_CONVERSIONS)),
        }
    }

    async fn run(&self, direction: Direction, file: Bytes) -> Result<Bytes, OfficeError> {
        let mut child = Command::new(&self.program)
            .args(["convert-worker", direction.name()])
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            // Its messages may contain text of the document.
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .map_err(|_| OfficeError::NotInstalled)?;
        let (Some(mut input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(OfficeError::Failed);
        };
        let write = async move {
            // A converter that stops reading has failed; its exit code tells.
            let _ = input.write_all(&file).await;
        };
        let limit = u64::try_from(MAX_IMPORT_BYTES).unwrap_or(u64::MAX);
        let mut converted = Vec::new();
        let mut output = output.take(limit.saturating_add(1));
        let (read, ()) = tokio::join!(output.read_to_end(&mut converted), write);
        read.map_err(|_| OfficeError::Failed)?;
        if converted.len() > MAX_IMPORT_BYTES {
            let limit = MAX_IMPORT_BYTES;
            return Err(OfficeError::TooLarge { limit });
        }
        let status = child.wait().await.map_err(|_| OfficeError::Failed)?;
        match status.code() {
            Some(0) => Ok(converted.into()),
            Some(code) if code == i32::from(PANDOC_MISSING) => Err(OfficeError::NotInstalled),
            _ => Err(OfficeError::Failed),
        }
    }
}

#[async_trait]
impl Office for Pandoc {
    async fn convert(&self, direction: Direction, file: Bytes) -> Result<Bytes, OfficeError> {
        let permit = Arc::clone(&self.permits).acquire_owned();
        let permit = timeout(Duration::from_millis(CONVERSION_WAIT_MS), permit).await;
        let Ok(Ok(_permit)) = permit else {
            return Err(OfficeError::Busy);
        };
        let converted = timeout(Duration::from_millis(CONVERSION_MS), self.run(direction, file)).await;
        converted.unwrap_or(Err(OfficeError::Failed))
    }
}
