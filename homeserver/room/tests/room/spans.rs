//! The spans of a room's worker: one for each command, also for those of the room's own tasks.

use std::sync::{Arc, Mutex};

use tracing::{
    Instrument as _, Subscriber,
    field::{Field, Visit},
    span::{Attributes, Id},
};
use tracing_subscriber::{Layer, Registry, layer::Context, layer::SubscriberExt as _, registry::LookupSpan};
use weft_testkit::Editor;

use crate::harness::{Server, alice};

/// The command of a `room_command`, and the name of the parent.
type Command = (String, Option<&'static str>);

/// All of them.
#[derive(Clone, Default)]
struct Commands(Arc<Mutex<Vec<Command>>>);

/// The value of the field `command`.
struct CommandName(Option<String>);

impl Visit for CommandName {
    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "command" {
            self.0 = Some(value.to_owned());
        }
    }

    fn record_debug(&mut self, _: &Field, _: &dyn std::fmt::Debug) {}
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Commands {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let span = context.span(id).unwrap();
        if span.name() == "room_command" {
            let mut name = CommandName(None);
            attributes.record(&mut name);
            let parent = span.parent().map(|parent| parent.name());
            self.0.lock().unwrap().push((name.0.unwrap(), parent));
        }
    }
}

/// A large edit is admitted in the task of its caller, which sends two commands of its own to the worker: they belong to the
/// trace of the caller.
#[tokio::test]
async fn commands_of_the_rooms_own_tasks_have_spans_below_that_of_their_sender() {
    let commands = Commands::default();
    let _recording = tracing::subscriber::set_default(Registry::default().with(commands.clone()));
    let server = Server::new().await;
    let room = server.document().await;
    let seen = || std::mem::take(&mut *commands.0.lock().unwrap());
    assert_eq!(seen().first(), Some(&("create".to_owned(), None)));
    let (alice, large) = (alice(), Editor::new(1).append(&"a".repeat(300_000)));
    let edit = server.edit(&room, &alice, large);
    edit.instrument(tracing::info_span!("caller")).await.unwrap();
    let of_caller: Vec<_> = seen().into_iter().filter(|(_, parent)| parent.is_some()).collect();
    let below_caller = |name: &str| (name.to_owned(), Some("caller"));
    assert_eq!(of_caller, [below_caller("copy_past"), below_caller("admitted_edit")]);
    server.rooms.seal(&room).await.unwrap();
    assert!(seen().contains(&("seal".to_owned(), None)));
}
