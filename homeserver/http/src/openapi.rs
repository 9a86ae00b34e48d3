//! Routes with their descriptions: one call adds a handler to the router and its operation to the OpenAPI document
//! ([`document`]), so neither exists without the other. Bodies, parameters and answers are read from the handler's signature
//! ([`handler`]).
//!
//! Must not know an endpoint: the APIs describe their own.

mod document;
mod handler;
mod operation;
mod schemas;

use axum::{
    Router,
    handler::Handler,
    http::Method,
    routing::{MethodFilter, on},
};

pub use document::{Described, document};
pub use handler::{Gives, Handles, Takes};
pub use operation::Operation;

/// Routes of one part of an API, with their descriptions.
#[derive(Debug)]
pub struct Routes<S> {
    router: Router<S>,
    tag: &'static str,
    described: Vec<Described>,
}

impl<S: Clone + Send + Sync + 'static> Routes<S> {
    /// No routes. `tag` is the name of the part, under which a reader finds its operations.
    #[must_use]
    pub fn new(tag: &'static str) -> Self {
        Self {
            router: Router::new(),
            tag,
            described: Vec::new(),
        }
    }

    /// Adds a `GET` route.
    #[must_use]
    pub fn get<H, T, A>(self, path: &str, handler: H, operation: Operation) -> Self
    where
        H: Handler<T, S> + Handles<A>,
        T: 'static,
    {
        self.add(Method::GET, path, handler, operation)
    }

    /// Adds a `POST` route.
    #[must_use]
    pub fn post<H, T, A>(self, path: &str, handler: H, operation: Operation) -> Self
    where
        H: Handler<T, S> + Handles<A>,
        T: 'static,
    {
        self.add(Method::POST, path, handler, operation)
    }

    /// Adds a `PUT` route.
    #[must_use]
    pub fn put<H, T, A>(self, path: &str, handler: H, operation: Operation) -> Self
    where
        H: Handler<T, S> + Handles<A>,
        T: 'static,
    {
        self.add(Method::PUT, path, handler, operation)
    }

    /// Adds a `PATCH` route.
    #[must_use]
    pub fn patch<H, T, A>(self, path: &str, handler: H, operation: Operation) -> Self
    where
        H: Handler<T, S> + Handles<A>,
        T: 'static,
    {
        self.add(Method::PATCH, path, handler, operation)
    }

    /// Adds a `DELETE` route.
    #[must_use]
    pub fn delete<H, T, A>(self, path: &str, handler: H, operation: Operation) -> Self
    where
        H: Handler<T, S> + Handles<A>,
        T: 'static,
    {
        self.add(Method::DELETE, path, handler, operation)
    }

    fn add<H, T, A>(mut self, method: Method, path: &str, handler: H, mut operation: Operation) -> Self
    where
        H: Handler<T, S> + Handles<A>,
        T: 'static,
    {
        H::describe(&mut operation);
        // No other methods are added here, and each of these five has a filter.
        if let Ok(filter) = MethodFilter::try_from(method.clone()) {
            self.router = self.router.route(path, on(filter, handler));
            self.described.push(Described {
                method,
                path: path.to_owned(),
                tag: self.tag,
                operation,
            });
        }
        self
    }

    /// Adds the routes of another part.
    #[must_use]
    pub fn merge(mut self, other: Self) -> Self {
        self.router = self.router.merge(other.router);
        self.described.extend(other.described);
        self
    }

    /// The router.
    pub fn into_router(self) -> Router<S> {
        self.router
    }

    /// The descriptions.
    #[must_use]
    pub fn into_descriptions(self) -> Vec<Described> {
        self.described
    }
}
