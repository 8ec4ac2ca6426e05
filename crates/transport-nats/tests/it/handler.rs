//! Handlers that tests look into.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use bytes::Bytes;
use parking_lot::{Condvar, Mutex};
use sinew_plane::{
    EndpointName, Error, Headers, InstanceId, PlaneRequest, RequestPlaneClient, RequestPlaneHandler,
};
use sinew_transport_nats::{NatsConnection, NatsEndpoint, NatsRequestClient, NatsServer};

/// One request as a handler saw it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) target: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) payload: Bytes,
}

/// Keeps what it is given, and answers with what it was told to.
pub(crate) struct Recorder {
    pub(crate) seen: Mutex<Vec<Seen>>,
    pub(crate) accepted: AtomicUsize,
    answer: Box<dyn Fn(usize) -> Result<(), Error> + Send + Sync>,
    gate: Gate,
}

impl Recorder {
    /// Answers request number n, from 0, with `answer(n)`.
    pub(crate) fn answering(
        answer: impl Fn(usize) -> Result<(), Error> + Send + Sync + 'static,
    ) -> Arc<Self> {
        Arc::new(Self {
            seen: Mutex::default(),
            accepted: AtomicUsize::new(0),
            answer: Box::new(answer),
            gate: Gate::default(),
        })
    }

    pub(crate) fn accepting() -> Arc<Self> {
        Self::answering(|_| Ok(()))
    }

    /// Holds up the plane's reader, as no handler should.
    pub(crate) fn close_gate(&self) {
        *self.gate.is_closed.lock() = true;
    }

    pub(crate) fn open_gate(&self) {
        *self.gate.is_closed.lock() = false;
        self.gate.changed.notify_all();
    }

    pub(crate) fn count(&self) -> usize {
        self.seen.lock().len()
    }
}

#[derive(Default)]
struct Gate {
    is_closed: Mutex<bool>,
    changed: Condvar,
}

impl Gate {
    /// Waits while it is closed. Needs a runtime of several threads then, on which the other
    /// tasks go on.
    fn pass(&self) {
        let mut is_closed = self.is_closed.lock();
        if *is_closed {
            tokio::task::block_in_place(|| {
                while *is_closed {
                    self.changed.wait(&mut is_closed);
                }
            });
        }
    }
}

impl RequestPlaneHandler for Recorder {
    fn accept(&self, request: PlaneRequest<'_>) -> Result<(), Error> {
        assert_eq!(request.transport.as_str(), "nats");
        let headers = request.headers.iter();
        let headers = headers.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        let seen = Seen { target: request.target.to_owned(), headers, payload: request.payload };
        let number = {
            let mut all = self.seen.lock();
            all.push(seen);
            all.len() - 1
        };
        self.gate.pass();
        (self.answer)(number)?;
        self.accepted.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }
}

pub(crate) fn name(text: &str) -> EndpointName {
    text.parse().unwrap()
}

/// Serves instance 1f of `ns1/backend/generate`.
pub(crate) async fn serve(connection: &NatsConnection, handler: &Arc<Recorder>) -> NatsEndpoint {
    let handler = Arc::clone(handler) as Arc<dyn RequestPlaneHandler>;
    let server = NatsServer::new(connection.clone(), handler);
    server.serve(&name("ns1/backend/generate"), InstanceId(0x1f)).await.unwrap()
}

/// What [`serve`] is sent to.
pub(crate) const SUBJECT: &str = "ns1_backend.generate-1f";

pub(crate) async fn send(connection: &NatsConnection, payload: &str) -> Result<Bytes, Error> {
    let client = NatsRequestClient::new(connection.clone());
    client.send_request(SUBJECT.to_owned(), payload.to_owned().into(), Headers::new()).await
}
