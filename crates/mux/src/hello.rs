//! The first frame in each direction: identity, versions and limits of a side.

use sinew_plane::{Code, Error, ProcessId};

use crate::{CheckedMuxConfig, ConnectionError, Token};

/// The only version of the protocol so far.
pub const PROTOCOL_VERSION: u8 = 1;

/// Longest hello, in bytes. What a peer may send before it is known.
pub(crate) const MAX_HELLO_BYTES: usize = 4096;

/// This end keeps the streams it produces after the loss of their carrier, and takes attaches.
const RESUME: u64 = 1;

mod key {
    pub(super) const PROCESS: u16 = 1;
    pub(super) const MAX_STREAMS: u16 = 2;
    pub(super) const MAX_MESSAGE_BYTES: u16 = 3;
    pub(super) const REQUEST_WINDOW_BYTES: u16 = 4;
    pub(super) const INTEGRITY: u16 = 5;
    pub(super) const CAPABILITIES: u16 = 6;
    pub(super) const TOKEN: u16 = 7;
}

/// Identity, versions and limits of one side. A reader skips keys that it does not know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Hello {
    /// Oldest and newest protocol version it speaks.
    pub versions: (u8, u8),
    /// Its process, random per start.
    pub process: ProcessId,
    /// Most streams that it lets the other side have open at once.
    pub max_streams: u32,
    /// Largest request body or item that it takes, in bytes.
    pub max_message_bytes: u32,
    /// Bytes of request bodies that it takes before it grants more.
    pub request_window_bytes: u32,
    /// It wants a checksum after every frame.
    pub integrity: bool,
    /// Bit set of optional abilities.
    pub capabilities: u64,
    /// The token that the other side gave this process, which identifies it.
    pub token: Option<Token>,
}

impl Hello {
    pub(crate) fn of(config: &CheckedMuxConfig) -> Self {
        Self {
            versions: (PROTOCOL_VERSION, PROTOCOL_VERSION),
            process: config.process,
            max_streams: config.max_streams,
            // MuxConfig bounds it to 1 GiB.
            max_message_bytes: config.max_message_bytes as u32,
            request_window_bytes: config.request_window_bytes,
            integrity: config.integrity,
            capabilities: if config.resumes() { RESUME } else { 0 },
            token: config.token(),
        }
    }

    /// Payload: versions, then `u16` key, `u16` length, value; repeated.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        out.extend([self.versions.0, self.versions.1]);
        put(out, key::PROCESS, &self.process.0.to_be_bytes());
        put(out, key::MAX_STREAMS, &self.max_streams.to_be_bytes());
        put(out, key::MAX_MESSAGE_BYTES, &self.max_message_bytes.to_be_bytes());
        put(out, key::REQUEST_WINDOW_BYTES, &self.request_window_bytes.to_be_bytes());
        put(out, key::INTEGRITY, &[u8::from(self.integrity)]);
        put(out, key::CAPABILITIES, &self.capabilities.to_be_bytes());
        if let Some(token) = &self.token {
            put(out, key::TOKEN, token.as_bytes());
        }
    }

    pub(crate) fn decode(payload: &[u8]) -> Result<Self, ConnectionError> {
        let broken = ConnectionError::Violation("a hello that cannot be read");
        let Some((&[low, high], mut rest)) = payload.split_first_chunk::<2>() else {
            return Err(broken);
        };
        if low > PROTOCOL_VERSION || high < PROTOCOL_VERSION {
            return Err(ConnectionError::Version { peer: (low, high) });
        }
        // What a peer leaves out counts as the least it can mean.
        let mut hello = Self {
            versions: (low, high),
            process: ProcessId::UNKNOWN,
            max_streams: 1,
            max_message_bytes: 64 << 10,
            request_window_bytes: 64 << 10,
            integrity: false,
            capabilities: 0,
            token: None,
        };
        while !rest.is_empty() {
            let (key, value, tail) = entry(rest).ok_or(broken.clone())?;
            hello.set(key, value).ok_or(broken.clone())?;
            rest = tail;
        }
        Ok(hello)
    }

    fn set(&mut self, key: u16, value: &[u8]) -> Option<()> {
        let long = |value: &[u8]| value.try_into().ok().map(u64::from_be_bytes);
        let short = |value: &[u8]| value.try_into().ok().map(u32::from_be_bytes);
        match key {
            key::PROCESS => self.process = ProcessId(long(value)?),
            key::MAX_STREAMS => self.max_streams = short(value)?,
            key::MAX_MESSAGE_BYTES => self.max_message_bytes = short(value)?,
            key::REQUEST_WINDOW_BYTES => self.request_window_bytes = short(value)?,
            key::INTEGRITY => self.integrity = *value.first()? != 0,
            key::CAPABILITIES => self.capabilities = long(value)?,
            key::TOKEN => self.token = Some(Token::from_bytes(value.try_into().ok()?)),
            _ => {}
        }
        Some(())
    }

    /// True if the sender of this hello lets consumers attach again to the streams that it
    /// produces. A producer finds these streams by the process id of the consumer, so a side
    /// without a process id resumes nothing.
    pub fn resumes(&self) -> bool {
        self.capabilities & RESUME != 0 && self.process.is_known()
    }

    /// Checks that the process that answers is the one that discovery named. If `expected`
    /// is [`ProcessId::UNKNOWN`], any process may answer. If it is known, a peer that shows `UNKNOWN`
    /// fails the check.
    ///
    /// # Errors
    /// [`Code::WrongPeer`]: another process has taken the address.
    pub fn expect_process(&self, expected: ProcessId) -> Result<(), Error> {
        if !expected.is_known() || expected == self.process {
            return Ok(());
        }
        let message = "another process answers at the instance's address: the instance is gone";
        Err(Error::new(Code::WrongPeer, message))
    }
}

fn put(out: &mut Vec<u8>, key: u16, value: &[u8]) {
    out.extend(key.to_be_bytes());
    out.extend((value.len() as u16).to_be_bytes());
    out.extend(value);
}

fn entry(bytes: &[u8]) -> Option<(u16, &[u8], &[u8])> {
    let (key, rest) = bytes.split_first_chunk::<2>()?;
    let (len, rest) = rest.split_first_chunk::<2>()?;
    let (value, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes(*len)))?;
    Some((u16::from_be_bytes(*key), value, rest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::MuxConfig;

    fn encoded(hello: &Hello) -> Vec<u8> {
        let mut out = Vec::new();
        hello.encode(&mut out);
        out
    }

    #[test]
    fn a_hello_round_trips_and_skips_unknown_keys() {
        let config = MuxConfig { process: ProcessId(7), integrity: true, ..MuxConfig::default() };
        let hello = Hello::of(&config.checked().unwrap());
        let mut bytes = encoded(&hello);
        put(&mut bytes, 999, b"from the future");
        assert_eq!(Hello::decode(&bytes), Ok(hello));
        assert!(bytes.len() <= MAX_HELLO_BYTES);
    }

    #[test]
    fn a_token_is_shown_where_there_is_one_and_never_in_a_log() {
        let config = MuxConfig::default().checked().unwrap();
        let without = encoded(&Hello::of(&config));
        let token = Token::from_bytes([0x5a; Token::BYTES]);
        let hello = Hello::of(&config.clone().with_token(token));
        let bytes = encoded(&hello);
        assert_eq!(bytes.len(), without.len() + 4 + Token::BYTES);
        assert_eq!(Hello::decode(&bytes).unwrap().token, Some(token));
        assert_eq!(Hello::decode(&without).unwrap().token, None);
        for shown in [format!("{hello:?}"), format!("{:?}", config.with_token(token))] {
            assert!(!shown.contains("90") && !shown.contains("5a"), "{shown}");
        }
        let mut short = without;
        put(&mut short, key::TOKEN, &[1; Token::BYTES - 1]);
        assert!(Hello::decode(&short).is_err());
    }

    #[test]
    fn versions_must_overlap() {
        let mut bytes = encoded(&Hello::of(&MuxConfig::default().checked().unwrap()));
        bytes[0] = 1;
        bytes[1] = 3;
        assert!(Hello::decode(&bytes).is_ok(), "a newer peer that still speaks 1");
        bytes[0] = 2;
        assert_eq!(Hello::decode(&bytes), Err(ConnectionError::Version { peer: (2, 3) }));
    }

    #[test]
    fn every_cut_is_an_error_or_a_shorter_hello() {
        let bytes = encoded(&Hello::of(&MuxConfig::default().checked().unwrap()));
        for len in 0..bytes.len() {
            let _ = Hello::decode(&bytes[..len]);
        }
        assert!(Hello::decode(&bytes[..1]).is_err());
        assert!(Hello::decode(&bytes[..4]).is_err());
    }
}
