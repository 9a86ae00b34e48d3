//! Share links: the role that they give to users who are there, who were there, and who join by other ways; their passwords.

use serde_json::{Value, json};

use crate::world::{Person, World};

async fn link(world: &World, maker: &Person, doc: &str, body: Value) -> (u16, Value) {
    let path = format!("/documents/{doc}/links");
    world.request(maker, "POST", &path, Some(body)).await
}

async fn follow(world: &World, person: &Person, link: &Value) -> u16 {
    let path = format!("/links/{}", link["secret"].as_str().unwrap());
    world.request(person, "POST", &path, None).await.0
}

async fn role(world: &World, person: &Person, doc: &str) -> Value {
    world.get(person, &format!("/documents/{doc}")).await["role"].clone()
}

#[tokio::test]
async fn a_link_gives_its_own_role_to_users_who_come_back_and_no_lower_one_to_members() {
    let world = World::new().await;
    let (alice, bob, carol) = (
        world.person("alice").await,
        world.person("bob").await,
        world.person("carol").await,
    );
    let doc = world.create(&alice, "Shared").await;
    let (_, to_read) = link(&world, &alice, &doc, json!({"role": "viewer"})).await;
    for person in [&bob, &carol] {
        world.give(&alice, &doc, &person.user, "editor").await;
    }
    world.join(&doc, &bob).await;
    assert_eq!(follow(&world, &bob, &to_read).await, 200);
    assert_eq!(role(&world, &bob, &doc).await, "editor");
    // Carol is invited as an editor, and joins by the link.
    assert_eq!(follow(&world, &carol, &to_read).await, 200);
    assert_eq!(role(&world, &carol, &doc).await, "editor");
    let of_bob = format!("/documents/{doc}/members/{}", bob.user);
    assert_eq!(world.request(&alice, "DELETE", &of_bob, None).await.0, 200);
    assert_eq!(follow(&world, &bob, &to_read).await, 200);
    assert_eq!(role(&world, &bob, &doc).await, "viewer");
}

#[tokio::test]
async fn a_link_below_the_role_of_all_who_join_gives_the_lower_one() {
    let world = World::new().await;
    let (alice, bob, carol) = (
        world.person("alice").await,
        world.person("bob").await,
        world.person("carol").await,
    );
    let doc = world.create(&alice, "Shared").await;
    world.give(&alice, &doc, &bob.user, "manager").await;
    world.join(&doc, &bob).await;
    let access = json!({"access": "public", "role": "commenter"});
    let path = format!("/documents/{doc}/access");
    assert_eq!(world.request(&alice, "PUT", &path, Some(access)).await.0, 200);
    // A manager can invite, and can't give a role.
    for (maker, role, status) in [
        (&bob, "commenter", 201),
        (&bob, "viewer", 403),
        (&bob, "editor", 403),
        (&alice, "viewer", 201),
    ] {
        let (got, answer) = link(&world, maker, &doc, json!({ "role": role })).await;
        assert_eq!(got, status, "{} shares as {role}: {answer}", maker.user);
    }
    let (_, to_read) = link(&world, &alice, &doc, json!({"role": "viewer"})).await;
    assert_eq!(follow(&world, &carol, &to_read).await, 200);
    assert_eq!(role(&world, &carol, &doc).await, "viewer");
}

#[tokio::test]
async fn a_link_ends_with_its_time_and_a_document_has_a_limited_number() {
    let world = World::new().await;
    let (alice, bob) = (world.person("alice").await, world.person("bob").await);
    let doc = world.create(&alice, "Shared").await;
    let (status, short) = link(&world, &alice, &doc, json!({"role": "viewer", "expiresIn": 1})).await;
    assert_eq!(status, 201, "{short}");
    let is_over = || async { world.get(&alice, &format!("/documents/{doc}/links")).await == json!({"links": []}) };
    while !is_over().await {
        tokio::task::yield_now().await;
    }
    assert_eq!(follow(&world, &bob, &short).await, 404);
    for _ in 0..100 {
        assert_eq!(link(&world, &alice, &doc, json!({"role": "viewer"})).await.0, 201);
    }
    assert_eq!(link(&world, &alice, &doc, json!({"role": "viewer"})).await.0, 403);
    let too_long = json!({"role": "viewer", "expiresIn": 366_u64 * 24 * 60 * 60 * 1_000});
    assert_eq!(link(&world, &alice, &doc, too_long).await.0, 400);
}

async fn follow_with(world: &World, person: &Person, link: &Value, password: Value) -> (u16, Value) {
    let path = format!("/links/{}", link["secret"].as_str().unwrap());
    world
        .request(person, "POST", &path, Some(json!({ "password": password })))
        .await
}

#[tokio::test]
async fn a_link_with_a_password_lets_nobody_in_without_it() {
    let world = World::new().await;
    let (alice, bob) = (world.person("alice").await, world.person("bob").await);
    let doc = world.create(&alice, "Shared").await;
    let long = "x".repeat(1_025);
    for (password, errcode) in [("1234567", "M_WEAK_PASSWORD"), (&*long, "M_INVALID_PARAM")] {
        let (status, answer) = link(&world, &alice, &doc, json!({"role": "viewer", "password": password})).await;
        assert_eq!((status, &answer["errcode"]), (400, &json!(errcode)));
    }
    let body = json!({"role": "viewer", "password": "open sesame", "maxUses": 1});
    let (status, made) = link(&world, &alice, &doc, body).await;
    assert_eq!(
        (status, &made["hasPassword"], &made["password"]),
        (201, &json!(true), &Value::Null)
    );
    let links = world.get(&alice, &format!("/documents/{doc}/links")).await;
    assert_eq!(links["links"][0]["hasPassword"], true);
    assert!(!links.to_string().contains("argon2"), "{links}");
    assert_eq!(follow(&world, &bob, &made).await, 403);
    for wrong in ["open sesami", "", &long] {
        let (status, answer) = follow_with(&world, &bob, &made, json!(wrong)).await;
        assert_eq!((status, &answer["errcode"]), (403, &json!("DEV_WEFT_LINK_PASSWORD")));
    }
    assert_eq!(follow_with(&world, &bob, &made, json!("open sesame")).await.0, 200);
    assert_eq!(role(&world, &bob, &doc).await, "viewer");
}

#[tokio::test]
async fn guesses_of_a_links_password_are_limited_for_the_guesser_and_not_for_others() {
    let world = World::new().await;
    let (alice, bob, carol) = (
        world.person("alice").await,
        world.person("bob").await,
        world.person("carol").await,
    );
    let doc = world.create(&alice, "Shared").await;
    let (_, made) = link(
        &world,
        &alice,
        &doc,
        json!({"role": "viewer", "password": "open sesame"}),
    )
    .await;
    let mut guesses = 0;
    while follow_with(&world, &bob, &made, json!("guessing")).await.0 == 403 {
        guesses += 1;
    }
    assert_eq!(guesses, 10);
    // Not even the right one is accepted any more.
    let (status, answer) = follow_with(&world, &bob, &made, json!("open sesame")).await;
    assert_eq!((status, &answer["errcode"]), (429, &json!("M_LIMIT_EXCEEDED")));
    assert_eq!(follow_with(&world, &carol, &made, json!("open sesame")).await.0, 200);
}
