//! Documents that are built to be expensive: each edit is small and allowed, their sum is not. Time and memory must
//! grow linearly with the bytes: `benches/` measures the ratio, and here it is enough that the test completes, on the
//! stack of a server's thread.

use crate::equivalence::KnownClients;
use weft_crdt::lib0::Writer;
use weft_crdt::{Admission, ClientId, Document, StateVector, Update, admit_bytes};

const OWNER: &str = "@alice:alpha.example";
const ME: u64 = 5;

/// One client with one block at this clock, written by `block`, and no deletions.
fn one_block(clock: u32, block: impl FnOnce(&mut Writer)) -> Vec<u8> {
    let mut w = Writer::new();
    for number in [1, 1, ME, u64::from(clock)] {
        w.var_uint(number);
    }
    block(&mut w);
    w.var_uint(0);
    w.into_vec()
}

/// Text (`t`) before everything: the right origin is the unit that was first until now.
fn text_in_front(clock: u32, text: &str, first: Option<u32>) -> Vec<u8> {
    one_block(clock, |w| match first {
        None => {
            w.u8(4);
            w.var_uint(1);
            w.var_str("t");
            w.var_str(text);
        }
        Some(first) => {
            w.u8(0x40 | 4);
            w.var_uint(ME);
            w.var_uint(u64::from(first));
            w.var_str(text);
        }
    })
}

/// A type inside the type of the previous unit.
fn nested_type(clock: u32) -> Vec<u8> {
    one_block(clock, |w| {
        w.u8(7);
        if clock == 0 {
            w.var_uint(1);
            w.var_str("t");
        } else {
            w.var_uint(0);
            w.var_uint(ME);
            w.var_uint(u64::from(clock) - 1);
        }
        // An array.
        w.var_uint(0);
    })
}

/// Bold on or off after the previous unit.
fn format_toggle(clock: u32) -> Vec<u8> {
    one_block(clock, |w| {
        w.u8(0x80 | 6);
        w.var_uint(ME);
        w.var_uint(u64::from(clock) - 1);
        w.var_str("bold");
        w.var_str(if clock.is_multiple_of(2) { "null" } else { "true" });
    })
}

/// A server's handling of edits: admits and applies each.
struct Server {
    known_clients: KnownClients,
    document: Document,
}

impl Server {
    fn new() -> Self {
        Server {
            known_clients: KnownClients::default(),
            document: Document::new(),
        }
    }

    fn apply(&mut self, bytes: Vec<u8>) {
        match admit_bytes(bytes.into(), OWNER, &self.known_clients).unwrap() {
            Admission::Admitted { ranges, update } => {
                self.document.apply(&update).unwrap();
                self.known_clients.note(&ranges, OWNER);
            }
            other => panic!("{other:?}"),
        }
    }

    /// Loads, encodes a snapshot, and computes the diffs for an empty peer and for one with half of the clocks.
    fn load_and_diff(&self) -> usize {
        let snapshot = self.document.encode();
        let mut loaded = Document::from_update(snapshot.clone().into()).unwrap();
        loaded.compact();
        assert_eq!(loaded.state_vector(), self.document.state_vector());
        let me = ClientId::new(ME).unwrap();
        let mut half = StateVector::new();
        half.set(me, self.document.state_vector().get(me) / 2);
        assert!(Update::parse(self.document.diff(&half).into()).is_ok());
        loaded.encode().len()
    }
}

/// As on a server: 2 MiB of stack, so that recursion over the input would abort the test.
fn on_a_server_thread(test: impl FnOnce() + Send + 'static) {
    let thread = std::thread::Builder::new().stack_size(2 << 20).spawn(test).unwrap();
    thread.join().unwrap();
}

#[test]
fn t97_types_nested_over_many_updates_cause_no_recursion() {
    on_a_server_thread(|| {
        for levels in [100, 5_000] {
            let mut server = Server::new();
            for clock in 0..levels {
                server.apply(nested_type(clock));
            }
            // Deleting the outermost type deletes all: the algebra counts units and does not follow parents (T98).
            let mut w = Writer::new();
            for number in [0, 1, ME, 1, 0, u64::from(levels)] {
                w.var_uint(number);
            }
            server.apply(w.into_vec());
            assert!(server.load_and_diff() < 64, "deleted content shrinks to a range");
        }
    });
}

#[test]
fn t106_updates_with_missing_origins_are_refused_and_not_kept_pending() {
    let mut server = Server::new();
    server.apply(text_in_front(0, "hello", None));
    let before = server.document.encode();
    for n in 0..8_000_u32 {
        // A valid block whose origin never exists: an engine would keep it pending for ever.
        let update = one_block(5, |w| {
            w.u8(0x80 | 4);
            w.var_uint(1_000 + u64::from(n));
            w.var_uint(u64::from(n));
            w.var_str("x");
        });
        let refused = admit_bytes(update.into(), OWNER, &server.known_clients);
        assert!(!matches!(refused, Ok(Admission::Admitted { .. })), "{refused:?}");
    }
    assert_eq!(server.document.encode(), before);
}

#[test]
fn t113_a_million_inserts_at_the_front_are_handled() {
    on_a_server_thread(|| {
        let mut server = Server::new();
        for clock in 0..1_000_000_u32 {
            server.apply(text_in_front(clock, "x", clock.checked_sub(1)));
        }
        let bytes = server.load_and_diff();
        // No blocks can be joined: each is before the previous one. 7 to 9 bytes each.
        assert!(bytes < 10_000_000, "{bytes} bytes");
    });
}

#[test]
fn t113_a_million_format_toggles_are_handled() {
    on_a_server_thread(|| {
        let mut server = Server::new();
        server.apply(text_in_front(0, "x", None));
        for clock in 1..1_000_000_u32 {
            server.apply(format_toggle(clock));
        }
        let bytes = server.load_and_diff();
        assert!(bytes < 20_000_000, "{bytes} bytes");
    });
}

#[test]
fn t113_a_long_text_in_full_events_is_handled() {
    on_a_server_thread(|| {
        let mut server = Server::new();
        let piece = "x".repeat(44_000);
        for n in 0..200_u32 {
            server.apply(text_in_front(n * 44_000, &piece, n.checked_sub(1).map(|n| n * 44_000)));
        }
        assert!(server.load_and_diff() < 200 * 44_100);
    });
}
