//! Events received over federation: a peer with a signing key joins a public room and sends transactions of 50.
//!
//! Everything is signed before the measurement. The measured time ends when a user of the server can read the last
//! event. Synapse, given a thousand events at once, had not shown the last of them after two minutes: it gets the next
//! transaction when the one before is persisted. Must not assert a duration.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use crate::{edit::as_f64, process, progress, report::Figure};
use weft_conformance_tests::{
    authority::Authority,
    client::{Client, segment},
    malicious::{MaliciousServer, Room},
    server::Server,
};

/// Size of the run.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// Number of events; Synapse gets a tenth.
    #[arg(long, default_value_t = 10_000)]
    pub events: usize,
    /// Number of rooms; the transactions go to each in turn.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 10])]
    pub rooms: Vec<usize>,
    /// Users of the peer in each room besides the sender.
    #[arg(long, default_value_t = 0)]
    pub members: usize,
    /// Send the next transaction only when the events of the one before can be read.
    #[arg(long)]
    pub in_step: bool,
}

impl Options {
    /// The size of a test.
    #[must_use]
    pub fn small() -> Self {
        Self {
            events: 200,
            rooms: vec![1, 2],
            members: 3,
            in_step: false,
        }
    }
}

/// Events per transaction: the maximum of the server-server API ("Transactions").
const TRANSACTION: usize = 50;
/// Deadline for the last event.
const TIMEOUT: Duration = Duration::from_secs(300);
/// Polling interval: long enough that polling is no load, which it is for Synapse.
const LOOK_AGAIN_AFTER: Duration = Duration::from_millis(20);

/// Measures one server, which must trust the authority.
///
/// # Errors
/// When a server returns an error, or the last event does not arrive.
pub async fn measure(
    name: &str,
    server: &Server,
    client: &Client,
    pid: Option<u32>,
    authority: &Authority,
    options: &Options,
) -> Result<Vec<Figure>> {
    let mut figures = Vec::new();
    for count in &options.rooms {
        let malicious = MaliciousServer::start(authority, &format!("load-{count}-{}", rand::random::<u32>())).await?;
        progress(&format!("{name}: signing {} events for {count} rooms", options.events));
        let mut prepared = Vec::new();
        let mut last = Vec::new();
        for _ in 0..*count {
            let transactions = prepare(&malicious, server, client, options.members, options.events / count).await?;
            last.extend(transactions.last().cloned());
            prepared.push(transactions.into_iter());
        }
        progress(&format!("{name}: sending"));
        let cpu = pid.map_or(Ok(Duration::ZERO), process::cpu)?;
        let began = Instant::now();
        let mut sent = 0;
        while let Some(transaction) = next_of(&mut prepared, sent) {
            let answer = malicious.transaction(server, &transaction.events, &[]).await?.ok()?;
            ensure!(!answer.to_string().contains("\"error\""), "not taken: {answer}");
            sent += 1;
            if options.in_step {
                until_there(client, &transaction).await?;
            }
        }
        for transaction in &last {
            until_there(client, transaction).await?;
        }
        let took = began.elapsed().as_secs_f64();
        let used = (pid.map_or(Ok(Duration::ZERO), process::cpu)? - cpu).as_secs_f64();
        let (events, what) = (
            as_f64(sent * TRANSACTION),
            if *count == 1 {
                "one room".to_owned()
            } else {
                format!("{count} rooms")
            },
        );
        figures.push(Figure::new(
            name,
            format!("events a second by federation, {what}"),
            events / took,
            "1/s",
        ));
        figures.push(Figure::new(
            name,
            format!("server CPU an event, {what}"),
            used * 1e6 / events,
            "µs",
        ));
    }
    Ok(figures)
}

/// Events of one room, in order.
#[derive(Clone)]
struct Transaction {
    room: String,
    events: Vec<Value>,
    /// The id of the last event.
    last: String,
}

fn next_of(prepared: &mut [std::vec::IntoIter<Transaction>], turn: usize) -> Option<Transaction> {
    let count = prepared.len().max(1);
    prepared.get_mut(turn % count)?.next()
}

/// Signs the transactions for a room of the server's user that the peer has joined.
async fn prepare(
    malicious: &MaliciousServer,
    server: &Server,
    client: &Client,
    members: usize,
    events: usize,
) -> Result<Vec<Transaction>> {
    let id = client.create_room(json!({ "preset": "public_chat" })).await?;
    let user = malicious.user("talker");
    let mut room = Room::join(malicious, server, &id, &user).await?;
    room.join_members(malicious, server, 0..members).await?;
    let mut transactions = Vec::new();
    for transaction in 0..events / TRANSACTION {
        let (mut pdus, mut last) = (Vec::with_capacity(TRANSACTION), String::new());
        for number in 0..TRANSACTION {
            let body = format!("message {number} of transaction {transaction}");
            let content = json!({ "msgtype": "m.text", "body": body });
            let event = room.event(malicious, &user, "m.room.message", None, content)?;
            last = room.take(&event)?;
            pdus.push(event);
        }
        transactions.push(Transaction {
            room: id.clone(),
            events: pdus,
            last,
        });
    }
    Ok(transactions)
}

async fn until_there(client: &Client, transaction: &Transaction) -> Result<()> {
    let path = Client::in_room(&transaction.room, &format!("event/{}", segment(&transaction.last)));
    let wait = async {
        while !client
            .request(reqwest::Method::GET, &path, None)
            .await?
            .status
            .is_success()
        {
            tokio::time::sleep(LOOK_AGAIN_AFTER).await;
        }
        Ok::<_, anyhow::Error>(())
    };
    tokio::time::timeout(TIMEOUT, wait)
        .await
        .context("the last event did not arrive")?
}
