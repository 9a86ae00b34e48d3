//! Live sockets that never authenticate (T121, T122). Must not use a valid token.

use anyhow::{Context as _, Result, ensure};
use futures_util::future::BoxFuture;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use weft_wire::live::{
    hocuspocus::{Body, Frame},
    sync::SyncMessage,
};

use super::{Attack, Course, Figures, Target, connect, hold_connections, is_closed, write};

/// The request that opens a live socket.
#[must_use]
pub fn opening(document: &str, token: Option<&str>) -> Vec<u8> {
    let token = token.map_or_else(String::new, |token| format!("authorization: Bearer {token}\r\n"));
    let document = crate::client::segment(document);
    format!(
        "GET /_weft/client/v1/live/{document} HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
         sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n{token}\r\n"
    )
    .into_bytes()
}

/// The header of a client's WebSocket frame. The mask is zero, so that the payload stays as it is.
#[must_use]
pub fn header(first: u8, length: usize) -> Vec<u8> {
    let mut header = vec![first];
    match (u8::try_from(length), u16::try_from(length)) {
        (Ok(small), _) if small < 126 => header.push(0x80 | small),
        (_, Ok(middle)) => {
            header.push(0x80 | 126);
            header.extend(middle.to_be_bytes());
        }
        _ => {
            header.push(0x80 | 127);
            header.extend((length as u64).to_be_bytes());
        }
    }
    header.extend([0; 4]);
    header
}

async fn open(target: &Target) -> Result<TcpStream> {
    let mut stream = connect(target).await?;
    stream.write_all(&opening("!nowhere:example.org", None)).await?;
    let mut answer = vec![0; 1024];
    let count = stream.read(&mut answer).await?;
    let status = answer.get(..count.min(12)).context("no answer")?;
    ensure!(status == b"HTTP/1.1 101", "{}", String::from_utf8_lossy(status));
    Ok(stream)
}

/// T121: one socket that sends PINGs and never reads.
#[derive(Debug, Clone, Copy)]
pub struct Pings {
    /// Maximum number of bytes of PINGs.
    pub bytes: usize,
}

impl Attack for Pings {
    fn name(&self) -> &'static str {
        "T121 pings whose responses are never read"
    }

    fn run<'a>(&'a self, target: &'a Target, mut course: Course) -> BoxFuture<'a, Result<Figures>> {
        Box::pin(async move {
            let mut stream = open(target).await?;
            let ping = [header(0x89, 125), vec![7; 125]].concat();
            let pings = ping.repeat(512);
            let mut sent = 0;
            while sent < self.bytes as u64 {
                let more = write(&mut stream, &pings).await;
                sent += more;
                if more < pings.len() as u64 {
                    break;
                }
            }
            course.hold().await;
            Ok(Figures {
                tried: 1,
                sent,
                closed: usize::from(is_closed(&mut stream).await),
            })
        })
    }
}

/// T122: messages that are never finished.
#[derive(Debug, Clone, Copy)]
pub struct Fragments {
    /// Number of sockets.
    pub sockets: usize,
}

impl Attack for Fragments {
    fn name(&self) -> &'static str {
        "T122 unfinished messages on live sockets"
    }

    fn run<'a>(&'a self, target: &'a Target, course: Course) -> BoxFuture<'a, Result<Figures>> {
        let length = 8 * 1024 * 1024;
        let parts = vec![
            opening("!nowhere:example.org", None),
            header(0x82, length),
            vec![7; length - 1],
        ];
        Box::pin(hold_connections(target, course, self.sockets, move |_| parts.clone()))
    }
}

/// T122: complete messages for documents on sockets that are not authenticated.
#[derive(Debug, Clone, Copy)]
pub struct BeforeSignIn {
    /// Number of sockets.
    pub sockets: usize,
}

impl Attack for BeforeSignIn {
    fn name(&self) -> &'static str {
        "T122 messages before authentication"
    }

    fn run<'a>(&'a self, target: &'a Target, course: Course) -> BoxFuture<'a, Result<Figures>> {
        let update = vec![7; 100_000];
        let message = Frame::Document {
            name: "!nowhere:example.org",
            body: Body::Sync(SyncMessage::Update(&update)),
        }
        .encode();
        let frame = [header(0x82, message.len()), message].concat();
        let parts = vec![opening("!nowhere:example.org", None), frame.repeat(48)];
        Box::pin(hold_connections(target, course, self.sockets, move |_| parts.clone()))
    }
}
