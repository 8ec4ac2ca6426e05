//! The messages inside the frames.

use std::time::Duration;

use bytes::Bytes;
use sinew_plane::{
    AppCode, CancelReason, Code, Error, Executed, Headers, InstanceId, ProcessId, StopKind,
    StreamId, Terminal, Window,
};

use crate::{ConnectionError, Credit};

/// Fixed part of an open frame's payload, in bytes.
pub(crate) const OPEN_HEAD_BYTES: usize = 16 + 8 + 8 + 8 + 4 + 4 + 4 + 4 + 2 + 1;
/// Longest endpoint name on the wire, in bytes.
pub(crate) const MAX_ENDPOINT_BYTES: usize = 1024;
/// Longest error message on the wire, in bytes.
const MAX_MESSAGE_TEXT: usize = 4096;
/// Remaining time that means no deadline.
const NO_DEADLINE: u64 = u64::MAX;

/// A new stream, without its request body.
#[derive(Debug, Clone)]
pub struct Open {
    /// The logical stream.
    pub id: StreamId,
    /// The secret that an attach has to show for this stream. Random if the stream may be attached.
    pub secret: u64,
    /// The instance that is meant.
    pub instance: InstanceId,
    /// The endpoint's name as UTF-8, at most 1,024 bytes.
    endpoint: Bytes,
    /// Metadata.
    pub headers: Headers,
    /// Time left until the deadline, at the moment of sending.
    pub remaining: Option<Duration>,
    /// How much the handler may send before the caller has taken anything.
    pub window: Window,
    /// 0 for the first try.
    pub attempt: u8,
}

impl Open {
    /// Makes an open for the endpoint, whose further fields the caller sets. Endpoint names are
    /// under 1,024 bytes by their own rules.
    pub fn new(id: StreamId, endpoint: &str, instance: InstanceId, window: Window) -> Self {
        let endpoint = Bytes::copy_from_slice(endpoint.as_bytes());
        Self {
            id,
            secret: 0,
            instance,
            endpoint,
            headers: Headers::new(),
            remaining: None,
            window,
            attempt: 0,
        }
    }

    /// The endpoint as the peer spelled it.
    pub fn endpoint(&self) -> &str {
        // new takes text and decode admits only UTF-8, so the default is never taken.
        std::str::from_utf8(&self.endpoint).unwrap_or_default()
    }

    pub(crate) fn encode(&self, body_len: usize, out: &mut Vec<u8>) {
        out.extend(self.id.0.to_be_bytes());
        out.extend(self.secret.to_be_bytes());
        out.extend(self.instance.0.to_be_bytes());
        let micros = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(NO_DEADLINE - 1);
        out.extend(self.remaining.map_or(NO_DEADLINE, micros).to_be_bytes());
        out.extend(self.window.items.to_be_bytes());
        out.extend(self.window.bytes.to_be_bytes());
        out.extend((body_len as u32).to_be_bytes());
        out.extend((self.headers.as_block().len() as u32).to_be_bytes());
        out.extend((self.endpoint.len() as u16).to_be_bytes());
        out.push(self.attempt);
        out.extend_from_slice(&self.endpoint);
        out.extend_from_slice(self.headers.as_block());
    }

    /// Reads an open frame: the open, the length of the whole body, and the part of the body
    /// that came with it.
    pub(crate) fn decode(payload: &Bytes) -> Result<(Self, usize, Bytes), ConnectionError> {
        let mut fields = Fields(payload);
        let broken = || ConnectionError::Violation("an open frame that cannot be read");
        let mut read = || {
            let id = StreamId(u128::from_be_bytes(fields.take()?));
            let key = (id, fields.u64()?);
            let instance = InstanceId(fields.u64()?);
            let remaining = match fields.u64()? {
                NO_DEADLINE => None,
                micros => Some(Duration::from_micros(micros)),
            };
            let window = Window { items: fields.u32()?, bytes: fields.u32()? };
            let body_len = fields.u32()? as usize;
            let headers_len = fields.u32()? as usize;
            let endpoint_len = usize::from(fields.u16()?);
            let attempt = fields.take::<1>()?[0];
            Some((key, instance, remaining, window, body_len, headers_len, endpoint_len, attempt))
        };
        let (key, instance, remaining, window, body_len, headers_len, endpoint_len, attempt) =
            read().ok_or_else(broken)?;
        let headers_at = OPEN_HEAD_BYTES + endpoint_len;
        let body_at = headers_at.checked_add(headers_len).ok_or_else(broken)?;
        if endpoint_len > MAX_ENDPOINT_BYTES || body_at > payload.len() {
            return Err(broken());
        }
        if window.items == 0 || window.bytes == 0 {
            return Err(ConnectionError::Violation("a stream without any credit"));
        }
        let endpoint = payload.slice(OPEN_HEAD_BYTES..headers_at);
        std::str::from_utf8(&endpoint).map_err(|_| broken())?;
        let headers = decode_headers(&payload[headers_at..body_at])?;
        let (id, secret) = key;
        let open = Self { id, secret, instance, endpoint, headers, remaining, window, attempt };
        Ok((open, body_len, payload.slice(body_at..)))
    }
}

/// The message by which a consumer attaches an open stream to another connection, or to another
/// stream number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attach {
    /// The logical stream.
    pub id: StreamId,
    /// The secret in its open.
    pub secret: u64,
    /// 1 for the first attach of the stream, one more for each further one. The producer ignores an
    /// attach whose counter is not above the last.
    pub counter: u32,
    /// The number of the next item that it needs, which is how many whole items it has.
    pub next_item: u64,
    /// How much it has consumed, and how much more may be sent.
    pub credit: Credit,
    /// The process that opened the stream; [`ProcessId::UNKNOWN`] if it is the one that attaches.
    pub origin: ProcessId,
}

impl Attach {
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        out.extend(self.id.0.to_be_bytes());
        out.extend(self.secret.to_be_bytes());
        out.extend(self.counter.to_be_bytes());
        out.extend(self.next_item.to_be_bytes());
        encode_credit(&self.credit, out);
        out.extend(self.origin.0.to_be_bytes());
    }

    pub(crate) fn decode(payload: &[u8]) -> Option<Self> {
        let mut fields = Fields(payload);
        Some(Self {
            id: StreamId(u128::from_be_bytes(fields.take()?)),
            secret: fields.u64()?,
            counter: fields.u32()?,
            next_item: fields.u64()?,
            credit: decode_credit(&mut fields)?,
            origin: ProcessId(fields.u64()?),
        })
    }
}

/// Big-endian fields from the front of a payload.
pub(crate) struct Fields<'a>(pub(crate) &'a [u8]);

impl<'a> Fields<'a> {
    /// Bytes behind their number.
    pub(crate) fn run(&mut self) -> Option<&'a [u8]> {
        let length = usize::from(self.u16()?);
        let (run, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(run)
    }

    pub(crate) fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*head)
    }

    pub(crate) fn u16(&mut self) -> Option<u16> {
        self.take().map(u16::from_be_bytes)
    }

    pub(crate) fn u32(&mut self) -> Option<u32> {
        self.take().map(u32::from_be_bytes)
    }

    pub(crate) fn u64(&mut self) -> Option<u64> {
        self.take().map(u64::from_be_bytes)
    }
}

pub(crate) fn encode_credit(credit: &Credit, out: &mut Vec<u8>) {
    out.extend(credit.consumed.to_be_bytes());
    out.extend(credit.items.to_be_bytes());
    out.extend(credit.bytes.to_be_bytes());
}

pub(crate) fn decode_credit(fields: &mut Fields<'_>) -> Option<Credit> {
    Some(Credit { consumed: fields.u64()?, items: fields.u32()?, bytes: fields.u32()? })
}

pub(crate) fn encode_error(error: &Error, out: &mut Vec<u8>) {
    out.extend(error.code().to_wire().to_be_bytes());
    out.push(error.executed().to_wire());
    let retry = error.retry_after().map_or(0, |delay| delay.as_millis().clamp(1, u32::MAX.into()));
    out.extend((retry as u32).to_be_bytes());
    let text = error.message();
    let end = (0..=text.len().min(MAX_MESSAGE_TEXT)).rev().find(|at| text.is_char_boundary(*at));
    let text = &text.as_bytes()[..end.unwrap_or(0)];
    out.extend(error.app_code().map_or(0, AppCode::to_wire).to_be_bytes());
    // Both are bounded where the error is made.
    out.extend((text.len() as u16).to_be_bytes());
    out.extend_from_slice(text);
    out.extend((error.details().len() as u16).to_be_bytes());
    out.extend_from_slice(error.details());
}

pub(crate) fn decode_error(fields: &mut Fields<'_>) -> Option<Error> {
    let number = fields.u16()?;
    let executed = Executed::from_wire(fields.take::<1>()?[0]);
    let retry = fields.u32()?;
    let app_code = AppCode::from_wire(fields.u16()?);
    let text = fields.run()?;
    let text = String::from_utf8_lossy(&text[..text.len().min(MAX_MESSAGE_TEXT)]);
    let details = fields.run()?;
    let mut error = match Code::from_wire(number) {
        Some(code) => Error::new(code, text),
        // A code of a later version: only its word about execution can be relied on.
        None => Error::new(Code::HandlerFailed, format!("{text} (unknown code {number})")),
    };
    error = error.with_executed(executed);
    if retry > 0 {
        error = error.with_retry_after(Duration::from_millis(retry.into()));
    }
    if let Some(code) = app_code {
        error = error.with_app_code(code);
    }
    match details {
        [] => Some(error),
        // Copied, as an error may be kept for long.
        details => error.with_details(Bytes::copy_from_slice(details)).ok(),
    }
}

/// Payload of a terminal: the number of items, then what the kind needs, then facts, if any.
pub(crate) fn encode_terminal(terminal: &Terminal, items: u64, facts: &Headers, out: &mut Vec<u8>) {
    out.extend(items.to_be_bytes());
    match terminal {
        Terminal::Complete { .. } => {}
        Terminal::Failed { error } => encode_error(error, out),
        Terminal::Cancelled { reason } => out.push(reason.to_wire()),
    }
    if !facts.is_empty() {
        out.extend((facts.as_block().len() as u32).to_be_bytes());
        out.extend_from_slice(facts.as_block());
    }
}

/// Reads facts from the rest of a terminal. Bytes behind them are of a later version.
///
/// # Errors
/// The block is cut short, too large, or breaks a rule of headers.
pub(crate) fn decode_facts(fields: &mut Fields<'_>) -> Result<Headers, ConnectionError> {
    if fields.0.is_empty() {
        return Ok(Headers::new());
    }
    let length = fields.u32().map(|length| length as usize);
    let block = length.and_then(|length| fields.0.get(..length));
    decode_headers(block.ok_or(ConnectionError::Violation("facts that are cut short"))?)
}

/// Reads a header block. It is copied: headers live as long as the stream, and the read buffer
/// should not.
pub(crate) fn decode_headers(block: &[u8]) -> Result<Headers, ConnectionError> {
    Headers::decode(Bytes::copy_from_slice(block))
        .map_err(|_| ConnectionError::Violation("headers that cannot be read"))
}

pub(crate) fn stop_kind_to_wire(kind: StopKind) -> u8 {
    match kind {
        StopKind::Stop => 1,
        StopKind::Kill => 2,
    }
}

/// An unknown kind reads as the stronger one: the caller wanted the stream to end.
pub(crate) fn decode_cancel(fields: &mut Fields<'_>) -> Option<(StopKind, CancelReason)> {
    let [kind, reason] = fields.take()?;
    let kind = if kind == 1 { StopKind::Stop } else { StopKind::Kill };
    Some((kind, CancelReason::from_wire(reason)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_open_round_trips() {
        let window = Window { items: 9, bytes: 99 };
        let mut open = Open::new(StreamId(5), "a/b/c", InstanceId(6), window);
        open.headers.insert("content-type", "application/json").unwrap();
        open.remaining = Some(Duration::from_millis(1500));
        open.attempt = 2;
        let mut bytes = Vec::new();
        open.encode(10, &mut bytes);
        bytes.extend_from_slice(b"body");
        let (read, body_len, body) = Open::decode(&bytes.into()).unwrap();
        assert_eq!((read.id, read.instance, read.endpoint()), (open.id, open.instance, "a/b/c"));
        assert_eq!((read.headers, read.remaining), (open.headers, open.remaining));
        assert_eq!((read.window, read.attempt), (window, 2));
        assert_eq!((body_len, &body[..]), (10, &b"body"[..]));
    }

    #[test]
    fn errors_keep_what_a_router_needs() {
        let error =
            Error::new(Code::Overloaded, "full").with_retry_after(Duration::from_millis(250));
        let mut bytes = Vec::new();
        encode_error(&error, &mut bytes);
        let read = decode_error(&mut Fields(&bytes)).unwrap();
        assert_eq!((read.code(), read.executed()), (Code::Overloaded, Executed::No));
        assert_eq!((read.message(), read.retry_after()), ("full", error.retry_after()));
    }

    #[test]
    fn what_a_handler_says_comes_as_it_was_said() {
        let error = Error::application(AppCode::NOT_FOUND, "no model").with_details("{}").unwrap();
        let mut bytes = Vec::new();
        encode_error(&error, &mut bytes);
        let mut fields = Fields(&bytes);
        let read = decode_error(&mut fields).unwrap();
        assert_eq!((read.app_code(), read.message()), (Some(AppCode::NOT_FOUND), "no model"));
        assert_eq!((&read.details()[..], fields.0), (&b"{}"[..], &b""[..]));
        for end in 0..bytes.len() {
            assert!(decode_error(&mut Fields(&bytes[..end])).is_none(), "cut at {end}");
        }
    }

    #[test]
    fn details_over_the_limit_break_the_frame() {
        let mut bytes = vec![0; 2 + 1 + 4 + 2 + 2];
        bytes.extend(8_193_u16.to_be_bytes());
        bytes.resize(bytes.len() + 8_193, 0);
        assert!(decode_error(&mut Fields(&bytes)).is_none());
    }

    #[test]
    fn an_unknown_code_keeps_its_word_about_execution() {
        let bytes = [0xFF, 0xFF, 0, 0, 0, 0, 0, 0, 0, 0, 1, b'?', 0, 0];
        let read = decode_error(&mut Fields(&bytes)).unwrap();
        assert_eq!(read.executed(), Executed::No);
        assert!(read.message().contains("unknown code 65535"));
    }
}
