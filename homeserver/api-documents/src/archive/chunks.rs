//! Joins a thread that writes and a task that sends: what is written becomes a stream of buffers. The thread waits while the
//! task has enough. Must not hold more than some buffers.

use std::io::{self, Write};

use bytes::Bytes;
use futures_util::{Stream, stream::unfold};
use tokio::sync::mpsc;

/// Bytes in a buffer.
const BUFFER_BYTES: usize = 64 * 1024;
/// Buffers that wait.
const BUFFERS: usize = 4;

/// The end that is written to, in a thread that may wait. Without [`ChunkWriter::end`] the stream ends with an error, so that
/// nobody takes it for a whole one.
pub struct ChunkWriter {
    buffer: Vec<u8>,
    /// Nothing is the end.
    to: mpsc::Sender<Option<Bytes>>,
}

/// A writer, and the stream of what it is given.
pub fn chunks() -> (ChunkWriter, impl Stream<Item = io::Result<Bytes>> + Send + 'static) {
    let (to, from) = mpsc::channel(BUFFERS);
    let buffer = Vec::with_capacity(BUFFER_BYTES);
    let stream = unfold(Some(from), |from: Option<mpsc::Receiver<Option<Bytes>>>| async move {
        let mut from = from?;
        match from.recv().await {
            Some(Some(bytes)) => Some((Ok(bytes), Some(from))),
            Some(None) => None,
            None => Some((Err(io::ErrorKind::UnexpectedEof.into()), None)),
        }
    });
    (ChunkWriter { buffer, to }, stream)
}

impl ChunkWriter {
    /// Ends the stream.
    ///
    /// # Errors
    /// The stream was dropped.
    pub fn end(mut self) -> io::Result<()> {
        self.flush()?;
        self.send(None)
    }

    fn send(&self, piece: Option<Bytes>) -> io::Result<()> {
        let sent = self.to.blocking_send(piece);
        sent.map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

impl Write for ChunkWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= BUFFER_BYTES {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let full = std::mem::replace(&mut self.buffer, Vec::with_capacity(BUFFER_BYTES));
        self.send(Some(full.into()))
    }
}
