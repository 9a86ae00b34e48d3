//! What the description of one operation says. Must not contain anything that the signature of its handler says already.

use schemars::{JsonSchema, Schema, SchemaGenerator};

/// The schema of a type, made when the document is.
pub(super) type SchemaOf = fn(&mut SchemaGenerator) -> Schema;

/// One operation: a method of a path.
#[derive(Debug, Clone)]
pub struct Operation {
    pub(super) id: &'static str,
    pub(super) summary: &'static str,
    pub(super) note: Option<&'static str>,
    pub(super) authenticated: bool,
    pub(super) in_path: Vec<(&'static str, &'static str, SchemaOf)>,
    pub(super) query: Option<SchemaOf>,
    pub(super) headers: Vec<RequestHeader>,
    pub(super) body: Option<Body>,
    pub(super) answers: Vec<Answer>,
    pub(super) refusals: Vec<(u16, &'static str)>,
}

/// A header of the request.
#[derive(Debug, Clone)]
pub(super) struct RequestHeader {
    pub(super) name: &'static str,
    pub(super) description: &'static str,
    pub(super) pattern: Option<String>,
}

/// The body of the request.
#[derive(Debug, Clone, Copy)]
pub(super) enum Body {
    /// JSON.
    Json { schema: SchemaOf, required: bool },
    /// Any bytes, at most so many; none are as good as an empty body.
    Bytes(usize),
}

/// An answer that is not an error.
#[derive(Debug, Clone)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) description: &'static str,
    /// Media types; those of JSON with a schema.
    pub(super) content: Vec<(&'static str, Option<SchemaOf>)>,
    pub(super) headers: Vec<(&'static str, &'static str)>,
}

impl Operation {
    /// An operation. `id` is its name in camelCase, which is the name of the method in generated clients and must not change;
    /// `summary` is one line.
    #[must_use]
    pub const fn new(id: &'static str, summary: &'static str) -> Self {
        Self {
            id,
            summary,
            note: None,
            authenticated: false,
            in_path: Vec::new(),
            query: None,
            headers: Vec::new(),
            body: None,
            answers: Vec::new(),
            refusals: Vec::new(),
        }
    }

    /// What else a user of the operation must know.
    #[must_use]
    pub const fn note(mut self, note: &'static str) -> Self {
        self.note = Some(note);
        self
    }

    /// Describes a parameter of the path, which is a string otherwise.
    #[must_use]
    pub fn path<T: JsonSchema>(mut self, name: &'static str, description: &'static str) -> Self {
        self.set_path::<T>(name, description);
        self
    }

    /// A header that the request may have; its value matches the regular expression.
    #[must_use]
    pub fn takes(mut self, name: &'static str, pattern: Option<String>, description: &'static str) -> Self {
        self.headers.push(RequestHeader {
            name,
            description,
            pattern,
        });
        self
    }

    /// An answer of a handler that makes its answers itself. The methods `media`, `json` and `sends` are about the last one.
    #[must_use]
    pub fn answers(mut self, status: u16, description: &'static str) -> Self {
        self.answers.push(Answer {
            status,
            description,
            content: Vec::new(),
            headers: Vec::new(),
        });
        self
    }

    /// The answer may have this media type.
    #[must_use]
    pub fn media(mut self, media_type: &'static str) -> Self {
        if let Some(answer) = self.answers.last_mut() {
            answer.content.push((media_type, None));
        }
        self
    }

    /// The answer may be this type as JSON.
    #[must_use]
    pub fn json<T: JsonSchema>(mut self) -> Self {
        if let Some(answer) = self.answers.last_mut() {
            let schema: SchemaOf = |generator| generator.subschema_for::<T>();
            answer.content.push(("application/json", Some(schema)));
        }
        self
    }

    /// The answer may have this header.
    #[must_use]
    pub fn sends(mut self, name: &'static str, description: &'static str) -> Self {
        if let Some(answer) = self.answers.last_mut() {
            answer.headers.push((name, description));
        }
        self
    }

    /// An error: its status, and when it is the answer. What follows from the handler's signature (no token, a document that
    /// the caller has not joined, a body that is too large) needs no call.
    #[must_use]
    pub fn refuses(mut self, status: u16, when: &'static str) -> Self {
        self.refusals.push((status, when));
        self
    }

    /// The caller has a token, and the request counts against the rate limit.
    pub fn set_authenticated(&mut self) {
        self.authenticated = true;
    }

    /// As [`Operation::path`], for extractors.
    pub fn set_path<T: JsonSchema>(&mut self, name: &'static str, description: &'static str) {
        if self.in_path.iter().all(|(known, ..)| *known != name) {
            let schema: SchemaOf = |generator| generator.subschema_for::<T>();
            self.in_path.push((name, description, schema));
        }
    }

    /// The query, an object with a property for each parameter.
    pub fn set_query<T: JsonSchema>(&mut self) {
        self.query = Some(T::json_schema);
    }

    /// The JSON body.
    pub fn set_json<T: JsonSchema>(&mut self) {
        self.set_json_body::<T>(true);
    }

    /// The JSON body, which may be empty.
    pub fn set_optional_json<T: JsonSchema>(&mut self) {
        self.set_json_body::<T>(false);
    }

    fn set_json_body<T: JsonSchema>(&mut self, required: bool) {
        let schema: SchemaOf = |generator| generator.subschema_for::<T>();
        self.set_body(Body::Json { schema, required });
    }

    /// A body of any bytes.
    pub fn set_bytes(&mut self, limit: usize) {
        self.set_body(Body::Bytes(limit));
    }

    fn set_body(&mut self, body: Body) {
        self.body.get_or_insert(body);
    }

    /// An error, for extractors.
    pub fn add_refusal(&mut self, status: u16, when: &'static str) {
        self.refusals.push((status, when));
    }

    /// The answer that follows from the type of the handler's answer, if no other one was described.
    pub(super) fn set_answer(&mut self, status: u16, description: &'static str, schema: Option<SchemaOf>) {
        if self.answers.is_empty() {
            let content = schema.map(|schema| ("application/json", Some(schema)));
            self.answers.push(Answer {
                status,
                description,
                content: content.into_iter().collect(),
                headers: Vec::new(),
            });
        }
    }
}
