//! Callers that break the rules: a Sinew worker ends what they began, and serves the next one.

use rustix::process::Signal;
use serde_json::json;

use crate::{
    dynamo::{self, ID, Line, request_frame, two_part},
    ours,
    place::{Backend, Codec, Place, Plane},
    process::Process,
};

const FOREVER: &str = r#"{"forever":true,"delay_ms":1}"#;
const BEGUN: &str = r#"{"error":null}"#;

/// A Sinew worker, and where its requests go.
struct Stage {
    worker: Process,
    host: String,
    path: String,
    _place: Place,
}

impl Stage {
    async fn new() -> Self {
        let place = Place::new(Backend::File, Plane::Tcp);
        let worker = ours::worker(&place, Codec::Json).await;
        let addresses = worker.ready["addresses"].as_array().unwrap();
        let mut addresses = addresses.iter().map(|one| one.as_str().unwrap());
        let host = addresses.find_map(|one| one.strip_prefix("tcp://")).unwrap().to_owned();
        let instance = worker.ready["instance"].as_str().unwrap();
        let path = format!("{instance}/{}", place.endpoint);
        Self { worker, host, path, _place: place }
    }

    /// Sends a request and returns its acknowledgement.
    async fn ask(&self, control: &str, job: &str) -> String {
        let mut line = Line::dial(&self.host).await;
        let payload = two_part(control.as_bytes(), job.as_bytes());
        line.write(&request_frame(&self.path, "{}", &payload)).await;
        line.ack().await
    }

    /// A response that has begun.
    async fn begin(&self, job: &str) -> Line {
        let caller = dynamo::Caller::new().await;
        assert_eq!(self.ask(&caller.control("json"), job).await, "");
        let mut back = caller.worker().await;
        assert_eq!(back.header().await, BEGUN);
        back
    }

    async fn outcome(&mut self) -> String {
        let line = self.worker.line(|line| line["event"] == "end").await;
        line["outcome"].as_str().unwrap().to_owned()
    }

    /// A request that is well-behaved, and then the worker's end, with nothing left to cut.
    async fn ends_well(mut self) {
        self.serves_on().await;
        self.worker.signal(Signal::TERM);
        let end = self.worker.line(|line| line["stopped"] == true).await;
        assert_eq!((&end["cut_streams"], &end["cut_tasks"]), (&json!(0), &json!(0)));
    }

    /// A request that is well-behaved.
    async fn serves_on(&mut self) {
        let mut back = self.begin(r#"{"kind":"values","values":[7]}"#).await;
        assert_eq!(back.item().await, br#"{"data":{"data":7},"complete_final":false}"#);
        assert_eq!(back.item().await, br#"{"complete_final":true}"#);
        assert_eq!(back.header().await, "\"sentinel\"");
        drop(back);
        let start = self.worker.line(|line| line["event"] == "start").await;
        assert_eq!(start["request"], ID.replace('-', ""), "the next to begin");
        assert_eq!(self.outcome().await, "complete");
    }
}

#[tokio::test]
async fn a_caller_that_cannot_be_dialled_back_has_nothing_run() {
    let mut stage = Stage::new().await;
    let dead = dynamo::Caller::new().await;
    let control = dead.control("json").replace(ID, "00000000-0000-4000-8000-000000000000");
    drop(dead);
    assert_eq!(stage.ask(&control, FOREVER).await, "");
    // The next to begin is the next that is asked for.
    stage.serves_on().await;
}

#[tokio::test]
async fn a_stop_behind_a_kill_changes_nothing() {
    let mut stage = Stage::new().await;
    let mut back = stage.begin(FOREVER).await;
    for _ in 0..3 {
        back.item().await;
    }
    back.write(&[two_part(b"\"kill\"", b""), two_part(b"\"stop\"", b"")].concat()).await;
    assert_eq!(stage.outcome().await, "killed");
    stage.ends_well().await;
}

#[tokio::test]
async fn garbage_in_place_of_control_kills_the_request() {
    let mut stage = Stage::new().await;
    for garbage in [
        b"GET / HTTP/1.1\r\nHost: worker\r\n\r\n".to_vec(),
        two_part(b"nonsense", b""),
        two_part(b"\"sentinel\"", b""),
        two_part(b"", b"an item"),
        two_part(b"\"stop\"", b"with a body"),
        [1 << 40, 0, 0].map(u64::to_be_bytes).concat(),
    ] {
        let mut back = stage.begin(FOREVER).await;
        back.item().await;
        back.write(&garbage).await;
        assert_eq!(stage.outcome().await, "killed", "{}", garbage.escape_ascii());
    }
    // A connection that breaks is no different.
    drop(stage.begin(FOREVER).await);
    assert_eq!(stage.outcome().await, "killed");
    stage.ends_well().await;
}

#[tokio::test]
async fn garbage_in_place_of_a_request_is_refused_in_words_that_callers_know() {
    let stage = Stage::new().await;
    let caller = dynamo::Caller::new().await;
    let control = caller.control("json");
    for control in ["", "{}", "nonsense", &control.replace("single_in", "all_in")] {
        let answer = stage.ask(control, "{}").await;
        assert!(answer.starts_with("Server unavailable: malformed request"), "{answer}");
    }
    stage.ends_well().await;
}

#[tokio::test]
async fn a_caller_that_does_not_read_holds_up_nobody_else() {
    let mut stage = Stage::new().await;
    let slow = stage.begin(r#"{"forever":true,"size":1000000}"#).await;
    for _ in 0..20 {
        let mut back = stage.begin(r#"{"items":1,"size":1000000}"#).await;
        assert!(back.item().await.len() > 1_000_000);
        assert_eq!(stage.outcome().await, "complete");
    }
    drop(slow);
    assert_eq!(stage.outcome().await, "killed");
    stage.ends_well().await;
}
