//! The stock Dynamo worker and client.

use serde_json::{Value, json};

use crate::{
    place::{Codec, Place, service},
    process::Process,
};

/// A stock worker that does jobs.
pub(crate) async fn worker(place: &Place, codec: Codec) -> Process {
    start("worker", place, codec, &[]).await
}

/// The same with a log, whose lines stand among its others.
pub(crate) async fn worker_with_log(place: &Place, codec: Codec) -> Process {
    start("worker", place, codec, &LOG).await
}

/// A stock worker whose requests are streams, which it echoes.
pub(crate) async fn bidi_worker(place: &Place, codec: Codec) -> Process {
    start("bidi-worker", place, codec, &[]).await
}

/// A log in lines of JSON.
const LOG: [(&str, &str); 2] = [("DYN_LOG", "info"), ("DYN_LOGGING_JSONL", "1")];

async fn start(role: &str, place: &Place, codec: Codec, more: &[(&str, &str)]) -> Process {
    let name = place.endpoint.to_string();
    let program = service("SINEW_TEST_DYNAMO");
    let arguments = [role, "--endpoint", &name, "--codec", codec.name(), "--until-stdin-closes"];
    Process::start(&program, &arguments, &place.variables_and(more)).await
}

/// A stock client with its router.
pub(crate) struct Client {
    process: Process,
    next: u64,
}

/// How one of its calls went.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) items: Vec<Value>,
    /// Items that it counted, also those that it was told not to print.
    pub(crate) count: u64,
    /// `class`, `message`, and `at`: `call` or `item`.
    pub(crate) error: Option<Value>,
    /// The whole last line.
    pub(crate) line: Value,
}

impl Client {
    /// A client that sees exactly so many instances.
    pub(crate) async fn start(place: &Place, instances: usize) -> Self {
        Self::start_with(place, instances, &[]).await
    }

    /// The same with a log.
    pub(crate) async fn start_with_log(place: &Place, instances: usize) -> Self {
        Self::start_with(place, instances, &LOG).await
    }

    async fn start_with(place: &Place, instances: usize, more: &[(&str, &str)]) -> Self {
        let name = place.endpoint.to_string();
        let program = service("SINEW_TEST_DYNAMO");
        let arguments = ["client", "--endpoint", &name];
        let process = Process::start(&program, &arguments, &place.variables_and(more)).await;
        let mut client = Self { process, next: 0 };
        client.wait_for(instances).await;
        client
    }

    /// Waits until it sees exactly so many instances.
    pub(crate) async fn wait_for(&mut self, instances: usize) {
        let id = self.send(json!({ "wait": instances })).await;
        self.process.line(|line| line["id"] == id && line.get("instances").is_some()).await;
    }

    /// One call, `{"request": {..}, ..}`, to its end.
    pub(crate) async fn call(&mut self, call: Value) -> Ended {
        let id = self.begin(call).await;
        self.end(id).await
    }

    /// Begins a call.
    pub(crate) async fn begin(&mut self, call: Value) -> Value {
        self.send(call).await
    }

    /// Waits for so many items of a call.
    pub(crate) async fn items(&mut self, id: &Value, count: usize) {
        for _ in 0..count {
            self.process.line(|line| line["id"] == *id && line.get("item").is_some()).await;
        }
    }

    /// Waits for the end of a call, with the items up to there.
    pub(crate) async fn end(&mut self, id: Value) -> Ended {
        let mut items = Vec::new();
        loop {
            let line = self.process.line(|line| line["id"] == id).await;
            if let Some(count) = line.get("end").and_then(Value::as_u64) {
                let error = line.get("error").cloned();
                return Ended { items, count, error, line };
            }
            items.push(line["item"].clone());
        }
    }

    /// Many calls; the summary of them.
    pub(crate) async fn load(&mut self, load: Value) -> Value {
        let id = self.begin(json!({ "load": load })).await;
        self.summary(id).await
    }

    /// Waits until a load that tells of its progress has got on.
    pub(crate) async fn progress(&mut self, id: &Value) {
        self.process.line(|line| line["id"] == *id && line.get("progress").is_some()).await;
    }

    /// Ends a load without a number of requests.
    pub(crate) async fn finish(&mut self, id: Value) -> Value {
        self.send(json!({ "finish": id })).await;
        self.summary(id).await
    }

    async fn summary(&mut self, id: Value) -> Value {
        let line = self.process.line(|line| line["id"] == id && line.get("load").is_some()).await;
        line["load"].clone()
    }

    /// The next line of its log with this message.
    pub(crate) async fn log(&mut self, message: &str) -> Value {
        self.process.line(|line| line["message"] == message).await
    }

    async fn send(&mut self, mut command: Value) -> Value {
        self.next += 1;
        command["id"] = json!(self.next);
        self.process.tell(&command).await;
        json!(self.next)
    }
}
