//! Accounts as clients use them: names, passwords, sessions, refreshes, account data, over the memory engine.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)] // A failed assumption must fail the test.

use std::sync::Arc;

use ruma::{owned_server_name, room_id, user_id};
use serde_json::{Value, json};
use weft_accounts::{
    AccountLimits, Accounts, AuthError, LoginError, LoginRequest, NewAccount, NewDevice, PasswordCost, PasswordRefused,
    ProofError, RefreshError, RegisterError, SetAccountDataError,
};
use weft_clock::testing::ManualClock;
use weft_store::{Store, memory::MemoryEngine};
use weft_wire::limits::{FILTERS_QUOTA_BYTES, MAX_DEVICES_PER_USER};

async fn server() -> (Accounts, Arc<ManualClock>) {
    let clock = ManualClock::at(1_000_000);
    let store = Store::open(MemoryEngine::new()).await.unwrap();
    let accounts = Accounts::with_cost(
        store,
        owned_server_name!("a.example"),
        Arc::clone(&clock) as _,
        PasswordCost::Minimal,
    );
    (accounts, clock)
}

fn account(name: &str) -> NewAccount {
    NewAccount {
        username: name.to_owned(),
        password: Some("correct horse".to_owned()),
        admin: false,
        display_name: None,
    }
}

fn login(name: &str, password: &str, device: NewDevice) -> LoginRequest {
    LoginRequest {
        user: name.to_owned(),
        password: password.to_owned(),
        device,
        network: None,
    }
}

#[tokio::test]
async fn a_name_is_registered_once_and_never_again() {
    let (accounts, _) = server().await;
    let alice = accounts.register(account("alice")).await.unwrap();
    assert_eq!(alice, "@alice:a.example");
    assert!(matches!(
        accounts.register(account("alice")).await,
        Err(RegisterError::Taken)
    ));
    assert!(matches!(
        accounts.register(account("Alice")).await,
        Err(RegisterError::InvalidUsername(_))
    ));
    assert!(matches!(
        accounts
            .register(NewAccount {
                password: Some(String::new()),
                ..account("bob")
            })
            .await,
        Err(RegisterError::Password(PasswordRefused::TooShort))
    ));
    accounts.deactivate(&alice).await.unwrap();
    assert!(matches!(
        accounts.register(account("alice")).await,
        Err(RegisterError::Taken)
    ));
}

#[tokio::test]
async fn of_concurrent_registrations_of_one_name_one_succeeds() {
    let (accounts, _) = server().await;
    let mut attempts = tokio::task::JoinSet::new();
    for _ in 0..20 {
        let accounts = accounts.clone();
        attempts.spawn(async move { accounts.register(account("alice")).await.is_ok() });
    }
    assert_eq!(attempts.join_all().await.into_iter().filter(|won| *won).count(), 1);
}

#[tokio::test]
async fn a_session_begins_with_login_and_ends_with_logout() {
    let (accounts, _) = server().await;
    let alice = accounts.register(account("alice")).await.unwrap();
    for name in ["alice", "@alice:a.example", "Alice"] {
        let session = accounts
            .login(login(name, "correct horse", NewDevice::default()))
            .await
            .unwrap();
        let known = accounts.authenticate(&session.access_token).await.unwrap();
        assert_eq!((known.user_id, &known.device_id), (alice.clone(), &session.device_id));
        accounts.logout(&alice, &session.device_id).await.unwrap();
        assert!(matches!(
            accounts.authenticate(&session.access_token).await,
            Err(AuthError::Unknown)
        ));
    }
    for (name, password) in [
        ("alice", "wrong"),
        ("nobody", "correct horse"),
        ("@alice:b.example", "correct horse"),
    ] {
        let refused = accounts.login(login(name, password, NewDevice::default())).await;
        assert!(
            matches!(refused, Err(LoginError::Proof(ProofError::Denied))),
            "{name} {password}"
        );
    }
    assert!(matches!(accounts.authenticate("").await, Err(AuthError::Unknown)));
}

#[tokio::test]
async fn a_new_login_on_a_device_revokes_its_old_token() {
    let (accounts, _) = server().await;
    let alice = accounts.register(account("alice")).await.unwrap();
    let device = || NewDevice {
        id: Some("PHONE".into()),
        display_name: Some("phone".to_owned()),
        refreshable: true,
    };
    let first = accounts.begin_session(&alice, device()).await.unwrap();
    let second = accounts.begin_session(&alice, device()).await.unwrap();
    assert!(matches!(
        accounts.authenticate(&first.access_token).await,
        Err(AuthError::Unknown)
    ));
    assert!(matches!(
        accounts.refresh(&first.refresh_token.unwrap()).await,
        Err(RefreshError::Unknown)
    ));
    accounts.authenticate(&second.access_token).await.unwrap();
    assert_eq!(accounts.devices(&alice).await.unwrap().len(), 1);
    assert!(
        accounts
            .rename_device(&alice, "PHONE".into(), Some("new".to_owned()))
            .await
            .unwrap()
    );
    let named = accounts.device(&alice, "PHONE".into()).await.unwrap().unwrap();
    assert_eq!(named.display_name.as_deref(), Some("new"));
}

#[tokio::test]
async fn guessing_is_limited_and_failures_expire() {
    let (accounts, clock) = server().await;
    accounts.register(account("alice")).await.unwrap();
    let mut denied = 0;
    let wait = loop {
        match accounts.login(login("alice", "guess", NewDevice::default())).await {
            Err(LoginError::Proof(ProofError::Denied)) => denied += 1,
            Err(LoginError::Proof(ProofError::Throttled { retry_after })) => break retry_after,
            _ => panic!("a wrong password was accepted"),
        }
    };
    assert_eq!(denied, 10);
    let still = accounts
        .login(login("alice", "correct horse", NewDevice::default()))
        .await;
    assert!(matches!(still, Err(LoginError::Proof(ProofError::Throttled { .. }))));
    clock.advance(u64::try_from(wait.as_millis()).unwrap());
    accounts
        .login(login("alice", "correct horse", NewDevice::default()))
        .await
        .unwrap();
}

#[tokio::test]
async fn a_refreshable_token_expires_and_its_successor_revokes_it() {
    let (accounts, clock) = server().await;
    let alice = accounts.register(account("alice")).await.unwrap();
    let device = NewDevice {
        refreshable: true,
        ..NewDevice::default()
    };
    let first = accounts.begin_session(&alice, device).await.unwrap();
    clock.advance(u64::try_from(first.expires_in.unwrap().as_millis()).unwrap());
    assert!(matches!(
        accounts.authenticate(&first.access_token).await,
        Err(AuthError::Expired)
    ));

    let old_refresh = first.refresh_token.unwrap();
    let lost = accounts.refresh(&old_refresh).await.unwrap();
    // The response was lost: the client refreshes again with the old token, and the lost pair is revoked.
    let second = accounts.refresh(&old_refresh).await.unwrap();
    assert!(matches!(
        accounts.authenticate(&lost.access_token).await,
        Err(AuthError::Unknown)
    ));
    accounts.authenticate(&second.access_token).await.unwrap();
    // The new pair was used: the old refresh token is revoked.
    assert!(matches!(
        accounts.refresh(&old_refresh).await,
        Err(RefreshError::Unknown)
    ));

    // Using only the new refresh token revokes the old pair as well.
    let second_refresh = second.refresh_token.unwrap();
    let third = accounts.refresh(&second_refresh).await.unwrap();
    let fourth = accounts.refresh(&third.refresh_token.unwrap()).await.unwrap();
    assert!(matches!(
        accounts.refresh(&second_refresh).await,
        Err(RefreshError::Unknown)
    ));
    assert!(matches!(
        accounts.authenticate(&second.access_token).await,
        Err(AuthError::Unknown)
    ));
    accounts.authenticate(&fourth.access_token).await.unwrap();
    accounts.logout(&alice, &fourth.device_id).await.unwrap();
    assert!(matches!(
        accounts.refresh(&fourth.refresh_token.unwrap()).await,
        Err(RefreshError::Unknown)
    ));
}

#[tokio::test]
async fn concurrent_requests_with_a_new_token_all_succeed() {
    let (accounts, _) = server().await;
    let alice = accounts.register(account("alice")).await.unwrap();
    let device = NewDevice {
        refreshable: true,
        ..NewDevice::default()
    };
    let first = accounts.begin_session(&alice, device).await.unwrap();
    let second = accounts.refresh(&first.refresh_token.unwrap()).await.unwrap();
    let mut requests = tokio::task::JoinSet::new();
    for _ in 0..20 {
        let (accounts, token) = (accounts.clone(), second.access_token.clone());
        requests.spawn(async move { accounts.authenticate(&token).await.is_ok() });
    }
    assert!(requests.join_all().await.into_iter().all(|let_in| let_in));
    assert!(matches!(
        accounts.authenticate(&first.access_token).await,
        Err(AuthError::Unknown)
    ));
}

#[tokio::test]
async fn peeking_at_a_refreshed_token_revokes_nothing() {
    let (accounts, _) = server().await;
    let alice = accounts.register(account("alice")).await.unwrap();
    let device = NewDevice {
        refreshable: true,
        ..NewDevice::default()
    };
    let first = accounts.begin_session(&alice, device).await.unwrap();
    let old = accounts.authenticate(&first.access_token).await.unwrap();
    let second = accounts.refresh(&first.refresh_token.unwrap()).await.unwrap();

    let new = accounts.peek(&second.access_token).await.unwrap();
    assert!(new.is_same_sign_in(&old));
    assert_ne!(new.token_hash, old.token_hash);
    assert!(new.expires_at_ms.is_some());
    accounts.peek(&first.access_token).await.unwrap();

    accounts.authenticate(&second.access_token).await.unwrap();
    assert!(matches!(
        accounts.peek(&first.access_token).await,
        Err(AuthError::Unknown)
    ));
}

#[tokio::test]
async fn a_waiting_session_survives_a_refresh_and_ends_with_its_login() {
    let (accounts, clock) = server().await;
    let alice = accounts.register(account("alice")).await.unwrap();
    let device = || NewDevice {
        id: Some("PHONE".into()),
        refreshable: true,
        ..NewDevice::default()
    };
    let first = accounts.begin_session(&alice, device()).await.unwrap();
    let waiting = accounts.authenticate(&first.access_token).await.unwrap();
    let second = accounts.refresh(&first.refresh_token.unwrap()).await.unwrap();
    let successor = accounts.authenticate(&second.access_token).await.unwrap();
    accounts.recheck(&waiting).await.unwrap();

    clock.set(waiting.expires_at_ms.unwrap());
    assert!(matches!(accounts.recheck(&waiting).await, Err(AuthError::Expired)));

    let second = accounts.refresh(&second.refresh_token.unwrap()).await.unwrap();
    let successor_of_successor = accounts.authenticate(&second.access_token).await.unwrap();
    assert!(successor_of_successor.is_same_sign_in(&successor));
    let next_login = accounts.begin_session(&alice, device()).await.unwrap();
    let next_login = accounts.authenticate(&next_login.access_token).await.unwrap();
    assert!(!next_login.is_same_sign_in(&successor_of_successor));
    assert!(matches!(
        accounts.recheck(&successor_of_successor).await,
        Err(AuthError::Unknown)
    ));
    accounts.recheck(&next_login).await.unwrap();
    accounts.logout(&alice, "PHONE".into()).await.unwrap();
    assert!(matches!(accounts.recheck(&next_login).await, Err(AuthError::Unknown)));
}

#[tokio::test]
async fn a_deactivated_account_accepts_no_login_token_or_password() {
    let (accounts, _) = server().await;
    let alice = accounts.register(account("alice")).await.unwrap();
    let one = accounts.begin_session(&alice, NewDevice::default()).await.unwrap();
    let two = accounts
        .begin_session(
            &alice,
            NewDevice {
                refreshable: true,
                ..NewDevice::default()
            },
        )
        .await
        .unwrap();
    accounts.deactivate(&alice).await.unwrap();
    for session in [&one, &two] {
        assert!(matches!(
            accounts.authenticate(&session.access_token).await,
            Err(AuthError::Unknown)
        ));
    }
    assert!(matches!(
        accounts.refresh(&two.refresh_token.unwrap()).await,
        Err(RefreshError::Unknown)
    ));
    let again = accounts
        .login(login("alice", "correct horse", NewDevice::default()))
        .await;
    assert!(matches!(again, Err(LoginError::Proof(ProofError::Denied))));
    assert!(accounts.begin_session(&alice, NewDevice::default()).await.is_err());
    assert!(!accounts.exists(&alice).await.unwrap());
    assert!(accounts.profile(&alice).await.unwrap().is_none());
    assert!(accounts.set_password(&alice, "battery staple", None).await.is_err());
}

#[tokio::test]
async fn a_new_password_replaces_the_old_and_can_end_other_sessions() {
    let (accounts, _) = server().await;
    let alice = accounts.register(account("alice")).await.unwrap();
    let here = accounts.begin_session(&alice, NewDevice::default()).await.unwrap();
    let there = accounts.begin_session(&alice, NewDevice::default()).await.unwrap();
    accounts.set_password(&alice, "battery staple", None).await.unwrap();
    accounts.logout_all(&alice, Some(&here.device_id)).await.unwrap();
    accounts.authenticate(&here.access_token).await.unwrap();
    assert!(matches!(
        accounts.authenticate(&there.access_token).await,
        Err(AuthError::Unknown)
    ));
    let session = accounts.authenticate(&here.access_token).await.unwrap();
    assert!(matches!(
        accounts.prove_password(&session, "correct horse", None).await,
        Err(ProofError::Denied)
    ));
    accounts.prove_password(&session, "battery staple", None).await.unwrap();
}

#[tokio::test]
async fn account_data_changes_are_returned_by_position() {
    let (accounts, _) = server().await;
    let alice = accounts.register(account("alice")).await.unwrap();
    let room = room_id!("!r:a.example");
    let first = accounts
        .set_account_data(&alice, None, "m.direct", json!({"a": 1}))
        .await
        .unwrap();
    let second = accounts
        .set_account_data(&alice, Some(room), "m.tag", json!({"tags": {}}))
        .await
        .unwrap();
    assert!(second > first);
    let all = accounts.account_data_since(&alice, 0, second).await.unwrap();
    assert_eq!(all.len(), 2);
    let later = accounts.account_data_since(&alice, first, second).await.unwrap();
    assert_eq!((later.len(), later[0].room.as_deref()), (1, Some(room)));
    let third = accounts
        .set_account_data(&alice, None, "m.direct", json!({}))
        .await
        .unwrap();
    let changed = accounts.account_data_since(&alice, second, third).await.unwrap();
    assert_eq!((changed.len(), changed[0].kind.as_str()), (1, "m.direct"));
    assert_eq!(
        accounts.account_data(&alice, None, "m.direct").await.unwrap(),
        Some(json!({}))
    );
    let large = json!({"x": "y".repeat(300_000)});
    assert!(accounts.set_account_data(&alice, None, "m.big", large).await.is_err());
}

#[tokio::test]
async fn profiles_and_filters_are_stored_and_bounded() {
    let (accounts, _) = server().await;
    let alice = accounts.register(account("alice")).await.unwrap();
    assert_eq!(
        accounts.profile(&alice).await.unwrap().unwrap().displayname.as_deref(),
        Some("alice")
    );
    assert!(
        accounts
            .set_profile_field(&alice, "displayname", Some(json!("Alice")))
            .await
            .unwrap()
    );
    assert!(
        !accounts
            .set_profile_field(&alice, "displayname", Some(json!("Alice")))
            .await
            .unwrap()
    );
    assert!(
        accounts
            .set_profile_field(&alice, "displayname", Some(json!("x".repeat(600))))
            .await
            .is_err()
    );
    assert!(
        accounts
            .set_profile_field(&alice, "avatar_url", Some(json!(5)))
            .await
            .is_err()
    );
    assert!(
        accounts
            .set_profile_field(&alice, "m.tz", Some(json!("x".repeat(70_000))))
            .await
            .is_err()
    );

    let id = accounts.store_filter(&alice, "{}".to_owned()).await.unwrap();
    assert_eq!(accounts.store_filter(&alice, "{}".to_owned()).await.unwrap(), id);
    assert_ne!(
        accounts.store_filter(&alice, "{\"room\":{}}".to_owned()).await.unwrap(),
        id
    );
    assert_eq!(accounts.filter(&alice, id).await.unwrap().as_deref(), Some("{}"));
    assert_eq!(accounts.filter(&alice, 99).await.unwrap(), None);
    assert!(accounts.store_filter(&alice, "x".repeat(70_000)).await.is_err());
}

#[tokio::test]
async fn a_session_that_ends_during_a_refresh_leaves_no_token() {
    let (accounts, _) = server().await;
    let alice = accounts.register(account("alice")).await.unwrap();
    for everywhere in [false, true].into_iter().cycle().take(100) {
        let device = NewDevice {
            refreshable: true,
            ..NewDevice::default()
        };
        let session = accounts.begin_session(&alice, device).await.unwrap();
        let (refreshing, refresh_token) = (accounts.clone(), session.refresh_token.unwrap());
        let refresh = tokio::spawn(async move { refreshing.refresh(&refresh_token).await });
        tokio::task::yield_now().await;
        if everywhere {
            accounts.logout_all(&alice, None).await.unwrap();
        } else {
            accounts.logout(&alice, &session.device_id).await.unwrap();
        }
        if let Ok(newer) = refresh.await.unwrap() {
            assert!(accounts.peek(&newer.access_token).await.is_err());
            assert!(accounts.refresh(&newer.refresh_token.unwrap()).await.is_err());
        }
    }
}

#[tokio::test]
async fn logins_during_a_password_change_begin_no_session_with_the_old_password() {
    let (accounts, _) = server().await;
    let alice = accounts.register(account("alice")).await.unwrap();
    let passwords = ["correct horse", "battery staple"];
    for (old, new) in passwords.iter().zip(passwords.iter().rev()).cycle().take(20) {
        let signing_in = accounts.clone();
        let request = login("alice", old, NewDevice::default());
        let sign_in = tokio::spawn(async move { signing_in.login(request).await });
        tokio::task::yield_now().await;
        accounts.set_password(&alice, new, None).await.unwrap();
        accounts.logout_all(&alice, None).await.unwrap();
        if let Ok(session) = sign_in.await.unwrap() {
            assert!(accounts.peek(&session.access_token).await.is_err());
        }
    }
}

#[tokio::test]
async fn above_the_device_limit_the_oldest_session_ends() {
    let (accounts, clock) = server().await;
    let alice = accounts.register(account("alice")).await.unwrap();
    let mut first = None;
    for _ in 0..MAX_DEVICES_PER_USER {
        clock.advance(1);
        let session = accounts.begin_session(&alice, NewDevice::default()).await.unwrap();
        first.get_or_insert(session.access_token);
    }
    let first = first.unwrap();
    let known = accounts.peek(&first).await.unwrap();
    let again = NewDevice {
        id: Some(known.device_id),
        ..NewDevice::default()
    };
    clock.advance(1);
    let first = accounts.begin_session(&alice, again).await.unwrap();
    assert_eq!(accounts.devices(&alice).await.unwrap().len(), MAX_DEVICES_PER_USER);
    let newest = accounts.begin_session(&alice, NewDevice::default()).await.unwrap();
    assert_eq!(accounts.devices(&alice).await.unwrap().len(), MAX_DEVICES_PER_USER);
    for session in [first, newest] {
        accounts.peek(&session.access_token).await.unwrap();
    }
}

#[tokio::test]
async fn account_data_usage_is_counted_over_changes_and_bounded() {
    let limits = AccountLimits {
        account_data_bytes: 1_000,
        ..AccountLimits::default()
    };
    let store = Store::open(MemoryEngine::new()).await.unwrap();
    let name = owned_server_name!("a.example");
    let accounts = Accounts::with_limits(store, name, Arc::new(weft_accounts::SystemClock), limits);
    let (alice, bob) = (user_id!("@alice:a.example"), user_id!("@bob:a.example"));
    let of = |bytes: usize| json!("x".repeat(bytes));
    let set = async |user, kind: &str, content| accounts.set_account_data(user, None, kind, content).await;
    for _ in 0..50 {
        set(alice, "a", of(900)).await.unwrap();
        set(alice, "a", of(10)).await.unwrap();
    }
    set(alice, "b", of(900)).await.unwrap();
    let refused = set(alice, "c", of(100)).await;
    assert!(matches!(
        refused,
        Err(SetAccountDataError::QuotaExceeded { bytes: 1_000 })
    ));
    set(bob, "c", of(900)).await.unwrap();
    set(alice, "b", of(100)).await.unwrap();
    set(alice, "c", of(100)).await.unwrap();
}

#[tokio::test]
async fn concurrent_changes_of_account_data_are_all_kept() {
    let (accounts, _) = server().await;
    let alice = accounts.register(account("alice")).await.unwrap();
    let mut changes = tokio::task::JoinSet::new();
    for n in 0..50 {
        let (accounts, alice) = (accounts.clone(), alice.clone());
        changes.spawn(async move {
            let kind = format!("org.example.{}", n % 5);
            let added = |before: Option<&Value>| {
                let mut all = before.cloned().unwrap_or_else(|| json!({}));
                all[n.to_string()] = json!(true);
                all
            };
            accounts.change_account_data(&alice, None, &kind, added).await.unwrap()
        });
    }
    let last = changes.join_all().await.into_iter().max().unwrap();
    let all = accounts.account_data_since(&alice, 0, last).await.unwrap();
    let kept: usize = all.iter().map(|change| change.content.as_object().unwrap().len()).sum();
    assert_eq!((all.len(), kept), (5, 50));
    let newest = accounts.account_data_since(&alice, last - 1, last).await.unwrap();
    assert_eq!(newest.len(), 1);
    let by_position = accounts.account_data_since(&alice, 1, last).await.unwrap();
    assert_eq!(by_position.len(), 5, "one position in the stream for each piece");
}

#[tokio::test]
async fn the_filters_of_a_user_are_bounded_in_total() {
    let (accounts, _) = server().await;
    let alice = user_id!("@alice:a.example");
    let mut stored = 0;
    while accounts
        .store_filter(alice, format!("{stored:03}{}", "x".repeat(60_000)))
        .await
        .is_ok()
    {
        stored += 1;
    }
    assert_eq!(stored, FILTERS_QUOTA_BYTES / 60_003);
}
