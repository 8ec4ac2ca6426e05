//! The addresses of instances and listeners, and the policy for listening in plain text.

use std::{fmt, net::SocketAddr, str::FromStr, sync::Arc};

/// Longest address, in bytes: room for a host name of 253 bytes or a socket path of 108, a
/// scheme and a query.
const MAX_ADDRESS_BYTES: usize = 1024;

/// An address with the scheme of the transport that dials it: `tcp://127.0.0.1:9001`,
/// `unix:///run/user/1000/sinew/1f.sock`, `memory://5f2a`. Clones share one allocation.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Address {
    text: Arc<str>,
    scheme_len: usize,
}

impl Address {
    /// Makes an address from a scheme and the text after `://`.
    ///
    /// # Errors
    /// [`AddressError`] when the scheme is not `[a-z0-9+-]+` or the whole is over 1,024 bytes.
    pub fn new(scheme: &str, rest: &str) -> Result<Self, AddressError> {
        format!("{scheme}://{rest}").parse()
    }

    /// A TCP address.
    pub fn tcp(address: SocketAddr) -> Self {
        Self { text: format!("tcp://{address}").into(), scheme_len: 3 }
    }

    /// The text before `://`.
    pub fn scheme(&self) -> &str {
        &self.text[..self.scheme_len]
    }

    /// The text after `://`.
    pub fn rest(&self) -> &str {
        &self.text[self.scheme_len + 3..]
    }

    /// The whole address.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let fault =
            |reason| AddressError::Malformed { given: text.chars().take(64).collect(), reason };
        if text.len() > MAX_ADDRESS_BYTES {
            return Err(fault("is longer than 1,024 bytes"));
        }
        let Some((scheme, rest)) = text.split_once("://") else {
            return Err(fault("has no scheme: write tcp://HOST:PORT or unix:///PATH"));
        };
        let is_scheme_byte =
            |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'+');
        if scheme.is_empty() || !scheme.bytes().all(is_scheme_byte) {
            return Err(fault("has a scheme that is not lower-case letters and digits"));
        }
        if rest.is_empty() || rest.bytes().any(|b| b.is_ascii_control()) {
            return Err(fault("says nothing after the scheme, or holds control characters"));
        }
        Ok(Self { text: text.into(), scheme_len: scheme.len() })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Address({})", self.text)
    }
}

/// Which addresses a plain-text listener may bind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum BindPolicy {
    /// Loopback only, so that no plain text crosses a network.
    #[default]
    LoopbackOnly,
    /// Any address, in plain text, if the operator allows it.
    Insecure,
}

impl BindPolicy {
    /// Checks an address before it is bound.
    ///
    /// # Errors
    /// [`AddressError::PlainTextOffLoopback`], whose text names both remedies.
    pub fn check(self, address: SocketAddr) -> Result<(), AddressError> {
        if self == Self::Insecure || address.ip().to_canonical().is_loopback() {
            return Ok(());
        }
        Err(AddressError::PlainTextOffLoopback { address })
    }
}

/// Why an address cannot be used. Nothing was bound or dialled. The caller has to pass another
/// address.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum AddressError {
    /// The text is not an address.
    Malformed {
        /// At most 64 characters of what was given.
        given: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A plain-text listener was asked to bind beyond loopback.
    PlainTextOffLoopback {
        /// The address asked for.
        address: SocketAddr,
    },
}

impl fmt::Display for AddressError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed { given, reason } => write!(f, "address {given:?} {reason}"),
            Self::PlainTextOffLoopback { address } => write!(
                f,
                "refusing to listen on {address} in plain text: bind a loopback address such as \
                 127.0.0.1:{port}, or accept that anyone on the network can read and send \
                 requests and say so (--insecure, or insecure = true)",
                port = address.port()
            ),
        }
    }
}

impl std::error::Error for AddressError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schemes_and_rests_come_apart() {
        let unix: Address = "unix:///run/a.sock".parse().unwrap();
        assert_eq!((unix.scheme(), unix.rest()), ("unix", "/run/a.sock"));
        let tcp = Address::tcp("127.0.0.1:9001".parse().unwrap());
        assert_eq!((tcp.scheme(), tcp.rest()), ("tcp", "127.0.0.1:9001"));
        for bad in ["", "127.0.0.1:1", "://x", "tcp://", "TCP://x", "tcp://a\nb"] {
            assert!(bad.parse::<Address>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn plain_text_stays_on_loopback_unless_told() {
        for (address, allowed) in [
            ("127.0.0.1:0", true),
            ("127.8.9.1:80", true),
            ("[::1]:80", true),
            ("[::ffff:127.0.0.1]:80", true),
            ("0.0.0.0:80", false),
            ("[::]:80", false),
            ("192.168.1.4:80", false),
        ] {
            let address: SocketAddr = address.parse().unwrap();
            assert_eq!(BindPolicy::LoopbackOnly.check(address).is_ok(), allowed, "{address}");
            assert!(BindPolicy::Insecure.check(address).is_ok());
        }
        let refusal = BindPolicy::LoopbackOnly.check("0.0.0.0:80".parse().unwrap()).unwrap_err();
        assert!(refusal.to_string().contains("--insecure"));
    }
}
