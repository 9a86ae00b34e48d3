//! Remote keys with fake key servers, fake notaries and a clock that tests set (T40 to T44, T46).

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use async_trait::async_trait;
use ruma::{CanonicalJsonObject, MilliSecondsSinceUnixEpoch, OwnedServerName, RoomVersionId, ServerName, server_name};
use serde_json::{Value, json};
use weft_clock::testing::ManualClock;
use weft_dag::{
    RoomVersion, Signer, Unchecked, VerifyKeys,
    testing::{object, signer},
};
use weft_wire::limits;

use super::{KeyCache, KeyCacheError, KeySource, KeysBusy, NoKeyCache, RemoteKeys};
use crate::{CallError, Initiator, KeyRing, Outgoing, StoredKeys, events::keys_for};
use weft_clock::from_millis;

const NOW: u64 = 1_750_000_000_000;
const DAY: u64 = 24 * 60 * 60 * 1_000;

/// Responses by server; a server without one doesn't answer.
#[derive(Default)]
struct Source {
    own: Mutex<BTreeMap<OwnedServerName, CanonicalJsonObject>>,
    notarised: Mutex<BTreeMap<OwnedServerName, Vec<CanonicalJsonObject>>>,
    calls: AtomicUsize,
}

#[async_trait]
impl KeySource for Source {
    async fn own(&self, server: &ServerName) -> Result<CanonicalJsonObject, CallError> {
        if server == beta() {
            self.calls.fetch_add(1, Ordering::SeqCst);
        }
        let answer = self.own.lock().unwrap().get(server).cloned();
        answer.ok_or_else(|| CallError::Unreachable {
            server: server.to_owned(),
            reason: "away".to_owned(),
        })
    }

    async fn notarised(
        &self,
        notary: &ServerName,
        _server: &ServerName,
        _valid_until: MilliSecondsSinceUnixEpoch,
    ) -> Result<Vec<CanonicalJsonObject>, CallError> {
        let answer = self.notarised.lock().unwrap().get(notary).cloned();
        answer.ok_or_else(|| CallError::Unreachable {
            server: notary.to_owned(),
            reason: "away".to_owned(),
        })
    }
}

struct Setting {
    keys: RemoteKeys,
    outgoing: Arc<Outgoing>,
    source: Arc<Source>,
    clock: Arc<ManualClock>,
}

fn setting_with(cache: Arc<dyn KeyCache>) -> Setting {
    let source = Arc::new(Source::default());
    let clock = ManualClock::at(NOW);
    let own = Arc::new(KeyRing::generate(server_name!("alpha.test").to_owned()).unwrap());
    let notaries = vec![server_name!("notary.test").to_owned()];
    let outgoing = Arc::new(Outgoing::default());
    let keys = RemoteKeys::with_source(
        own,
        Arc::clone(&source) as _,
        cache,
        notaries,
        Arc::clone(&clock) as _,
        Arc::clone(&outgoing),
    );
    Setting {
        keys,
        outgoing,
        source,
        clock,
    }
}

fn setting() -> Setting {
    setting_with(Arc::new(NoKeyCache))
}

impl Setting {
    fn publish(&self, answer: CanonicalJsonObject) {
        self.source.own.lock().unwrap().insert(beta().to_owned(), answer);
    }

    fn wait(&self, time: u64) {
        self.clock.advance(time);
    }

    fn calls(&self) -> usize {
        self.source.calls.load(Ordering::SeqCst)
    }

    /// Whether an event of that time, signed with `signer`, is accepted.
    async fn accepts(&self, signer: &Signer, event_ts: u64) -> bool {
        let version = RoomVersion::new(&RoomVersionId::V11).unwrap();
        let mut event = object(json!({
            "type": "m.room.message", "sender": "@bob:beta.test", "room_id": "!r:beta.test", "content": {},
            "prev_events": [format!("${}", "a".repeat(43))], "auth_events": [], "depth": 5,
            "origin_server_ts": event_ts,
        }));
        ruma::signatures::hash_and_sign_event(
            signer.server_name().as_str(),
            signer.key_pair(),
            &mut event,
            &version.rules().redaction,
        )
        .unwrap();
        let unchecked = Unchecked::parse(&serde_json::to_string(&event).unwrap(), &version).unwrap();
        let keys = keys_for(&self.keys, std::slice::from_ref(&unchecked)).await;
        unchecked.verify(&keys).is_ok()
    }

    /// Whether a request signed with `signer` now is accepted.
    async fn accepts_request(&self, signer: &Signer) -> bool {
        let needed = BTreeMap::from([(beta().to_owned(), [signer.key_id()].into())]);
        let now = self.keys.now();
        let found = self.keys.get(&needed, now).await.for_requests(now);
        found
            .get("beta.test")
            .is_some_and(|keys| keys.contains_key(&signer.key_id()))
    }
}

fn beta() -> &'static ServerName {
    server_name!("beta.test")
}

fn key(seed: u8, version: &str) -> Signer {
    let mut bytes = [seed; 32];
    bytes[0] = 200;
    Signer::from_seed(beta().to_owned(), &bytes, version).unwrap()
}

fn public(signer: &Signer) -> String {
    ruma::serde::Base64::<ruma::serde::base64::Standard, _>::new(signer.public_key().to_vec()).encode()
}

fn answer(current: &[&Signer], old: &[(&Signer, u64)], valid_until: u64) -> CanonicalJsonObject {
    let current_keys: serde_json::Map<String, Value> = current
        .iter()
        .map(|key| (key.key_id(), json!({ "key": public(key) })))
        .collect();
    let old: serde_json::Map<String, Value> = old
        .iter()
        .map(|(key, at)| (key.key_id(), json!({ "key": public(key), "expired_ts": at })))
        .collect();
    let mut answer = object(json!({
        "server_name": "beta.test", "valid_until_ts": valid_until, "verify_keys": current_keys, "old_verify_keys": old,
    }));
    for key in current {
        key.sign_json(&mut answer).unwrap();
    }
    answer
}

#[tokio::test]
async fn an_event_is_accepted_up_to_the_expiry_of_its_key() {
    let setting = setting();
    let now = key(1, "now");
    setting.publish(answer(&[&now], &[], NOW + DAY));
    assert!(setting.accepts(&now, NOW - 1_000 * DAY).await);
    assert!(setting.accepts(&now, NOW + DAY).await);
    assert!(!setting.accepts(&now, NOW + DAY + 1).await);
    assert!(setting.accepts_request(&now).await);
    // After its expiry the key is fetched again: the server may have extended it.
    setting.wait(2 * DAY);
    assert!(!setting.accepts_request(&now).await);
    setting.publish(answer(&[&now], &[], NOW + 5 * DAY));
    setting.wait(DAY / 2);
    assert!(setting.accepts_request(&now).await);
    assert!(setting.accepts(&now, NOW + DAY + 1).await);
}

#[tokio::test]
async fn a_key_without_a_real_expiry_expires_after_a_week() {
    let setting = setting();
    let now = key(1, "now");
    setting.publish(answer(&[&now], &[], 253_402_300_799_000));
    assert!(setting.accepts(&now, NOW + 7 * DAY).await);
    assert!(!setting.accepts(&now, NOW + 7 * DAY + 1).await);
}

#[tokio::test]
async fn an_old_key_is_valid_for_old_events_and_not_for_requests() {
    let setting = setting();
    let (now, old) = (key(1, "now"), key(2, "old"));
    setting.publish(answer(&[&now], &[(&old, NOW - DAY)], NOW + DAY));
    assert!(setting.accepts(&old, NOW - DAY).await);
    assert!(!setting.accepts(&old, NOW - DAY + 1).await);
    assert!(!setting.accepts_request(&old).await);
}

#[tokio::test]
async fn a_rotated_key_that_is_no_longer_listed_stays_valid_for_its_events() {
    let setting = setting();
    let (first, second) = (key(1, "first"), key(2, "second"));
    setting.publish(answer(&[&first], &[], NOW + DAY));
    assert!(setting.accepts(&first, NOW).await);
    setting.publish(answer(&[&second], &[], NOW + DAY));
    setting.wait(DAY / 2);
    assert!(setting.accepts(&second, NOW).await);
    assert!(setting.accepts(&first, NOW).await);
}

#[tokio::test]
async fn invalid_key_responses_are_rejected() {
    let (now, other) = (key(1, "now"), key(2, "other"));
    let good = || answer(&[&now], &[], NOW + DAY);
    // (change to the response, whether it is signed again)
    type Change = fn(&mut Value);
    let changes: [(&str, Change, bool); 12] = [
        (
            "of another server",
            |answer| answer["server_name"] = json!("gamma.test"),
            true,
        ),
        ("not signed", |answer| answer["signatures"] = json!({}), false),
        (
            "changed after signing",
            |answer| answer["valid_until_ts"] = json!(NOW + 2 * DAY),
            false,
        ),
        (
            "no valid_until_ts",
            |answer| _ = answer.as_object_mut().unwrap().remove("valid_until_ts"),
            true,
        ),
        (
            "31 bytes",
            |answer| answer["verify_keys"]["ed25519:b"] = json!({ "key": "A".repeat(41) }),
            true,
        ),
        (
            "33 bytes",
            |answer| answer["verify_keys"]["ed25519:b"] = json!({ "key": "A".repeat(44) }),
            true,
        ),
        (
            "small order",
            |answer| answer["verify_keys"]["ed25519:b"] = json!({ "key": format!("AQ{}", "A".repeat(41)) }),
            true,
        ),
        (
            "not a curve point",
            |answer| answer["verify_keys"]["ed25519:b"] = json!({ "key": format!("Ag{}", "A".repeat(41)) }),
            true,
        ),
        (
            "not canonical",
            |answer| answer["verify_keys"]["ed25519:b"] = json!({ "key": format!("{}8", "/".repeat(42)) }),
            true,
        ),
        (
            "empty id",
            |answer| answer["verify_keys"]["ed25519:"] = answer["verify_keys"]["ed25519:now"].clone(),
            true,
        ),
        (
            "an id of 10 KB",
            |answer| {
                let key = answer["verify_keys"]["ed25519:now"].clone();
                answer["verify_keys"][format!("ed25519:{}", "x".repeat(10_000))] = key;
            },
            true,
        ),
        (
            "old without an end",
            |answer| answer["old_verify_keys"]["ed25519:b"] = answer["verify_keys"]["ed25519:now"].clone(),
            true,
        ),
    ];
    for (name, change, again) in changes {
        let mut value = serde_json::to_value(good()).unwrap();
        change(&mut value);
        let mut changed = object(value);
        if again {
            changed.remove("signatures");
            now.sign_json(&mut changed).unwrap();
        }
        let setting = setting();
        setting.publish(changed);
        assert!(!setting.accepts(&now, NOW).await, "{name}");
    }
    // Signed by a key that it doesn't list, or lists only as an old one.
    for mut forged in [good(), answer(&[], &[(&now, NOW)], NOW + DAY)] {
        forged.remove("signatures");
        (if forged.get("old_verify_keys") == Some(&object(json!({})).into()) {
            &other
        } else {
            &now
        })
        .sign_json(&mut forged)
        .unwrap();
        let setting = setting();
        setting.publish(forged);
        assert!(!setting.accepts(&now, NOW - DAY).await);
    }
    // A key from a specification: its private half is public knowledge.
    let zero = Signer::from_seed(beta().to_owned(), &[0; 32], "zero").unwrap();
    let setting = setting();
    setting.publish(answer(&[&zero], &[], NOW + DAY));
    assert!(!setting.accepts(&zero, NOW).await);
}

#[tokio::test]
async fn a_notary_response_is_accepted_only_with_both_signatures() {
    let notary = signer(server_name!("notary.test"));
    let now = key(1, "now");
    let mut published = object(json!({
        "server_name": "notary.test", "valid_until_ts": NOW + DAY,
        "verify_keys": { notary.key_id(): { "key": public(&notary) } },
    }));
    notary.sign_json(&mut published).unwrap();

    let mut both = answer(&[&now], &[], NOW + DAY);
    notary.sign_json(&mut both).unwrap();
    let mut without_origin = answer(&[&now], &[], NOW + DAY);
    without_origin.remove("signatures");
    notary.sign_json(&mut without_origin).unwrap();
    let without_notary = answer(&[&now], &[], NOW + DAY);
    let mut of_another = serde_json::to_value(answer(&[&now], &[], NOW + DAY)).unwrap();
    of_another["server_name"] = json!("gamma.test");
    let mut of_another = object(of_another);
    notary.sign_json(&mut of_another).unwrap();
    for (name, object, accepted) in [
        ("both", both, true),
        ("without the origin's signature", without_origin, false),
        ("without the notary's signature", without_notary, false),
        ("of another server", of_another, false),
    ] {
        let setting = setting();
        setting
            .source
            .own
            .lock()
            .unwrap()
            .insert(server_name!("notary.test").to_owned(), published.clone());
        setting
            .source
            .notarised
            .lock()
            .unwrap()
            .insert(server_name!("notary.test").to_owned(), vec![object]);
        assert_eq!(setting.accepts(&now, NOW).await, accepted, "{name}");
    }
}

#[tokio::test]
async fn pauses_grow_for_a_server_that_does_not_answer() {
    let setting = setting();
    let now = key(1, "now");
    for _ in 0..100 {
        assert!(!setting.accepts(&now, NOW).await);
    }
    assert_eq!(setting.calls(), 1);
    let mut calls = Vec::new();
    for _ in 0..4 {
        setting.wait(60 * 60 * 1_000);
        assert!(!setting.accepts(&now, NOW).await);
        calls.push(setting.calls());
    }
    assert_eq!(calls, [2, 3, 4, 5]);
    setting.wait(1_000);
    assert!(!setting.accepts(&now, NOW).await);
    assert_eq!(setting.calls(), 5);
}

#[tokio::test]
async fn made_up_key_ids_cost_one_request_a_pause() {
    let setting = setting();
    let now = key(1, "now");
    setting.publish(answer(&[&now], &[], NOW + DAY));
    assert!(setting.accepts(&now, NOW).await);
    for made_up in 0..50 {
        assert!(!setting.accepts_request(&key(9, &format!("made_up_{made_up}"))).await);
    }
    assert_eq!(setting.calls(), 1);
    assert!(setting.accepts_request(&now).await);
}

/// A key that was not fetched because of the requester's limits is distinguished from an unavailable one, and is
/// fetched as soon as the limits allow.
#[tokio::test]
async fn keys_refused_by_the_limits_of_the_requester_are_fetched_later() {
    let setting = setting();
    let now = key(1, "now");
    setting.publish(answer(&[&now], &[], NOW + DAY));
    let initiator = Initiator::Stranger(None);
    let keys = setting.keys.on_behalf_of(initiator.clone());
    let shares: Vec<_> = (0..limits::MAX_OUTGOING_PER_STRANGER)
        .map(|_| setting.outgoing.take(&initiator).unwrap())
        .collect();
    let has = |found: &VerifyKeys| found.for_requests(keys.now()).contains_key("beta.test");
    for _ in 0..3 {
        assert_eq!(keys.of_request(beta(), &now.key_id()).await.err(), Some(KeysBusy));
    }
    assert_eq!(setting.calls(), 0);
    drop(shares);
    assert!(has(&keys.of_request(beta(), &now.key_id()).await.unwrap()));
    // A known key needs no request.
    let _shares: Vec<_> = (0..limits::MAX_OUTGOING_PER_STRANGER)
        .map(|_| setting.outgoing.take(&initiator).unwrap())
        .collect();
    assert!(has(&keys.of_request(beta(), &now.key_id()).await.unwrap()));
    assert_eq!(setting.calls(), 1);
}

#[derive(Default)]
struct Cache(Mutex<BTreeMap<OwnedServerName, String>>);

#[async_trait]
impl KeyCache for Cache {
    async fn load(&self, server: &ServerName) -> Result<Option<StoredKeys>, KeyCacheError> {
        let row = self.0.lock().unwrap().get(server).cloned();
        row.map(|json| serde_json::from_str(&json).map_err(|error| KeyCacheError(error.to_string())))
            .transpose()
    }

    async fn save(&self, keys: &StoredKeys) -> Result<(), KeyCacheError> {
        self.0
            .lock()
            .unwrap()
            .insert(keys.server.clone(), serde_json::to_string(keys).unwrap());
        Ok(())
    }
}

#[tokio::test]
async fn keys_survive_a_restart_and_are_fetched_again_if_the_cache_is_damaged() {
    let cache = Arc::new(Cache::default());
    let now = key(1, "now");
    let first = setting_with(Arc::clone(&cache) as _);
    first.publish(answer(&[&now], &[], NOW + DAY));
    assert!(first.accepts(&now, NOW).await);

    let second = setting_with(Arc::clone(&cache) as _);
    assert!(second.accepts(&now, NOW).await && second.accepts_request(&now).await);
    assert_eq!(second.calls(), 0);

    cache.0.lock().unwrap().insert(beta().to_owned(), "damaged".to_owned());
    let third = setting_with(Arc::clone(&cache) as _);
    third.publish(answer(&[&now], &[], NOW + DAY));
    assert!(third.accepts(&now, NOW).await);
    assert_eq!(third.calls(), 1);
}

#[tokio::test]
async fn a_notary_returns_signed_key_responses_with_its_own_signature_added() {
    let setting = setting();
    let now = key(1, "now");
    let published = answer(&[&now], &[], NOW + DAY);
    setting.publish(published.clone());
    let answer = setting.keys.notarise(beta(), from_millis(NOW)).await.remove(0);
    let value = serde_json::to_value(&answer).unwrap();
    assert!(value["signatures"]["alpha.test"].is_object() && value["signatures"]["beta.test"].is_object());
    assert!(StoredKeys::check(beta(), answer, from_millis(NOW)).is_ok());
    assert!(
        setting
            .keys
            .notarise(server_name!("gamma.test"), from_millis(NOW))
            .await
            .is_empty()
    );
    let own = setting
        .keys
        .notarise(server_name!("alpha.test"), from_millis(NOW))
        .await
        .remove(0);
    assert!(StoredKeys::check(server_name!("alpha.test"), own, from_millis(NOW)).is_ok());
}

/// W16: if a server rotates its key and publishes only the new one, later joiners can't verify its earlier events
/// without a notary that has the old key.
#[tokio::test]
async fn a_notary_keeps_keys_that_their_server_dropped() {
    let setting = setting();
    let later = NOW + 8 * DAY;
    let (first, second) = (key(1, "first"), key(2, "second"));
    setting.publish(answer(&[&first], &[], NOW + DAY));
    assert_eq!(setting.keys.notarise(beta(), from_millis(NOW)).await.len(), 1);
    setting.wait(8 * DAY);
    setting.publish(answer(&[&second], &[], later + DAY));
    let answers = setting.keys.notarise(beta(), from_millis(later)).await;
    let named: Vec<bool> = answers
        .iter()
        .map(|answer| serde_json::to_string(answer).unwrap().contains("ed25519:first"))
        .collect();
    assert_eq!(
        named,
        [false, true],
        "the newest response first, then the one with the dropped key"
    );
    for answer in answers {
        assert!(StoredKeys::check(beta(), answer, from_millis(later)).is_ok());
    }
    // Once the key is listed again as an old key, the earlier response is no longer needed.
    let much_later = later + 8 * DAY;
    setting.wait(8 * DAY);
    setting.publish(answer(&[&second], &[(&first, NOW + DAY)], much_later + DAY));
    assert_eq!(setting.keys.notarise(beta(), from_millis(much_later)).await.len(), 1);
}

/// Our own events are checked with our own keys, without any request.
#[tokio::test]
async fn our_own_keys_are_not_fetched() {
    let ring = Arc::new(KeyRing::generate(server_name!("alpha.test").to_owned()).unwrap());
    let source = Arc::new(Source::default());
    let clock = ManualClock::at(NOW);
    let keys = RemoteKeys::with_source(
        Arc::clone(&ring),
        Arc::clone(&source) as _,
        Arc::new(NoKeyCache),
        vec![],
        clock,
        Arc::default(),
    );
    let needed = BTreeMap::from([(server_name!("alpha.test").to_owned(), [ring.signer().key_id()].into())]);
    let before = ring.signer();
    ring.rotate(from_millis(NOW)).unwrap();
    let found = keys.get(&needed, from_millis(NOW)).await;
    assert!(found.get(server_name!("alpha.test"), &before.key_id()).is_some());
    assert!(found.get(server_name!("alpha.test"), &ring.signer().key_id()).is_some());
    assert_eq!(source.calls.load(Ordering::SeqCst), 0);
}
