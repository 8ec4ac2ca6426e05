//! Copies the items of a log to one reader.

use std::{
    future::{pending, poll_fn},
    sync::Arc,
    time::Duration,
};

use sinew_plane::{
    Code, Context, Error, Executed, ResponseSink, StopKind, Terminal, TrySendError,
    unless_cancelled,
};

use tokio::time::sleep;

use super::log::{Entered, Log, Next};

/// Items that are handed over before the reader is written to.
const BATCH: usize = 64;

/// Reads from the first item of `entered` to the end of the response, as fast as the reader gives
/// credit. Ends early when the reader is gone, cancels, or takes nothing for longer than `patience`;
/// that ends no response. What comes with `entered` is dropped before the reader has its end: it may
/// ask for the next at once.
pub(super) async fn read<G>(
    log: &Arc<Log>,
    (entered, guard): (Entered, G),
    patience: Option<Duration>,
    (context, sink): (Context, ResponseSink),
) {
    let first = entered.first;
    let mut reader = Reader { log, first, position: first, patience, sink, has_head: false };
    // A kill is also what the loss of the reader comes to.
    let ended = unless_cancelled(&context, StopKind::Kill, std::pin::pin!(reader.run())).await;
    drop((entered, guard));
    match ended {
        Ok(Ok(End::Terminal(terminal))) => reader.end(terminal),
        Ok(Ok(End::Early(error))) => reader.sink.fail(error),
        // The sink says by itself that its stream is lost or cancelled.
        Ok(Err(_)) | Err(_) => {
            if let Some(reason) = context.reason() {
                reader.sink.cancelled(reason);
            }
        }
    }
}

struct Reader<'a> {
    log: &'a Arc<Log>,
    /// The number of the first item, which is item 0 of the reader's own stream.
    first: u64,
    /// The number of the next item.
    position: u64,
    patience: Option<Duration>,
    sink: ResponseSink,
    has_head: bool,
}

enum End {
    Terminal(Terminal),
    Early(Error),
}

impl Reader<'_> {
    async fn run(&mut self) -> Result<End, Error> {
        loop {
            let log = Arc::clone(self.log);
            // Before the look: from here on no news is missed.
            let news = log.news.notified();
            self.send_what_precedes();
            match self.send_items()? {
                Sent::Waits => {
                    if let Some(error) = self.credit().await? {
                        return Ok(End::Early(error));
                    }
                }
                Sent::All => news.await,
                Sent::End(end) => return Ok(end),
            }
        }
    }

    /// Waits for credit, or until the next item is gone. The error of a reader that takes too long.
    async fn credit(&mut self) -> Result<Option<Error>, Error> {
        let Self { log, position, patience, sink, .. } = self;
        let too_long = async {
            match *patience {
                Some(patience) => sleep(patience).await,
                None => pending().await,
            }
        };
        tokio::select! {
            biased;
            ready = poll_fn(|cx| sink.poll_ready(cx)) => ready.map(|()| None),
            () = log.passes(*position) => Ok(None),
            () = too_long => {
                let message = format!("the reader took nothing for {:?}", patience.unwrap_or_default());
                Ok(Some(Error::new(Code::Exhausted, message).with_executed(Executed::Yes)))
            }
        }
    }

    /// The head, before the first item that this reader gets, and the acceptance.
    fn send_what_precedes(&mut self) {
        if self.has_head {
            return;
        }
        if let Some(head) = self.log.head() {
            self.has_head = true;
            // A head that comes too late is refused, and is then no head.
            let _ = self.sink.head(head);
        } else if self.log.is_accepted() {
            self.sink.accept();
        }
    }

    /// Hands over what is there, as far as the credit goes.
    fn send_items(&mut self) -> Result<Sent, Error> {
        let mut batched = 0;
        let sent = loop {
            match self.log.next(self.position) {
                Next::Item(item) => match self.sink.try_send(item) {
                    Ok(()) => self.sent(),
                    Err(TrySendError::Full(_)) => break Sent::Waits,
                    Err(TrySendError::Closed(error)) => return Err(error),
                },
                Next::Nothing => break Sent::All,
                Next::Expired { oldest, newest } => {
                    // Without an advance: its position may be beyond all items.
                    let error = Log::expired(self.position, (oldest, newest));
                    return Ok(Sent::End(End::Early(error)));
                }
                Next::End(terminal, facts) => {
                    if !facts.is_empty() {
                        self.sink.set_facts(facts);
                    }
                    break Sent::End(End::Terminal(terminal));
                }
            }
            batched += 1;
            if batched == BATCH {
                batched = 0;
                self.sink.flush();
            }
        };
        self.sink.flush();
        let acknowledged = self.sink.acknowledged().map(|items| self.first + items);
        self.log.advance(self.position, acknowledged.unwrap_or(self.position));
        Ok(sent)
    }

    fn sent(&mut self) {
        // A head goes before the first item or not at all.
        self.has_head = true;
        self.position += 1;
        if let Some(checkpoint) = self.log.checkpoint_at(self.position) {
            // Its length was checked when the handler attached it.
            let _ = self.sink.checkpoint_behind(checkpoint.items - self.first, checkpoint.state);
        }
    }

    fn end(self, terminal: Terminal) {
        match terminal {
            Terminal::Complete { .. } => self.sink.complete(),
            Terminal::Failed { error } if error.executed() == Executed::No => {
                self.sink.reject(error);
            }
            Terminal::Failed { error } => self.sink.fail(error),
            Terminal::Cancelled { reason } => self.sink.cancelled(reason),
        }
    }
}

enum Sent {
    /// The reader has no credit.
    Waits,
    /// There is no more at present.
    All,
    End(End),
}
