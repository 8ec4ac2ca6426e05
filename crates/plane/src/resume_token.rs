//! The token with which another process continues to read a stream.

use std::{fmt, str::FromStr};

use crate::{ProcessId, StreamId};

/// What it takes to continue to read a response from another process, also after the one that
/// sent the request has ended. [`ResponseStream::resume_token`](crate::ResponseStream::resume_token)
/// returns it.
///
/// The printed form is opaque: letters, digits and one dash. Whoever has it can read the response,
/// so treat it as a secret; `Debug` shows no more of it than the stream.
///
/// ```
/// use sinew_plane::{ProcessId, ResumeToken, StreamId};
///
/// let token = ResumeToken {
///     stream: StreamId(0x2a),
///     secret: 7,
///     caller: ProcessId(1),
///     worker: ProcessId(2),
///     next_item: 40,
/// };
/// let printed = token.to_string();
/// assert_eq!(printed.parse(), Ok(token.clone()));
/// // The items from 20 on, if they are retained.
/// assert_eq!(token.at(20).next_item, 20);
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct ResumeToken {
    /// The stream.
    pub stream: StreamId,
    /// The secret that an attach has to show.
    pub secret: u64,
    /// The process that sent the request.
    pub caller: ProcessId,
    /// The process that answers it. A process that is started again is another one.
    pub worker: ProcessId,
    /// The number of the next item.
    pub next_item: u64,
}

/// The version of the printed form.
const PREFIX: &str = "s1-";

/// Hexadecimal digits behind the prefix.
const DIGITS: usize = 2 * (16 + 8 + 8 + 8 + 8);

impl ResumeToken {
    /// The endpoint to which a reader of a retained response sends its request: the body is the
    /// token as it is printed, and the response is that of the stream, from the next item on.
    pub const ENDPOINT: &'static str = "sinew/stream/resume";

    /// The largest number of an item that a stream may be read from. None gets so far, and the
    /// numbers of the items behind it cannot overflow.
    pub const MAX_ITEM: u64 = u64::MAX / 2;

    /// The same stream, from another item on.
    #[must_use]
    pub fn at(&self, item: u64) -> Self {
        Self { next_item: item, ..self.clone() }
    }
}

impl fmt::Display for ResumeToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { stream, secret, caller, worker, next_item } = self;
        write!(f, "{PREFIX}{:032x}{secret:016x}{:016x}{:016x}", stream.0, caller.0, worker.0)?;
        write!(f, "{next_item:016x}")
    }
}

/// Why a text is no token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ResumeTokenError;

impl fmt::Display for ResumeTokenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let length = PREFIX.len() + DIGITS;
        write!(
            f,
            "this is no resume token, which begins with {PREFIX:?} and has {length} characters"
        )
    }
}

impl std::error::Error for ResumeTokenError {}

impl FromStr for ResumeToken {
    type Err = ResumeTokenError;

    fn from_str(text: &str) -> Result<Self, ResumeTokenError> {
        let digits = text.trim().strip_prefix(PREFIX).ok_or(ResumeTokenError)?;
        let is_hex = digits.len() == DIGITS && digits.bytes().all(|b| b.is_ascii_hexdigit());
        if !is_hex {
            return Err(ResumeTokenError);
        }
        let number = |at: usize| u64::from_str_radix(&digits[at..at + 16], 16);
        let read = || {
            let stream = u128::from_str_radix(&digits[..32], 16)?;
            Ok(Self {
                stream: StreamId(stream),
                secret: number(32)?,
                caller: ProcessId(number(48)?),
                worker: ProcessId(number(64)?),
                next_item: number(80)?,
            })
        };
        read().map_err(|_: std::num::ParseIntError| ResumeTokenError)
    }
}

impl fmt::Debug for ResumeToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResumeToken")
            .field("stream", &format_args!("{}", self.stream))
            .field("next_item", &self.next_item)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token() -> ResumeToken {
        ResumeToken {
            stream: StreamId(u128::MAX - 5),
            secret: u64::MAX - 4,
            caller: ProcessId(3),
            worker: ProcessId(u64::MAX),
            next_item: 1 << 40,
        }
    }

    #[test]
    fn what_is_printed_can_be_read_and_nothing_else() {
        let printed = token().to_string();
        assert_eq!(printed.len(), PREFIX.len() + DIGITS);
        assert_eq!(format!(" {printed}\n").parse(), Ok(token()), "as a shell may have it");
        let longer = format!("{printed}0");
        let other = printed.replace("s1-", "s2-");
        let signed = format!("s1-+{}", &printed[4..]);
        let wide = printed.replacen('f', "é", 1);
        for text in ["", "s1-", &printed[1..], &printed[..98], &longer, &other, &signed, &wide] {
            assert_eq!(text.parse::<ResumeToken>(), Err(ResumeTokenError), "{text}");
        }
    }

    #[test]
    fn debug_output_has_no_secret() {
        let shown = format!("{:?}", token());
        assert!(!shown.contains(&format!("{:x}", u64::MAX - 4)), "{shown}");
        assert!(!shown.contains(&(u64::MAX - 4).to_string()), "{shown}");
    }
}
