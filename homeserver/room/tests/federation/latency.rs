//! The latency of edits and openings on an honest server beside servers that are slow, silent or hostile: `make
//! latency` prints it. No test asserts a time; [`super::disputes`] and [`super::silent`] assert what bounds it.

use std::time::{Duration, Instant};

use ruma::{OwnedRoomId, RoomId};
use weft_dag::Verified;
use weft_testkit::user;

use super::{
    ALICE, BOB, CAROL,
    disputes::overlapping_claims,
    net::Net,
    silent::{SERVERS, chain, message_after_gap, three},
};

/// Events or claims of the hostile server.
const MANY: usize = 10_000;
/// Edits, openings and reads of one case.
const SAMPLES: usize = 500;

/// What is measured: edits, openings, reads of the whole text.
const OPERATIONS: [&str; 3] = ["edit", "opening", "content"];

/// A server that answers nothing, and one that answers gaps with gaps and has sent 10,000 events.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement, by `make latency`"]
async fn latency_beside_gaps_and_silence() {
    let (net, room) = begin().await;
    let chain = chain(&net, &room, MANY).await;
    net.network().answer_with_gaps(&chain);
    net.network().silence("c.example");
    message_after_gap(&net, CAROL, &room, "missed ").await;
    compare(&net, &room, "10,000 staged events, gaps and silence", chain).await;
}

/// A server that claims the same clocks again and again, each time with other content.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement, by `make latency`"]
async fn latency_beside_overlapping_claims() {
    let (net, room) = begin().await;
    let claims = overlapping_claims(&net, &room, MANY).await;
    compare(&net, &room, "10,000 overlapping claims", claims).await;
}

/// A server whose answers arrive so slowly that the deadline of each request ends it.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement, by `make latency`"]
async fn latency_beside_a_server_of_one_byte_a_second() {
    let (net, room) = begin().await;
    let chain = chain(&net, &room, 200).await;
    net.network().answer_slowly("b.example", Duration::from_secs(1));
    net.network().answer_slowly("c.example", Duration::from_secs(1));
    message_after_gap(&net, CAROL, &room, "missed ").await;
    compare(&net, &room, "answers that arrive byte by byte", chain).await;
}

async fn begin() -> (Net, OwnedRoomId) {
    let net = Net::with_usual_budgets(&SERVERS).await;
    let room = three(&net).await;
    (net, room)
}

/// Measures alone, and while the server merges what Bob's server sends.
#[allow(clippy::print_stdout, reason = "the figures are what it is for")]
async fn compare(net: &Net, room: &RoomId, beside: &str, sent: Vec<Verified>) {
    let alone = measure(net, room).await;
    let a = net.rooms("a.example");
    let sending = async {
        for some in sent.chunks(50) {
            a.receive(user(BOB).server_name(), some.to_vec()).await.unwrap();
        }
    };
    let ((), loaded) = tokio::join!(sending, measure(net, room));
    for (what, figures) in [("alone", alone), (beside, loaded)] {
        for (operation, mut times) in OPERATIONS.into_iter().zip(figures) {
            times.sort();
            let at = |share: usize| times[(times.len() * share / 100).min(times.len() - 1)];
            println!(
                "{what}: {operation} P50 {:?}, P99 {:?}, max {:?}",
                at(50),
                at(99),
                at(100)
            );
        }
    }
}

/// One edit, opening and read after the other.
async fn measure(net: &Net, room: &RoomId) -> [Vec<Duration>; 3] {
    let a = net.rooms("a.example");
    let mut times: [Vec<Duration>; 3] = Default::default();
    for _ in 0..SAMPLES {
        let began = Instant::now();
        a.open(room).await.unwrap();
        times[1].push(began.elapsed());
        let began = Instant::now();
        a.content(room, None).await.unwrap();
        times[2].push(began.elapsed());
        times[0].push(net.timed_edit(ALICE, room).await);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    times
}
