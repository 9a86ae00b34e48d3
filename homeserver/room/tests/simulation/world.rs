//! A run: the servers, their users, and the execution of a plan.

use std::{cell::RefCell, collections::BTreeSet, sync::Arc, time::Duration};

use ruma::{OwnedEventId, OwnedRoomId, RoomId, events::room::member::MembershipState};
use serde_json::{Value, json};
use tokio::{runtime, time};
use weft_dag::RoomVersion;
use weft_room_api::{
    ConnectionId, CreateRoom, Edit, EditOutcome, Incarnation, InitialState, NewEvent, Template, TemplateKind,
};
use weft_store::tables::documents::DISPUTED_ROOMS;
use weft_testkit::{check, joined_room, new_event, sign_template};
use weft_wire::document::DocumentKind;

use super::{
    editor::Editor,
    finality::Finals,
    malicious::MaliciousServer,
    network::{Network, name},
    oracle::{
        Log, Word, check_indexes, check_texts_at_events, check_versions, check_words, differs, refused, text_of_events,
        user, view,
    },
    plan::{Action, Plan},
    server::Server,
};

/// The result of a run.
pub struct Outcome {
    pub trace: Vec<String>,
    pub result: Result<(), String>,
}

thread_local! {
    /// The first panic of this run: workers survive their panics, a run must not.
    static PANIC: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Runs a plan in a thread with its own virtual time.
pub fn run(plan: &Plan) -> Outcome {
    std::panic::set_hook(Box::new(|info| {
        PANIC.with_borrow_mut(|first| {
            first.get_or_insert_with(|| info.to_string());
        });
    }));
    PANIC.take();
    let runtime = runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    let mut trace = Vec::new();
    let played = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        runtime.block_on(async {
            let mut world = World::new(plan).await;
            let result = Box::pin(world.scenario(plan)).await;
            trace = world.network.take_trace();
            result
        })
    }));
    let _ = std::panic::take_hook();
    let result = match (played, PANIC.take()) {
        (_, Some(panic)) => Err(format!("a panic: {panic}")),
        (Ok(result), None) => result,
        (Err(_), None) => Err("a panic without a message".to_owned()),
    };
    Outcome { trace, result }
}

/// See the module.
pub struct World {
    pub network: Arc<Network>,
    pub servers: Vec<Server>,
    pub room: OwnedRoomId,
    pub version: RoomVersion,
    malicious: Option<MaliciousServer>,
    editors: Vec<Option<Editor>>,
    clients: Vec<(usize, u64)>,
    /// Words that are final, if no rights change.
    finals: Option<Finals>,
    log: Log,
    counter: u64,
}

/// Breaks the reference cycle between network and servers; otherwise a world would stay in memory for ever.
impl Drop for World {
    fn drop(&mut self) {
        (0..self.servers.len()).for_each(|number| self.network.down(number));
    }
}

/// The longest virtual time until everything is delivered: longer than the longest pause of an outbox.
const TIMEOUT: Duration = Duration::from_secs(5 * 60 * 60);

/// The time until each server has had its turn to reconcile (room/src/reconcile.rs).
const ALL_TURNS: Duration = Duration::from_secs(2 * 60);

impl World {
    async fn new(plan: &Plan) -> Self {
        let malicious = plan.malicious.then_some(plan.servers - 1);
        let network = Network::new(plan.seed, malicious);
        let mut servers = Vec::new();
        for number in 0..plan.servers {
            // One more may join late.
            servers.push(Server::new(number, plan.servers + 1, plan.lanes, &network).await);
        }
        let version = RoomVersion::new(&plan.version).unwrap();
        let request = CreateRoom {
            version: Some(plan.version.clone()),
            // A random id would give all events other ids in each run of a seed, and decisions by id another result.
            room_id: (!version.room_id_is_create_hash())
                .then(|| RoomId::parse(format!("!{}:{}", plan.seed, name(0))).unwrap()),
            document: Some(DocumentKind::Text),
            initial_state: vec![InitialState {
                kind: "m.room.join_rules".into(),
                state_key: String::new(),
                content: json!({ "join_rule": "public" }),
            }],
            ..CreateRoom::default()
        };
        let room = servers[0].rooms.create(&user(0), request).await.unwrap();
        let mut world = Self {
            network,
            servers,
            room,
            version,
            malicious: malicious
                .map(|malicious| MaliciousServer::new(malicious, plan.accomplice.then(|| malicious - 1))),
            clients: Vec::new(),
            finals: plan.is_steady().then(Finals::default),
            editors: (0..plan.servers).map(|_| None).collect(),
            log: Log::default(),
            counter: 1_000,
        };
        for who in 1..plan.servers {
            while world.join(who, 0).await.is_err() {}
            world.role(0, who, 25).await.unwrap();
        }
        time::sleep(Duration::from_secs(20)).await;
        if let Some(mut malicious) = world.malicious.take() {
            malicious.look(&world).await.unwrap();
            world.malicious = Some(malicious);
        }
        world
    }

    async fn scenario(&mut self, plan: &Plan) -> Result<(), String> {
        for action in &plan.actions {
            let what = self.act(action).await;
            let what = what.err().unwrap_or_else(|| "done".into());
            self.network.note(format_args!("{action:?}: {what}"));
            if matches!(action, Action::Agree | Action::Pass { milliseconds: 20_000.. }) {
                self.look_at_finals().await?;
            }
        }
        self.settle(plan.silent).await?;
        self.check().await?;
        self.look_at_finals().await
    }

    /// Checks that words that were final are still there, and adds those that are final now. Only with a malicious
    /// server: otherwise the end of the run checks all acknowledged words.
    async fn look_at_finals(&mut self) -> Result<(), String> {
        let Some(mut finals) = self.finals.take().filter(|_| self.malicious.is_some()) else {
            return Ok(());
        };
        let servers = self.taking_part().await;
        let result = finals
            .look(&servers, &self.room, &self.version, &self.log.deleted)
            .await;
        self.network.note(format_args!("final: {} words", finals.count()));
        self.finals = Some(finals);
        result
    }

    /// The users that have typed, with their client ids.
    pub fn clients(&self) -> &[(usize, u64)] {
        &self.clients
    }

    async fn act(&mut self, action: &Action) -> Result<(), String> {
        match *action {
            Action::Type { who, at } => self.type_word(who, at).await,
            Action::Delete { who, at, count } => self.delete(who, at, count).await,
            Action::Sync { who } => self.sync(who).await,
            Action::Say { who } => self.send_message(who).await.map(drop),
            Action::Title { who } => self.title(who).await,
            Action::Rename { who } => self.rename(who).await,
            Action::Role { who, whom, level } => self.role(who, whom, level).await,
            Action::Kick { who, whom } => self.member(who, whom, "leave").await,
            Action::Ban { who, whom } => self.member(who, whom, "ban").await,
            Action::Unban { who, whom } => self.unban(who, whom).await,
            Action::Leave { who } => self.leave(who).await,
            Action::Join { who, via } => self.join(who, via).await,
            Action::Lock { who } => self.lock(who).await,
            Action::Unlock { who } => self.unlock(who).await,
            Action::Redact { who } => self.redact(who).await,
            Action::Restart { who } => {
                self.editors[who] = None;
                self.servers[who].restart().await;
                Ok(())
            }
            Action::PowerLoss { who, kept } => {
                self.editors[who] = None;
                self.servers[who].power_loss(kept).await;
                Ok(())
            }
            Action::TakeOver { who, at } => self.take_over(who, at).await,
            Action::TypeLate { who } => self.type_late(who).await,
            Action::Doubt { who, written } => {
                self.servers[who].doubt(written);
                Ok(())
            }
            Action::Pass { milliseconds } => {
                time::sleep(Duration::from_millis(milliseconds)).await;
                Ok(())
            }
            Action::Lie { kind } => match self.malicious.take() {
                None => Err("no server is malicious".into()),
                Some(mut malicious) => {
                    let told = malicious.lie(self, kind).await;
                    self.malicious = Some(malicious);
                    told
                }
            },
            Action::Cut { from, to } => self.wire(|network| network.cut(from, to)),
            Action::Heal { from, to } => self.wire(|network| network.heal(from, to)),
            Action::HealAll => self.wire(Network::heal_all),
            Action::Agree => {
                self.network.heal_all();
                time::sleep(Duration::from_secs(60)).await;
                for who in 0..self.servers.len() {
                    let _ = self.send_message(who).await;
                }
                time::sleep(Duration::from_secs(20)).await;
                Ok(())
            }
            Action::Isolate { who } => {
                for other in 0..self.servers.len() {
                    self.network.cut(who, other);
                    self.network.cut(other, who);
                }
                Ok(())
            }
        }
    }

    fn wire(&self, change: impl FnOnce(&Network)) -> Result<(), String> {
        change(&self.network);
        Ok(())
    }

    /// An unused number.
    pub fn next(&mut self) -> u64 {
        self.counter += 1;
        self.counter
    }

    async fn is_in(&self, who: usize) -> bool {
        let reader = self.servers[who].rooms.reader();
        matches!(
            reader.membership(&self.room, &user(who)).await,
            Ok(MembershipState::Join)
        )
    }

    // --- Text ----------------------------------------------------------------------------------------------------

    async fn editor(&mut self, who: usize) -> Result<&Editor, String> {
        if !self.is_in(who).await {
            self.editors[who] = None;
            return Err("is not in the room".into());
        }
        if self.editors[who].is_none() {
            let content = self.servers[who]
                .rooms
                .content(&self.room, None)
                .await
                .map_err(|error| error.to_string())?;
            let client = self.next();
            self.editors[who] = Some(Editor::open(client, &content));
        }
        Ok(self.editors[who].as_ref().unwrap())
    }

    async fn sync(&mut self, who: usize) -> Result<(), String> {
        let content = self.servers[who]
            .rooms
            .content(&self.room, None)
            .await
            .map_err(|error| error.to_string())?;
        self.editor(who).await?.receive(&content);
        Ok(())
    }

    async fn type_word(&mut self, who: usize, at: u32) -> Result<(), String> {
        let text = format!("<{}>", self.next());
        let editor = self.editor(who).await?;
        let (client, update) = (editor.client(), editor.insert(at, &text));
        self.edit(who, update).await?;
        if !self.clients.contains(&(who, client)) {
            self.clients.push((who, client));
        }
        self.log.acknowledged.push(Word { text, author: who });
        Ok(())
    }

    /// A word is typed at the owner of the lanes while another process takes them: it is acknowledged before that, and
    /// there, or refused.
    async fn take_over(&mut self, who: usize, at: u32) -> Result<(), String> {
        let text = format!("<{}>", self.next());
        let typed = match self.editor(who).await {
            Ok(editor) => {
                let (client, update) = (editor.client(), editor.insert(at, &text));
                let rooms = self.servers[who].rooms.clone();
                let edit = self.edit_of(who, update);
                let room = self.room.clone();
                Some((client, tokio::spawn(async move { rooms.edit(&room, edit).await })))
            }
            Err(_) => None,
        };
        for _ in 0..at % 8 {
            tokio::task::yield_now().await;
        }
        self.servers[who].take_over().await;
        let Some((client, typed)) = typed else { return Ok(()) };
        match typed.await.unwrap() {
            Ok(EditOutcome::Journaled) => {
                if !self.clients.contains(&(who, client)) {
                    self.clients.push((who, client));
                }
                self.log.acknowledged.push(Word { text, author: who });
                Ok(())
            }
            other => {
                self.editors[who] = None;
                Err(format!("the word is not acknowledged: {other:?}"))
            }
        }
    }

    async fn type_late(&mut self, who: usize) -> Result<(), String> {
        let Some(before) = self.servers[who].before() else {
            return Err("no other process had the lanes".into());
        };
        let text = format!("<{}>", self.next());
        let update = self.editor(who).await?.insert(0, &text);
        // The word is not sent again: the editor is closed.
        self.editors[who] = None;
        let outcome = before.edit(&self.room, self.edit_of(who, update)).await;
        if matches!(outcome, Ok(EditOutcome::Journaled)) {
            self.log
                .wrong
                .push(format!("s{who} acknowledged {text} after it had lost its lanes"));
        }
        outcome.map(drop).map_err(|error| error.to_string())
    }

    fn edit_of(&self, who: usize, update: Vec<u8>) -> Edit {
        Edit {
            user: user(who),
            session: ConnectionId::new(Incarnation(1), who as u64),
            update: update.into(),
        }
    }

    async fn delete(&mut self, who: usize, at: u32, count: u32) -> Result<(), String> {
        let Some((update, gone)) = self.editor(who).await?.delete(at, count) else {
            return Err("there is nothing to delete".into());
        };
        // Whether it is acknowledged or not, it may be on disk.
        let words = gone
            .split('>')
            .filter_map(|part| part.rfind('<').map(|at| format!("{}>", &part[at..])));
        self.log.deleted.extend(words);
        self.edit(who, update).await
    }

    /// An edit that was refused, or whose result is unknown, closes its editor, like a closed tab.
    async fn edit(&mut self, who: usize, update: Vec<u8>) -> Result<(), String> {
        let edit = self.edit_of(who, update);
        let outcome = self.servers[who].rooms.edit(&self.room, edit).await;
        match outcome {
            Ok(EditOutcome::Journaled | EditOutcome::NearlyFull(_) | EditOutcome::NothingNew) => Ok(()),
            Ok(EditOutcome::Missing { .. } | EditOutcome::Partly(_)) => {
                self.editors[who] = None;
                Err("builds on unknown updates".into())
            }
            Err(error) => {
                self.editors[who] = None;
                Err(error.to_string())
            }
        }
    }

    // --- Events --------------------------------------------------------------------------------------------------

    async fn send(
        &self,
        who: usize,
        kind: &str,
        key: Option<&str>,
        content: Value,
        redacts: Option<OwnedEventId>,
    ) -> Result<OwnedEventId, String> {
        let event = NewEvent {
            redacts,
            ..new_event(&user(who), kind, key, content)
        };
        let sent = self.servers[who].rooms.send(&self.room, event).await;
        sent.map_err(|error| error.to_string())
    }

    async fn send_message(&mut self, who: usize) -> Result<OwnedEventId, String> {
        let body = format!("message {}", self.next());
        self.send(
            who,
            "m.room.message",
            None,
            json!({ "msgtype": "m.text", "body": body }),
            None,
        )
        .await
    }

    async fn title(&mut self, who: usize) -> Result<(), String> {
        let title = format!("title {}", self.next());
        self.send(who, "m.room.name", Some(""), json!({ "name": title }), None)
            .await
            .map(drop)
    }

    async fn rename(&mut self, who: usize) -> Result<(), String> {
        if !self.is_in(who).await {
            return Err("is not in the room".into());
        }
        let (key, name) = (user(who), format!("name {}", self.next()));
        let content = json!({ "membership": "join", "displayname": name });
        self.send(who, "m.room.member", Some(key.as_str()), content, None)
            .await
            .map(drop)
    }

    async fn role(&mut self, who: usize, whom: usize, level: i64) -> Result<(), String> {
        if whom == 0 {
            return Err("the owner can't be changed".into());
        }
        let reader = self.servers[who].rooms.reader();
        let levels = reader.state_event(&self.room, "m.room.power_levels", "").await;
        let levels = levels.map_err(|error| error.to_string())?.ok_or("no power levels")?;
        let mut levels: Value = levels.content_as().unwrap();
        levels["users"][user(whom).as_str()] = json!(level);
        self.send(who, "m.room.power_levels", Some(""), levels, None).await?;
        if level < 25 {
            self.log.suspects.insert(whom);
        }
        Ok(())
    }

    async fn member(&mut self, who: usize, whom: usize, membership: &str) -> Result<(), String> {
        if whom == 0 {
            return Err("the owner can't be changed".into());
        }
        let key = user(whom);
        let content = json!({ "membership": membership });
        self.send(who, "m.room.member", Some(key.as_str()), content, None)
            .await?;
        self.log.suspects.insert(whom);
        Ok(())
    }

    async fn unban(&mut self, who: usize, whom: usize) -> Result<(), String> {
        let reader = self.servers[who].rooms.reader();
        match reader.membership(&self.room, &user(whom)).await {
            Ok(MembershipState::Ban) => self.member(who, whom, "leave").await,
            _ => Err("is not banned".into()),
        }
    }

    async fn leave(&mut self, who: usize) -> Result<(), String> {
        self.member(who, who, "leave").await
    }

    async fn lock(&mut self, who: usize) -> Result<(), String> {
        self.send(who, "dev.weft.lock", Some(""), json!({}), None)
            .await
            .map(drop)
    }

    async fn unlock(&mut self, who: usize) -> Result<(), String> {
        let state = self.servers[who].rooms.reader().state(&self.room).await;
        let state = state.map_err(|error| error.to_string())?.ok_or("is not in the room")?;
        let lock = state.lock().ok_or("is not locked")?.event_id().to_string();
        self.send(who, "dev.weft.unlock", Some(&lock), json!({}), None)
            .await
            .map(drop)
    }

    async fn redact(&mut self, who: usize) -> Result<(), String> {
        let reader = self.servers[who].rooms.reader();
        let page = reader
            .timeline(
                &self.room,
                None,
                weft_room_read::Direction::Backward,
                weft_room_read::Types::WithoutUpdates,
                20,
            )
            .await
            .map_err(|error| error.to_string())?;
        let newest = page.events.iter().find(|event| event.pdu.kind() == "m.room.message");
        let id = newest.ok_or("no message")?.pdu.event_id().to_owned();
        self.send(who, "m.room.redaction", None, json!({ "redacts": id }), Some(id))
            .await
            .map(drop)
    }

    // --- Joining -------------------------------------------------------------------------------------------------

    /// make_join, send_join, and the snapshot of the text, each of which may fail.
    async fn join(&mut self, who: usize, via: usize) -> Result<(), String> {
        if self.is_in(who).await {
            return Err("is in the room".into());
        }
        let (network, ours) = (Arc::clone(&self.network), self.servers[who].rooms.clone());
        let _under_way = ours.joining(&self.room);
        let reach = || network.reach(who, via).ok_or_else(|| "can't be reached".to_owned());
        let words = |error: &dyn std::fmt::Display| error.to_string();
        network.delay().await;
        let template = Template {
            user: user(who),
            kind: TemplateKind::Join,
        };
        let template = reach()?.template(&self.room, template).await;
        let (version, object) = template.map_err(|error| words(&error))?;
        let version = RoomVersion::new(&version).unwrap();
        let event = sign_template(&user(who), &self.room, &object, &version);
        let ended = ours
            .reader()
            .has_ended(&self.room, &user(who), event.auth_events())
            .await;
        if ended.map_err(|error| words(&error))? {
            return Err("the other server does not have the end of the last membership".into());
        }
        network.delay().await;
        let answer = reach()?.accept_membership(&name(who), check(&event, &version)).await;
        let answer = answer.map_err(|error| words(&error))?;
        network.delay().await;
        let at = [answer.event.event_id().to_owned()];
        let snapshot = match network.reach(who, via) {
            Some(theirs) => theirs.content(&self.room, Some(&at)).await.ok(),
            None => None,
        };
        let joined = joined_room(&answer, &name(via), snapshot);
        ours.adopt(joined).await.map_err(|error| words(&error))
    }

    // --- The end -------------------------------------------------------------------------------------------------

    fn honest(&self) -> impl Iterator<Item = &Server> {
        let malicious = self.malicious.as_ref();
        let is_malicious = move |server: &&Server| malicious.is_some_and(|malicious| malicious.is_one(server.number));
        self.servers.iter().filter(move |server| !is_malicious(server))
    }

    async fn taking_part(&self) -> Vec<&Server> {
        let mut found = Vec::new();
        for server in self.honest() {
            if self.is_in(server.number).await {
                found.push(server);
            }
        }
        found
    }

    /// Heals the links, has every user send one message, adds a new server, and waits until everything is delivered.
    async fn settle(&mut self, silent: bool) -> Result<(), String> {
        self.network.stop_faults();
        time::sleep(TIMEOUT).await;
        // What a malicious server withheld shows only after other servers send events.
        if !silent || self.malicious.is_some() {
            for who in 0..self.servers.len() {
                // Users outside the room, or without the right, don't.
                let _ = self.send_message(who).await;
            }
        }
        self.until_settled().await?;
        // Time for each server's turn to reconcile.
        time::sleep(ALL_TURNS).await;
        self.until_settled().await?;
        if silent && self.malicious.is_none() {
            // The join of the late server would distribute missing events.
            self.check().await?;
        }
        let late = self.servers.len();
        self.servers
            .push(Server::new(late, late + 1, self.servers[0].lanes, &self.network).await);
        self.editors.push(None);
        self.join(late, 0)
            .await
            .map_err(|error| format!("the late server can't join: {error}"))?;
        self.until_settled().await?;
        self.send_message(0).await?;
        self.until_settled().await?;
        time::sleep(ALL_TURNS).await;
        self.until_settled().await
    }

    /// Waits until everything is sent and no backfill is running.
    async fn until_settled(&mut self) -> Result<(), String> {
        let until = time::Instant::now() + TIMEOUT;
        let mut pause = Duration::from_secs(2);
        loop {
            time::sleep(pause).await;
            let Some(why) = self.pending_work().await else {
                return Ok(());
            };
            if time::Instant::now() > until {
                return Err(format!("the run does not settle: {why}"));
            }
            pause = (pause * 2).min(Duration::from_secs(10 * 60));
        }
    }

    async fn pending_work(&self) -> Option<String> {
        let servers = self.taking_part().await;
        let numbers: BTreeSet<usize> = servers.iter().map(|server| server.number).collect();
        for server in &servers {
            let others = numbers.iter().copied().filter(|other| *other != server.number);
            if !server.has_sent_all(others).await {
                return Some(format!("s{} has more to send", server.number));
            }
            let dispute = server.store.get(&DISPUTED_ROOMS, &(&self.room,)).await.unwrap();
            if dispute.is_some_and(|dispute| dispute.due) {
                return Some(format!("s{} will rebuild the text", server.number));
            }
            if server.rooms.coming_history(&self.room).is_some() {
                return Some(format!("s{} is running a backfill", server.number));
            }
        }
        None
    }

    async fn check(&self) -> Result<(), String> {
        if let Some(wrong) = self.log.wrong.first() {
            return Err(wrong.clone());
        }
        self.servers.iter().try_for_each(Server::check_chain)?;
        let servers = self.taking_part().await;
        let first = view(servers[0], &self.room).await;
        let first_refused = refused(servers[0], &self.room).await;
        let a = servers[0].number;
        for server in &servers {
            let other = view(server, &self.room).await;
            if let Some(difference) = differs((a, &first), (server.number, &other)) {
                return Err(difference);
            }
            let sealed = text_of_events(server, &self.room).await?;
            if sealed != first.text {
                return Err(format!(
                    "s{}: {:?} is not the text of the events, {sealed:?}",
                    server.number, first.text
                ));
            }
            check_texts_at_events(server, &self.room).await?;
            check_versions(server, &self.room).await?;
            let refused = refused(server, &self.room).await;
            let differ = first_refused
                .iter()
                .find(|(id, is)| refused.get(*id).is_some_and(|other| other != *is));
            if let Some((id, _)) = differ {
                return Err(format!("s{a} and s{} decide differently about {id}", server.number));
            }
        }
        for server in self.honest() {
            check_indexes(server, &self.room).await?;
        }
        check_words(&first.text, &self.log, self.malicious.is_some())?;
        self.network
            .note(format_args!("at rest: {:?}, {} servers", first.text, servers.len()));
        Ok(())
    }
}
