//! Roles: who may change them, and the list of members.

use serde_json::{Value, json};

use crate::world::World;

fn row<'a>(list: &'a Value, user: &str) -> &'a Value {
    let members = list["members"].as_array().unwrap();
    members
        .iter()
        .find(|member| member["userId"] == user)
        .unwrap_or(&Value::Null)
}

#[tokio::test]
async fn a_user_who_is_given_a_role_is_invited_and_has_the_role_after_joining() {
    let world = World::new().await;
    let (alice, bob) = (world.person("alice").await, world.person("bob").await);
    let doc = world.create(&alice, "Shared").await;
    assert_eq!(world.give(&alice, &doc, &bob.user, "editor").await, (200, json!({})));
    let list = world.get(&alice, &format!("/documents/{doc}/members")).await;
    assert_eq!(row(&list, bob.user.as_str())["membership"], "invite");
    assert_eq!(row(&list, bob.user.as_str())["role"], "editor");
    let invited = world.get(&bob, "/documents").await;
    assert_eq!(
        invited["invites"],
        json!([{"docId": doc, "title": "Shared", "inviter": alice.user}])
    );
    world.join(&doc, &bob).await;
    let shown = world.get(&bob, &format!("/documents/{doc}")).await;
    assert_eq!(
        (&shown["role"], &shown["ownerId"]),
        (&json!("editor"), &json!(alice.user))
    );
    let list = world.get(&bob, &format!("/documents/{doc}/members")).await;
    assert_eq!(list["members"][0]["userId"], alice.user.as_str(), "highest role first");
    assert_eq!(row(&list, alice.user.as_str())["displayName"], "ALICE");
}

#[tokio::test]
async fn owners_give_roles_up_to_their_own() {
    let world = World::new().await;
    let (alice, bob) = (world.person("alice").await, world.person("bob").await);
    let (carol, dave) = (world.person("carol").await, world.person("dave").await);
    let doc = world.create(&alice, "Roles").await;
    for (person, role) in [(&bob, "manager"), (&carol, "viewer")] {
        world.give(&alice, &doc, &person.user, role).await;
        world.join(&doc, person).await;
    }
    for (giver, user, role, status) in [
        (&carol, &dave, "viewer", 403),
        (&bob, &dave, "viewer", 200),
        (&bob, &carol, "editor", 403),
        (&bob, &bob, "owner", 403),
        (&alice, &carol, "owner", 200),
        (&carol, &bob, "editor", 200),
        (&carol, &alice, "viewer", 403),
        (&alice, &alice, "viewer", 403),
        (&carol, &carol, "viewer", 200),
    ] {
        let (got, answer) = world.give(giver, &doc, &user.user, role).await;
        assert_eq!(got, status, "{} gives {role} to {}: {answer}", giver.user, user.user);
    }
    let (status, answer) = world.give(&alice, &doc, &bob.user, "emperor").await;
    assert_eq!((status, answer["errcode"].as_str()), (400, Some("M_BAD_JSON")));
    let path = format!("/documents/{doc}/members/nobody");
    assert_eq!(
        world
            .request(&alice, "PUT", &path, Some(json!({"role": "viewer"})))
            .await
            .0,
        400
    );
}

#[tokio::test]
async fn members_can_leave_and_be_removed_except_the_last_owner() {
    let world = World::new().await;
    let (alice, bob, carol) = (
        world.person("alice").await,
        world.person("bob").await,
        world.person("carol").await,
    );
    let doc = world.create(&alice, "Leaving").await;
    for (person, role) in [(&bob, "editor"), (&carol, "editor")] {
        world.give(&alice, &doc, &person.user, role).await;
        world.join(&doc, person).await;
    }
    let member = |user: &ruma::UserId| format!("/documents/{doc}/members/{user}");
    for (remover, user, status) in [
        (&bob, &carol, 403),
        (&bob, &alice, 403),
        (&alice, &alice, 403),
        (&alice, &carol, 200),
        (&bob, &bob, 200),
        (&alice, &alice, 200),
    ] {
        let (got, answer) = world.request(remover, "DELETE", &member(&user.user), None).await;
        assert_eq!(got, status, "{} removes {}: {answer}", remover.user, user.user);
    }
    assert_eq!(
        world.request(&carol, "GET", &format!("/documents/{doc}"), None).await.0,
        404
    );
}

#[tokio::test]
async fn two_role_changes_at_a_time_are_both_made() {
    let world = World::new().await;
    let (alice, bob, carol) = (
        world.person("alice").await,
        world.person("bob").await,
        world.person("carol").await,
    );
    let doc = world.create(&alice, "Roles").await;
    for person in [&bob, &carol] {
        world.give(&alice, &doc, &person.user, "viewer").await;
        world.join(&doc, person).await;
    }
    for role in ["editor", "commenter", "manager"] {
        let (first, second) = tokio::join!(
            world.give(&alice, &doc, &bob.user, role),
            world.give(&alice, &doc, &carol.user, role)
        );
        assert_eq!((first.0, second.0), (200, 200), "{first:?} {second:?}");
        let list = world.get(&alice, &format!("/documents/{doc}/members")).await;
        for person in [&bob, &carol] {
            assert_eq!(row(&list, person.user.as_str())["role"], role, "{list}");
        }
    }
}

#[tokio::test]
async fn of_two_owners_who_leave_at_a_time_one_stays() {
    let world = World::new().await;
    let (alice, bob, carol) = (
        world.person("alice").await,
        world.person("bob").await,
        world.person("carol").await,
    );
    let doc = world.create(&alice, "Owners").await;
    for (person, role) in [(&bob, "owner"), (&carol, "viewer")] {
        world.give(&alice, &doc, &person.user, role).await;
        world.join(&doc, person).await;
    }
    let leave = async |person: &crate::world::Person| {
        let path = format!("/documents/{doc}/members/{}", person.user);
        world.request(person, "DELETE", &path, None).await
    };
    let (first, second) = tokio::join!(leave(&alice), leave(&bob));
    let mut statuses = [first.0, second.0];
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 403], "{first:?} {second:?}");
    let list = world.get(&carol, &format!("/documents/{doc}/members")).await;
    assert_eq!(list["members"][0]["role"], "owner", "{list}");
}
