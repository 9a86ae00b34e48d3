//! Opens a span for each call of a room, and sends its ids with the command: the room's span continues the trace in whatever
//! process serves the room. Must not record the content of a command.

use std::{pin::Pin, sync::Arc};

use ruma::RoomId;
use tracing::Instrument as _;
use weft_room_api::{RoomError, RoomHint, RoomReply, RoomRouter, RoutedCommand};

use crate::traces::current_context;

/// See the module.
pub struct TracedRouter(Arc<dyn RoomRouter>);

impl TracedRouter {
    /// Opens spans for the calls of a router.
    #[must_use]
    pub fn new(router: Arc<dyn RoomRouter>) -> Self {
        Self(router)
    }
}

type Answer<'a> = Pin<Box<dyn Future<Output = Result<RoomReply, RoomError>> + Send + 'a>>;

impl RoomRouter for TracedRouter {
    /// Without the macro of the trait: a call costs no allocation more unless its span is recorded.
    fn call<'router, 'room, 'call>(&'router self, room: &'room RoomId, mut command: RoutedCommand) -> Answer<'call>
    where
        'router: 'call,
        'room: 'call,
        Self: 'call,
    {
        let span = tracing::debug_span!("room_call", %room, command = command.command.name());
        if span.is_disabled() {
            return self.0.call(room, command);
        }
        command.traceparent = span.in_scope(current_context);
        Box::pin(self.0.call(room, command).instrument(span))
    }

    fn hint(&self, room: &RoomId, hint: RoomHint) {
        self.0.hint(room, hint);
    }
}
