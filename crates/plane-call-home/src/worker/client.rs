//! The worker's side: dials callers back.

use std::{
    borrow::Cow,
    net::{Shutdown as Direction, SocketAddr},
    sync::Arc,
    time::Duration,
};

use sinew_dynamo_wire::{
    CallHomeHandshake, ParsedConnectionInfo, ParsedOffer, StreamType, context_id, json_frame,
};
use sinew_mux::Token;
use sinew_net::{TCP, keep_alive};
use sinew_plane::{
    BoxFuture, Code, Context, Decision, Error, Origin, RequestStream, RequestStreamClient,
    ResponsePlaneClient, ResponseSink, Shutdown, SinkTarget,
};
use sinew_telemetry::{ConnectionMetrics, Side};
use socket2::SockRef;
use tokio::{io::AsyncWriteExt, net::TcpStream};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    address::CallerAddresses,
    control_reader::ControlReader,
    dial::{DialBudget, confirmed, dial, in_time},
    pool::{At, Pool, PoolStats},
    request_items::RequestItems,
    response_writer::{CallerKind, ResponseWriter},
};
use crate::config::CheckedTcpStreamClientConfig;

/// The worker's end of the call-home plane: it delivers responses to callers, over shared
/// connections if the caller offers them, else over one connection each.
pub struct TcpStreamClient {
    config: Arc<CheckedTcpStreamClientConfig>,
    addresses: Arc<CallerAddresses>,
    tasks: TaskTracker,
    /// The grace is over: connections end now.
    ending: CancellationToken,
    pool: Pool,
    /// Counts the connections of one response each.
    meter: ConnectionMetrics,
}

impl TcpStreamClient {
    /// Makes a client, which dials when it has a response to deliver. Call it within a tokio
    /// runtime.
    pub fn new(config: CheckedTcpStreamClientConfig) -> Self {
        let config = Arc::new(config);
        let addresses = CallerAddresses::new(&config);
        Self {
            pool: Pool::new(Arc::clone(&config), Arc::clone(&addresses)),
            addresses,
            config,
            tasks: TaskTracker::new(),
            ending: CancellationToken::new(),
            meter: ConnectionMetrics::new(&TCP, Side::Serving),
        }
    }

    /// The use of the shared connections.
    pub fn pool(&self) -> PoolStats {
        self.pool.usage()
    }

    fn check_info(&self, text: &str, stream_type: StreamType, origin: Origin) -> Decision {
        let info = ParsedConnectionInfo::read(text);
        let read = info.and_then(|info| check_direction(&info, stream_type).map(|()| info));
        match read {
            Ok(info) => self.addresses.check(&info.address, origin),
            Err(error) => Decision::Now(Err(error)),
        }
    }

    /// Waits for the responses for at most `grace`, cuts the rest, and joins every task.
    pub async fn close(&self, grace: Duration) -> Shutdown {
        self.tasks.close();
        let (mut cut_streams, ()) = tokio::join!(self.pool.end(grace), async {
            let _ = tokio::time::timeout(grace, self.tasks.wait()).await;
        });
        cut_streams += self.tasks.len();
        self.ending.cancel();
        self.tasks.wait().await;
        Shutdown { cut_streams, cut_tasks: 0 }
    }

    fn read_info<'a>(
        &self,
        text: &'a str,
        stream_type: StreamType,
        context: &Context,
    ) -> Result<ParsedConnectionInfo<'a>, Error> {
        if self.tasks.is_closed() {
            return Err(Error::draining("the worker is shutting down"));
        }
        let info = ParsedConnectionInfo::read(text)?;
        check_direction(&info, stream_type)?;
        // Requests of Dynamo may have ids of any form, which no context can take over.
        if context_id(&info.context).is_some_and(|id| id != context.id()) {
            let message = "the connection info belongs to another request";
            return Err(Error::new(Code::InvalidPayload, message));
        }
        Ok(info)
    }

    /// Dials for the items of a request.
    async fn fetch(
        &self,
        info: &str,
        origin: Origin,
        context: Context,
    ) -> Result<RequestStream, Error> {
        let info = self.read_info(info, StreamType::Request, &context)?;
        let address = self.addresses.resolve(&info.address, origin).await?;
        let mut dial_budget = DialBudget::new(&self.config);
        let socket = self.dial(address, &info, false, &context, &mut dial_budget).await?;
        // The caller may have no item for long, and only the kernel sees that it is gone.
        keep_alive(&socket, self.config.driver.mux.keepalive_timeout).map_err(|cause| {
            let message = format!("the connection to the caller broke: {cause}");
            Error::new(Code::ConnectFailed, message).with_source(cause)
        })?;
        // Nothing follows the handshake in this direction.
        let _ = SockRef::from(&socket).shutdown(Direction::Write);
        let codec = self.config.two_part_codec();
        let budget = self.config.driver.budget.as_ref();
        let items = RequestItems::new(socket, context.clone(), codec, budget);
        Ok(RequestStream::new(items, context))
    }

    /// A connection with the handshake sent.
    async fn dial(
        &self,
        address: SocketAddr,
        info: &ParsedConnectionInfo<'_>,
        confirm: bool,
        context: &Context,
        dial_budget: &mut DialBudget,
    ) -> Result<TcpStream, Error> {
        let mut socket = dial(&self.config, address, context, dial_budget).await?;
        let subject = info.subject.clone().into_owned();
        let handshake = CallHomeHandshake { subject, stream_type: info.stream_type, confirm };
        in_time(context, socket.write_all(&json_frame(&handshake))).await?.map_err(|cause| {
            let message = format!("the caller at {address} hung up: {cause}");
            Error::new(Code::ConnectFailed, message).with_source(cause)
        })?;
        Ok(socket)
    }

    /// The stream that the caller has asked for over a shared connection, if it has. What is wrong
    /// with a request is for [`deliver`](Self::deliver) to say.
    fn at_once(&self, info: &str, origin: Origin, context: &Context) -> Option<ResponseSink> {
        if !self.config.pool {
            return None;
        }
        let info = self.read_info(info, StreamType::Response, context).ok()?;
        let offer = info.sinew.as_ref()?;
        let (token, process) = (Token::from_bytes(offer.token()?), offer.process());
        let address = info.address.parse().ok()?;
        self.addresses.policy.judge(address, origin).ok()?;
        self.pool.asked(At { address, token, process }, &info.subject, context)
    }

    async fn deliver(
        &self,
        info: &str,
        origin: Origin,
        context: Context,
    ) -> Result<ResponseSink, Error> {
        let info = self.read_info(info, StreamType::Response, &context)?;
        let address = self.addresses.resolve(&info.address, origin).await?;
        let mut dial_budget = DialBudget::new(&self.config);
        let offer = info.sinew.as_ref();
        if let Some((offer, token)) = offer.and_then(|it| Some((it, it.token()?)))
            && self.config.pool
        {
            let token = Token::from_bytes(token);
            let (at, dial_budget) =
                (At { address, token, process: offer.process() }, &mut dial_budget);
            let others = self.addresses.others(&info.address, address, origin);
            if !others.is_empty() {
                self.pool.note_others(at, others);
            }
            match self.pool.stream(at, &info.subject, &context, dial_budget).await {
                Ok(sink) => return Ok(sink),
                Err(error) if error.code() == Code::Cancelled => return Err(error),
                Err(error) if error.code() == Code::DeadlineExceeded => return Err(error),
                Err(error) => {
                    tracing::debug!(%error, "no shared connection, so one of its own");
                }
            }
        }
        self.deliver_alone(address, &info, context, dial_budget).await
    }

    /// Over a connection of its own. Nothing runs before a caller that can say so has said that it
    /// still waits: one that gave up, or was told that nothing ran, has sent its request elsewhere.
    async fn deliver_alone(
        &self,
        address: SocketAddr,
        info: &ParsedConnectionInfo<'_>,
        context: Context,
        mut dial_budget: DialBudget,
    ) -> Result<ResponseSink, Error> {
        let confirm = info.sinew.as_ref().is_some_and(ParsedOffer::confirms);
        let socket = self.dial(address, info, confirm, &context, &mut dial_budget).await?;
        let mut control = ControlReader::default();
        if confirm {
            confirmed(&socket, &mut control, address, &context, &mut dial_budget).await?;
        }
        let caller = info.sinew.as_ref().map_or(CallerKind::Dynamo, |offer| CallerKind::Sinew {
            knows_heartbeats: offer.knows_heartbeats(),
            knows_metadata: offer.knows_metadata(),
        });
        let meter = self.meter.opened();
        let config = Arc::clone(&self.config);
        let sink = ResponseWriter::new(socket, context.clone(), config, caller, meter);
        self.tasks.spawn(Arc::clone(&sink).run(control, self.ending.clone()));
        Ok(ResponseSink::new(sink as Arc<dyn SinkTarget>, context))
    }
}

impl ResponsePlaneClient for TcpStreamClient {
    fn connect<'a>(
        &'a self,
        connection_info: &'a str,
        origin: Origin,
        context: Context,
    ) -> BoxFuture<'a, Result<ResponseSink, Error>> {
        Box::pin(async move {
            if let Some(sink) = self.at_once(connection_info, origin, &context) {
                return Ok(sink);
            }
            // Boxed: mostly the caller has asked already, and room to dial is not made for nothing.
            Box::pin(self.deliver(connection_info, origin, context)).await
        })
    }

    /// Refuses what is no connection info of this plane, and addresses that are not dialled.
    fn check(&self, connection_info: &str, origin: Origin) -> Decision {
        self.check_info(connection_info, StreamType::Response, origin)
    }

    fn address<'a>(&self, connection_info: &'a str) -> Option<Cow<'a, str>> {
        ParsedConnectionInfo::read(connection_info).ok().map(|info| info.address)
    }
}

impl RequestStreamClient for TcpStreamClient {
    fn connect_request_stream<'a>(
        &'a self,
        connection_info: &'a str,
        origin: Origin,
        context: Context,
    ) -> BoxFuture<'a, Result<RequestStream, Error>> {
        Box::pin(self.fetch(connection_info, origin, context))
    }

    fn check_request_stream(&self, connection_info: &str, origin: Origin) -> Decision {
        self.check_info(connection_info, StreamType::Request, origin)
    }
}

fn check_direction(info: &ParsedConnectionInfo<'_>, meant: StreamType) -> Result<(), Error> {
    if info.stream_type == meant {
        return Ok(());
    }
    let message = "the connection info is for the other direction";
    Err(Error::new(Code::InvalidPayload, message))
}

impl Drop for TcpStreamClient {
    fn drop(&mut self) {
        self.ending.cancel();
    }
}

impl std::fmt::Debug for TcpStreamClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TcpStreamClient")
            .field("responses", &self.tasks.len())
            .field("pool", &self.pool.usage())
            .finish_non_exhaustive()
    }
}
