//! The signals that end a command: SIGINT (Ctrl-C), SIGTERM and SIGHUP.

use std::future::pending;

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::exit::{Exit, Failure};

/// SIGINT, SIGTERM and SIGHUP, from when this is made; without it they end the process at once. A
/// SIGHUP that was ignored from the start, as under `nohup`, stays ignored.
pub(crate) struct Interrupts {
    int: Signal,
    term: Signal,
    hangup: Option<Signal>,
    /// Listened to for its effect: whoever started us may have left it ignored, and then the
    /// kernel tells nobody how a child of ours has ended.
    _child: Signal,
}

impl Interrupts {
    pub(crate) fn new() -> Result<Self, Failure> {
        let listen = |kind| {
            signal(kind).map_err(|error| {
                Failure::new(Exit::SetUp, format!("cannot listen for signals: {error}"))
            })
        };
        let hangup = (!is_ignored(SignalKind::hangup())).then(|| listen(SignalKind::hangup()));
        Ok(Self {
            int: listen(SignalKind::interrupt())?,
            term: listen(SignalKind::terminate())?,
            hangup: hangup.transpose()?,
            _child: listen(SignalKind::child())?,
        })
    }

    /// Waits for `work`, or for the next signal instead: `None`.
    pub(crate) async fn or<T>(&mut self, work: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            biased;
            done = work => Some(done),
            () = self.next() => None,
        }
    }

    /// Waits for the next one. Cancel-safe.
    pub(crate) async fn next(&mut self) {
        // A stream of signals ends with the runtime; then nobody is left to wait.
        tokio::select! {
            biased;
            _ = self.int.recv() => {}
            _ = self.term.recv() => {}
            () = received(self.hangup.as_mut()) => {}
        }
    }
}

async fn received(signal: Option<&mut Signal>) {
    match signal {
        Some(signal) => drop(signal.recv().await),
        None => pending().await,
    }
}

/// True for a signal that this process was started to ignore, where that can be known.
fn is_ignored(kind: SignalKind) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or_default();
    // Signals count from 1, bits from 0.
    mask & (1 << (kind.as_raw_value() - 1)) != 0
}
