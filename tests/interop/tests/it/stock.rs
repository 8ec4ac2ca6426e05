//! The stock Dynamo worker and client.

use serde_json::{Value, json};

use crate::{
    place::{Codec, Place, service},
    process::Process,
};

/// A stock worker that does jobs.
pub(crate) async fn worker(place: &Place, codec: Codec) -> Process {
    let name = place.endpoint.to_string();
    let program = service("SINEW_TEST_DYNAMO");
    let arguments =
        ["worker", "--endpoint", &name, "--codec", codec.name(), "--until-stdin-closes"];
    Process::start(&program, &arguments, &place.variables()).await
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
        let name = place.endpoint.to_string();
        let program = service("SINEW_TEST_DYNAMO");
        let arguments = ["client", "--endpoint", &name];
        let process = Process::start(&program, &arguments, &place.variables()).await;
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
        let id = self.send(json!({ "load": load })).await;
        let line = self.process.line(|line| line["id"] == id && line.get("load").is_some()).await;
        line["load"].clone()
    }

    async fn send(&mut self, mut command: Value) -> Value {
        self.next += 1;
        command["id"] = json!(self.next);
        self.process.tell(&command).await;
        json!(self.next)
    }
}
