//! The frames between server and worker, over the worker's standard input and output. One frame is four lengths (32 bits,
//! big-endian: the header and three parts), the header (JSON), and the parts (bytes). A worker first sends [`Hello`]; then
//! each request is followed by its answer.
//!
//! Both sides treat the other's frames as input from outside: nothing is allocated before its length was checked.

use std::{collections::BTreeSet, io};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use weft_wire::anchor::Anchor;
use weft_wire::document::DocumentKind;
use weft_wire::limits::{MAX_RENDER_HEADER_BYTES, MAX_RENDER_STATE_BYTES, MAX_RENDERED_BYTES};

use crate::change::{Change, PlaceError, Unit};
use crate::error::NotRendered;
use crate::task::{Conflict, Format, ImageFormat, Located, LostContent, Source, Target, TextHash};

/// Parts of one frame. A part that is not used is empty: an update never is.
pub const PARTS: usize = 3;
/// Bytes before the header.
pub const PREFIX_BYTES: usize = 4 * (PARTS + 1);
/// The version of the frames. Server and worker are the same program, so another version is a mistake.
pub const VERSION: u32 = 1;

/// The first frame of a worker, when its sandbox is complete.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// See [`VERSION`].
    pub version: u32,
}

/// The header of a request. The updates are parts of the frame.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Task {
    /// Part 0: the state.
    Render {
        /// The kind of the document.
        kind: DocumentKind,
        /// The requested form.
        format: Format,
    },
    /// Part 0: the state; part 1: the base, or empty.
    Edit {
        /// The kind of the document.
        kind: DocumentKind,
        /// The changes.
        changes: Vec<Change>,
        /// How positions are counted.
        unit: Unit,
        /// The client id of the new blocks.
        client: u64,
        /// Their first clock.
        clock: u32,
    },
    /// Part 0: the earlier state; part 1: the later one.
    Diff {
        /// The kind of the document.
        kind: DocumentKind,
    },
    /// Part 0: the state; part 1: the suggestion; part 2: empty, or other addresses for `mxc` URIs, a JSON object.
    Apply {
        /// The kind of the document.
        kind: DocumentKind,
        /// The client id of the new blocks.
        client: u64,
        /// The changes to make; `None`: all.
        only: Option<BTreeSet<u32>>,
    },
    /// Part 0: the state; part 1: the foreign text.
    Import {
        /// The kind of the document.
        kind: DocumentKind,
        /// The form of the text.
        source: Source,
        /// The client id of the new blocks.
        client: u64,
    },
    /// Part 0: the state; part 1: the state to restore.
    Restore {
        /// The kind of the document.
        kind: DocumentKind,
        /// The client id of the new blocks.
        client: u64,
    },
    /// Part 0: the state.
    Anchor {
        /// The kind of the document.
        kind: DocumentKind,
        /// What is anchored.
        target: Target,
        /// How positions are counted.
        unit: Unit,
    },
    /// Part 0: the state.
    Locate {
        /// The kind of the document.
        kind: DocumentKind,
        /// The anchors.
        anchors: Vec<Anchor>,
        /// How positions are counted.
        unit: Unit,
    },
    /// Part 0: an image.
    Thumbnail {
        /// Greatest width, pixels.
        width: u32,
        /// Greatest height, pixels.
        height: u32,
        /// The size is filled, and what exceeds it is cut off.
        crop: bool,
    },
}

/// The header of an answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Reply {
    /// The result.
    pub answer: Answer,
    /// Processor time of the worker since its start, milliseconds.
    pub cpu_ms: u64,
}

/// The result of a request.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// Part 0: the content (UTF-8).
    Rendered {
        /// The hash of the canonical form.
        text_hash: TextHash,
    },
    /// Part 0: the update.
    Edited {
        /// Changes of others at the same places.
        conflicts: Vec<Conflict>,
    },
    /// Part 0: the difference in JSON.
    Compared,
    /// Part 0: the update; part 1: the difference in JSON.
    Applied {
        /// Whether the suggestion still changes something.
        applies: bool,
    },
    /// Without parts.
    Anchored {
        /// The anchor, with a quotation.
        anchor: Box<Anchor>,
    },
    /// Without parts.
    Located {
        /// The places of the anchors, in their order.
        places: Vec<Located>,
    },
    /// Part 0: the thumbnail.
    Reduced {
        /// Its format.
        format: ImageFormat,
    },
    /// The image has too many pixels, or needs too much memory.
    ImageTooLarge,
    /// Part 0: the update.
    Imported {
        /// What was left out.
        lost: Vec<LostContent>,
    },
    /// A change can't be made.
    Refused {
        /// The index of the change.
        change: usize,
        /// What is wrong with it.
        error: PlaceError,
    },
    /// The result is too large.
    TooLarge {
        /// Its size in bytes.
        bytes: usize,
    },
    /// The engine can't render the document. After [`NotRendered::Panicked`] the worker ends.
    NotRendered {
        /// The cause.
        reason: NotRendered,
    },
}

/// A frame.
#[derive(Debug, Clone, PartialEq)]
pub struct Frame<H> {
    /// The header.
    pub header: H,
    /// The parts.
    pub parts: [Bytes; PARTS],
}

impl<H> Frame<H> {
    /// A frame without parts.
    #[must_use]
    pub const fn new(header: H) -> Self {
        Self {
            header,
            parts: [Bytes::new(), Bytes::new(), Bytes::new()],
        }
    }
}

/// A frame that can't be read or written.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// The pipe failed or ended.
    #[error(transparent)]
    Pipe(#[from] io::Error),
    /// The header is not the expected JSON.
    #[error("the header is invalid: {0}")]
    Header(#[from] serde_json::Error),
    /// A length exceeds its limit.
    #[error("a frame announces {bytes} bytes; at most {limit} are allowed")]
    TooLarge {
        /// The announced length.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
}

/// The lengths of a frame's header and parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lengths {
    /// The header.
    pub header: usize,
    /// The parts.
    pub parts: [usize; PARTS],
}

impl Lengths {
    /// Reads the prefix of a request.
    pub fn of_request(prefix: [u8; PREFIX_BYTES]) -> Result<Self, FrameError> {
        Self::within(prefix, MAX_RENDER_STATE_BYTES)
    }

    /// Reads the prefix of an answer.
    pub fn of_answer(prefix: [u8; PREFIX_BYTES]) -> Result<Self, FrameError> {
        Self::within(prefix, MAX_RENDERED_BYTES)
    }

    fn within(prefix: [u8; PREFIX_BYTES], part_limit: usize) -> Result<Self, FrameError> {
        let mut numbers = prefix.as_chunks::<4>().0.iter().map(|bytes| u32::from_be_bytes(*bytes));
        let mut next = |limit: usize| {
            let bytes = usize::try_from(numbers.next().unwrap_or(0)).unwrap_or(usize::MAX);
            if bytes > limit {
                return Err(FrameError::TooLarge { bytes, limit });
            }
            Ok(bytes)
        };
        Ok(Self {
            header: next(MAX_RENDER_HEADER_BYTES)?,
            parts: [next(part_limit)?, next(part_limit)?, next(part_limit)?],
        })
    }
}

/// The bytes before the parts: prefix and header.
pub fn head<H: Serialize>(frame: &Frame<H>) -> Result<Vec<u8>, FrameError> {
    let header = serde_json::to_vec(&frame.header)?;
    if header.len() > MAX_RENDER_HEADER_BYTES {
        return Err(FrameError::TooLarge {
            bytes: header.len(),
            limit: MAX_RENDER_HEADER_BYTES,
        });
    }
    let mut head = Vec::with_capacity(PREFIX_BYTES + header.len());
    for length in [header.len()].into_iter().chain(frame.parts.iter().map(Bytes::len)) {
        let length = u32::try_from(length).map_err(|_| FrameError::TooLarge {
            bytes: length,
            limit: MAX_RENDERED_BYTES,
        })?;
        head.extend_from_slice(&length.to_be_bytes());
    }
    head.extend_from_slice(&header);
    Ok(head)
}

/// Writes a request to a worker.
pub async fn send<W: AsyncWrite + Unpin>(to: &mut W, frame: &Frame<Task>) -> Result<(), FrameError> {
    to.write_all(&head(frame)?).await?;
    for part in &frame.parts {
        to.write_all(part).await?;
    }
    to.flush().await?;
    Ok(())
}

/// Reads a worker's first frame or an answer.
pub async fn receive<R: AsyncRead + Unpin, H: for<'a> Deserialize<'a>>(from: &mut R) -> Result<Frame<H>, FrameError> {
    let mut prefix = [0; PREFIX_BYTES];
    from.read_exact(&mut prefix).await?;
    let lengths = Lengths::of_answer(prefix)?;
    let header = serde_json::from_slice(&exactly(from, lengths.header).await?)?;
    let [first, second, third] = lengths.parts;
    Ok(Frame {
        header,
        parts: [
            exactly(from, first).await?,
            exactly(from, second).await?,
            exactly(from, third).await?,
        ],
    })
}

/// Reads `length` bytes; memory grows with what arrives and not with what is announced.
async fn exactly<R: AsyncRead + Unpin>(from: &mut R, length: usize) -> io::Result<Bytes> {
    let mut bytes = Vec::new();
    let wanted = u64::try_from(length).unwrap_or(u64::MAX);
    from.take(wanted).read_to_end(&mut bytes).await?;
    if bytes.len() != length {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(bytes.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame() -> Frame<Task> {
        Frame {
            header: Task::Render {
                kind: DocumentKind::Text,
                format: Format::Text,
            },
            parts: [Bytes::from_static(&[0, 0]), Bytes::new(), Bytes::from_static(b"abc")],
        }
    }

    #[tokio::test]
    async fn a_frame_is_read_as_it_was_written() {
        let mut bytes = Vec::new();
        send(&mut bytes, &frame()).await.unwrap();
        let read: Frame<Task> = receive(&mut bytes.as_slice()).await.unwrap();
        assert_eq!(read, frame());
    }

    #[tokio::test]
    async fn a_cut_frame_and_one_with_large_lengths_are_errors() {
        let mut bytes = Vec::new();
        send(&mut bytes, &frame()).await.unwrap();
        for end in 0..bytes.len() {
            let cut: Result<Frame<Task>, _> = receive(&mut bytes.get(..end).unwrap()).await;
            assert!(matches!(cut, Err(FrameError::Pipe(_) | FrameError::Header(_))), "{end}");
        }
        for place in (0..PREFIX_BYTES).step_by(4) {
            let mut large = bytes.clone();
            *large.get_mut(place).unwrap() = 0xff;
            let read: Result<Frame<Task>, _> = receive(&mut large.as_slice()).await;
            assert!(matches!(read, Err(FrameError::TooLarge { .. })), "{place}");
        }
    }
}
