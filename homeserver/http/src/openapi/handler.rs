//! What the signature of a handler says about its operation. Extractors of an API implement [`Takes`] beside their
//! `FromRequest`.

use axum::{
    Json,
    extract::{Extension, Query, State, rejection::QueryRejection},
    http::{HeaderMap, StatusCode},
    response::Response,
};
use schemars::JsonSchema;

use super::Operation;
use crate::{authentication::Authenticated, client_address::ClientAddress, errors::ApiResult};

/// Something that a handler takes from the request.
pub trait Takes {
    /// Adds to the description what it takes, and the errors if it is not there.
    fn describe(_: &mut Operation) {}
}

impl<S> Takes for State<S> {}
impl<T> Takes for Extension<T> {}
impl Takes for HeaderMap {}
impl Takes for ClientAddress {}

impl Takes for Authenticated {
    fn describe(operation: &mut Operation) {
        operation.set_authenticated();
    }
}

/// Without the `Result`, axum would answer a wrong query with a text that is no error of the API. So `Query`, `Path` and `Bytes`
/// alone are not described, and a handler that takes them can't be added.
impl<T: JsonSchema> Takes for Result<Query<T>, QueryRejection> {
    fn describe(operation: &mut Operation) {
        operation.set_query::<T>();
    }
}

impl<T: Takes> Takes for Option<T> {
    fn describe(operation: &mut Operation) {
        T::describe(operation);
    }
}

/// What a handler answers with.
pub trait Gives {
    /// Adds the answer to the description.
    fn describe(operation: &mut Operation);
}

impl<T: JsonSchema> Gives for Json<T> {
    fn describe(operation: &mut Operation) {
        operation.set_answer(200, "Success.", Some(|generator| generator.subschema_for::<T>()));
    }
}

/// All handlers that answer with a status and a body make something.
impl<T: JsonSchema> Gives for (StatusCode, Json<T>) {
    fn describe(operation: &mut Operation) {
        operation.set_answer(201, "It was created.", Some(|generator| generator.subschema_for::<T>()));
    }
}

impl Gives for StatusCode {
    fn describe(operation: &mut Operation) {
        operation.set_answer(204, "Success, without a body.", None);
    }
}

/// Such a handler describes its answers with [`Operation::answers`].
impl Gives for Response {
    fn describe(_: &mut Operation) {}
}

impl<T: Gives> Gives for ApiResult<T> {
    fn describe(operation: &mut Operation) {
        T::describe(operation);
    }
}

/// A handler whose arguments `A` and answer are described.
pub trait Handles<A> {
    /// Adds to the description what the signature says.
    fn describe(operation: &mut Operation);
}

macro_rules! handles {
    ($($argument:ident),*) => {
        impl<F, Fut, $($argument),*> Handles<($($argument,)*)> for F
        where
            F: Fn($($argument),*) -> Fut,
            Fut: Future<Output: Gives>,
            $($argument: Takes),*
        {
            fn describe(operation: &mut Operation) {
                $($argument::describe(operation);)*
                Fut::Output::describe(operation);
            }
        }
    };
}

handles!(A);
handles!(A, B);
handles!(A, B, C);
handles!(A, B, C, D);
handles!(A, B, C, D, E);
handles!(A, B, C, D, E, G);
handles!(A, B, C, D, E, G, H);
