//! A minimal HTTP/1.1 connection with keep-alive, for requests by the ten thousand: a full client would use more of the
//! machine than the server that is measured. It reads only the forms that our server and Synapse send: a body with
//! `Content-Length`, or (Synapse's JSON) chunks without trailers. Anything else is an error. Must not guess.

use std::ops::Range;

use anyhow::{Context as _, Result, ensure};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

/// Largest response (head and body), bytes: an initial sync of a user in a thousand rooms has about 20 MB.
const MAX_ANSWER: usize = 64 << 20;

/// See the module.
pub struct Connection {
    stream: TcpStream,
    host: String,
    token: String,
    buffer: Vec<u8>,
}

/// The head of a response.
struct Head {
    /// Offset of its end.
    end: usize,
    text: String,
    body: Framing,
}

/// Framing of the body.
enum Framing {
    After(usize),
    Chunks,
}

impl Connection {
    /// Connects to `http://HOST:PORT`.
    ///
    /// # Errors
    /// When the URL is invalid, or the server does not accept the connection.
    pub async fn open(url: &str, token: &str) -> Result<Self> {
        let host = url.strip_prefix("http://").context("only http:// is supported")?;
        let stream = TcpStream::connect(host).await?;
        stream.set_nodelay(true)?;
        Ok(Self {
            stream,
            host: host.to_owned(),
            token: token.to_owned(),
            buffer: Vec::with_capacity(4096),
        })
    }

    /// PUT; returns the body of a successful response.
    ///
    /// # Errors
    /// When the status is not a success.
    pub async fn put(&mut self, path: &str, body: &str) -> Result<&str> {
        let about = format!("Content-Type: application/json\r\nContent-Length: {}\r\n", body.len());
        self.ask("PUT", path, &about, body.as_bytes()).await
    }

    /// PATCH; returns the body of a successful response.
    ///
    /// # Errors
    /// When the status is not a success.
    pub async fn patch(&mut self, path: &str, body: &str) -> Result<&str> {
        let about = format!("Content-Type: application/json\r\nContent-Length: {}\r\n", body.len());
        self.ask("PATCH", path, &about, body.as_bytes()).await
    }

    /// POST of JSON, or of bytes where the server does not look at the content type; returns the body of a successful
    /// response.
    ///
    /// # Errors
    /// When the status is not a success.
    pub async fn post(&mut self, path: &str, body: &[u8]) -> Result<&str> {
        let about = format!("Content-Type: application/json\r\nContent-Length: {}\r\n", body.len());
        self.ask("POST", path, &about, body).await
    }

    /// GET; returns the body of a successful response.
    ///
    /// # Errors
    /// When the status is not a success.
    pub async fn get(&mut self, path: &str) -> Result<&str> {
        self.ask("GET", path, "", &[]).await
    }

    /// GET; returns the body of a successful response, which need not be text.
    ///
    /// # Errors
    /// When the status is not a success.
    pub async fn get_bytes(&mut self, path: &str) -> Result<&[u8]> {
        let body = self.ask_bytes("GET", path, "", &[]).await?;
        self.buffer.get(body).context("no body")
    }

    async fn ask(&mut self, method: &str, path: &str, about: &str, body: &[u8]) -> Result<&str> {
        let body = self.ask_bytes(method, path, about, body).await?;
        Ok(std::str::from_utf8(self.buffer.get(body).context("no body")?)?)
    }

    /// The place of the body in the buffer.
    async fn ask_bytes(&mut self, method: &str, path: &str, about: &str, body: &[u8]) -> Result<Range<usize>> {
        let (host, token) = (&self.host, &self.token);
        let request =
            format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {token}\r\n{about}\r\n");
        self.stream.write_all(&[request.as_bytes(), body].concat()).await?;
        self.buffer.clear();
        let head = self.head().await?;
        let body = match head.body {
            Framing::After(length) => {
                self.until(head.end + length).await?;
                head.end..head.end + length
            }
            Framing::Chunks => self.chunks(head.end).await?,
        };
        let is_ok = matches!(head.text.split_whitespace().nth(1), Some("200" | "201"));
        let said = || String::from_utf8_lossy(self.buffer.get(body.clone()).unwrap_or_default());
        ensure!(is_ok, "{method} {path}: {}{}", head.text, said());
        Ok(body)
    }

    async fn head(&mut self) -> Result<Head> {
        let end = self.find(b"\r\n\r\n", 0).await? + 4;
        let text = std::str::from_utf8(self.buffer.get(..end).context("no head")?)?.to_ascii_lowercase();
        let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
        let body = match (field("content-length:"), field("transfer-encoding:")) {
            (Some(length), None) => Framing::After(at_most(length.parse()?)?),
            (None, Some("chunked")) => Framing::Chunks,
            _ => anyhow::bail!("a response with neither a length nor chunks: {text}"),
        };
        Ok(Head { end, text, body })
    }

    /// Moves the chunks together, so that the body is contiguous from `start`; returns its range.
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
                "a chunk without its final CRLF"
            );
            if size == 0 {
                return Ok(start..end);
            }
            self.buffer.copy_within(data..data + size, end);
            end += size;
        }
    }

    /// The first offset of `what` from `from` on.
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
    ensure!(bytes < MAX_ANSWER, "a response of more than {MAX_ANSWER} bytes");
    Ok(bytes)
}
