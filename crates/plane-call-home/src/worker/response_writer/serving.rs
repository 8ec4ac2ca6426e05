//! The task of a connection: it reads the caller's messages, and writes what the socket did not
//! take at once.

use std::{net::Shutdown, sync::Arc};

use sinew_dynamo_wire::ControlMessage;
use sinew_net::{keep_alive, silence};
use sinew_plane::{CancelReason, Code, Error, Executed, StopKind};
use socket2::SockRef;
use tokio_util::sync::CancellationToken;

use super::{ResponseWriter, broken};
use crate::worker::control_reader::ControlReader;

/// How the task of a connection ends.
pub(crate) enum End {
    /// Everything was written, and the caller has closed or had its time to.
    Closed,
    Lost(Error),
    Killed,
    Violation(&'static str),
}

impl ResponseWriter {
    /// The task of the connection: hears what the caller says, and writes what the socket did
    /// not take at once. Ends with the connection.
    /// `control` has heard so far what the caller says.
    pub(crate) async fn run(self: Arc<Self>, control: ControlReader, ending: CancellationToken) {
        tokio::select! {
            biased;
            () = ending.cancelled() => {
                let error = Error::draining("the worker has shut down");
                self.cut(error, CancelReason::Shutdown);
            }
            end = self.serve(control) => match end {
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
        // Nothing may follow; what was written still arrives. The last holder closes it anyway.
        if Arc::strong_count(&self) > 1 {
            let _ = SockRef::from(&self.socket).shutdown(Shutdown::Write);
        }
    }

    async fn serve(&self, mut control: ControlReader) -> End {
        let heard = self.hear(&mut control);
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
        let dead_after = self.config.driver.mux.keepalive_timeout;
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
    async fn hear(&self, control: &mut ControlReader) -> End {
        loop {
            match control.next(&self.socket).await {
                Ok(ControlMessage::Stop) => {
                    self.state.lock().asked = true;
                    self.context.cancel(StopKind::Stop, CancelReason::Caller);
                    self.wake();
                }
                Ok(ControlMessage::Kill) => return End::Killed,
                Ok(ControlMessage::Sentinel) => return End::Violation("a sentinel"),
                Ok(ControlMessage::Ready) => return End::Violation("a word out of place"),
                Err(end) => return end,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use sinew_plane::Context;
    use sinew_telemetry::{ConnectionMetrics, Side};
    use tokio::net::{TcpListener, TcpStream};

    use super::*;
    use sinew_net::TCP;

    use crate::{TcpStreamClientConfig, worker::response_writer::CallerKind};

    /// A response that goes on is looked after by the kernel, one that is over soon costs nothing.
    #[tokio::test(start_paused = true)]
    async fn a_connection_is_kept_alive_once_it_lasts() {
        let config = TcpStreamClientConfig::default().checked().unwrap();
        let silence = silence(config.driver.mux.keepalive_timeout);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (near, _far) = tokio::join!(TcpStream::connect(address), listener.accept());
        let sink = ResponseWriter::new(
            near.unwrap(),
            Context::new(),
            Arc::new(config),
            CallerKind::Dynamo,
            ConnectionMetrics::new(&TCP, Side::Serving).opened(),
        );
        let kept = || SockRef::from(&sink.socket).keepalive().unwrap();
        let ending = CancellationToken::new();
        let task = tokio::spawn(Arc::clone(&sink).run(ControlReader::default(), ending.clone()));
        let moment = Duration::from_millis(1);
        tokio::time::timeout(silence - moment, task).await.unwrap_err();
        assert!(!kept(), "it may be over soon");
        tokio::time::timeout(2 * moment, std::future::pending::<()>()).await.unwrap_err();
        assert!(kept());
        assert_eq!(SockRef::from(&sink.socket).tcp_keepalive_time().unwrap(), silence);
        ending.cancel();
    }
}
