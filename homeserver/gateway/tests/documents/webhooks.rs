//! Webhooks: who may manage them, what they deliver to a real receiver, and to whom no longer.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicU16, Ordering},
};

use axum::{Router, body::Bytes, extract::State, http::HeaderMap, http::StatusCode, routing::post};
use serde_json::{Value, json};
use tokio::sync::Notify;

use crate::world::{Person, World};

/// A receiver on this machine.
#[derive(Clone)]
struct Receiver {
    url: String,
    seen: Arc<Seen>,
}

struct Seen {
    status: AtomicU16,
    events: Mutex<Vec<Delivered>>,
    new: Notify,
}

#[derive(Clone, Debug)]
struct Delivered {
    id: String,
    signatures: Vec<String>,
    body: Value,
}

async fn receive(State(seen): State<Arc<Seen>>, headers: HeaderMap, body: Bytes) -> StatusCode {
    let header = |name| headers.get(name).unwrap().to_str().unwrap().to_owned();
    let signatures = header("webhook-signature");
    seen.events.lock().unwrap().push(Delivered {
        id: header("webhook-id"),
        signatures: signatures.split(' ').map(str::to_owned).collect(),
        body: serde_json::from_slice(&body).unwrap(),
    });
    seen.new.notify_one();
    StatusCode::from_u16(seen.status.load(Ordering::SeqCst)).unwrap()
}

impl Receiver {
    async fn start() -> Self {
        let seen = Arc::new(Seen {
            status: AtomicU16::new(204),
            events: Mutex::default(),
            new: Notify::new(),
        });
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/hook", listener.local_addr().unwrap());
        let router = Router::new()
            .route("/hook", post(receive))
            .with_state(Arc::clone(&seen));
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { url, seen }
    }

    fn all(&self) -> Vec<Delivered> {
        self.seen.events.lock().unwrap().clone()
    }

    /// Waits for the first delivery that fits.
    async fn until(&self, fits: impl Fn(&Delivered) -> bool) -> Delivered {
        loop {
            if let Some(found) = self.all().into_iter().find(&fits) {
                return found;
            }
            self.seen.new.notified().await;
        }
    }

    async fn chat(&self, text: &str) -> Delivered {
        self.until(|delivered| delivered.body["data"]["content"]["body"] == text)
            .await
    }
}

async fn running() -> World {
    let world = World::new().await;
    tokio::spawn(world.webhooks.clone().run());
    world
}

async fn create(world: &World, person: &Person, path: &str, receiver: &Receiver) -> Value {
    let body = json!({"url": receiver.url});
    let (status, made) = world.request(person, "POST", path, Some(body)).await;
    assert_eq!(status, 201, "{made}");
    made
}

async fn say(world: &World, person: &Person, doc: &str, text: &str) {
    let path = format!("/documents/{doc}/chat");
    let (status, body) = world
        .request(person, "POST", &path, Some(json!({"message": text})))
        .await;
    assert_eq!(status, 201, "{body}");
}

async fn with_editor(world: &World) -> (Person, Person, String) {
    let (alice, bob) = (world.person("alice").await, world.person("bob").await);
    let doc = world.create(&alice, "Watched").await;
    world.give(&alice, &doc, &bob.user, "editor").await;
    world.join(&doc, &bob).await;
    (alice, bob, doc)
}

#[tokio::test]
async fn only_managers_manage_the_webhooks_of_a_document_and_only_users_their_own() {
    let world = World::new().await;
    let (alice, bob, doc) = with_editor(&world).await;
    let carol = world.person("carol").await;
    let receiver = Receiver::start().await;
    let of_doc = format!("/documents/{doc}/webhooks");
    let made = create(&world, &alice, &of_doc, &receiver).await;
    let own = create(&world, &alice, "/webhooks", &receiver).await;
    assert!(made["secret"].as_str().unwrap().starts_with("whsec_"));
    let of = |made: &Value| made["webhookId"].as_str().unwrap().to_owned();
    let requests = [
        ("GET", String::new(), None),
        ("POST", String::new(), Some(json!({"url": receiver.url}))),
        ("GET", format!("/{}", of(&made)), None),
        ("PATCH", format!("/{}", of(&made)), Some(json!({"paused": true}))),
        ("GET", format!("/{}/deliveries", of(&made)), None),
        ("POST", format!("/{}/secret", of(&made)), None),
        ("POST", format!("/{}/test", of(&made)), None),
        ("DELETE", format!("/{}", of(&made)), None),
    ];
    for (person, status) in [(&bob, 403), (&carol, 404)] {
        for (method, path, body) in &requests {
            let (got, answer) = world
                .request(person, method, &format!("{of_doc}{path}"), body.clone())
                .await;
            assert_eq!(got, status, "{method} {path}: {answer}");
        }
    }
    // A webhook is found under its owner only.
    for (person, path) in [
        (&bob, format!("/webhooks/{}", of(&own))),
        (&alice, format!("/webhooks/{}", of(&made))),
        (&alice, format!("{of_doc}/{}", of(&own))),
    ] {
        assert_eq!(world.request(person, "GET", &path, None).await.0, 404, "{path}");
        assert_eq!(world.request(person, "DELETE", &path, None).await.0, 404, "{path}");
    }
    let list = world.get(&alice, &of_doc).await;
    assert_eq!(list["webhooks"][0]["webhookId"], made["webhookId"]);
    assert!(!list.to_string().contains("whsec_"), "{list}");
    assert_eq!(world.get(&bob, "/webhooks").await, json!({"webhooks": []}));
    let path = format!("{of_doc}/{}", of(&made));
    assert_eq!(world.request(&alice, "DELETE", &path, None).await.0, 200);
    assert_eq!(world.get(&alice, &of_doc).await, json!({"webhooks": []}));
}

#[tokio::test]
async fn wrong_webhooks_are_refused_and_their_number_is_limited() {
    let world = World::new().await;
    let alice = world.person("alice").await;
    for (body, errcode) in [
        (json!({"url": "ftp://x.example/"}), "M_INVALID_PARAM"),
        (json!({"url": "https://10.0.0.1/"}), "M_INVALID_PARAM"),
        (
            json!({"url": "https://x.example/", "events": ["edits"]}),
            "M_INVALID_PARAM",
        ),
        (json!({"url": 7}), "M_BAD_JSON"),
        (json!({}), "M_MISSING_PARAM"),
    ] {
        let (status, answer) = world.request(&alice, "POST", "/webhooks", Some(body.clone())).await;
        assert_eq!((status, &answer["errcode"]), (400, &json!(errcode)), "{body}: {answer}");
    }
    let body = json!({"url": "https://x.example/", "events": ["edit", "chat", "edit"]});
    for _ in 0..20 {
        let (status, made) = world.request(&alice, "POST", "/webhooks", Some(body.clone())).await;
        assert_eq!((status, &made["events"]), (201, &json!(["chat", "edit"])), "{made}");
    }
    assert_eq!(
        world.request(&alice, "POST", "/webhooks", Some(body.clone())).await.0,
        403
    );
    // Those of documents count as well.
    for number in 0..4 {
        let doc = world.create(&alice, &number.to_string()).await;
        for _ in 0..20 {
            let path = format!("/documents/{doc}/webhooks");
            assert_eq!(world.request(&alice, "POST", &path, Some(body.clone())).await.0, 201);
        }
    }
    let doc = world.create(&alice, "One more").await;
    let path = format!("/documents/{doc}/webhooks");
    assert_eq!(world.request(&alice, "POST", &path, Some(body)).await.0, 403);
}

#[tokio::test]
async fn events_are_delivered_in_order_and_edits_together_without_their_text() {
    let world = running().await;
    let (alice, bob, doc) = with_editor(&world).await;
    let (one, all, chats) = (
        Receiver::start().await,
        Receiver::start().await,
        Receiver::start().await,
    );
    say(&world, &alice, &doc, "before").await;
    create(&world, &alice, &format!("/documents/{doc}/webhooks"), &one).await;
    create(&world, &bob, "/webhooks", &all).await;
    let only_chat = json!({"url": chats.url, "events": ["chat"]});
    assert_eq!(world.request(&bob, "POST", "/webhooks", Some(only_chat)).await.0, 201);
    for (person, letter) in [(&alice, "a"), (&bob, "b"), (&alice, "c")] {
        let change =
            json!({"changes": [{"type": "insert", "at": 0, "text": format!("secret {letter}")}], "clientVersion": 0});
        let (status, body) = world
            .request(person, "PATCH", &format!("/documents/{doc}/edit"), Some(change))
            .await;
        assert_eq!(status, 200, "{body}");
    }
    let edit = one.until(|delivered| delivered.body["type"] == "edit").await;
    let data = &edit.body["data"];
    assert_eq!(data["docId"], json!(doc));
    assert_eq!(data["authors"], json!([alice.user, bob.user]));
    assert_eq!(
        (&data["fromVersion"], &data["version"]),
        (&json!(1), &json!(3)),
        "{data}"
    );
    say(&world, &bob, &doc, "first").await;
    say(&world, &alice, &doc, "second").await;
    for receiver in [&one, &all, &chats] {
        receiver.chat("second").await;
        let sent = receiver.all();
        let texts: Vec<&Value> = sent
            .iter()
            .map(|delivered| &delivered.body["data"]["content"]["body"])
            .collect();
        let texts: Vec<&Value> = texts.into_iter().filter(|text| !text.is_null()).collect();
        assert_eq!(texts, [&json!("first"), &json!("second")]);
        assert!(
            sent.iter()
                .all(|delivered| !delivered.body.to_string().contains("secret"))
        );
    }
    assert!(chats.all().iter().all(|delivered| delivered.body["type"] == "chat"));
    let edits = all
        .all()
        .into_iter()
        .filter(|delivered| delivered.body["type"] == "edit");
    assert_eq!(edits.count(), 1);
}

#[tokio::test]
async fn a_removed_user_gets_nothing_more_by_either_kind_of_webhook() {
    let world = running().await;
    let (alice, bob, doc) = with_editor(&world).await;
    let carol = world.person("carol").await;
    world.give(&alice, &doc, &bob.user, "manager").await;
    world.give(&alice, &doc, &carol.user, "viewer").await;
    world.join(&doc, &carol).await;
    let (of_bob, own, of_carol) = (
        Receiver::start().await,
        Receiver::start().await,
        Receiver::start().await,
    );
    let made = create(&world, &bob, &format!("/documents/{doc}/webhooks"), &of_bob).await;
    create(&world, &bob, "/webhooks", &own).await;
    create(&world, &carol, "/webhooks", &of_carol).await;
    say(&world, &alice, &doc, "all of you").await;
    for receiver in [&of_bob, &own, &of_carol] {
        receiver.chat("all of you").await;
    }
    // Something that is still to be delivered when the user is removed.
    for receiver in [&of_bob, &own] {
        receiver.seen.status.store(500, Ordering::SeqCst);
    }
    say(&world, &alice, &doc, "pending").await;
    for receiver in [&of_bob, &own] {
        receiver.chat("pending").await;
    }
    let before = [of_bob.all().len(), own.all().len()];
    let member = format!("/documents/{doc}/members/{}", bob.user);
    assert_eq!(world.request(&alice, "DELETE", &member, None).await.0, 200);
    say(&world, &alice, &doc, "without bob").await;
    for receiver in [&of_bob, &own] {
        receiver.seen.status.store(204, Ordering::SeqCst);
    }
    of_carol.chat("without bob").await;
    let path = format!("/documents/{doc}/webhooks/{}", made["webhookId"].as_str().unwrap());
    let paused = loop {
        let shown = world.get(&alice, &path).await;
        if !shown["paused"].is_null() {
            break shown["paused"]["reason"].clone();
        }
        tokio::task::yield_now().await;
    };
    assert!(paused.as_str().unwrap().contains(bob.user.as_str()), "{paused}");
    // The repetitions are due by now: the pause came from one of them.
    world.create(&bob, "His own").await;
    own.until(|delivered| delivered.body["type"] == "member" && delivered.body["data"]["docId"] != json!(doc))
        .await;
    assert_eq!([of_bob.all().len(), own.all().len().min(before[1])], before);
    assert!(
        own.all()
            .iter()
            .all(|delivered| delivered.body["data"]["content"]["body"] != "without bob")
    );
    // A manager takes it over, and gets what was not delivered.
    let resumed = world
        .request(&alice, "PATCH", &path, Some(json!({"paused": false})))
        .await;
    assert_eq!(resumed.1["createdBy"], json!(alice.user), "{}", resumed.1);
    of_bob.chat("without bob").await;
}

#[tokio::test]
async fn a_pause_loses_nothing_and_failures_are_shown_and_repeated_with_the_same_id() {
    let world = running().await;
    let alice = world.person("alice").await;
    let doc = world.create(&alice, "Watched").await;
    let receiver = Receiver::start().await;
    let made = create(&world, &alice, &format!("/documents/{doc}/webhooks"), &receiver).await;
    let path = format!("/documents/{doc}/webhooks/{}", made["webhookId"].as_str().unwrap());
    let set = async |body: Value| {
        let (status, shown) = world.request(&alice, "PATCH", &path, Some(body)).await;
        assert_eq!(status, 200, "{shown}");
        shown
    };
    assert!(set(json!({"paused": true})).await["paused"]["reason"].is_null());
    for number in 0..70 {
        say(&world, &alice, &doc, &format!("{number}")).await;
    }
    let test = world.request(&alice, "POST", &format!("{path}/test"), None).await.1;
    assert_eq!(test, json!({"delivered": true, "status": 204}));
    assert_eq!(receiver.all().len(), 1, "only the test: {:?}", receiver.all());
    receiver.seen.status.store(503, Ordering::SeqCst);
    set(json!({"paused": false})).await;
    receiver.chat("0").await;
    let failing = loop {
        let shown = world.get(&alice, &path).await;
        if !shown["failing"].is_null() {
            break shown["failing"].clone();
        }
        tokio::task::yield_now().await;
    };
    assert!(failing["nextAt"].as_u64() > failing["since"].as_u64(), "{failing}");
    let deliveries = world.get(&alice, &format!("{path}/deliveries")).await["deliveries"].clone();
    assert_eq!(
        (&deliveries[0]["status"], &deliveries[0]["delivered"]),
        (&json!(503), &json!(false))
    );
    receiver.seen.status.store(204, Ordering::SeqCst);
    // A change is a reason to try again at once.
    set(json!({"url": receiver.url})).await;
    receiver.chat("50").await;
    let sent = receiver.all();
    let first: Vec<&Delivered> = sent
        .iter()
        .filter(|one| one.body["data"]["content"]["body"] == "0")
        .collect();
    assert!(
        first.len() >= 2 && first.iter().all(|one| one.id == first[0].id),
        "{first:?}"
    );
    let mut texts: Vec<String> = sent
        .iter()
        .filter_map(|one| Some(one.body["data"]["content"]["body"].as_str()?.to_owned()))
        .collect();
    texts.dedup();
    let expected: Vec<String> = (0..texts.len()).map(|number| number.to_string()).collect();
    assert_eq!(texts, expected);
}

#[tokio::test]
async fn a_new_secret_signs_beside_the_old_one() {
    let world = running().await;
    let alice = world.person("alice").await;
    let receiver = Receiver::start().await;
    let made = create(&world, &alice, "/webhooks", &receiver).await;
    let path = format!("/webhooks/{}", made["webhookId"].as_str().unwrap());
    let test = async || world.request(&alice, "POST", &format!("{path}/test"), None).await;
    assert_eq!(test().await.0, 200);
    let (status, rotated) = world.request(&alice, "POST", &format!("{path}/secret"), None).await;
    assert_eq!(status, 200);
    assert_ne!(rotated["secret"], made["secret"]);
    assert_eq!(
        world.get(&alice, &path).await["oldSecretUntil"],
        rotated["oldSecretUntil"]
    );
    assert_eq!(test().await.0, 200);
    let sent = receiver.all();
    let counts: Vec<usize> = sent.iter().map(|delivered| delivered.signatures.len()).collect();
    assert_eq!(counts, [1, 2]);
    assert!(
        sent.iter()
            .all(|one| one.signatures.iter().all(|signature| signature.starts_with("v1,")))
    );
    assert_ne!(sent[0].id, sent[1].id);
}

#[tokio::test]
async fn tests_are_limited() {
    let world = World::new().await;
    let alice = world.person("alice").await;
    let receiver = Receiver::start().await;
    let made = create(&world, &alice, "/webhooks", &receiver).await;
    let path = format!("/webhooks/{}/test", made["webhookId"].as_str().unwrap());
    for _ in 0..60 {
        assert_eq!(world.request(&alice, "POST", &path, None).await.0, 200);
    }
    let answer = world.ask(Some(&alice.token), "POST", &path, None).await;
    assert_eq!(answer.status, 429);
    assert!(answer.limits[2].is_some(), "no Retry-After");
}
