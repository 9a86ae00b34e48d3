//! The text at each version: random edits of several authors, sealed, compacted and restarted in between.

use std::collections::BTreeMap;

use proptest::{prelude::*, test_runner::TestCaseError};
use ruma::{OwnedUserId, RoomId};
use weft_crdt::{Update, merge};
use weft_room::RoomConfig;
use weft_room_read::versions::{Undone, VersionPlace};
use weft_store::tables::documents::{CHECKPOINTS, VERSIONS, VERSIONS_FROM};
use weft_testkit::{Editor, text_of};

use crate::harness::{Server, alice, bob};

/// One action.
#[derive(Debug, Clone)]
enum Step {
    /// Who, where, and whether that author first receives the edits of the others.
    Insert(bool, u32, bool),
    Remove(bool, u32, bool),
    Seal,
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (any::<bool>(), 0..40_u32, any::<bool>()).prop_map(|(who, at, pulls)| Step::Insert(who, at, pulls)),
        3 => (any::<bool>(), 0..40_u32, any::<bool>()).prop_map(|(who, at, pulls)| Step::Remove(who, at, pulls)),
        2 => Just(Step::Seal),
        1 => Just(Step::Restart),
    ]
}

/// What is known about a letter; each is inserted once.
#[derive(Debug, Clone, Default)]
struct Letter {
    by: bool,
    seals: usize,
    /// It may be lost in versions between: it was deleted by its author before it was sealed.
    is_lost: bool,
}

struct Run {
    server: Server,
    editors: [Editor; 2],
    users: [OwnedUserId; 2],
    /// The text at each version.
    texts: BTreeMap<u64, String>,
    letters: BTreeMap<char, Letter>,
    seals: usize,
    next: u32,
}

impl Run {
    async fn note(&mut self, room: &RoomId) {
        let version = self.server.rooms.reader().document_version(room).await.unwrap();
        let text = text_of(&self.server.rooms.content(room, None).await.unwrap());
        self.texts.insert(version, text);
    }

    async fn edit(
        &mut self,
        room: &RoomId,
        who: bool,
        pulls: bool,
        change: impl FnOnce(&mut Editor) -> Option<bytes::Bytes>,
    ) {
        let (editor, user) = (&mut self.editors[usize::from(who)], &self.users[usize::from(who)]);
        if pulls {
            editor.pull(&self.server.rooms, room).await;
        }
        if let Some(update) = change(editor) {
            self.server.edit(room, user, update).await.unwrap();
            self.note(room).await;
        }
    }

    async fn act(mut self, room: &RoomId, step: &Step) -> Self {
        match *step {
            Step::Insert(who, at, pulls) => {
                let letter = char::from_u32(0x4e00 + self.next).unwrap();
                self.next += 1;
                let known = Letter {
                    by: who,
                    seals: self.seals,
                    is_lost: false,
                };
                self.letters.insert(letter, known);
                self.edit(room, who, pulls, |editor| {
                    Some(editor.insert(at as usize, &letter.to_string()))
                })
                .await;
            }
            Step::Remove(who, at, pulls) => {
                let mut gone = None;
                self.edit(room, who, pulls, |editor| {
                    let text: Vec<char> = editor.text().chars().collect();
                    gone = text.get(at as usize).copied();
                    gone.map(|_| editor.remove(at, 1))
                })
                .await;
                let letter = gone.and_then(|gone| self.letters.get_mut(&gone));
                if let Some(letter) = letter.filter(|letter| letter.by == who && letter.seals == self.seals) {
                    letter.is_lost = true;
                }
            }
            Step::Seal => {
                self.server.rooms.seal(room).await.unwrap();
                self.seals += 1;
            }
            Step::Restart => {
                self.server = self.server.reboot().await;
                self.server.rooms.seal(room).await.unwrap();
                self.seals += 1;
            }
        }
        self
    }

    /// The text at each version is what was there, without letters that were deleted before they were sealed.
    async fn check(&self, room: &RoomId) -> Result<(), TestCaseError> {
        let reader = self.server.rooms.reader();
        for (version, expected) in &self.texts {
            let text = reader.text_at_version(room, *version).await.unwrap();
            prop_assert!(text.is_some(), "version {}", version);
            let text = text_of(&text.unwrap());
            let mut rest = text.chars().peekable();
            for letter in expected.chars() {
                let is_there = rest.next_if_eq(&letter).is_some();
                prop_assert!(
                    is_there || self.letters[&letter].is_lost,
                    "version {}: {} for {}",
                    version,
                    text,
                    expected
                );
            }
            prop_assert_eq!(rest.next(), None, "version {}: {} for {}", version, &text, expected);
            prop_assert!(
                reader.place_of_version(room, *version).await.unwrap().is_some(),
                "version {}",
                version
            );
        }
        Ok(())
    }
}

async fn run(steps: Vec<Step>) -> Result<(), TestCaseError> {
    let server = Server::new().await;
    let room = server.document_with(&[(&bob(), 25)]).await;
    let mut run = Run {
        server,
        editors: [Editor::new(1), Editor::new(2)],
        users: [alice(), bob()],
        texts: BTreeMap::from([(0, String::new())]),
        letters: BTreeMap::new(),
        seals: 0,
        next: 0,
    };
    for step in &steps {
        run = run.act(&room, step).await;
    }
    run.check(&room).await?;
    run.server.rooms.seal(&room).await.unwrap();
    run.check(&room).await
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn the_text_at_a_version_is_the_text_that_was_there(steps in prop::collection::vec(step(), 1..60)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        runtime.block_on(run(steps))?;
    }
}

#[tokio::test]
async fn the_text_at_a_version_costs_the_nearest_checkpoint_and_what_is_between() {
    let server = Server::new().await;
    let room = server.document().await;
    let mut editor = Editor::new(1);
    for _ in 0..1_500 {
        server.edit(&room, &alice(), editor.append("x")).await.unwrap();
        server.rooms.seal(&room).await.unwrap();
        tokio::task::yield_now().await;
    }
    let checkpoints = server.store.scan_all(CHECKPOINTS.under(&(&room,))).await.unwrap();
    let kept: Vec<u64> = checkpoints.iter().map(|((_, seq), _)| *seq).collect();
    assert!(kept.len() >= 2, "{kept:?}");
    for version in [0, 1, 499, 700, kept[0], kept[0] + 1, 1_400, 1_500] {
        let before = server.rows_read();
        let text = server
            .rooms
            .reader()
            .text_at_version(&room, version)
            .await
            .unwrap()
            .unwrap();
        assert_eq!(text_of(&text).len() as u64, version);
        let rows = server.rows_read() - before;
        let base = kept.iter().filter(|kept| **kept <= version).max().unwrap_or(&0);
        assert!(
            rows <= 3 * (version - base) + 50,
            "{rows} rows for version {version}, base {base}"
        );
    }
    assert_eq!(server.rooms.reader().text_at_version(&room, 1_501).await.unwrap(), None);
}

#[tokio::test]
async fn times_lead_to_the_version_of_that_time() {
    let server = Server::new().await;
    let room = server.document().await;
    let reader = server.rooms.reader().clone();
    assert_eq!(
        reader.version_at(&room, 5).await.unwrap(),
        Some(0),
        "nothing was written"
    );
    let mut editor = Editor::new(1);
    let mut times = Vec::new();
    for number in 0..30_u64 {
        server.clock.advance(10_000);
        server.edit(&room, &alice(), editor.append("x")).await.unwrap();
        times.push(server.clock.millis());
        if number % 7 == 6 {
            server.rooms.seal(&room).await.unwrap();
        }
    }
    let start: u64 = times[0];
    assert_eq!(reader.version_at(&room, start - 5_000).await.unwrap(), Some(0));
    for (time, version) in times.iter().zip(1_u64..) {
        assert_eq!(
            reader.version_at(&room, *time).await.unwrap(),
            Some(version),
            "{version}"
        );
        assert_eq!(
            reader.version_at(&room, *time + 5_000).await.unwrap(),
            Some(version),
            "{version}"
        );
    }
    let place = reader.place_of_version(&room, 30).await.unwrap();
    assert_eq!(place, Some(VersionPlace::Journal));
    let heads = reader.extremities(&room).await.unwrap();
    let place = reader.place_of_version(&room, 28).await.unwrap();
    assert_eq!(place, Some(VersionPlace::Event(heads[0].clone())));
    assert_eq!(reader.place_of_version(&room, 31).await.unwrap(), None);
}

/// A store of a program without the index: its rows are missing.
#[tokio::test]
async fn a_store_without_the_index_has_the_versions_from_now_on() {
    let server = Server::boot(&weft_store::memory::MemoryDisk::new(), RoomConfig::default()).await;
    let room = server.document().await;
    let mut editor = Editor::new(1);
    for _ in 0..5 {
        server.edit(&room, &alice(), editor.append("x")).await.unwrap();
    }
    server.rooms.seal(&room).await.unwrap();
    let mut batch = weft_store::Batch::new();
    batch.belongs_to(&*room);
    batch.delete_range(&VERSIONS, &(&room,));
    batch.delete(&VERSIONS_FROM, &(&room,));
    server.store.commit(batch).await.unwrap();
    let server = server.reboot().await;
    let reader = server.rooms.reader().clone();
    assert_eq!(reader.text_at_version(&room, 3).await.unwrap(), None);
    let now = reader.text_at_version(&room, 5).await.unwrap();
    assert_eq!(text_of(&now.unwrap()), "xxxxx");
    for version in 6..700 {
        server.edit(&room, &alice(), editor.append("y")).await.unwrap();
        server.rooms.seal(&room).await.unwrap();
        tokio::task::yield_now().await;
        let now = reader.text_at_version(&room, version).await.unwrap();
        assert_eq!(text_of(&now.unwrap()).len() as u64, version);
    }
    assert_eq!(reader.versions_from(&room).await.unwrap(), Some(5));
    assert_eq!(reader.text_at_version(&room, 4).await.unwrap(), None);
    let late = reader.text_at_version(&room, 650).await.unwrap();
    assert_eq!(text_of(&late.unwrap()).len(), 650);
}

#[tokio::test]
async fn edits_of_one_author_are_left_out_of_a_text() {
    let server = Server::new().await;
    let room = server.document_with(&[(&bob(), 25)]).await;
    let reader = server.rooms.reader().clone();
    let (mut ann, mut ben) = (Editor::new(1), Editor::new(2));
    server.edit(&room, &alice(), ann.append("one two three")).await.unwrap();
    server.rooms.seal(&room).await.unwrap();
    ben.pull(&server.rooms, &room).await;
    // Versions 2 to 4: Bob deletes "one ", writes, and deletes a part of that text.
    server.edit(&room, &bob(), ben.remove(0, 4)).await.unwrap();
    server.edit(&room, &bob(), ben.append(" four five")).await.unwrap();
    server.edit(&room, &bob(), ben.remove(14, 5)).await.unwrap();
    ann.pull(&server.rooms, &room).await;
    server.edit(&room, &alice(), ann.insert(0, "zero ")).await.unwrap();
    // An editor writes after what was deleted at the same place.
    assert_eq!(ann.text(), "zero two three four");
    for _ in 0..2 {
        for (after, to, expected) in [
            (1, 4, "one zero two three"),
            (1, 2, "one zero two three four"),
            (2, 3, "zero two three"),
            (0, 1, "zero  four"),
            (4, 5, "zero two three four"),
        ] {
            let user = if after == 0 { alice() } else { bob() };
            let undone = Undone { user: &user, after, to };
            let found = reader.text_without(&room, 5, undone).await.unwrap().unwrap();
            let text = Update::parse(found.text).unwrap();
            let text = merge(&[text, Update::from_deletes(found.inserted)]).unwrap();
            assert_eq!(text_of(&text.encode()), expected, "after {after} to {to}");
        }
        server.rooms.seal(&room).await.unwrap();
    }
}
