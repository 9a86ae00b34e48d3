//! One server in this process, users with tokens, and a socket that sends and receives frames.
//!
//! The server listens on a TCP port, or in memory: there a test can use virtual time, since no byte is outside of this process.

use std::{sync::Arc, time::Duration};

use futures_util::{SinkExt, StreamExt};
use ruma::{OwnedRoomId, RoomId};
use tokio::{
    io::{AsyncRead, AsyncWrite, DuplexStream, duplex},
    net::{TcpListener, TcpStream},
    sync::mpsc,
};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{Message, client::IntoClientRequest, http::HeaderValue},
};
use weft_fanout::Awareness;
use weft_gateway::{
    live::{ConnectionIds, EventStreams, LivePorts, router},
    ratelimit::UserLimiter,
    text_reads::TextReads,
};
use weft_room_api::SystemClock;
use weft_testkit::{NoEdus, ServerSetup, TestServer};

pub use weft_testkit::Person;

/// How long a test waits for an expected message. Only a failing test waits that long.
pub const TIMEOUT: Duration = Duration::from_secs(20);

/// A connection to the server, of either kind.
pub trait Connection: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Connection for S {}

/// Bytes that a connection in memory holds in each direction.
const MEMORY_CONNECTION_BYTES: usize = 64 * 1024;

/// Accepts connections in memory.
struct MemoryListener(mpsc::UnboundedReceiver<DuplexStream>);

impl axum::serve::Listener for MemoryListener {
    type Io = DuplexStream;
    type Addr = ();

    async fn accept(&mut self) -> (DuplexStream, ()) {
        match self.0.recv().await {
            Some(stream) => (stream, ()),
            None => std::future::pending().await,
        }
    }

    fn local_addr(&self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Where the server listens.
enum Listening {
    Tcp(std::net::SocketAddr),
    Memory(mpsc::UnboundedSender<DuplexStream>),
}

impl Listening {
    async fn connect(&self) -> Box<dyn Connection> {
        match self {
            Self::Tcp(address) => Box::new(TcpStream::connect(address).await.unwrap()),
            Self::Memory(connections) => {
                let (ours, theirs) = duplex(MEMORY_CONNECTION_BYTES);
                connections.send(theirs).unwrap();
                Box::new(ours)
            }
        }
    }
}

pub struct World {
    pub server: TestServer,
    /// What it serves.
    pub api: axum::Router,
    listening: Listening,
}

impl World {
    pub async fn new() -> Self {
        Self::with_clock(Arc::new(weft_accounts::SystemClock)).await
    }

    /// A server whose access tokens expire by this clock.
    pub async fn with_clock(clock: Arc<dyn weft_accounts::Clock>) -> Self {
        let (world, live) = Self::start(clock, UserLimiter::off()).await;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let listening = Listening::Tcp(listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, live).await });
        Self { listening, ..world }
    }

    /// A server that is reached in memory.
    pub async fn in_memory() -> Self {
        Self::limited(UserLimiter::off()).await
    }

    /// The same with a limit of requests.
    pub async fn limited(limiter: UserLimiter) -> Self {
        let (world, live) = Self::start(Arc::new(weft_accounts::SystemClock), limiter).await;
        let (connections, accepted) = mpsc::unbounded_channel();
        tokio::spawn(async move { axum::serve(MemoryListener(accepted), live).await });
        let listening = Listening::Memory(connections);
        Self { listening, ..world }
    }

    /// A server that does not listen yet, and what it serves.
    async fn start(clock: Arc<dyn weft_accounts::Clock>, limiter: UserLimiter) -> (Self, axum::Router) {
        let server = TestServer::start(ServerSetup {
            clock,
            ..ServerSetup::default()
        })
        .await;
        let membership_view = server.membership_view();
        let awareness = Awareness::new(
            server.fanout.clone(),
            Arc::clone(&membership_view),
            Arc::new(NoEdus),
            Arc::new(SystemClock),
        );
        let live = router(LivePorts {
            rooms: server.rooms.clone(),
            accounts: server.accounts.clone(),
            fanout: server.fanout.clone(),
            awareness,
            membership_view,
            sessions: ConnectionIds::new(weft_room_api::Incarnation(1)),
            text_reads: TextReads::default(),
            limiter,
            event_streams: EventStreams::default(),
        });
        let world = Self {
            server,
            api: live.clone(),
            listening: Listening::Memory(mpsc::unbounded_channel().0),
        };
        (world, live)
    }

    pub async fn person(&self, name: &str) -> Person {
        self.server.person(name).await
    }

    pub async fn document(&self, owner: &Person) -> OwnedRoomId {
        self.server.document(owner).await
    }

    pub async fn state(&self, room: &RoomId, sender: &Person, kind: &str, key: &str, content: serde_json::Value) {
        self.server.send(room, &sender.user, kind, Some(key), content).await;
    }

    pub async fn admit(&self, room: &RoomId, owner: &Person, member: &Person, power: i64) {
        self.server.admit(room, owner, member, power).await;
    }

    pub async fn set_power(&self, room: &RoomId, owner: &Person, member: &Person, power: i64) {
        self.server.set_power(room, owner, member, power).await;
    }

    /// Opens a socket; the error is the HTTP status of a refusal.
    pub async fn socket(&self, path: &str, bearer: Option<&str>) -> Result<Socket, u16> {
        self.offering(path, bearer, &[]).await.map(|(socket, _)| socket)
    }

    /// Opens a socket that offers protocols; returns the chosen one too.
    pub async fn offering(
        &self,
        path: &str,
        bearer: Option<&str>,
        protocols: &[String],
    ) -> Result<(Socket, Option<String>), u16> {
        let url = format!("ws://alpha.example/_weft/client/v1/live/{path}");
        let mut request = url.into_client_request().unwrap();
        let mut set = |name, value: &str| {
            request
                .headers_mut()
                .insert(name, HeaderValue::from_str(value).unwrap())
        };
        if let Some(token) = bearer {
            set("authorization", &format!("Bearer {token}"));
        }
        if !protocols.is_empty() {
            set("sec-websocket-protocol", &protocols.join(", "));
        }
        match tokio_tungstenite::client_async(request, self.listening.connect().await).await {
            Ok((stream, answer)) => {
                let chosen = answer.headers().get("sec-websocket-protocol");
                Ok((Socket(stream), chosen.map(|chosen| chosen.to_str().unwrap().to_owned())))
            }
            Err(tokio_tungstenite::tungstenite::Error::Http(answer)) => Err(answer.status().as_u16()),
            Err(error) => panic!("{error}"),
        }
    }

    pub async fn socket_of(&self, room: &RoomId, person: &Person) -> Socket {
        self.socket(room.as_str(), Some(&person.token)).await.unwrap()
    }
}

pub struct Socket(WebSocketStream<Box<dyn Connection>>);

/// A message from a socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Received {
    Frame(Vec<u8>),
    Closed(u16),
}

impl Socket {
    pub async fn send_frame(&mut self, frame: Vec<u8>) {
        self.0.send(Message::Binary(frame.into())).await.unwrap();
    }

    /// Sends a text message, which no framing has.
    pub async fn send_text(&mut self, text: &str) {
        self.0.send(Message::Text(text.into())).await.unwrap();
    }

    /// Sends a frame; false if the socket is closed.
    pub async fn try_send(&mut self, frame: Vec<u8>) -> bool {
        self.0.send(Message::Binary(frame.into())).await.is_ok()
    }

    pub async fn receive(&mut self) -> Received {
        loop {
            let next = tokio::time::timeout(TIMEOUT, self.0.next())
                .await
                .expect("a message from the server");
            match next {
                Some(Ok(Message::Binary(frame))) => return Received::Frame(frame.to_vec()),
                Some(Ok(Message::Close(frame))) => {
                    return Received::Closed(frame.map_or(1005, |frame| frame.code.into()));
                }
                Some(Ok(_)) => {}
                None | Some(Err(_)) => return Received::Closed(1006),
            }
        }
    }

    /// The next message, if it has arrived.
    pub async fn arrived(&mut self) -> Option<Received> {
        tokio::time::timeout(Duration::ZERO, self.receive()).await.ok()
    }

    /// Receives frames until one is wanted.
    pub async fn until<T>(&mut self, mut wanted: impl FnMut(&[u8]) -> Option<T>) -> T {
        loop {
            match self.receive().await {
                Received::Frame(frame) => {
                    if let Some(found) = wanted(&frame) {
                        return found;
                    }
                }
                Received::Closed(code) => panic!("closed with {code}"),
            }
        }
    }

    /// Closes the socket without waiting.
    pub async fn close(mut self) {
        self.0.close(None).await.unwrap();
    }

    /// Receives frames until the socket is closed.
    pub async fn until_closed(&mut self) -> u16 {
        loop {
            if let Received::Closed(code) = self.receive().await {
                return code;
            }
        }
    }
}

/// Yjs client `client` types one letter at each clock into the text `body`.
pub fn letter(client: u8, clock: u8) -> Vec<u8> {
    let mut bytes = vec![1, 1, client, clock];
    if clock == 0 {
        bytes.extend([4, 1, 4]);
        bytes.extend(b"body");
        bytes.extend([1, b'a']);
    } else {
        bytes.extend([0x84, client, clock - 1, 1, b'a']);
    }
    bytes.push(0);
    bytes
}
