//! Workers that break the rules in ways that leave a stock caller waiting, or full: a Sinew
//! caller is told within its limits, and is as good as before.

use std::time::{Duration, Instant};

use serde_json::json;
use sinew::{Code, Error, Executed, Outcome};
use tokio::io::AsyncWriteExt;

use crate::{
    by_hand::Entry,
    dynamo::{self, Line, two_part},
    ours,
    place::{Backend, Place, Plane},
    process::soon,
};

/// Each of the waits, of which the default is up to a minute.
const LIMIT: Duration = Duration::from_millis(400);

/// What a wait may take that has its limit, on a busy machine.
const AMPLE: Duration = Duration::from_secs(15);

/// The largest frame.
const FRAME_BYTES: usize = 64 << 10;

const BEGUN: &[u8] = br#"{"error":null}"#;
const ITEM: &[u8] = br#"{"data":{"data":7},"complete_final":false}"#;
const DONE: &[u8] = br#"{"complete_final":true}"#;
const SENTINEL: &[u8] = b"\"sentinel\"";
const KILL: &str = "\"kill\"";

/// A worker by hand that discovery knows, and a Sinew caller.
struct Stage {
    worker: dynamo::Worker,
    caller: ours::Caller,
    entry: Option<Entry>,
    _place: Place,
}

impl Stage {
    async fn new() -> Self {
        Self::with(LIMIT).await
    }

    async fn with(limit: Duration) -> Self {
        let place = Place::new(Backend::File, Plane::Tcp);
        let worker = dynamo::Worker::new().await;
        let entry = Some(Entry::write(&place, 0x1f, &worker.host()));
        let caller = ours::Caller::start_with(&place, 1, |config| {
            config.frames.request_timeout = limit;
            config.call_home.prologue_timeout = limit;
            config.call_home.item_timeout = Some(limit);
            config.call_home.max_frame_bytes = FRAME_BYTES;
        });
        let caller = caller.await;
        Self { worker, caller, entry, _place: place }
    }

    /// A call, and what the worker makes of it: how it failed, and within which time.
    async fn fails<T>(&self, behave: impl Future<Output = T>) -> (Error, T) {
        let start = Instant::now();
        let calling = async {
            let error = match self.caller.call(json!({})).await {
                Err(error) => error,
                Ok(ended) => match (ended.outcome, ended.error) {
                    (Outcome::Failed { error }, _) | (Outcome::Truncated { .. }, Some(error)) => {
                        error
                    }
                    other => panic!("{other:?}"),
                },
            };
            assert!(start.elapsed() < AMPLE, "{error} after {:?}", start.elapsed());
            error
        };
        tokio::join!(calling, soon("the worker", behave))
    }

    /// The connection that requests come on: the one from before, if there is one.
    async fn connection(&self, line: Option<Line>) -> Line {
        match line {
            Some(line) => line,
            None => self.worker.connection().await,
        }
    }

    /// A request that the worker accepts and dials back for: the connection that requests come
    /// on, and the one back.
    async fn accepted(&self, line: Option<Line>) -> (Line, Line) {
        let mut line = self.connection(line).await;
        let request = line.request().await;
        line.acknowledge("").await;
        let back = dynamo::call_home(&request.control).await;
        (line, back)
    }

    /// A call that the worker answers, on the connection that requests come on if there is one.
    async fn ends_well(self, line: Option<Line>) {
        let serving = async {
            let (line, mut back) = self.accepted(line).await;
            back.write(&two_part(BEGUN, b"")).await;
            back.write(&two_part(b"", ITEM)).await;
            back.write(&two_part(b"", DONE)).await;
            back.write(&two_part(SENTINEL, b"")).await;
            back.end().await;
            line
        };
        let (ended, _line) = tokio::join!(self.caller.call(json!({})), serving);
        assert_eq!(ended.unwrap().items, [json!(7)]);
        self.caller.end().await;
    }
}

fn told(error: &Error) -> (Code, Executed) {
    (error.code(), error.executed())
}

#[tokio::test]
async fn an_unknown_acknowledgement_is_a_violation_and_never_a_success() {
    let stage = Stage::new().await;
    let mut line = None;
    for text in ["Read error: early eof", "Invalid endpoint path", "OK"] {
        let behave = async {
            let mut line = stage.connection(line).await;
            line.request().await;
            line.acknowledge(text).await;
            line
        };
        let (error, kept) = stage.fails(behave).await;
        assert_eq!(told(&error), (Code::Violation, Executed::Maybe), "{text}");
        assert!(error.message().contains(text), "{error}");
        line = Some(kept);
    }
    stage.ends_well(line).await;
}

#[tokio::test]
async fn a_worker_that_does_not_acknowledge_is_not_waited_for() {
    let stage = Stage::new().await;
    let behave = async {
        let (_, mut line) = stage.worker.request().await;
        line.end().await;
    };
    let (error, ()) = stage.fails(behave).await;
    assert_eq!(told(&error), (Code::ConnectionLost, Executed::Maybe));
    stage.ends_well(None).await;
}

#[tokio::test]
async fn a_worker_that_accepts_and_does_not_dial_back_is_not_waited_for() {
    let stage = Stage::new().await;
    let behave = async {
        let (_, mut line) = stage.worker.request().await;
        line.acknowledge("").await;
        line
    };
    let (error, line) = stage.fails(behave).await;
    assert_eq!(told(&error), (Code::ConnectTimedOut, Executed::Maybe));
    stage.ends_well(Some(line)).await;
}

#[tokio::test]
async fn a_worker_that_dials_back_and_does_not_begin_is_not_waited_for() {
    let stage = Stage::new().await;
    let behave = async {
        let (line, mut back) = stage.accepted(None).await;
        assert_eq!(back.header().await, KILL);
        back.end().await;
        line
    };
    let (error, line) = stage.fails(behave).await;
    assert_eq!(told(&error), (Code::ConnectTimedOut, Executed::Maybe));
    stage.ends_well(Some(line)).await;
}

#[tokio::test]
async fn a_worker_that_falls_silent_is_not_waited_for_where_there_is_a_limit() {
    let stage = Stage::new().await;
    let mut line = None;
    for items in 0..2 {
        let behave = async {
            let (line, mut back) = stage.accepted(line).await;
            back.write(&two_part(BEGUN, b"")).await;
            for _ in 0..items {
                back.write(&two_part(b"", ITEM)).await;
            }
            assert_eq!(back.header().await, KILL);
            back.end().await;
            line
        };
        let (error, kept) = stage.fails(behave).await;
        assert_eq!(told(&error), (Code::Truncated, Executed::Yes));
        line = Some(kept);
    }
    stage.ends_well(line).await;
}

/// Writes until the caller will have no more of it. Returns how much it took.
async fn flood(line: &mut Line) -> usize {
    let piece = vec![b'x'; 64 << 10];
    let mut taken = 0;
    while line.0.write_all(&piece).await.is_ok() {
        taken += piece.len();
    }
    taken
}

#[tokio::test]
async fn an_endless_frame_is_cut_off_at_its_prefix() {
    let stage = Stage::new().await;
    let over = FRAME_BYTES as u64;
    let mut line = None;
    for (header, body) in [(0, 1 << 40), (1 << 40, 0), (u64::MAX, u64::MAX), (0, over)] {
        let behave = async {
            let (line, mut back) = stage.accepted(line).await;
            back.write(&two_part(BEGUN, b"")).await;
            back.write(&[header, body, 0].map(u64::to_be_bytes).concat()).await;
            let taken = flood(&mut back).await;
            // What is on its way is read and dropped for a moment, so that the kill arrives.
            assert!(taken < 80 << 20, "{taken}");
            line
        };
        let (error, kept) = stage.fails(behave).await;
        assert_eq!(told(&error), (Code::Violation, Executed::Yes), "{header} {body}");
        line = Some(kept);
    }
    stage.ends_well(line).await;
}

#[tokio::test]
async fn garbage_on_the_way_back_is_a_violation() {
    let stage = Stage::new().await;
    let mut line = None;
    for (garbage, executed) in [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n".to_vec(), Executed::Maybe),
        (two_part(b"nonsense", b""), Executed::Maybe),
        (two_part(b"", ITEM), Executed::Maybe),
        (two_part(SENTINEL, b""), Executed::Maybe),
        ([two_part(BEGUN, b""), two_part(BEGUN, b"")].concat(), Executed::Yes),
        ([two_part(BEGUN, b""), two_part(b"\"stop\"", b"")].concat(), Executed::Yes),
        ([two_part(BEGUN, b""), two_part(SENTINEL, b"x")].concat(), Executed::Yes),
        ([two_part(BEGUN, b""), two_part(b"", b"no item")].concat(), Executed::Yes),
    ] {
        let behave = async {
            let (line, mut back) = stage.accepted(line).await;
            back.write(&garbage).await;
            assert_eq!(back.header().await, KILL);
            back.end().await;
            line
        };
        let (error, kept) = stage.fails(behave).await;
        assert_eq!(told(&error), (Code::Violation, executed), "{}", garbage.escape_ascii());
        line = Some(kept);
    }
    stage.ends_well(line).await;
}

#[tokio::test]
async fn a_worker_that_leaves_discovery_is_not_waited_for() {
    // Without the removal this would take longer than the test.
    let mut stage = Stage::with(Duration::from_secs(600)).await;
    let entry = stage.entry.take();
    let behave = async {
        let (_, mut line) = stage.worker.request().await;
        line.acknowledge("").await;
        drop(entry);
        line
    };
    let (error, _line) = stage.fails(behave).await;
    assert_eq!(told(&error), (Code::ConnectionLost, Executed::Maybe));
    stage.caller.end().await;
}
