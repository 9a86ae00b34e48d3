//! Requests to other servers, and stored data, that unauthenticated clients or a malicious server can cause: both are
//! bounded in size and time.

use std::time::Duration;

use anyhow::Result;
use axum::response::IntoResponse as _;
use reqwest::Method;
use ruma::RoomVersionId;
use serde_json::{Value, json};
use weft_conformance_tests::{
    attacks::federation as attacks,
    client::segment,
    malicious::{MaliciousServer, Room},
};
use weft_wire::limits::MAX_ANSWER_BYTES;

use crate::stage::Stage;

/// Maximum growth of a server's memory by the requests of one other server, bytes.
const GROWTH: u64 = 64 * 1024 * 1024;
/// Bytes of a long response to a join.
const LONG_RESPONSE: usize = 60 * 1024 * 1024;
/// Maximum time of concurrent joins with such responses on a loaded machine. Only a failing test waits that long.
const TIMEOUT: Duration = Duration::from_secs(300);
/// Memory that such a response may take in addition to its own bytes: less than a second copy of it.
const RESPONSE_OVERHEAD: u64 = 40 * 1024 * 1024;

/// T124: a response is aborted at the limit of its endpoint.
#[tokio::test]
async fn t124_long_responses_to_lookups_take_little_memory() -> Result<()> {
    let stage = Stage::new().await?;
    attacks::serve_long_responses(&stage.malicious, 60 * 1024 * 1024);
    let http = stage.world.authority.http()?;
    let before = stage.server().resident_bytes()?;
    let statuses = attacks::request_lookups(stage.server(), &http, stage.malicious.name().as_str(), 48).await?;
    assert!(
        statuses.iter().all(|status| matches!(status, 502 | 429)),
        "{statuses:?}"
    );
    assert!(statuses.contains(&502), "{statuses:?}");
    let grown = stage.server().resident_bytes()?.saturating_sub(before);
    assert!(grown < GROWTH, "grown by {grown} bytes");
    let (_, mut room, mallory) = stage.room_of_alice("12").await?;
    stage.goes_on(&mut room, &mallory).await
}

/// T124, P10: names with private addresses, names that do not exist and closed ports get the same error, which says
/// that the other server is unreachable.
#[tokio::test]
async fn t124_all_unreachable_names_get_the_same_error() -> Result<()> {
    let stage = Stage::new().await?;
    let closed = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string();
    let mut answers = Vec::new();
    for name in [
        "10.1.2.3",
        "169.254.169.254",
        "does-not-exist.invalid",
        closed.as_str(),
        "[fd00::1]",
    ] {
        for path in [
            format!("/_matrix/client/v3/profile/{}", segment(&format!("@x:{name}"))),
            format!("/_matrix/client/v3/directory/room/{}", segment(&format!("#x:{name}"))),
            format!("/_matrix/client/v3/publicRooms?server={}", segment(name)),
            format!("/_matrix/client/v3/join/{}", segment(&format!("#x:{name}"))),
        ] {
            let method = if path.contains("/join/") {
                Method::POST
            } else {
                Method::GET
            };
            let body = (method == Method::POST).then(|| json!({}));
            let answer = stage.alice.request(method, &path, body).await?;
            assert_eq!(answer.body["server"], json!(name), "{path}: {}", answer.body);
            let text = answer.body.to_string().replace(name, "NAME");
            answers.push((answer.status.as_u16(), text));
        }
    }
    answers.dedup();
    let [(status, text)] = &*answers else {
        panic!("the errors differ: {answers:?}");
    };
    assert_eq!(*status, 502);
    assert!(text.contains("DEV_WEFT_SERVER_UNREACHABLE"), "{text}");
    Ok(())
}

/// W16: another server's refusal of a request keeps its status and code; an internal error of the other server becomes
/// 502.
#[tokio::test]
async fn w16_another_servers_refusal_keeps_its_code() -> Result<()> {
    let stage = Stage::new().await?;
    let path = format!(
        "/_matrix/client/v3/join/!r:{0}?via={0}",
        segment(stage.malicious.name().as_str())
    );
    for (received, code, status, expected) in [
        (400, "M_INCOMPATIBLE_ROOM_VERSION", 400, "M_INCOMPATIBLE_ROOM_VERSION"),
        (400, "M_UNABLE_TO_GRANT_JOIN", 400, "M_UNABLE_TO_GRANT_JOIN"),
        (400, "EVIL_CODE", 400, "M_UNKNOWN"),
        (403, "M_FORBIDDEN", 403, "M_FORBIDDEN"),
        (404, "M_NOT_FOUND", 404, "M_NOT_FOUND"),
        (429, "M_LIMIT_EXCEEDED", 429, "M_LIMIT_EXCEEDED"),
        (401, "M_UNAUTHORIZED", 502, "M_UNKNOWN"),
        (500, "M_UNKNOWN", 502, "M_UNKNOWN"),
    ] {
        let body = json!({ "errcode": code, "error": "because" });
        stage.malicious.answers("/_matrix/federation/v1/make_join/", move |_| {
            weft_conformance_tests::malicious::reply(axum::http::StatusCode::from_u16(received).unwrap(), &body)
        });
        let answer = stage.alice.request(Method::POST, &path, Some(json!({}))).await?;
        assert_eq!(
            (answer.status.as_u16(), answer.errcode()),
            (status, expected),
            "{received} {code}"
        );
    }
    Ok(())
}

/// A transaction whose key can't be fetched yet, because other requests of the same address wait for keys, gets 429:
/// after 401 a server would not retry. The retry is accepted.
#[tokio::test]
async fn t124_a_transaction_whose_key_cannot_be_fetched_yet_gets_429() -> Result<()> {
    let stage = Stage::with_config("outgoing_requests_per_stranger = 1\n").await?;
    let (id, mut room, mallory) = stage.room_of_alice("12").await?;
    let content = json!({ "msgtype": "m.text", "body": "sent twice" });
    room.send(&stage.malicious, &mallory, "m.room.message", None, content)?;
    let event = room.events[room.order.last().unwrap()].clone();
    // On a loaded machine the slow request may have timed out before the transaction arrives: the test then tries
    // again.
    for _ in 0..5 {
        let slow = MaliciousServer::start(&stage.world.authority, "slow").await?;
        let late = MaliciousServer::start(&stage.world.authority, "late").await?;
        slow.answers("/_matrix/key/v2/server", |_| {
            let never = futures_util::stream::pending::<Result<axum::body::Bytes, std::io::Error>>();
            axum::body::Body::from_stream(never).into_response()
        });
        let waiting = slow.transaction(stage.server(), &[], &[]);
        let meanwhile = async {
            slow.until_asked("/_matrix/key/v2/server", |_| true).await?;
            let events = [event.clone()];
            let first = late.transaction_with_id(stage.server(), "one", &events, &[]).await?;
            anyhow::Ok((first, late.asked("/_matrix/key/v2/server").len()))
        };
        let (slow_answer, meanwhile) = tokio::join!(waiting, meanwhile);
        let (first, fetched) = meanwhile?;
        assert_eq!(slow_answer?.status.as_u16(), 401);
        if first.status.is_success() {
            continue;
        }
        assert_eq!((first.status.as_u16(), first.errcode()), (429, "M_LIMIT_EXCEEDED"));
        assert!(first.body["retry_after_ms"].as_u64().is_some_and(|wait| wait > 0));
        assert_eq!(fetched, 0);
        let events = [event.clone()];
        late.transaction_with_id(stage.server(), "one", &events, &[])
            .await?
            .ok()?;
        return stage.until_said(&id, "sent twice").await;
    }
    panic!("the limit was never reached");
}

/// T127: unsolicited invitations are limited, and an initial sync stays small.
#[tokio::test]
async fn t127_unsolicited_invitations_are_limited_in_number_and_size() -> Result<()> {
    let stage = Stage::new().await?;
    let statuses = attacks::invite(stage.server(), &stage.malicious, &stage.alice.user, 70, 200_000).await?;
    let accepted = statuses.iter().filter(|status| **status == 200).count();
    assert_eq!(accepted, 50, "{statuses:?}");
    assert!(
        statuses.iter().skip(accepted).all(|status| *status == 429),
        "{statuses:?}"
    );
    let sync = stage.alice.get("/_matrix/client/v3/sync?timeout=0").await?;
    assert_eq!(sync["rooms"]["invite"].as_object().map(serde_json::Map::len), Some(50));
    let bytes = sync.to_string().len();
    assert!(bytes < 4 * 1024 * 1024, "{bytes}");
    // A declined invitation no longer counts.
    let room = sync["rooms"]["invite"]
        .as_object()
        .unwrap()
        .keys()
        .next()
        .unwrap()
        .clone();
    stage.malicious.answers_no_more("/_matrix/federation/v1/make_leave/");
    let leave = weft_conformance_tests::client::Client::in_room(&room, "leave");
    stage.alice.post(&leave, json!({})).await?;
    let again = attacks::invite(stage.server(), &stage.malicious, &stage.alice.user, 2, 10).await?;
    assert_eq!(again, [200, 429]);
    Ok(())
}

/// T128: receipts in threads that do not exist are limited, and those with an invalid thread id are not stored.
#[tokio::test]
async fn t128_receipts_in_threads_that_do_not_exist_are_limited() -> Result<()> {
    let stage = Stage::new().await?;
    let (id, mut room, mallory) = stage.room_of_alice("12").await?;
    attacks::receipts(stage.server(), &stage.malicious, &room, &mallory, 1_000).await?;
    let root = room.heads[0].clone();
    let receipt = |thread: Value| {
        let read = json!({ "event_ids": [root], "data": { "ts": 1, "thread_id": thread } });
        json!({ "edu_type": "m.receipt", "content": { id.as_str(): { "m.read": { mallory.as_str(): read } } } })
    };
    let edus = [receipt(json!("main")), receipt(json!(root))];
    stage.malicious.transaction(stage.server(), &[], &edus).await?.ok()?;
    stage.goes_on(&mut room, &mallory).await?;
    let sync = stage.alice.get("/_matrix/client/v3/sync?timeout=0").await?;
    let ephemeral = sync["rooms"]["join"][&id]["ephemeral"].to_string();
    assert!(ephemeral.len() < 60_000, "{}", ephemeral.len());
    assert!(ephemeral.contains("m.read"), "{ephemeral}");
    Ok(())
}

/// T136: the invalid events of a transaction get one log line, whatever their number.
#[tokio::test]
async fn t136_the_invalid_events_of_a_transaction_get_one_log_line() -> Result<()> {
    let stage = Stage::new().await?;
    let (_, mut room, mallory) = stage.room_of_alice("12").await?;
    let before = stage.server().log().lines().count();
    attacks::bad_events(stage.server(), &stage.malicious, &room, &mallory, 20).await?;
    let log = stage.server().log();
    let lines: Vec<&str> = log.lines().skip(before).collect();
    let about: Vec<&&str> = lines
        .iter()
        .filter(|line| line.contains("events of a transaction were refused"))
        .collect();
    assert_eq!(about.len(), 20, "{about:?}");
    assert!(lines.len() < 20 + 40, "{} lines", lines.len());
    stage.goes_on(&mut room, &mallory).await
}

/// Joins through these servers concurrently; returns the statuses and the maximum growth of the server's memory.
async fn join_concurrently(stage: &Stage, servers: &[MaliciousServer], event_bytes: usize) -> Result<(Vec<u16>, u64)> {
    let mut paths = Vec::new();
    for malicious in servers {
        let room = Room::create(malicious, &RoomVersionId::V12, &malicious.user("mallory"))?;
        let id = segment(&room.id);
        attacks::serve_long_join(malicious, &malicious.host(room), event_bytes, LONG_RESPONSE)?;
        paths.push(format!(
            "{}/_matrix/client/v3/join/{id}?via={}",
            stage.alice.url,
            malicious.name()
        ));
    }
    let before = stage.server().resident_bytes()?;
    let mut most = before;
    let http = stage.world.authority.http()?;
    let joins = paths.iter().map(|url| {
        let join = http.post(url).bearer_auth(&stage.alice.token).json(&json!({}));
        join.timeout(TIMEOUT).send()
    });
    let mut joins = std::pin::pin!(futures_util::future::join_all(joins));
    let answers = loop {
        tokio::select! {
            answers = &mut joins => break answers,
            () = tokio::time::sleep(Duration::from_millis(5)) => {
                most = most.max(stage.server().resident_bytes()?);
            }
        }
    };
    let statuses: Result<Vec<u16>> = answers
        .into_iter()
        .map(|answer| Ok(answer?.status().as_u16()))
        .collect();
    let (statuses, after) = (statuses?, stage.server().resident_bytes()?);
    println!(
        "{} concurrent joins, events of {event_bytes} bytes: {statuses:?}, {} -> {} MB, afterwards {} MB",
        servers.len(),
        before >> 20,
        most >> 20,
        after >> 20
    );
    Ok((statuses, most.saturating_sub(before)))
}

/// T136: a response of 60 MB to a join takes little more memory than its length, whatever the length of its events.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn t136_a_very_long_join_response_takes_little_more_memory_than_its_length() -> Result<()> {
    for event_bytes in [600, 60_000] {
        let stage = Stage::new().await?;
        let (statuses, grown) = join_concurrently(&stage, std::slice::from_ref(&stage.malicious), event_bytes).await?;
        assert_eq!(statuses, [200]);
        assert!(
            grown < LONG_RESPONSE as u64 + RESPONSE_OVERHEAD,
            "grown by {grown} bytes"
        );
    }
    Ok(())
}

/// T136: concurrent long responses of several servers stay within the common limit.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn t136_very_long_responses_of_several_servers_have_a_common_limit() -> Result<()> {
    let stage = Stage::new().await?;
    let mut servers = Vec::new();
    for number in 0..6 {
        servers.push(MaliciousServer::start(&stage.world.authority, &format!("malicious-{number}")).await?);
    }
    let (statuses, grown) = join_concurrently(&stage, &servers, 60_000).await?;
    // The number of refused joins depends on how many overlap.
    assert!(
        statuses.iter().all(|status| matches!(status, 200 | 429)),
        "{statuses:?}"
    );
    assert!(statuses.contains(&200), "{statuses:?}");
    assert!(grown < MAX_ANSWER_BYTES + 2 * GROWTH, "grown by {grown} bytes");
    let (_, mut room, mallory) = stage.room_of_alice("12").await?;
    stage.goes_on(&mut room, &mallory).await
}

/// W4: only the inviting server can withdraw an invitation to a room that the invited user's server is not in.
#[tokio::test]
async fn w4_only_the_inviting_server_withdraws_an_invitation() -> Result<()> {
    let stage = Stage::new().await?;
    let (_, room, mallory) = stage.room_of_mallory(&RoomVersionId::V12)?;
    let (invite, leave) = {
        let mut room = room.lock();
        let content = json!({ "membership": "invite" });
        let id = room.send(
            &stage.malicious,
            &mallory,
            "m.room.member",
            Some(&stage.alice.user),
            content,
        )?;
        let invite = room.events[&id].clone();
        let content = json!({ "membership": "leave" });
        let leave = room.event(
            &stage.malicious,
            &mallory,
            "m.room.member",
            Some(&stage.alice.user),
            content,
        )?;
        (invite, leave)
    };
    let (id, create) = {
        let room = room.lock();
        let create = room.events[&room.state[&("m.room.create".to_owned(), String::new())]].clone();
        (room.id.clone(), create)
    };
    let event_id = weft_conformance_tests::malicious::event_id(&invite, &RoomVersionId::V12)?;
    let path = format!("/_matrix/federation/v2/invite/{}/{}", segment(&id), segment(&event_id));
    let body = json!({ "room_version": "12", "event": invite, "invite_room_state": [create] });
    let answer = stage
        .malicious
        .ask(stage.server(), Method::PUT, &path, Some(&body))
        .await?;
    assert_eq!(answer.status, 200, "{}", answer.body);
    let mut since = None;
    let is_in = |section: &'static str| {
        let id = id.clone();
        move |sync: &Value| sync["rooms"][section].get(&id).map(|_| ())
    };
    stage
        .alice
        .sync_until("the invitation", &mut since, is_in("invite"))
        .await?;

    let other = MaliciousServer::start(&stage.world.authority, "other").await?;
    let mut theirs = leave.clone();
    theirs["sender"] = json!(other.user("mallory"));
    let theirs = other.sign(&theirs, &RoomVersionId::V12)?;
    let mut forged = leave.clone();
    forged["origin_server_ts"] = json!(5);
    let mut unnamed = leave.clone();
    unnamed["auth_events"] = json!([]);
    let unnamed = stage.malicious.sign(&unnamed, &RoomVersionId::V12)?;
    other.transaction(stage.server(), &[theirs], &[]).await?.ok()?;
    stage
        .malicious
        .transaction(stage.server(), &[forged, unnamed], &[])
        .await?
        .ok()?;
    let sync = stage.alice.get("/_matrix/client/v3/sync?timeout=0").await?;
    assert!(sync["rooms"]["invite"].get(&id).is_some(), "{sync}");

    // The leave event that the inviting server signed counts, whichever server sends it.
    other.transaction(stage.server(), &[leave], &[]).await?.ok()?;
    stage
        .alice
        .sync_until("the end of the invitation", &mut since, is_in("leave"))
        .await
}
