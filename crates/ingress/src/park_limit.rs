//! A limit on the time that an item waits for its reader.

use std::{
    pin::Pin,
    sync::Arc,
    task::{self, Poll},
    time::Duration,
};

use bytes::Bytes;
use parking_lot::Mutex;
use sinew_plane::{
    Checkpoint, Code, Context, Error, Executed, Headers, ItemRun, ResponseSink, SinkTarget,
    Terminal, TrySendError,
};
use tokio::time::{Sleep, sleep};

/// A sink that fails its response if its reader takes no item for too long. The time is counted
/// while the handler waits for credit.
pub(crate) struct ParkLimit {
    limit: Duration,
    state: Mutex<State>,
}

struct State {
    /// `None` once this limit has failed the response.
    sink: Option<ResponseSink>,
    /// The timer, started when the handler began to wait.
    timer: Option<Pin<Box<Sleep>>>,
}

impl ParkLimit {
    /// Wraps the sink if there is a limit. Call it within a tokio runtime.
    pub(crate) fn wrap(
        sink: ResponseSink,
        context: &Context,
        limit: Option<Duration>,
    ) -> ResponseSink {
        let Some(limit) = limit else { return sink };
        let state = Mutex::new(State { sink: Some(sink), timer: None });
        ResponseSink::new(Arc::new(Self { limit, state }), context.clone())
    }

    fn error(&self) -> Error {
        let message = format!(
            "the reader took nothing for {:?}, the limit of this endpoint (park_limit)",
            self.limit
        );
        Error::new(Code::Exhausted, message).with_executed(Executed::Yes)
    }
}

impl SinkTarget for ParkLimit {
    fn poll_ready(&self, cx: &mut task::Context<'_>) -> Poll<Result<(), Error>> {
        let mut state = self.state.lock();
        let Some(sink) = &mut state.sink else { return Poll::Ready(Err(self.error())) };
        let ready = sink.poll_ready(cx);
        if ready.is_ready() {
            state.timer = None;
            return ready;
        }
        let limit = self.limit;
        let timer = state.timer.get_or_insert_with(|| Box::pin(sleep(limit)));
        if timer.as_mut().poll(cx).is_pending() {
            return Poll::Pending;
        }
        let sink = state.sink.take();
        drop(state);
        if let Some(sink) = sink {
            sink.fail(self.error());
        }
        Poll::Ready(Err(self.error()))
    }

    fn try_send(&self, item: Bytes) -> Result<(), TrySendError> {
        match &mut self.state.lock().sink {
            Some(sink) => sink.try_send(item),
            None => Err(TrySendError::Closed(self.error())),
        }
    }

    fn head(&self, head: Headers) {
        if let Some(sink) = &mut self.state.lock().sink {
            // An error is for the handler, and its own sink has looked for it already.
            let _ = sink.head(head);
        }
    }

    fn set_facts(&self, facts: Headers) {
        if let Some(sink) = &mut self.state.lock().sink {
            sink.set_facts(facts);
        }
    }

    fn acknowledged(&self) -> Option<u64> {
        self.state.lock().sink.as_ref()?.acknowledged()
    }

    fn checkpoint(&self, checkpoint: Checkpoint) {
        if let Some(sink) = &mut self.state.lock().sink {
            // Its length was checked by the sink in front.
            let _ = sink.checkpoint_behind(checkpoint.items, checkpoint.state);
        }
    }

    fn try_send_run(&self, run: &mut ItemRun) -> Result<usize, Error> {
        match &mut self.state.lock().sink {
            Some(sink) => sink.try_send_run(run),
            None => Err(self.error()),
        }
    }

    fn accept(&self) {
        if let Some(sink) = &mut self.state.lock().sink {
            sink.accept();
        }
    }

    fn finish(&self, terminal: Terminal) {
        // Taken out first: telling the caller may call anything.
        let Some(sink) = self.state.lock().sink.take() else { return };
        match terminal {
            Terminal::Complete { .. } => sink.complete(),
            Terminal::Failed { error } if error.executed() == Executed::No => sink.reject(error),
            Terminal::Failed { error } => sink.fail(error),
            Terminal::Cancelled { reason } => sink.cancelled(reason),
        }
    }

    fn flush(&self) {
        if let Some(sink) = &self.state.lock().sink {
            sink.flush();
        }
    }

    fn keep_for(&self, grace: Duration) {
        if let Some(sink) = &self.state.lock().sink {
            sink.keep_for(grace);
        }
    }
}

#[cfg(test)]
mod tests {
    use sinew_plane::ResponseMetadata;

    use super::*;

    /// A reader that takes two items and then none.
    #[derive(Default)]
    struct Reader(Mutex<(usize, Option<Terminal>, ResponseMetadata)>);

    impl SinkTarget for Reader {
        fn poll_ready(&self, _: &mut task::Context<'_>) -> Poll<Result<(), Error>> {
            if self.0.lock().0 < 2 { Poll::Ready(Ok(())) } else { Poll::Pending }
        }

        fn try_send(&self, item: Bytes) -> Result<(), TrySendError> {
            let mut state = self.0.lock();
            if state.0 == 2 {
                return Err(TrySendError::Full(item));
            }
            state.0 += 1;
            Ok(())
        }

        fn head(&self, head: Headers) {
            self.0.lock().2.set_head(head);
        }

        fn set_facts(&self, facts: Headers) {
            self.0.lock().2.set_facts(facts);
        }

        fn accept(&self) {}

        fn finish(&self, terminal: Terminal) {
            self.0.lock().1 = Some(terminal);
        }

        fn flush(&self) {}
    }

    #[tokio::test(start_paused = true)]
    async fn a_response_whose_reader_stays_away_fails_after_the_limit_and_not_before() {
        let (reader, context) = (Arc::new(Reader::default()), Context::new());
        let limit = Duration::from_secs(5);
        let sink = ResponseSink::new(Arc::clone(&reader) as Arc<dyn SinkTarget>, context.clone());
        let mut sink = ParkLimit::wrap(sink, &context, Some(limit));
        let began = tokio::time::Instant::now();
        for _ in 0..2 {
            sink.send(Bytes::new()).await.unwrap();
        }
        let error = sink.send(Bytes::new()).await.unwrap_err();
        assert!(began.elapsed() >= limit && began.elapsed() < limit * 2);
        assert_eq!((error.code(), error.executed()), (Code::Exhausted, Executed::Yes));
        assert!(error.message().contains("park_limit"), "{error}");
        let ended = reader.0.lock().1.clone();
        assert!(
            matches!(ended, Some(Terminal::Failed { error }) if error.code() == Code::Exhausted)
        );
        assert!(sink.try_send(Bytes::new()).is_err());
    }

    #[test]
    fn head_and_facts_pass() {
        let (reader, context) = (Arc::new(Reader::default()), Context::new());
        let sink = ResponseSink::new(Arc::clone(&reader) as Arc<dyn SinkTarget>, context.clone());
        let mut sink = ParkLimit::wrap(sink, &context, Some(Duration::from_secs(5)));
        let mut said = Headers::new();
        said.insert("a", "b").unwrap();
        sink.head(said.clone()).unwrap();
        sink.complete_with(said.clone());
        let state = reader.0.lock();
        assert_eq!((state.2.head(), state.2.facts()), (Some(&said), &said));
        assert!(state.1.is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_limit_it_waits() {
        let (reader, context) =
            (Arc::new(Reader(Mutex::new((2, None, ResponseMetadata::new())))), Context::new());
        let sink = ResponseSink::new(reader, context.clone());
        let mut sink = ParkLimit::wrap(sink, &context, None);
        let waiting = tokio::time::timeout(Duration::from_secs(3600), sink.send(Bytes::new()));
        assert!(waiting.await.is_err());
    }
}
