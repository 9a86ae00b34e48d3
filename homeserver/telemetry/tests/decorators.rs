//! The decorators: results are unchanged, calls are counted, and spans contain no data.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]

use std::{
    fmt::Debug,
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use ruma::{MilliSecondsSinceUnixEpoch, ServerName, server_name};
use serde_json::value::RawValue;
use tracing::{
    field::{Field, Visit},
    instrument::WithSubscriber as _,
    span,
};
use tracing_subscriber::{Layer, layer::SubscriberExt as _};
use weft_federation::outbox::{Transport, queue::SendFailure};
use weft_store::{
    contract::{self, Harness},
    engine::{Engine, Op, WriteBatch},
    memory::{MemoryDisk, MemoryEngine},
};
use weft_telemetry::{MeteredEngine, MeteredTransport, Metrics};

struct Metered(MemoryDisk);

#[async_trait]
impl Harness for Metered {
    type Engine = MeteredEngine<MemoryEngine>;

    async fn open(&self) -> Self::Engine {
        MeteredEngine::new(self.0.open(), &Metrics::default())
    }

    fn fail_next_sync(&self, _: &Self::Engine) -> bool {
        self.0.fail_next_sync();
        true
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_metered_engine_meets_the_contract() {
    contract::run(|| Metered(MemoryDisk::new())).await;
}

fn put(value: &'static str) -> WriteBatch {
    let op = Op::Put {
        key: Bytes::from_static(b"secret-key"),
        value: Bytes::from_static(value.as_bytes()),
    };
    WriteBatch {
        ops: vec![op],
        fences: Vec::new(),
    }
}

/// The value of a line of the text.
fn value(metrics: &Metrics, line: &str) -> String {
    let text = metrics.text();
    let found = text
        .lines()
        .find_map(|found| found.strip_prefix(line)?.strip_prefix(' '));
    found
        .unwrap_or_else(|| panic!("{line} is missing in:\n{text}"))
        .to_owned()
}

#[tokio::test]
async fn calls_of_an_engine_are_counted_by_their_outcome() {
    let (disk, metrics) = (MemoryDisk::new(), Metrics::default());
    let engine = MeteredEngine::new(disk.open(), &metrics);
    assert_eq!(engine.commit(vec![put("1"), put("2")]).await, [Ok(()), Ok(())]);
    assert_eq!(engine.get(b"secret-key").await.unwrap().unwrap(), "2");
    disk.fail_next_sync();
    assert!(engine.commit(vec![put("3")]).await.first().unwrap().is_err());
    assert_eq!(value(&metrics, "weft_store_commit_batches_total"), "3");
    assert_eq!(
        value(&metrics, "weft_store_commit_bytes_total"),
        (3 * "secret-key1".len()).to_string()
    );
    let calls = |operation, outcome| {
        let line = format!("weft_store_calls_total{{operation=\"{operation}\",outcome=\"{outcome}\"}}");
        value(&metrics, &line)
    };
    assert_eq!(calls("commit", "Ok"), "1");
    assert_eq!(calls("commit", "Failed"), "1");
    assert_eq!(calls("get", "Ok"), "1");
}

/// Needs 3 seconds for each delivery, and refuses every second one.
struct Slow(Mutex<bool>);

#[async_trait]
impl Transport for Slow {
    async fn deliver(
        &self,
        _: &ServerName,
        _: &str,
        _: Vec<Box<RawValue>>,
        _: Vec<Box<RawValue>>,
        _: MilliSecondsSinceUnixEpoch,
    ) -> Result<(), SendFailure> {
        tokio::time::sleep(Duration::from_secs(3)).await;
        let mut refuses = self.0.lock().unwrap();
        *refuses = !*refuses;
        if *refuses { Ok(()) } else { Err(SendFailure::Malformed) }
    }
}

#[tokio::test(start_paused = true)]
async fn deliveries_are_timed_and_cancelled_ones_are_counted() {
    let metrics = Metrics::default();
    let transport = MeteredTransport::new(Slow(Mutex::new(false)), &metrics);
    let (server, now) = (server_name!("beta.example"), MilliSecondsSinceUnixEpoch::now());
    let deliver = || transport.deliver(server, "1", Vec::new(), Vec::new(), now);
    assert_eq!(deliver().await, Ok(()));
    assert_eq!(deliver().await, Err(SendFailure::Malformed));
    assert!(tokio::time::timeout(Duration::from_secs(1), deliver()).await.is_err());
    for outcome in ["Ok", "Failed", "Cancelled"] {
        let line = format!("weft_outbox_calls_total{{operation=\"deliver\",outcome=\"{outcome}\"}}");
        assert_eq!(value(&metrics, &line), "1");
    }
    let sum = "weft_outbox_call_duration_seconds_sum{operation=\"deliver\"}";
    assert_eq!(value(&metrics, sum), "7.0");
}

/// Collects the names and fields of all spans.
#[derive(Clone, Default)]
struct Spans(Arc<Mutex<Vec<String>>>);

struct Fields(String);

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.0 += &format!(" {field}={value:?}");
    }
}

impl<S: tracing::Subscriber> Layer<S> for Spans {
    fn on_new_span(
        &self,
        attributes: &span::Attributes<'_>,
        _: &span::Id,
        _: tracing_subscriber::layer::Context<'_, S>,
    ) {
        let mut fields = Fields(attributes.metadata().name().to_owned());
        attributes.record(&mut fields);
        self.0.lock().unwrap().push(fields.0);
    }
}

#[tokio::test]
async fn spans_have_sizes_and_servers_and_no_data() {
    let spans = Spans::default();
    let metrics = Metrics::default();
    let work = async {
        let engine = MeteredEngine::new(MemoryDisk::new().open(), &metrics);
        engine.commit(vec![put("secret-value")]).await;
        let event = RawValue::from_string("{\"body\":\"secret-text\"}".to_owned()).unwrap();
        let transport = MeteredTransport::new(Slow(Mutex::new(false)), &metrics);
        let now = MilliSecondsSinceUnixEpoch::now();
        let delivery = transport.deliver(server_name!("beta.example"), "7", vec![event], Vec::new(), now);
        tokio::time::timeout(Duration::ZERO, delivery).await.unwrap_err();
    };
    work.with_subscriber(tracing_subscriber::registry().with(spans.clone()))
        .await;
    assert_eq!(
        *spans.0.lock().unwrap(),
        [
            "commit_group batches=1 bytes=22 lanes=0",
            "outbox_delivery server=beta.example transaction=\"7\" pdus=1 edus=0",
        ]
    );
}
