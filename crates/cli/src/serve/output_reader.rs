//! A program's output into a response.

use std::{io, pin::pin};

use bytes::Bytes;
use sinew::{Error, ResponseSink, TrySendError, burst};
use tokio::io::{AsyncRead, AsyncReadExt};

use super::{lines::Lines, request_format::RequestFormat};

/// Why the output did not reach its end.
#[derive(Debug)]
pub(crate) enum Broken {
    /// The caller is gone, or the request was killed.
    Sink(Error),
    /// The pipe cannot be read.
    Pipe(io::Error),
}

/// Sends the lines of `output` until its end. Lines that are there together leave together;
/// without credit nothing is read, so the program waits at its pipe and nothing piles up here.
pub(crate) async fn read_output(
    output: impl AsyncRead,
    format: RequestFormat,
    sink: &mut ResponseSink,
) -> Result<(), Broken> {
    let mut output = pin!(output);
    let mut lines = Lines::default();
    loop {
        let read = output.read_buf(lines.buffer()).await.map_err(Broken::Pipe)?;
        let at_end = read == 0;
        while let Some(item) = send_ready(&mut lines, at_end, format, sink)? {
            sink.send(item).await.map_err(Broken::Sink)?;
        }
        if at_end {
            return Ok(());
        }
    }
}

/// Sends what is there, in one write. Returns the item for which there was no credit.
fn send_ready(
    lines: &mut Lines,
    at_end: bool,
    format: RequestFormat,
    sink: &mut ResponseSink,
) -> Result<Option<Bytes>, Broken> {
    let left = burst(|| {
        loop {
            let item = lines.next().or_else(|| if at_end { lines.rest() } else { None });
            let Some(item) = item else { return Ok(None) };
            let item = format.item(item).map_err(Broken::Sink)?;
            match sink.try_send(item) {
                Ok(()) => {}
                Err(TrySendError::Full(item)) => return Ok(Some(item)),
                Err(TrySendError::Closed(error)) => return Err(Broken::Sink(error)),
            }
        }
    });
    sink.flush();
    left
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use sinew::Context;

    use super::*;
    use crate::serve::caller::Caller;

    async fn run(input: &[u8], caller: Caller) -> (Result<(), Broken>, Vec<Bytes>) {
        let caller = Arc::new(caller);
        let mut sink = ResponseSink::new(caller.clone(), Context::new());
        let result = read_output(input, RequestFormat::Bytes, &mut sink).await;
        (result, caller.items())
    }

    #[tokio::test]
    async fn order_and_bytes_hold_whatever_the_credit() {
        let input: Vec<u8> = (0..5_000).flat_map(|n| format!("line {n}\n").into_bytes()).collect();
        let input = [&input[..], b"the last has no newline"].concat();
        for (credit, refill) in [(0, 1), (1, 7), (10_000, 1)] {
            let caller = Caller { credit: credit.into(), refill, ..Caller::default() };
            let (result, items) = run(&input, caller).await;
            assert!(result.is_ok());
            assert_eq!(items.len(), 5_001);
            assert_eq!(items.concat(), input, "credit {credit}, then {refill} at a time");
        }
    }

    #[tokio::test]
    async fn a_caller_that_is_gone_ends_it() {
        let caller = Caller { refill: 1, gone_after: Some(2), ..Caller::default() };
        let (result, items) = run(b"1\n2\n3\n4\n", caller).await;
        assert!(matches!(result, Err(Broken::Sink(_))), "{result:?}");
        assert_eq!(items.len(), 2);
    }
}
