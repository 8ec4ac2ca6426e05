//! The two ends of all loads: a server and its callers, with every setting at its default.

use std::{
    future::poll_fn,
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use parking_lot::Mutex;
use sinew_plane::{
    Address, DuplexServer, DuplexTransport, EndpointName, IncomingRequest, InstanceId,
    OutgoingRequest, ResponseSink, ResponseStream, TrySendError,
};
use sinew_transport_tcp::{TcpConfig, TcpServer, TcpTransport};

/// A token with its metadata; the benchmarks use the same.
const ITEM_BYTES: usize = 64;

/// What a request asks for: the first byte of its body.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Ask {
    /// The body back, as the only item.
    Echo,
    /// [`Ends::STREAM_ITEMS`] items, as fast as they are taken.
    Stream,
    /// To be fed by [`Ends::pass`].
    Lane,
}

impl Ask {
    pub(crate) fn body(self, bytes: usize) -> Bytes {
        let mut body = vec![b'x'; bytes];
        if let Some(first) = body.first_mut() {
            *first = self as u8;
        }
        body.into()
    }
}

/// A server and callers with a connection each, in this process, over TCP.
pub(crate) struct Ends {
    server: TcpServer,
    address: Address,
    callers: Vec<TcpTransport>,
    endpoint: EndpointName,
    lanes: Arc<Mutex<Vec<ResponseSink>>>,
    item: Bytes,
}

impl Ends {
    /// Items of a stream.
    pub(crate) const STREAM_ITEMS: usize = 256;

    pub(crate) fn new(callers: usize) -> Result<Self> {
        let config = TcpConfig::default().checked()?;
        let lanes = Arc::<Mutex<Vec<ResponseSink>>>::default();
        let item = Bytes::from(vec![b'i'; ITEM_BYTES]);
        let handler = {
            let (lanes, item) = (Arc::clone(&lanes), item.clone());
            move |request: IncomingRequest<'_>, sink: ResponseSink| {
                answer(request.body, sink, &lanes, &item);
            }
        };
        let any_port = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let server = TcpServer::bind(config.clone(), any_port, Arc::new(handler))?;
        let address = server.addresses().first().context("a server has an address")?.clone();
        let callers = (0..callers).map(|_| TcpTransport::new(config.clone())).collect();
        Ok(Self { server, address, callers, endpoint: "guards/peer/ask".parse()?, lanes, item })
    }

    /// A way to open exchanges as caller `index`, for a task of its own.
    pub(crate) fn caller(&self, index: usize) -> Result<Caller> {
        let transport = self.callers.get(index).context("there are fewer callers")?.clone();
        let (address, endpoint) = (self.address.clone(), self.endpoint.clone());
        Ok(Caller { transport, address, endpoint })
    }

    /// Responses that [`pass`](Self::pass) feeds.
    pub(crate) fn lanes(&self) -> usize {
        self.lanes.lock().len()
    }

    /// Sends one item on every lane, as an engine does at the end of a step.
    pub(crate) fn pass(&self) -> Result<()> {
        let mut lanes = self.lanes.lock();
        sinew_plane::burst(|| {
            for lane in lanes.iter_mut() {
                ensure!(lane.try_send(self.item.clone()).is_ok(), "a lane has no room for an item");
                lane.flush();
            }
            Ok(())
        })
    }

    pub(crate) fn server_writes(&self) -> u64 {
        self.server.writes()
    }

    pub(crate) fn client_writes(&self) -> u64 {
        self.callers.iter().map(TcpTransport::writes).sum()
    }

    /// The port of the server, by which the kernel's counters of these connections are found.
    pub(crate) fn port(&self) -> Result<u16> {
        let address = self.address.to_string();
        let port = address.rsplit(':').next().context("an address with a port")?;
        port.parse().with_context(|| format!("the port of {address}"))
    }
}

/// One caller. Its clones share the connection.
#[derive(Clone)]
pub(crate) struct Caller {
    transport: TcpTransport,
    address: Address,
    endpoint: EndpointName,
}

impl Caller {
    pub(crate) async fn open(&self, body: Bytes) -> Result<ResponseStream> {
        let request = OutgoingRequest::new(self.endpoint.clone(), InstanceId(0), body);
        Ok(self.transport.open(&self.address, request).await?)
    }
}

/// The handler: called by a connection's reader, so what needs waiting goes to a task.
fn answer(body: Bytes, mut sink: ResponseSink, lanes: &Mutex<Vec<ResponseSink>>, item: &Bytes) {
    match body.first() {
        Some(&ask) if ask == Ask::Echo as u8 => {
            if sink.try_send(body).is_ok() {
                sink.complete();
            }
        }
        Some(&ask) if ask == Ask::Stream as u8 => {
            // Ends by itself: with its items, or with the connection.
            tokio::spawn(produce(sink, item.clone()));
        }
        Some(&ask) if ask == Ask::Lane as u8 => {
            sink.accept();
            sink.flush();
            lanes.lock().push(sink);
        }
        // Without its sink the request fails, and so does the load that sent it.
        _ => drop(sink),
    }
}

/// As a stream of ready items is sent: a flush when there is no room, and one at the end.
async fn produce(mut sink: ResponseSink, item: Bytes) {
    for _ in 0..Ends::STREAM_ITEMS {
        while let Err(refused) = sink.try_send(item.clone()) {
            sink.flush();
            if matches!(refused, TrySendError::Closed(_))
                || poll_fn(|cx| sink.poll_ready(cx)).await.is_err()
            {
                return;
            }
        }
    }
    sink.complete();
}
