//! Webhooks: `/documents/{id}/webhooks` for those who manage the document, `/webhooks` for the caller's own, of all documents
//! (`spec/docs/webhooks.md`).
//!
//! Must not show a secret, except to the caller who made it, and must not decide what a webhook delivers.

use axum::{
    Json,
    extract::{FromRequestParts, State},
    http::{StatusCode, request::Parts},
};
use ruma::OwnedUserId;
use weft_http::{
    authentication::Authenticated,
    errors::{ApiError, ApiResult},
    openapi::{Operation, Routes, Takes},
    path::InPath,
};
use weft_webhooks::Owner;
use weft_wire::{
    Role,
    rest::{
        ChangeWebhook, CreateWebhook, Done, Webhook, WebhookDeliveries, WebhookList, WebhookMade, WebhookSecret,
        WebhookTest,
    },
};

use super::{
    DocumentPorts,
    caller::{Named, Open, open},
    failures::may_not,
    request::JsonBody,
};

/// The webhooks of the caller.
const OWN: &str = "/_weft/client/v1/webhooks";
/// Those of a document.
const OF_DOCUMENT: &str = "/_weft/client/v1/documents/{id}/webhooks";

/// The names of the operations in generated clients.
struct Names {
    list: &'static str,
    create: &'static str,
    show: &'static str,
    change: &'static str,
    remove: &'static str,
    rotate: &'static str,
    deliveries: &'static str,
    test: &'static str,
}

pub(super) fn routes() -> Routes<DocumentPorts> {
    let own = Names {
        list: "listWebhooks",
        create: "createWebhook",
        show: "getWebhook",
        change: "changeWebhook",
        remove: "deleteWebhook",
        rotate: "rotateWebhookSecret",
        deliveries: "listWebhookDeliveries",
        test: "testWebhook",
    };
    let of_document = Names {
        list: "listDocumentWebhooks",
        create: "createDocumentWebhook",
        show: "getDocumentWebhook",
        change: "changeDocumentWebhook",
        remove: "deleteDocumentWebhook",
        rotate: "rotateDocumentWebhookSecret",
        deliveries: "listDocumentWebhookDeliveries",
        test: "testDocumentWebhook",
    };
    routes_under(OWN, &own).merge(routes_under(OF_DOCUMENT, &of_document))
}

fn routes_under(webhooks: &str, names: &Names) -> Routes<DocumentPorts> {
    let one = format!("{webhooks}/{{hook}}");
    let under = |last: &str| format!("{one}/{last}");
    Routes::new("Webhooks")
        .get(webhooks, list, Operation::new(names.list, "The webhooks"))
        .post(
            webhooks,
            create,
            Operation::new(names.create, "Creates a webhook for what happens from now on"),
        )
        .get(&one, show, Operation::new(names.show, "A webhook"))
        .patch(
            &one,
            change,
            Operation::new(names.change, "Changes, pauses or resumes a webhook"),
        )
        .delete(&one, remove, Operation::new(names.remove, "Deletes a webhook"))
        .post(
            &under("secret"),
            rotate,
            Operation::new(
                names.rotate,
                "Makes a new secret; the old one is used as well for a day",
            ),
        )
        .get(
            &under("deliveries"),
            deliveries,
            Operation::new(names.deliveries, "The last deliveries, the newest first"),
        )
        .post(
            &under("test"),
            test,
            Operation::new(names.test, "Delivers a test event once, and answers with the result"),
        )
}

/// Whose webhooks a request is about: those of the document in the path, which the caller manages, or the caller's.
struct Managed {
    owner: Owner,
    user: OwnedUserId,
}

impl FromRequestParts<DocumentPorts> for Managed {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, ports: &DocumentPorts) -> ApiResult<Self> {
        let Authenticated(session) = Authenticated::from_request_parts(parts, ports).await?;
        let user = session.user_id;
        if parts.uri.path().starts_with(OWN) {
            let owner = Owner::User(user.clone());
            return Ok(Self { owner, user });
        }
        let named = Named::from_request_parts(parts, ports).await?;
        let Open { room, state } = open(ports, &named, &user).await?;
        if !Role::from_power(state.user_power(&user)).can_manage() {
            return Err(may_not("manage its webhooks"));
        }
        let owner = Owner::Document(room);
        Ok(Self { owner, user })
    }
}

impl Takes for Managed {
    fn describe(operation: &mut Operation) {
        Authenticated::describe(operation);
        Named::describe(operation);
        operation.add_refusal(403, "Below manager, or there are too many webhooks.");
    }
}

/// The webhook in the path.
struct Hook(String);

impl Takes for Hook {
    fn describe(operation: &mut Operation) {
        operation.set_path::<String>("hook", "The `webhookId`.");
        operation.add_refusal(404, "There is no such webhook.");
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Hook {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> ApiResult<Self> {
        let InPath(names) = InPath::<Vec<(String, String)>>::from_request_parts(parts, state).await?;
        let hook = names.into_iter().find(|(name, _)| name == "hook");
        let hook = hook.ok_or_else(|| ApiError::not_found("There is no such webhook."))?;
        Ok(Self(hook.1))
    }
}

/// Creates a webhook for what happens from now on. The answer has its secret.
async fn create(
    State(ports): State<DocumentPorts>,
    Managed { owner, user }: Managed,
    JsonBody(request): JsonBody<CreateWebhook>,
) -> ApiResult<(StatusCode, Json<WebhookMade>)> {
    let made = ports.webhooks.create(owner, &user, request).await?;
    Ok((StatusCode::CREATED, Json(made)))
}

async fn list(State(ports): State<DocumentPorts>, managed: Managed) -> ApiResult<Json<WebhookList>> {
    let webhooks = ports.webhooks.list(&managed.owner).await?;
    Ok(Json(WebhookList { webhooks }))
}

async fn show(State(ports): State<DocumentPorts>, managed: Managed, Hook(hook): Hook) -> ApiResult<Json<Webhook>> {
    Ok(Json(ports.webhooks.show(&managed.owner, &hook).await?))
}

async fn change(
    State(ports): State<DocumentPorts>,
    Managed { owner, user }: Managed,
    Hook(hook): Hook,
    JsonBody(request): JsonBody<ChangeWebhook>,
) -> ApiResult<Json<Webhook>> {
    Ok(Json(ports.webhooks.change(&owner, &hook, &user, request).await?))
}

async fn remove(State(ports): State<DocumentPorts>, managed: Managed, Hook(hook): Hook) -> ApiResult<Json<Done>> {
    ports.webhooks.delete(&managed.owner, &hook).await?;
    Ok(Json(Done {}))
}

async fn rotate(
    State(ports): State<DocumentPorts>,
    managed: Managed,
    Hook(hook): Hook,
) -> ApiResult<Json<WebhookSecret>> {
    Ok(Json(ports.webhooks.rotate(&managed.owner, &hook).await?))
}

async fn deliveries(
    State(ports): State<DocumentPorts>,
    managed: Managed,
    Hook(hook): Hook,
) -> ApiResult<Json<WebhookDeliveries>> {
    let deliveries = ports.webhooks.deliveries(&managed.owner, &hook).await?;
    Ok(Json(WebhookDeliveries { deliveries }))
}

async fn test(
    State(ports): State<DocumentPorts>,
    Managed { owner, user }: Managed,
    Hook(hook): Hook,
) -> ApiResult<Json<WebhookTest>> {
    Ok(Json(ports.webhooks.test(&owner, &hook, &user).await?))
}
