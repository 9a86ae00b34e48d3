//! The OpenAPI 3.1 document of described routes. Must not read anything but the descriptions: the same program always gives
//! the same document.

use std::collections::BTreeMap;

use axum::http::{Method, StatusCode};
use serde_json::{Map, Value, json};
use weft_wire::{limits::MAX_CLIENT_REQUEST_BYTES, rest::ErrorBody};

use super::{
    Operation,
    operation::{Answer, Body, RequestHeader},
    schemas::{Renamed, Schemas},
};

/// A route and its description.
#[derive(Debug, Clone)]
pub struct Described {
    pub(super) method: Method,
    pub(super) path: String,
    pub(super) tag: &'static str,
    pub(super) operation: Operation,
}

impl Described {
    /// The method.
    #[must_use]
    pub const fn method(&self) -> &Method {
        &self.method
    }

    /// The path, with `{name}` for each parameter.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }
}

/// The document of these routes.
#[must_use]
pub fn document(title: &str, version: &str, about: &str, routes: &[Described]) -> Value {
    let mut schemas = Schemas::new();
    let error = schemas.answer(|generator| generator.subschema_for::<ErrorBody>());
    let made: Vec<(&Described, Value, Parts)> = routes
        .iter()
        .map(|route| {
            let parts = Parts::of(&route.path, &route.operation, &mut schemas);
            (route, answers(&route.operation, &parts, &error, &mut schemas), parts)
        })
        .collect();
    let (schemas, renamed) = schemas.finish();
    let mut paths = BTreeMap::<&str, Map<String, Value>>::new();
    for (route, answers, parts) in made {
        let method = route.method.as_str().to_ascii_lowercase();
        let operation = operation(route, parts, answers, &renamed);
        paths.entry(&route.path).or_default().insert(method, operation);
    }
    json!({
        "openapi": "3.1.0",
        "info": { "title": title, "version": version, "description": about, "license": { "name": "Apache-2.0", "identifier": "Apache-2.0" } },
        "servers": [{ "url": "/" }],
        "paths": paths,
        "components": {
            "schemas": schemas,
            "headers": headers(),
            "responses": usual(&error),
            "securitySchemes": {
                "accessToken": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "An access token of the Matrix client-server API (`POST /_matrix/client/v3/login`).",
                },
            },
        },
    })
}

fn usual(error: &Value) -> BTreeMap<&'static str, Value> {
    let usual = USUAL.iter();
    usual
        .map(|usual| (usual.name, refusal(usual.status, usual.cause, true, error)))
        .collect()
}

fn headers() -> Value {
    json!({
        "RateLimit": {
            "description": "`\"requests\";r=…;t=…`: `r` requests are left, and in `t` seconds all of them are again, or one, \
                            if none is left. Missing if the operator switched the limit off.",
            "schema": { "type": "string" },
        },
        "RateLimit-Policy": {
            "description": "`\"requests\";q=…;w=60`: the requests of a minute.",
            "schema": { "type": "string" },
        },
        "Retry-After": {
            "description": "The seconds to wait.",
            "required": true,
            "schema": { "type": "integer", "minimum": 1 },
        },
    })
}

fn operation(route: &Described, parts: Parts, answers: Value, renamed: &Renamed) -> Value {
    let described = &route.operation;
    let mut operation = json!({
        "operationId": described.id,
        "summary": described.summary,
        "tags": [route.tag],
        "responses": answers,
    });
    let Value::Object(fields) = &mut operation else {
        return operation;
    };
    if let Some(note) = described.note {
        fields.insert("description".to_owned(), json!(note));
    }
    if described.authenticated {
        fields.insert("security".to_owned(), json!([{ "accessToken": [] }]));
    }
    if !parts.parameters.is_empty() {
        let parameters = parts.parameters.iter().map(|parameter| renamed.apply(parameter));
        fields.insert("parameters".to_owned(), parameters.collect());
    }
    if let Some(body) = &parts.body {
        fields.insert("requestBody".to_owned(), renamed.apply(body));
    }
    operation
}

/// The parts of the request.
struct Parts {
    parameters: Vec<Value>,
    body: Option<Value>,
}

impl Parts {
    fn of(path: &str, operation: &Operation, schemas: &mut Schemas) -> Self {
        let mut parameters = Vec::new();
        for name in names(path) {
            let known = operation.in_path.iter().find(|(known, ..)| *known == name);
            let (description, schema) = known.map_or_else(
                || (None, json!({ "type": "string", "minLength": 1 })),
                |(_, description, schema)| (Some(*description), schemas.request(*schema)),
            );
            parameters.push(parameter("path", name, true, description, schema));
        }
        for (name, required, mut schema) in operation.query.map(|query| schemas.query(query)).unwrap_or_default() {
            let description = schema.as_object_mut().and_then(|schema| schema.remove("description"));
            let description = description.as_ref().and_then(Value::as_str);
            parameters.push(parameter("query", &name, required, description, schema));
        }
        for RequestHeader {
            name,
            description,
            pattern,
        } in &operation.headers
        {
            let mut schema = json!({ "type": "string" });
            if let (Some(pattern), Some(schema)) = (pattern, schema.as_object_mut()) {
                schema.insert("pattern".to_owned(), json!(pattern));
            }
            parameters.push(parameter("header", name, false, Some(description), schema));
        }
        let body = operation.body.map(|body| match body {
            Body::Json { schema, required } => json!({
                "required": required,
                "description": format!("At most {MAX_CLIENT_REQUEST_BYTES} bytes."),
                "content": { "application/json": { "schema": schemas.request(schema) } },
            }),
            Body::Bytes(limit) => json!({
                "description": format!("At most {limit} bytes."),
                "content": { "application/octet-stream": {} },
            }),
        });
        Self { parameters, body }
    }
}

fn parameter(place: &str, name: &str, required: bool, description: Option<&str>, schema: Value) -> Value {
    let mut parameter = json!({ "in": place, "name": name, "required": required, "schema": schema });
    if let (Some(description), Some(fields)) = (description, parameter.as_object_mut()) {
        fields.insert("description".to_owned(), json!(description));
    }
    parameter
}

/// The names of the parameters of a path.
fn names(path: &str) -> impl Iterator<Item = &str> {
    let segments = path.split('/');
    segments.filter_map(|segment| segment.strip_prefix('{')?.strip_suffix('}'))
}

/// All answers by status: those of the operation, and the errors.
fn answers(operation: &Operation, parts: &Parts, error: &Value, schemas: &mut Schemas) -> Value {
    let mut all = BTreeMap::<String, Value>::new();
    for answer in &operation.answers {
        all.insert(answer.status.to_string(), success(operation, answer, schemas));
    }
    for (status, causes) in refusals(operation, parts) {
        let usual = USUAL
            .iter()
            .find(|usual| usual.status == status && causes == [usual.cause]);
        let answer = match usual {
            Some(usual) if operation.authenticated => {
                json!({ "$ref": format!("#/components/responses/{}", usual.name) })
            }
            _ => refusal(status, &causes.join(" "), operation.authenticated, error),
        };
        all.insert(status.as_str().to_owned(), answer);
    }
    json!(all)
}

fn refusal(status: StatusCode, causes: &str, authenticated: bool, error: &Value) -> Value {
    let mut headers = Map::new();
    if matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE) {
        headers.insert(
            "Retry-After".to_owned(),
            json!({ "$ref": "#/components/headers/Retry-After" }),
        );
    }
    if authenticated && status != StatusCode::UNAUTHORIZED {
        add_rate_limit(&mut headers);
    }
    let mut answer = json!({
        "description": causes,
        "content": { "application/json": { "schema": error } },
    });
    if let (false, Some(fields)) = (headers.is_empty(), answer.as_object_mut()) {
        fields.insert("headers".to_owned(), Value::Object(headers));
    }
    answer
}

fn add_rate_limit(headers: &mut Map<String, Value>) {
    for name in ["RateLimit", "RateLimit-Policy"] {
        headers.insert(
            name.to_owned(),
            json!({ "$ref": format!("#/components/headers/{name}") }),
        );
    }
}

fn success(operation: &Operation, answer: &Answer, schemas: &mut Schemas) -> Value {
    let mut content = Map::new();
    for (media_type, schema) in &answer.content {
        let schema = schema.map_or_else(|| json!({}), |schema| json!({ "schema": schemas.answer(schema) }));
        content.insert((*media_type).to_owned(), schema);
    }
    let mut headers = Map::new();
    for (name, description) in &answer.headers {
        let header = json!({ "description": description, "schema": { "type": "string" } });
        headers.insert((*name).to_owned(), header);
    }
    if operation.authenticated {
        add_rate_limit(&mut headers);
    }
    let mut made = json!({ "description": answer.description });
    if let Some(fields) = made.as_object_mut() {
        if !content.is_empty() {
            fields.insert("content".to_owned(), Value::Object(content));
        }
        if !headers.is_empty() {
            fields.insert("headers".to_owned(), Value::Object(headers));
        }
    }
    made
}

/// An error that many operations have.
struct Usual {
    status: StatusCode,
    name: &'static str,
    cause: &'static str,
}

const BAD_REQUEST: Usual = Usual {
    status: StatusCode::BAD_REQUEST,
    name: "BadRequest",
    cause: "A parameter or the body is missing or wrong.",
};
const UNAUTHORIZED: Usual = Usual {
    status: StatusCode::UNAUTHORIZED,
    name: "Unauthorized",
    cause: "The access token is missing or not valid.",
};
const TOO_SLOW: Usual = Usual {
    status: StatusCode::REQUEST_TIMEOUT,
    name: "TooSlow",
    cause: "The body arrived too slowly.",
};
const TOO_LARGE: Usual = Usual {
    status: StatusCode::PAYLOAD_TOO_LARGE,
    name: "TooLarge",
    cause: "The body, or something in it, is too large.",
};
const LIMITED: Usual = Usual {
    status: StatusCode::TOO_MANY_REQUESTS,
    name: "Limited",
    cause: "Too many requests, or too many at one time.",
};
const UNAVAILABLE: Usual = Usual {
    status: StatusCode::SERVICE_UNAVAILABLE,
    name: "Unavailable",
    cause: "The server is stopping, or can't serve the request now.",
};
const USUAL: [Usual; 6] = [BAD_REQUEST, UNAUTHORIZED, TOO_SLOW, TOO_LARGE, LIMITED, UNAVAILABLE];

/// The errors with their causes: those that are described, and those that follow from what the request has.
fn refusals(operation: &Operation, parts: &Parts) -> BTreeMap<StatusCode, Vec<&'static str>> {
    let has_body = parts.body.is_some();
    let usual = [
        (&BAD_REQUEST, has_body || !parts.parameters.is_empty()),
        (&UNAUTHORIZED, operation.authenticated),
        (&TOO_SLOW, has_body),
        (&TOO_LARGE, has_body),
        (&LIMITED, operation.authenticated),
        (&UNAVAILABLE, true),
    ];
    let usual = usual.into_iter().filter(|(_, applies)| *applies);
    let usual = usual.map(|(usual, _)| (usual.status, usual.cause));
    let own = operation.refusals.iter();
    let own = own.filter_map(|(status, cause)| Some((StatusCode::from_u16(*status).ok()?, *cause)));
    let mut all = BTreeMap::<StatusCode, Vec<&str>>::new();
    for (status, cause) in usual.chain(own) {
        let causes = all.entry(status).or_default();
        if !causes.contains(&cause) {
            causes.push(cause);
        }
    }
    all
}
