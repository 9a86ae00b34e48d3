//! A zip archive as a stream: a thread compresses what a task hands over, and the answer takes what it wrote. All three go on
//! only as fast as the slowest of them.
//!
//! Must not hold more than some buffers. An archive that is not completed ends with an error, so that nobody takes it for a
//! whole one.

use std::io::{self, Write as _};

use axum::body::Body;
use bytes::Bytes;
use flate2::{Compression, write::DeflateEncoder};
use rawzip::{CompressionMethod, ZipArchiveWriter};
use tokio::{sync::mpsc, task::spawn_blocking};

use crate::archive::{ChunkWriter, chunks};

/// Pieces that wait for the thread.
const PIECES: usize = 4;

/// What the thread is given.
enum Piece {
    /// A file begins.
    File { name: String, compression: Compression },
    /// Bytes of the file.
    Bytes(Bytes),
    /// The archive is complete.
    End,
}

/// An archive that is being written. If it is dropped before [`ZipStream::end`], the answer ends with an error.
pub(super) struct ZipStream(mpsc::Sender<Piece>);

impl ZipStream {
    /// A new archive, and the body that has it.
    pub(super) fn start() -> (Self, Body) {
        let (pieces, taken) = mpsc::channel(PIECES);
        let (written, stream) = chunks();
        // A failure ends the stream with an error.
        spawn_blocking(move || write(taken, written));
        (Self(pieces), Body::from_stream(stream))
    }

    /// Begins a file. `compress`: it is not of a kind that is compressed already.
    pub(super) async fn file(&self, name: &str, compress: bool) -> io::Result<()> {
        let compression = match compress {
            true => Compression::default(),
            false => Compression::none(),
        };
        let name = name.to_owned();
        self.send(Piece::File { name, compression }).await
    }

    /// Appends bytes to the file.
    pub(super) async fn bytes(&self, bytes: Bytes) -> io::Result<()> {
        self.send(Piece::Bytes(bytes)).await
    }

    /// A whole file.
    pub(super) async fn whole(&self, name: &str, content: Bytes) -> io::Result<()> {
        self.file(name, true).await?;
        self.bytes(content).await
    }

    /// Completes the archive.
    pub(super) async fn end(self) -> io::Result<()> {
        self.send(Piece::End).await
    }

    async fn send(&self, piece: Piece) -> io::Result<()> {
        let sent = self.0.send(piece).await;
        sent.map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))
    }
}

fn write(mut pieces: mpsc::Receiver<Piece>, to: ChunkWriter) -> io::Result<()> {
    let mut archive = ZipArchiveWriter::new(to);
    let mut next = pieces.blocking_recv();
    while let Some(Piece::File { name, compression }) = next {
        let entry = archive.new_file(&name).compression_method(CompressionMethod::DEFLATE);
        let (mut entry, config) = entry.start().map_err(io::Error::other)?;
        let mut file = config.wrap(DeflateEncoder::new(&mut entry, compression));
        next = loop {
            match pieces.blocking_recv() {
                Some(Piece::Bytes(bytes)) => file.write_all(&bytes)?,
                other => break other,
            }
        };
        let (encoder, descriptor) = file.finish().map_err(io::Error::other)?;
        encoder.finish()?;
        entry.finish(descriptor).map_err(io::Error::other)?;
    }
    if !matches!(next, Some(Piece::End)) {
        return Err(io::Error::new(
            io::ErrorKind::UnexpectedEof,
            "the archive is incomplete",
        ));
    }
    archive.finish().map_err(io::Error::other)?.end()
}
