//! The last frames of responses whose callers read slowly.

use std::{fmt, sync::Arc};

use bytes::Bytes;
use sinew_plane::{CancelReason, Error, ResponseSink};

use super::shared::Shared;

/// Sends frames for which there was no credit when their response ended.
#[derive(Clone)]
pub struct LateFrames(Arc<Shared>);

impl LateFrames {
    pub(super) fn new(shared: &Arc<Shared>) -> Self {
        Self(Arc::clone(shared))
    }

    /// Sends `frames` as credit arrives, then completes the response. Returns at once: a task of
    /// the server waits, which a shutdown cuts. There is at most one such task for each response,
    /// so admission bounds their number.
    pub fn send(&self, sink: ResponseSink, frames: Vec<Bytes>) {
        let shared = &self.0;
        shared.spawn(finish(sink, frames, Arc::clone(shared)));
    }
}

async fn finish(mut sink: ResponseSink, frames: Vec<Bytes>, shared: Arc<Shared>) {
    let sending = async {
        for frame in frames {
            sink.send(frame).await?;
        }
        Ok::<(), Error>(())
    };
    tokio::select! {
        biased;
        sent = sending => {
            if sent.is_ok() {
                sink.complete();
            }
        }
        () = shared.cut.cancelled() => sink.cancelled(CancelReason::Shutdown),
    }
}

impl fmt::Debug for LateFrames {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LateFrames")
    }
}
