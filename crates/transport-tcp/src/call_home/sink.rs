//! The worker's end of a connection that carries one response.

use std::{
    io::{self, IoSlice},
    net::Shutdown,
    sync::{Arc, Weak},
    task::{self, Poll, Waker},
};

use bytes::Bytes;
use parking_lot::Mutex;
use sinew_codec::TWO_PART_PREFIX_BYTES;
use sinew_plane::{
    CancelReason, Code, Context, Error, Executed, Flush, OnCancel, SinkTarget, StopKind, Terminal,
    TrySendError, defer_flush,
};
use socket2::SockRef;
use tokio::{net::TcpStream, sync::Notify};
use tokio_util::sync::CancellationToken;

use crate::{
    call_home::{
        config::CheckedTcpStreamClientConfig,
        ear::Ear,
        message::{ControlMessage, ResponseStreamPrologue, begun_frame, json_frame},
        queue::{Frame, Queue, SLICES},
    },
    socket::{keep_alive, silence},
};

/// A response on its way to the caller, over a connection of its own.
pub(crate) struct LineSink {
    socket: TcpStream,
    context: Context,
    config: Arc<CheckedTcpStreamClientConfig>,
    /// The caller is a Sinew one: it can be told why a stream was ended that it did not stop.
    exact: bool,
    state: Mutex<State>,
    /// The task has to look at the state again.
    changed: Notify,
    /// Itself, for bursts and to be told of a cancel.
    this: Weak<Self>,
}

#[derive(Default)]
struct State {
    queue: Queue,
    waker: Option<Waker>,
    listens: bool,
    begun: bool,
    /// The terminal is queued, or there will be none; what is queued is the last.
    ended: bool,
    /// The connection ends without a sentinel, so this side has to say that nothing follows.
    half_close: bool,
    /// The socket takes no more for now.
    blocked: bool,
    /// Nothing is written any more.
    closed: Option<Error>,
    /// The caller has asked for the end.
    asked: bool,
}

impl LineSink {
    pub(crate) fn new(
        socket: TcpStream,
        context: Context,
        config: Arc<CheckedTcpStreamClientConfig>,
        exact: bool,
    ) -> Arc<Self> {
        Arc::new_cyclic(|this| Self {
            socket,
            context,
            config,
            exact,
            state: Mutex::default(),
            changed: Notify::new(),
            this: this.clone(),
        })
    }

    /// Queues what stands before the first item, once.
    fn begin(state: &mut State) {
        if !std::mem::replace(&mut state.begun, true) {
            state.push_control(begun_frame());
        }
    }

    /// Writes what waits as far as the socket takes it; the task does the rest.
    fn write_out(&self) {
        let waker = {
            let mut state = self.state.lock();
            if state.blocked || state.closed.is_some() {
                return;
            }
            self.write_queue(&mut state);
            if state.blocked || state.ended || state.closed.is_some() {
                self.changed.notify_one();
            }
            if state.queue.has_room() || state.closed.is_some() { state.waker.take() } else { None }
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    fn write_queue(&self, state: &mut State) {
        while !state.queue.is_empty() {
            let mut slices = [IoSlice::new(&[]); SLICES];
            let filled = state.queue.fill(&mut slices);
            match self.socket.try_write_vectored(&slices[..filled]) {
                Ok(0) => return state.close(broken(&io::ErrorKind::WriteZero.into())),
                Ok(bytes) => state.queue.advance(bytes),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    state.blocked = true;
                    return;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return state.close(broken(&error).with_source(error)),
            }
        }
    }

    /// Why nothing more is taken.
    fn closed_by(&self, state: &State) -> Option<Error> {
        if let Some(error) = &state.closed {
            return Some(error.clone());
        }
        if self.context.is_killed() {
            let reason = self.context.reason().unwrap_or(CancelReason::Caller);
            let code = match reason {
                CancelReason::DeadlineExceeded => Code::DeadlineExceeded,
                _ => Code::Cancelled,
            };
            return Some(Error::new(code, reason.to_string()).with_executed(Executed::Yes));
        }
        None
    }

    /// The caller or the connection is gone, or wants no more: what waits is dropped, and the
    /// handler is told.
    fn cut(&self, error: Error, reason: CancelReason) {
        let waker = {
            let mut state = self.state.lock();
            state.close(error);
            state.waker.take()
        };
        self.context.cancel(StopKind::Kill, reason);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// The task of the connection: hears what the caller says, and writes what the socket did
    /// not take at once. Ends with the connection.
    pub(crate) async fn run(self: Arc<Self>, ending: CancellationToken) {
        tokio::select! {
            biased;
            () = ending.cancelled() => {
                let error = Error::draining("the worker has shut down");
                self.cut(error, CancelReason::Shutdown);
            }
            end = self.serve() => match end {
                End::Closed => {}
                End::Lost(error) => self.cut(error, CancelReason::Disconnected),
                End::Killed => {
                    let error = Error::new(Code::Cancelled, CancelReason::Caller.to_string());
                    self.cut(error.with_executed(Executed::Yes), CancelReason::Caller);
                }
                End::Violation(what) => {
                    let error = Error::new(Code::Violation, format!("the caller sent {what}"));
                    tracing::debug!(what, "a call-home connection is cut");
                    self.cut(error, CancelReason::Disconnected);
                }
            },
        }
        // Nothing may follow; what was written still arrives.
        let _ = SockRef::from(&self.socket).shutdown(Shutdown::Write);
    }

    async fn serve(&self) -> End {
        let mut ear = Ear::default();
        let heard = self.hear(&mut ear);
        tokio::pin!(heard);
        let written = tokio::select! {
            biased;
            // A caller that has seen the last frame may close before this task has looked.
            end = &mut heard => match end {
                End::Lost(_) if self.is_written() => return End::Closed,
                end => return end,
            },
            written = self.write_all() => written,
            end = self.keep_alive() => Err(end),
        };
        if let Err(end) = written {
            return end;
        }
        // The last frame is written: the caller closes when it has seen it.
        match tokio::time::timeout(self.config.close_timeout, heard).await {
            Ok(End::Lost(_)) | Err(_) => End::Closed,
            Ok(end) => end,
        }
    }

    /// Has the kernel look after the connection once it may have been silent for so long that
    /// the kernel would look. Most responses are over by then, and save the system calls. Ends
    /// only when that fails.
    async fn keep_alive(&self) -> End {
        let dead_after = self.config.tcp.mux.keepalive_timeout;
        tokio::time::sleep(silence(dead_after)).await;
        match keep_alive(&self.socket, dead_after) {
            Ok(()) => std::future::pending().await,
            Err(cause) => End::Lost(broken(&cause).with_source(cause)),
        }
    }

    fn is_written(&self) -> bool {
        let state = self.state.lock();
        state.ended && state.queue.is_empty() && state.closed.is_none()
    }

    /// Until the last frame is written.
    async fn write_all(&self) -> Result<(), End> {
        loop {
            let changed = self.changed.notified();
            let blocked = {
                let state = self.state.lock();
                if let Some(error) = &state.closed {
                    return Err(End::Lost(error.clone()));
                }
                if state.ended && state.queue.is_empty() {
                    if state.half_close {
                        // It fails only when the caller is gone already, which is as good.
                        let _ = SockRef::from(&self.socket).shutdown(Shutdown::Write);
                    }
                    return Ok(());
                }
                state.blocked
            };
            if !blocked {
                changed.await;
                continue;
            }
            self.writable().await?;
            self.state.lock().blocked = false;
            self.write_out();
        }
    }

    /// Waits until the socket takes something. A caller that takes its time is within its rights:
    /// the kernel finds out whether it is gone. For a request that was killed there is no more
    /// than the time for a close.
    async fn writable(&self) -> Result<(), End> {
        let given_up = async {
            self.context.killed().await;
            tokio::time::sleep(self.config.close_timeout).await;
        };
        tokio::select! {
            biased;
            ready = self.socket.writable() => {
                ready.map_err(|cause| End::Lost(broken(&cause).with_source(cause)))
            }
            () = given_up => {
                let message = "the caller does not read its response";
                Err(End::Lost(Error::new(Code::ConnectionLost, message)))
            }
        }
    }

    /// Until the caller closes, kills or breaks the protocol.
    async fn hear(&self, ear: &mut Ear) -> End {
        loop {
            match ear.next(&self.socket).await {
                Ok(ControlMessage::Stop) => {
                    self.state.lock().asked = true;
                    self.context.cancel(StopKind::Stop, CancelReason::Caller);
                    self.wake();
                }
                Ok(ControlMessage::Kill) => return End::Killed,
                Ok(ControlMessage::Sentinel) => return End::Violation("a sentinel"),
                Err(end) => return end,
            }
        }
    }

    fn wake(&self) {
        let waker = self.state.lock().waker.take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// The last frames for a terminal.
    fn queue_end(&self, state: &mut State, terminal: Terminal) {
        let status = match terminal {
            Terminal::Complete { .. } => {
                Self::begin(state);
                None
            }
            Terminal::Failed { error } => Some(ResponseStreamPrologue::failed(&error)),
            // The caller knows why, or cannot be told but by silence.
            Terminal::Cancelled { .. } if state.asked || !self.exact => {
                state.half_close = true;
                return;
            }
            Terminal::Cancelled { reason } => Some(ResponseStreamPrologue::cancelled(reason)),
        };
        if let Some(status) = status {
            state.push_control(json_frame(&status));
        }
        state.push_control(ControlMessage::Sentinel.frame());
    }
}

/// How the task of a connection ends.
pub(crate) enum End {
    /// Everything was written, and the caller has closed or had its time to.
    Closed,
    Lost(Error),
    Killed,
    Violation(&'static str),
}

pub(crate) fn broken(cause: &io::Error) -> Error {
    Error::new(Code::ConnectionLost, format!("the connection to the caller broke: {cause}"))
}

impl State {
    fn push_control(&mut self, frame: Bytes) {
        self.queue.push(Frame::whole(frame));
    }

    fn close(&mut self, error: Error) {
        self.closed.get_or_insert(error);
        self.ended = true;
        self.queue.clear();
    }
}

impl OnCancel for LineSink {
    fn on_cancel(&self, _kind: StopKind, _reason: CancelReason) {
        self.wake();
    }
}

impl Flush for LineSink {
    fn flush(&self) {
        self.write_out();
    }
}

impl SinkTarget for LineSink {
    fn poll_ready(&self, cx: &mut task::Context<'_>) -> Poll<Result<(), Error>> {
        let mut state = self.state.lock();
        if let Some(error) = self.closed_by(&state) {
            return Poll::Ready(Err(error));
        }
        if state.queue.has_room() || state.ended {
            return Poll::Ready(Ok(()));
        }
        state.waker = Some(cx.waker().clone());
        let listens = std::mem::replace(&mut state.listens, true);
        drop(state);
        if !listens {
            // Most responses never wait, so most need no listener.
            self.context.on_cancel(self.this.clone());
        }
        Poll::Pending
    }

    fn try_send(&self, item: Bytes) -> Result<(), TrySendError> {
        let limit = self.config.max_frame_bytes - TWO_PART_PREFIX_BYTES;
        if item.len() > limit {
            let message = format!("an item of {} bytes is over the limit of {limit}", item.len());
            return Err(TrySendError::Closed(Error::new(Code::TooLarge, message)));
        }
        let mut state = self.state.lock();
        if let Some(error) = self.closed_by(&state) {
            return Err(TrySendError::Closed(error));
        }
        if state.ended {
            let error = Error::new(Code::HandlerFailed, "the stream has ended already");
            return Err(TrySendError::Closed(error));
        }
        if !state.queue.has_room() && !state.blocked {
            // A burst that is longer than the queue does not wait for its own end.
            self.write_queue(&mut state);
            if state.blocked {
                self.changed.notify_one();
            }
            if let Some(error) = &state.closed {
                return Err(TrySendError::Closed(error.clone()));
            }
        }
        if !state.queue.has_room() {
            return Err(TrySendError::Full(item));
        }
        Self::begin(&mut state);
        state.queue.push(Frame::item(item));
        Ok(())
    }

    fn accept(&self) {
        let mut state = self.state.lock();
        if !state.ended {
            Self::begin(&mut state);
        }
    }

    fn finish(&self, terminal: Terminal) {
        let mut state = self.state.lock();
        if std::mem::replace(&mut state.ended, true) {
            return;
        }
        if self.context.is_killed() {
            // After a kill the caller expects no more than the end.
            state.queue.drop_unbegun();
            let reason = self.context.reason().unwrap_or(CancelReason::Caller);
            self.queue_end(&mut state, Terminal::Cancelled { reason });
        } else {
            self.queue_end(&mut state, terminal);
        }
        drop(state);
        self.changed.notify_one();
    }

    fn flush(&self) {
        let deferred = self.this.upgrade().is_some_and(|this| defer_flush(&this));
        if !deferred {
            self.write_out();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::net::TcpListener;

    use super::*;
    use crate::TcpStreamClientConfig;

    /// A response that goes on is looked after by the kernel, one that is over soon costs nothing.
    #[tokio::test(start_paused = true)]
    async fn a_connection_is_kept_alive_once_it_lasts() {
        let config = TcpStreamClientConfig::default().checked().unwrap();
        let silence = silence(config.tcp.mux.keepalive_timeout);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (near, _far) = tokio::join!(TcpStream::connect(address), listener.accept());
        let sink = LineSink::new(near.unwrap(), Context::new(), Arc::new(config), true);
        let kept = || SockRef::from(&sink.socket).keepalive().unwrap();
        let ending = CancellationToken::new();
        let task = tokio::spawn(Arc::clone(&sink).run(ending.clone()));
        let moment = Duration::from_millis(1);
        tokio::time::timeout(silence - moment, task).await.unwrap_err();
        assert!(!kept(), "it may be over soon");
        tokio::time::timeout(2 * moment, std::future::pending::<()>()).await.unwrap_err();
        assert!(kept());
        assert_eq!(SockRef::from(&sink.socket).tcp_keepalive_time().unwrap(), silence);
        ending.cancel();
    }
}
