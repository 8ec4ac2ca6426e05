//! The items of a request on their way to the worker that fetches them.

use std::{future::poll_fn, io, sync::Arc};

use bytes::{Buf, Bytes};
use parking_lot::Mutex;
use sinew_dynamo_wire::{ControlMessage, Subject, empty_item_frame, item_prefix, sealed_prefix};
use sinew_plane::{BoxStream, Context};
use tokio::{io::AsyncWriteExt, net::TcpStream};
use tokio_util::sync::CancellationToken;

use super::{response_connection::ResponseConnection, server::Shared};

/// A request stream that a worker is expected to fetch, or is fetching.
pub(crate) struct Output {
    pub(crate) subject: Subject,
    pub(crate) context: Context,
    /// Until a worker has come for them.
    items: Mutex<Option<BoxStream<'static, Bytes>>>,
    /// Nobody wants them to be sent any more.
    dropped: CancellationToken,
}

impl Output {
    pub(crate) fn new(
        subject: Subject,
        context: Context,
        items: BoxStream<'static, Bytes>,
    ) -> Self {
        let items = Mutex::new(Some(items));
        Self { subject, context, items, dropped: CancellationToken::new() }
    }

    /// The items, for the first who asks.
    pub(crate) fn claim(&self) -> Option<BoxStream<'static, Bytes>> {
        self.items.lock().take()
    }

    /// True once somebody has come for them, or nobody shall.
    pub(crate) fn is_claimed(&self) -> bool {
        self.items.lock().is_none()
    }

    /// Nobody shall fetch them any more. True if nobody has.
    pub(crate) fn withdraw(&self) -> bool {
        self.items.lock().take().is_some()
    }

    /// Sends the items, then the one frame that says how they ended. Cut short when the
    /// registration is dropped or the request killed: without a closing frame the worker takes
    /// the stream for lost, and kills.
    pub(crate) async fn send(
        &self,
        items: BoxStream<'static, Bytes>,
        connection: ResponseConnection,
    ) {
        tokio::select! {
            biased;
            () = self.dropped.cancelled() => {}
            () = self.send_all(items, connection) => {}
        }
    }

    async fn send_all(&self, mut items: BoxStream<'static, Bytes>, connection: ResponseConnection) {
        let sealed = connection.writes_checks();
        let (mut socket, _counted) = connection.into_socket();
        let last = loop {
            let next = poll_fn(|cx| items.as_mut().poll_next(cx));
            let item = tokio::select! {
                biased;
                () = self.context.stopped() => break self.stopped_by(),
                item = next => item,
            };
            let Some(item) = item else { break ControlMessage::Sentinel };
            let sent = tokio::select! {
                biased;
                () = self.context.killed() => return,
                sent = send_item(&mut socket, item, sealed) => sent,
            };
            if sent.is_err() {
                // The worker wants no more, or is gone; which of them its response tells.
                return;
            }
        };
        if socket.write_all(&last.frame()).await.is_ok() {
            // It fails only when the worker is gone already, which is as good.
            let _ = socket.shutdown().await;
        }
    }

    fn stopped_by(&self) -> ControlMessage {
        if self.context.is_killed() { ControlMessage::Kill } else { ControlMessage::Stop }
    }
}

async fn send_item(socket: &mut TcpStream, item: Bytes, sealed: bool) -> io::Result<()> {
    if item.is_empty() {
        return socket.write_all(&empty_item_frame()).await;
    }
    let prefix = if sealed { sealed_prefix(&item) } else { item_prefix(item.len()) };
    // One write for both where the socket takes it, and no copy of the item.
    let mut frame = prefix.chain(item);
    socket.write_all_buf(&mut frame).await
}

/// What withdraws an output when it is dropped, and cuts it while it is being fetched.
pub(crate) struct Expectation {
    output: Arc<Output>,
    shared: Arc<Shared>,
}

impl Expectation {
    pub(crate) fn new(output: Arc<Output>, shared: Arc<Shared>) -> Self {
        Self { output, shared }
    }
}

impl Drop for Expectation {
    fn drop(&mut self) {
        self.output.dropped.cancel();
        if self.output.withdraw() {
            self.shared.streams.remove(self.output.subject, self.output.context.id());
        }
    }
}
