//! A bare HTTP/1.1 connection that is kept open, for requests by the ten thousand: a full client would take more of the
//! machine than the server that is measured. Only what our own server and Synapse answer with: a body with its length
//! before it, or (Synapse's JSON) in chunks without trailers. Anything else is an error, never a guess.

use std::ops::Range;

use anyhow::{Context as _, Result, ensure};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

/// The largest head and body of an answer that is read: a first sync of somebody in a thousand rooms has about 20 MB.
const MAX_ANSWER: usize = 64 << 20;

/// See the module.
pub struct Connection {
    stream: TcpStream,
    host: String,
    token: String,
    buffer: Vec<u8>,
}

/// What the head of an answer says.
struct Head {
    /// Where it ends.
    end: usize,
    text: String,
    body: Framing,
}

/// Where the body ends.
enum Framing {
    After(usize),
    Chunks,
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
        let about = format!("Content-Type: application/json\r\nContent-Length: {}\r\n", body.len());
        self.ask("PUT", path, &about, body).await
    }

    /// GET; gives the body of a success.
    ///
    /// # Errors
    /// When it is none.
    pub async fn get(&mut self, path: &str) -> Result<&str> {
        self.ask("GET", path, "", "").await
    }

    async fn ask(&mut self, method: &str, path: &str, about: &str, body: &str) -> Result<&str> {
        let (host, token) = (&self.host, &self.token);
        let request =
            format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {token}\r\n{about}\r\n{body}");
        self.stream.write_all(request.as_bytes()).await?;
        self.buffer.clear();
        let head = self.head().await?;
        let body = match head.body {
            Framing::After(length) => {
                self.until(head.end + length).await?;
                head.end..head.end + length
            }
            Framing::Chunks => self.chunks(head.end).await?,
        };
        let body = std::str::from_utf8(self.buffer.get(body).context("no body")?)?;
        let ok = head.text.split_whitespace().nth(1) == Some("200");
        ensure!(ok, "{method} {path}: {}{body}", head.text);
        Ok(body)
    }

    async fn head(&mut self) -> Result<Head> {
        let end = self.find(b"\r\n\r\n", 0).await? + 4;
        let text = std::str::from_utf8(self.buffer.get(..end).context("no head")?)?.to_ascii_lowercase();
        let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
        let body = match (field("content-length:"), field("transfer-encoding:")) {
            (Some(length), None) => Framing::After(at_most(length.parse()?)?),
            (None, Some("chunked")) => Framing::Chunks,
            _ => anyhow::bail!("an answer with neither a length nor chunks alone: {text}"),
        };
        Ok(Head { end, text, body })
    }

    /// Moves the chunks together, so that they follow one another from `start`; gives where they lie then.
    async fn chunks(&mut self, start: usize) -> Result<Range<usize>> {
        let (mut end, mut next) = (start, start);
        loop {
            let line = self.find(b"\r\n", next).await?;
            let size = std::str::from_utf8(self.buffer.get(next..line).context("no size")?)?;
            let size = at_most(usize::from_str_radix(size, 16).with_context(|| format!("a chunk of {size:?} bytes"))?)?;
            let data = line + 2;
            next = data + size + 2;
            self.until(next).await?;
            ensure!(
                self.buffer.get(data + size..next) == Some(b"\r\n"),
                "a chunk that does not end where it should"
            );
            if size == 0 {
                return Ok(start..end);
            }
            self.buffer.copy_within(data..data + size, end);
            end += size;
        }
    }

    /// Where something stands first, from a place on.
    async fn find(&mut self, what: &[u8], from: usize) -> Result<usize> {
        loop {
            let rest = self.buffer.get(from..).unwrap_or_default();
            if let Some(at) = rest.windows(what.len()).position(|window| window == what) {
                return Ok(from + at);
            }
            self.more().await?;
        }
    }

    async fn until(&mut self, length: usize) -> Result<()> {
        while self.buffer.len() < length {
            self.more().await?;
        }
        Ok(())
    }

    async fn more(&mut self) -> Result<()> {
        at_most(self.buffer.len())?;
        let read = self.stream.read_buf(&mut self.buffer).await?;
        ensure!(read > 0, "the server closed the connection");
        Ok(())
    }
}

fn at_most(bytes: usize) -> Result<usize> {
    ensure!(bytes < MAX_ANSWER, "an answer of more than {MAX_ANSWER} bytes");
    Ok(bytes)
}
