//! The workers that have shared connections to this caller, and the streams that wait for one.

use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use rustc_hash::FxHashMap;
use sinew_dynamo_wire::{SUBJECT_TEXT_BYTES, random_bytes};
use sinew_mux::Token;
use sinew_mux_driver::{Connection, LostStreams};
use sinew_plane::ProcessId;

use super::response::Response;
use crate::CALL_HOME;

/// Shared connections by the process that has the token for them.
#[derive(Default)]
pub(crate) struct WorkerConnections {
    by_process: Mutex<FxHashMap<ProcessId, Worker>>,
}

/// A process that requests were sent to.
struct Worker {
    /// What those requests hold, and what each connection of this process shows. The number of a
    /// process is in its hello for all to read, and proves nothing.
    token: Token,
    connections: Vec<Connection>,
    /// Streams that were expected while there was no connection.
    waiting: Vec<Weak<Response>>,
    /// Streams that have lost their connection while there was no other, by connection.
    lost: Vec<LostStreams>,
}

impl WorkerConnections {
    /// What a request to this process is to hold for its worker to be let in.
    pub(crate) fn token(&self, process: ProcessId) -> Token {
        let mut workers = self.by_process.lock();
        sweep(&mut workers);
        workers.entry(process).or_insert_with(Worker::new).token
    }

    /// Opens the stream on a connection of its worker, or does so as soon as there is one.
    pub(crate) fn request_stream(&self, source: &Arc<Response>) {
        let Some(process) = source.request.process else { return };
        let mut refused: Vec<Connection> = Vec::new();
        loop {
            let connection = {
                let mut workers = self.by_process.lock();
                sweep(&mut workers);
                let worker = workers.entry(process).or_insert_with(Worker::new);
                let Some(least) = worker.least_busy(&refused) else {
                    // Under the same lock as the look, so that no connection comes in between.
                    worker.wait(source);
                    return;
                };
                least
            };
            if open(source, &connection) {
                return;
            }
            refused.push(connection);
        }
    }

    /// A connection came up of which the other end says that it is this process: streams that have
    /// lost another one attach to it, and what waited for one is opened on it. False when it does not
    /// show the token of that process, and then nothing is.
    pub(crate) fn add(
        &self,
        process: ProcessId,
        token: Option<Token>,
        connection: &Connection,
    ) -> bool {
        let (waiting, lost) = {
            let mut workers = self.by_process.lock();
            let worker = workers.get_mut(&process);
            let known = worker.filter(|worker| token.is_some_and(|token| token == worker.token));
            let Some(worker) = known else { return false };
            worker.connections.push(connection.clone());
            (std::mem::take(&mut worker.waiting), worker.lost.clone())
        };
        for lost in lost {
            lost.attach(connection);
        }
        for source in waiting.iter().filter_map(Weak::upgrade) {
            if source.is_expected() && !open(&source, connection) {
                self.request_stream(&source);
            }
        }
        true
    }

    /// A connection is gone. Its streams have been told, or wait in `lost` for another one.
    pub(crate) fn remove(&self, process: ProcessId, connection: &Connection, lost: &LostStreams) {
        let mut workers = self.by_process.lock();
        if let Some(worker) = workers.get_mut(&process) {
            // Its token stays good until the table would grow.
            worker.connections.retain(|it| !it.is_same(connection));
            worker.lost.retain(|it| !it.is_empty());
            if !lost.is_empty() {
                worker.lost.push(lost.clone());
            }
        }
    }

    /// Attaches streams to connections of their worker that are up.
    pub(crate) fn attach(&self, process: ProcessId, lost: &LostStreams) -> Attached {
        let mut tried: Vec<Connection> = Vec::new();
        while !lost.is_empty() {
            let least = {
                let workers = self.by_process.lock();
                workers.get(&process).and_then(|worker| worker.least_busy(&tried))
            };
            let Some(connection) = least else {
                return if tried.is_empty() { Attached::Nowhere } else { Attached::InPart };
            };
            lost.attach(&connection);
            tried.push(connection);
        }
        Attached::All
    }

    /// Ends the streams of this process that wait for another connection, unless one is up.
    pub(crate) fn end_lost(&self, process: ProcessId) {
        let lost = {
            let workers = self.by_process.lock();
            let worker = workers.get(&process).filter(|worker| worker.least_busy(&[]).is_none());
            worker.map(|worker| worker.lost.clone())
        };
        lost.into_iter().flatten().for_each(|lost| lost.end());
    }

    /// True while streams of this process wait for another connection.
    pub(crate) fn has_lost(&self, process: ProcessId) -> bool {
        let workers = self.by_process.lock();
        workers.get(&process).is_some_and(Worker::has_lost)
    }
}

/// How many of the streams that wait for a connection have one now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Attached {
    All,
    /// The connections that are up take no more for now.
    InPart,
    /// No connection is up.
    Nowhere,
}

/// Forgets workers that nobody waits for, when the table would grow.
fn sweep(workers: &mut FxHashMap<ProcessId, Worker>) {
    if workers.len() == workers.capacity() {
        workers.retain(|_, it| !it.connections.is_empty() || it.is_waited_for() || it.has_lost());
    }
}

impl Worker {
    fn new() -> Self {
        let token = Token::from_bytes(random_bytes());
        Self { token, connections: Vec::new(), waiting: Vec::new(), lost: Vec::new() }
    }

    fn wait(&mut self, source: &Arc<Response>) {
        // Streams that came another way, or ended, are swept when the list would grow.
        if self.waiting.len() == self.waiting.capacity() {
            self.waiting.retain(|source| source.strong_count() > 0);
        }
        self.waiting.push(Arc::downgrade(source));
    }

    fn is_waited_for(&self) -> bool {
        self.waiting.iter().any(|source| source.strong_count() > 0)
    }

    fn has_lost(&self) -> bool {
        self.lost.iter().any(|lost| !lost.is_empty())
    }

    /// The connection with the fewest streams of those that take some, without the `refused` ones.
    fn least_busy(&self, refused: &[Connection]) -> Option<Connection> {
        let usable = |it: &&Connection| it.is_usable() && !refused.iter().any(|no| no.is_same(it));
        let busy = |it: &&Connection| it.active_streams();
        self.connections.iter().filter(usable).min_by_key(busy).cloned()
    }
}

/// False when the connection takes no more streams, for now or for good.
fn open(source: &Arc<Response>, connection: &Connection) -> bool {
    let mut name = String::with_capacity(CALL_HOME.len() + SUBJECT_TEXT_BYTES);
    name.push_str(CALL_HOME);
    source.subject.write(&mut name);
    // What counts here is the subject. A stream that is asked for again has another id, because the
    // worker may have seen the one before.
    let context = &source.request.context;
    let id = context.take_stream_id();
    match connection.try_open(&source.request, &name, id) {
        Ok(Ok(call)) => {
            source.attach_call(call);
            true
        }
        refused => {
            context.return_stream_id(id);
            // Cancelled or late: the stream knows, or will see.
            refused.is_err()
        }
    }
}
