//! A bare HTTP/1.1 connection that is kept open, for requests by the ten thousand: a full client would take more of the
//! machine than the server that is measured. Only what our own server and Synapse answer with: a length and a body.

use anyhow::{Context as _, Result, ensure};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

/// The largest head and body of an answer that is read.
const MAX_ANSWER: usize = 1 << 20;

/// See the module.
pub struct Connection {
    stream: TcpStream,
    host: String,
    token: String,
    buffer: Vec<u8>,
}

impl Connection {
    /// Connects to `http://HOST:PORT`.
    ///
    /// # Errors
    /// When it is no such URL, or nobody answers.
    pub async fn open(url: &str, token: &str) -> Result<Self> {
        let host = url.strip_prefix("http://").context("only http:// is spoken here")?;
        let stream = TcpStream::connect(host).await?;
        stream.set_nodelay(true)?;
        Ok(Self {
            stream,
            host: host.to_owned(),
            token: token.to_owned(),
            buffer: Vec::with_capacity(4096),
        })
    }

    /// PUT; gives the body of a success.
    ///
    /// # Errors
    /// When it is none.
    pub async fn put(&mut self, path: &str, body: &str) -> Result<&str> {
        let (host, token) = (&self.host, &self.token);
        let request = format!(
            "PUT {path} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {token}\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        self.stream.write_all(request.as_bytes()).await?;
        self.buffer.clear();
        let head = loop {
            if let Some(at) = self.buffer.windows(4).position(|window| window == b"\r\n\r\n") {
                break at + 4;
            }
            self.more().await?;
        };
        let text = std::str::from_utf8(self.buffer.get(..head).context("no head")?)?.to_ascii_lowercase();
        let ok = text.split_whitespace().nth(1) == Some("200");
        let length = text.lines().find_map(|line| line.strip_prefix("content-length:"));
        let length: usize = length.context("an answer without a length")?.trim().parse()?;
        while self.buffer.len() < head + length {
            self.more().await?;
        }
        let body = std::str::from_utf8(self.buffer.get(head..).context("no body")?)?;
        ensure!(ok, "PUT {path}: {text}{body}");
        Ok(body)
    }

    async fn more(&mut self) -> Result<()> {
        ensure!(
            self.buffer.len() < MAX_ANSWER,
            "an answer of more than {MAX_ANSWER} bytes"
        );
        let read = self.stream.read_buf(&mut self.buffer).await?;
        ensure!(read > 0, "the server closed the connection");
        Ok(())
    }
}
