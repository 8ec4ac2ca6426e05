//! Frames written by hand from `docs/protocol.md`, to hold against what the crate writes.

use xxhash_rust::xxh3::xxh3_64;

pub(crate) const PREFACE: [u8; 8] = [0xFF, 0x53, 0x4E, 0x45, 0x57, 0xFF, 0x0D, 0x0A];

pub(crate) mod kind {
    pub(crate) const HELLO: u8 = 0x01;
    pub(crate) const OPEN: u8 = 0x02;
    pub(crate) const ACCEPT: u8 = 0x03;
    pub(crate) const ITEM: u8 = 0x04;
    pub(crate) const ITEM_BEGIN: u8 = 0x05;
    pub(crate) const CHUNK: u8 = 0x06;
    pub(crate) const COMPLETE: u8 = 0x07;
    pub(crate) const FAILED: u8 = 0x08;
    pub(crate) const CANCELLED: u8 = 0x09;
    pub(crate) const REJECT: u8 = 0x0A;
    pub(crate) const CREDIT: u8 = 0x0B;
    pub(crate) const ATTACH: u8 = 0x0C;
    pub(crate) const CANCEL: u8 = 0x0D;
    pub(crate) const DONE: u8 = 0x0E;
    pub(crate) const GRANT: u8 = 0x0F;
    pub(crate) const PING: u8 = 0x10;
    pub(crate) const PONG: u8 = 0x11;
    pub(crate) const GOAWAY: u8 = 0x12;
    pub(crate) const HEAD: u8 = 0x13;
    pub(crate) const CHECKPOINT: u8 = 0x14;
}

/// Longest payload of a frame.
pub(crate) const MAX_PAYLOAD: usize = 132_155;

/// The header alone, also with lengths that nothing may have.
pub(crate) fn header(len: u32, kind: u8, stream: u32) -> Vec<u8> {
    let mut bytes = len.to_be_bytes()[1..].to_vec();
    bytes.push(kind);
    bytes.extend(stream.to_be_bytes());
    bytes
}

pub(crate) fn frame(kind: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = header(payload.len() as u32, kind, stream);
    bytes.extend(payload);
    bytes
}

/// The frame with its check behind it.
pub(crate) fn checked(mut frame: Vec<u8>) -> Vec<u8> {
    let check = xxh3_64(&frame) as u32;
    frame.extend(check.to_be_bytes());
    frame
}

/// Preface and the shortest hello, which asks for nothing.
pub(crate) fn greeting() -> Vec<u8> {
    [&PREFACE[..], &frame(kind::HELLO, 0, &[1, 1])].concat()
}

pub(crate) fn hello_entry(key: u16, value: &[u8]) -> Vec<u8> {
    [&key.to_be_bytes(), &(value.len() as u16).to_be_bytes(), value].concat()
}

/// What an open says; change what the test is about.
pub(crate) struct Open<'a> {
    pub(crate) id: u128,
    pub(crate) secret: u64,
    pub(crate) instance: u64,
    pub(crate) micros: u64,
    pub(crate) window: (u32, u32),
    pub(crate) body_len: u32,
    pub(crate) attempt: u8,
    pub(crate) endpoint: &'a [u8],
    pub(crate) headers: &'a [u8],
    pub(crate) body: &'a [u8],
}

impl Default for Open<'_> {
    fn default() -> Self {
        Self {
            id: 7,
            secret: 0,
            instance: 8,
            micros: u64::MAX,
            window: (4, 1000),
            body_len: 0,
            attempt: 0,
            endpoint: b"a/b/c",
            headers: b"",
            body: b"",
        }
    }
}

impl Open<'_> {
    pub(crate) fn frame(&self, stream: u32) -> Vec<u8> {
        let mut out = self.id.to_be_bytes().to_vec();
        out.extend(self.secret.to_be_bytes());
        out.extend(self.instance.to_be_bytes());
        out.extend(self.micros.to_be_bytes());
        out.extend(self.window.0.to_be_bytes());
        out.extend(self.window.1.to_be_bytes());
        out.extend(self.body_len.to_be_bytes());
        out.extend((self.headers.len() as u32).to_be_bytes());
        out.extend((self.endpoint.len() as u16).to_be_bytes());
        out.push(self.attempt);
        out.extend([self.endpoint, self.headers, self.body].concat());
        frame(kind::OPEN, stream, &out)
    }
}

/// An open with its whole body.
pub(crate) fn open(stream: u32, body: &[u8]) -> Vec<u8> {
    Open { body_len: body.len() as u32, body, ..Open::default() }.frame(stream)
}

pub(crate) fn credit(consumed: u64, items: u32, bytes: u32) -> Vec<u8> {
    [&consumed.to_be_bytes()[..], &items.to_be_bytes(), &bytes.to_be_bytes()].concat()
}

/// The same with what a handler says.
pub(crate) fn application_error(
    (code, executed, retry_millis): (u16, u8, u32),
    app_code: u16,
    message: &[u8],
    details: &[u8],
) -> Vec<u8> {
    let length = |bytes: &[u8]| (bytes.len() as u16).to_be_bytes();
    [
        &code.to_be_bytes()[..],
        &[executed],
        &retry_millis.to_be_bytes(),
        &app_code.to_be_bytes(),
        &length(message),
        message,
        &length(details),
        details,
    ]
    .concat()
}

pub(crate) fn error(code: u16, executed: u8, retry_millis: u32, message: &[u8]) -> Vec<u8> {
    application_error((code, executed, retry_millis), 0, message, b"")
}
