//! Comments of a document in stock clients: a message with the quotation, its thread, reactions, mentions, unread
//! numbers, edits and redactions. Hanna writes through the documents API, gustav with a stock client.
//! Must not use a Weft client in the place of a stock one.

use anyhow::{Context as _, Result};
use reqwest::Method;
use serde_json::{Value, json};
use weft_conformance_tests::{
    client::{Client, segment},
    matrix::{Kind, Stock, text},
};

use crate::pair::Pair;

const QUESTION: &str = "Is it <quick>?";

/// A message outside of threads.
const CHAT: &str = "Lunch?";

/// What a client without anchors shows for the comment.
const WITH_QUOTATION: &str = "<blockquote>quick</blockquote>Is it &lt;quick&gt;?";

/// A comment in a document, and the users who see it: hanna, who wrote both, with matrix-nio, and gustav on the other
/// server with matrix-js-sdk.
struct Commented<'a> {
    pair: &'a Pair,
    room: String,
    comment: String,
}

async fn api(client: &Client, method: Method, room: &str, rest: &str, body: Option<Value>) -> Result<Value> {
    let path = format!("/_weft/client/v1/documents/{}{rest}", segment(room));
    client.request(method, &path, body).await?.ok()
}

impl<'a> Commented<'a> {
    async fn new(pair: &'a Pair) -> Result<Self> {
        let [hers, his] = &pair.owners;
        let room = hers.create_document("Plan").await?;
        hers.give_role(&room, &his.user, "commenter").await?;
        pair.enter(&room).await?;
        let version = api(hers, Method::GET, &room, "", None).await?["version"].clone();
        let changes = json!([{"type": "insert", "at": 0, "text": "The quick fox"}]);
        let edit = json!({"changes": changes, "clientVersion": version});
        api(hers, Method::PATCH, &room, "/edit", Some(edit)).await?;
        let comment = json!({"body": QUESTION, "from": 4, "to": 9, "mentions": [his.user]});
        let made = api(hers, Method::POST, &room, "/comments", Some(comment)).await?;
        let comment = text(&made, "eventId")?;
        Ok(Self { pair, room, comment })
    }

    /// A request of hanna about the comment.
    async fn ask(&self, method: Method, rest: &str, body: Option<Value>) -> Result<Value> {
        let rest = format!("/comments/{}{rest}", segment(&self.comment));
        api(&self.pair.owners[0], method, &self.room, &rest, body).await
    }

    /// Hanna answers through the documents API; waits until gustav's client has the message.
    async fn answer(&self, body: &str, mentions: &[&str]) -> Result<String> {
        let body = json!({"body": body, "mentions": mentions});
        let sent = self.ask(Method::POST, "/replies", Some(body)).await?;
        let event = text(&sent, "messageId")?;
        self.pair.guest.until_seen(json!({"event_id": event})).await?;
        Ok(event)
    }

    /// Gustav's client sends something in the thread of the comment, as its user does there.
    async fn send(&self, kind: &str, content: Value) -> Result<String> {
        let request = json!({"room": self.room, "thread": self.comment, "type": kind, "content": content});
        text(&self.pair.guest.ask("send", request).await?, "event_id")
    }

    /// Gustav's client sends a receipt for what it shows; waits until hanna's client has it.
    async fn read(&self, event: &str) -> Result<()> {
        let (host, guest) = (&self.pair.host, &self.pair.guest);
        guest.ask("read", json!({"room": self.room, "event": event})).await?;
        let content = json!({event: {"m.read": {&guest.user: {}}}});
        let receipt = json!({"type": "m.receipt", "room_id": self.room, "content": content});
        host.until_seen(receipt).await.map(drop)
    }

    /// Waits until gustav's client shows these unread numbers of the thread, or, without one, of the main timeline.
    async fn until_unread(&self, root: Option<&str>, total: u64, highlight: u64) -> Result<()> {
        let request = json!({"room": self.room, "root": root, "total": total, "highlight": highlight});
        self.pair.guest.ask("until_unread", request).await.map(drop)
    }

    /// Waits until a client shows the comment and exactly these answers, the oldest first.
    async fn until_thread(&self, stock: &Stock, answers: &[&str]) -> Result<Value> {
        let bodies: Vec<&str> = [&[QUESTION], answers].concat();
        let request = json!({"room": self.room, "root": self.comment, "bodies": bodies});
        stock.ask("until_thread", request).await
    }

    /// Waits until the comments API of both servers has exactly these answers, and counts them.
    async fn until_listed(&self, answers: &[&str]) -> Result<()> {
        for owner in &self.pair.owners {
            let last = parking_lot::Mutex::new(Value::Null);
            let listed = owner.until("the answers", || async {
                let path = format!("/comments/{}", segment(&self.comment));
                let thread = api(owner, Method::GET, &self.room, &path, None).await?;
                let replies = thread["replies"].as_array().context("no replies")?;
                let bodies: Vec<&str> = replies
                    .iter()
                    .rev()
                    .filter_map(|reply| reply["body"].as_str())
                    .collect();
                let is_so = bodies == answers && thread["comment"]["replies"] == answers.len();
                *last.lock() = thread;
                Ok(is_so.then_some(()))
            });
            listed
                .await
                .with_context(|| format!("{answers:?} of {}: {}", owner.user, last.lock()))?;
        }
        Ok(())
    }

    /// The main timeline of a client shows the comment, whole and with the quotation, and after it the chat, but no
    /// answers.
    async fn check_timeline(&self, stock: &Stock, chat: &[&str]) -> Result<()> {
        let shown = stock.ask("timeline", json!({"room": self.room})).await?;
        let message =
            |body: &str| json!({"type": "m.room.message", "msgtype": "m.text", "body": body, "edited": false});
        let mut comment = message(QUESTION);
        comment["formatted_body"] = json!(WITH_QUOTATION);
        let expected: Vec<Value> = [comment]
            .into_iter()
            .chain(chat.iter().map(|body| message(body)))
            .collect();
        let mut messages = shown["messages"].as_array().unwrap().clone();
        for message in &mut messages {
            message.as_object_mut().unwrap().remove("event_id");
        }
        assert_eq!(messages, expected);
        Ok(())
    }

    /// The unread numbers of the comment, as gustav's server has them.
    async fn unread(&self) -> Result<Value> {
        let path = format!("/comments/{}", segment(&self.comment));
        let thread = api(&self.pair.owners[1], Method::GET, &self.room, &path, None).await?;
        Ok(thread["comment"]["unread"].clone())
    }
}

/// A text message that replaces another one.
fn edited(event: &str, body: &str) -> Value {
    json!({
        "msgtype": "m.text", "body": format!("* {body}"), "m.new_content": {"msgtype": "m.text", "body": body},
        "m.relates_to": {"rel_type": "m.replace", "event_id": event},
    })
}

fn reaction(event: &str, key: &str) -> Value {
    json!({"m.relates_to": {"rel_type": "m.annotation", "event_id": event, "key": key}})
}

/// The comment is a message of which gustav, who is mentioned, is notified; gustav reads it, answers in its thread and
/// reacts. Returns the answer.
async fn answer_and_react(commented: &Commented<'_>) -> Result<String> {
    let (host, guest) = (&commented.pair.host, &commented.pair.guest);
    let (room, comment) = (&commented.room, &commented.comment);
    for stock in [host, guest] {
        let content = json!({"body": QUESTION, "formatted_body": WITH_QUOTATION});
        let seen = json!({"event_id": comment, "room_id": room, "sender": host.user, "content": content});
        stock.until_seen(seen).await?;
    }
    commented.check_timeline(guest, &[]).await?;
    commented.until_unread(None, 1, 1).await?;
    commented.until_thread(guest, &[]).await?;
    commented.read(comment).await?;
    commented.until_unread(None, 0, 0).await?;

    let reply = json!({"msgtype": "m.text", "body": "Rather slow"});
    let reply = commented.send("m.room.message", reply).await?;
    let shown = commented.until_thread(guest, &["Rather slow"]).await?;
    assert_eq!(shown["last"], json!(reply), "{shown}");
    commented.until_listed(&["Rather slow"]).await?;
    host.until_seen(json!({"event_id": reply, "room_id": room})).await?;
    let asked = json!({"room": room, "event": comment, "rel": "m.thread", "type": "m.room.message"});
    let found = host.ask("relations", asked).await?;
    assert_eq!(found["chunk"][0]["event_id"], json!(reply), "{found}");

    for (event, key) in [(comment, "👀"), (&reply, "🐢")] {
        let reacted = commented.send("m.reaction", reaction(event, key)).await?;
        host.until_seen(json!({"event_id": reacted, "type": "m.reaction"}))
            .await?;
        let other = host.send(room, "m.reaction", reaction(event, key)).await?;
        guest.until_seen(json!({"event_id": other})).await?;
        let counted = json!({"room": room, "root": comment, "event": event, "reactions": [[key, 2]]});
        guest.ask("until_reactions", counted).await?;
    }
    Ok(reply)
}

/// A mention in the thread is a highlight of the thread alone, until gustav's client sends a receipt for it, which is
/// none for the chat; a later answer is unread again.
async fn notify(commented: &Commented<'_>) -> Result<()> {
    let guest = &commented.pair.guest;
    let thread = Some(commented.comment.as_str());
    let chat = json!({"message": CHAT});
    let chat = api(
        &commented.pair.owners[0],
        Method::POST,
        &commented.room,
        "/chat",
        Some(chat),
    )
    .await?;
    let chat = text(&chat, "messageId")?;
    guest
        .until_seen(json!({"event_id": chat, "content": {"body": CHAT}}))
        .await?;
    let mention = commented.answer("Really?", &[&guest.user]).await?;
    commented.until_unread(thread, 1, 1).await?;
    commented.until_unread(None, 1, 0).await?;
    assert_eq!(commented.unread().await?, json!({"notifications": 1, "highlights": 1}));
    commented.until_thread(guest, &["Rather slow", "Really?"]).await?;
    commented.read(&mention).await?;
    commented.until_unread(thread, 0, 0).await?;
    assert_eq!(commented.unread().await?, json!({"notifications": 0, "highlights": 0}));
    let later = commented.answer("Tell me", &[]).await?;
    commented.until_unread(thread, 1, 0).await?;
    commented.until_unread(None, 1, 0).await?;
    commented.read(&later).await?;
    commented.until_unread(thread, 0, 0).await?;
    commented.read(&chat).await?;
    commented.until_unread(None, 0, 0).await
}

/// Gustav's client finds the chat and the comment by their words, each within its context; nothing that is not there.
async fn find(commented: &Commented<'_>) -> Result<()> {
    let guest = &commented.pair.guest;
    let owner = &commented.pair.owners[1];
    for (term, body) in [("lunch", CHAT), ("QUICK", QUESTION)] {
        let asked = json!({"term": term, "rooms": [commented.room]});
        let found = || async {
            let found = guest.ask("search_messages", asked.clone()).await?;
            Ok((found["count"] == 1).then_some(found))
        };
        let found = owner.until("the message that was searched", found).await?;
        let message = &found["messages"][0];
        assert_eq!(
            (&message["body"], &found["more"]),
            (&json!(body), &json!(false)),
            "{found}"
        );
        // The client leaves out of the context what is in another thread than the message.
        assert!(message["place"].as_u64() < message["around"].as_u64(), "{found}");
        assert_eq!(found["highlights"], json!([term.to_lowercase()]));
    }
    let found = guest.ask("search_text", json!({"query": "lunch"})).await?;
    let first = &found["search_categories"]["room_events"]["results"][0];
    assert_eq!(first["result"]["content"]["body"], json!(CHAT), "{found}");
    let none = json!({"term": "elephant", "rooms": [commented.room]});
    assert_eq!(guest.ask("search_messages", none).await?["messages"], json!([]));
    Ok(())
}

/// Gustav corrects one answer and redacts another one.
async fn correct(commented: &Commented<'_>, reply: &str) -> Result<()> {
    let (host, guest) = (&commented.pair.host, &commented.pair.guest);
    let wrong = json!({"msgtype": "m.text", "body": "Wrong thread"});
    let wrong = commented.send("m.room.message", wrong).await?;
    commented
        .until_listed(&["Rather slow", "Really?", "Tell me", "Wrong thread"])
        .await?;
    let edit = commented.send("m.room.message", edited(reply, "Rather lazy")).await?;
    host.until_seen(json!({"event_id": edit})).await?;
    let redact = json!({"room": commented.room, "thread": commented.comment, "event": wrong});
    let redaction = text(&guest.ask("redact", redact).await?, "event_id")?;
    host.until_seen(json!({"event_id": redaction, "type": "m.room.redaction"}))
        .await?;
    let left = ["Rather lazy", "Really?", "Tell me"];
    commented.until_listed(&left).await?;
    let shown = commented.until_thread(guest, &left).await?;
    let of_answers: Vec<&Value> = shown["messages"].as_array().unwrap().iter().skip(1).collect();
    let edits: Vec<&Value> = of_answers.iter().map(|message| &message["edited"]).collect();
    assert_eq!(edits, [true, false, false]);
    Ok(())
}

/// The decision that the comment is resolved is no message: nothing changes in what the clients show, and they
/// continue. A client that starts afterwards shows the same.
async fn resolve(commented: &Commented<'_>) -> Result<()> {
    let (host, guest) = (&commented.pair.host, &commented.pair.guest);
    let room = &commented.room;
    let resolved = commented.ask(Method::POST, "/resolve", Some(json!({}))).await?;
    assert_eq!(resolved["resolved"], true, "{resolved}");
    let decision = json!({"type": "dev.weft.resolution", "room_id": room, "event_id": resolved["eventId"]});
    for stock in [host, guest] {
        stock.until_seen(decision.clone()).await?;
    }
    let fresh = json!({"limit": 50});
    let fresh = Stock::start(
        &commented.pair.world.authority,
        Kind::JsSdk,
        &commented.pair.owners[1],
        fresh,
    )
    .await?;
    let mut answers = vec!["Rather lazy", "Really?", "Tell me"];
    for stock in [guest, &fresh] {
        commented.check_timeline(stock, &[CHAT]).await?;
        commented.until_thread(stock, &answers).await?;
        let threads = stock.ask("threads", json!({"room": room})).await?;
        assert_eq!(threads["threads"], json!([[commented.comment, answers.len()]]));
    }
    commented.until_unread(None, 0, 0).await?;
    commented.until_unread(Some(&commented.comment), 0, 0).await?;
    commented.answer("Done", &[]).await?;
    answers.push("Done");
    for stock in [guest, &fresh] {
        commented.until_thread(stock, &answers).await?;
        let faults = stock.ask("faults", json!({})).await?;
        assert_eq!(faults, json!({"faults": [], "state": "SYNCING"}));
    }
    commented.until_listed(&answers).await
}

/// Gustav's client is off while more answers are written than its sync returns: when it continues it has them all, and
/// those from before.
async fn miss(commented: &Commented<'_>) -> Result<()> {
    let guest = &commented.pair.guest;
    guest.ask("pause", json!({})).await?;
    let missed: Vec<String> = (0..9).map(|number| format!("Meanwhile {number}")).collect();
    for body in &missed {
        commented
            .ask(Method::POST, "/replies", Some(json!({"body": body})))
            .await?;
    }
    let mut answers = vec!["Rather lazy", "Really?", "Tell me", "Done"];
    answers.extend(missed.iter().map(String::as_str));
    commented.until_listed(&answers).await?;
    guest.ask("resume", json!({"timeline": {"limit": 5}})).await?;
    commented.until_unread(Some(&commented.comment), 10, 0).await?;
    commented.until_thread(guest, &answers).await?;
    let faults = guest.ask("faults", json!({})).await?;
    assert_eq!(faults, json!({"faults": [], "state": "SYNCING"}));
    Ok(())
}

/// Hanna's stock client, which knows nothing of anchors, edits the comment: it stays at its place in the document.
async fn edit_comment(commented: &Commented<'_>) -> Result<()> {
    let (host, guest) = (&commented.pair.host, &commented.pair.guest);
    let (room, body) = (&commented.room, "Was it quick?");
    let edit = host
        .send(room, "m.room.message", edited(&commented.comment, body))
        .await?;
    guest.until_seen(json!({"event_id": edit})).await?;
    let shown = guest.ask("timeline", json!({"room": room})).await?;
    assert_eq!(shown["messages"][0]["body"], body, "{shown}");
    assert_eq!(shown["messages"][0]["edited"], true, "{shown}");
    for owner in &commented.pair.owners {
        let list = api(owner, Method::GET, room, "/comments", None).await?;
        let comment = &list["comments"][0];
        assert_eq!(list["comments"].as_array().unwrap().len(), 1, "{list}");
        assert_eq!(comment["body"], body, "{comment}");
        assert_eq!(comment["range"], json!({"from": 4, "to": 9}), "{comment}");
        assert_eq!(
            (&comment["quote"], &comment["resolved"]),
            (&json!("quick"), &json!(true))
        );
    }
    Ok(())
}

#[tokio::test]
async fn a_comment_is_a_message_with_a_thread_in_js_sdk_and_nio() -> Result<()> {
    let pair = Pair::new(Kind::Nio, Kind::JsSdk).await?;
    let commented = Commented::new(&pair).await?;
    let reply = answer_and_react(&commented).await?;
    notify(&commented).await?;
    find(&commented).await?;
    correct(&commented, &reply).await?;
    resolve(&commented).await?;
    miss(&commented).await?;
    edit_comment(&commented).await
}
