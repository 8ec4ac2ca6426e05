//! What a handler says went wrong, in words that callers of every service understand.

use std::{fmt, num::NonZeroU16};

macro_rules! app_codes {
    ($($(#[$doc:meta])* $name:ident = $number:literal, $text:literal;)+) => {
        impl AppCode {
            $(
                $(#[$doc])*
                // Of a constant, so a 0 in the list does not compile.
                pub const $name: Self = Self(NonZeroU16::new($number).unwrap());
            )+

            /// The word of a code that all services share: `not_found`, ... `None` for a code of the
            /// service's own.
            pub const fn as_str(self) -> Option<&'static str> {
                match self.0.get() { $($number => Some($text),)+ _ => None }
            }
        }
    };
}

/// What a handler says went wrong: one of the codes that all services share, or one of its own.
///
/// The shared ones have the meanings and the numbers of gRPC's status codes, so that a service that
/// moves from one to the other keeps them. A code says nothing about transport: that is
/// [`Code`](crate::Code), which stays `HandlerFailed`.
///
/// ```
/// use sinew_plane::{AppCode, Error};
///
/// let error = Error::application(AppCode::NOT_FOUND, "there is no model `small`");
/// assert_eq!(error.app_code(), Some(AppCode::NOT_FOUND));
/// // The service's own begin at 1,000.
/// assert!(AppCode::own(1_001).is_some() && AppCode::own(17).is_none());
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AppCode(NonZeroU16);

app_codes! {
    /// The service cannot say more.
    UNKNOWN = 2, "unknown";
    /// The request is wrong by itself, whatever the state of the service.
    INVALID_ARGUMENT = 3, "invalid_argument";
    /// What the request names is not there.
    NOT_FOUND = 5, "not_found";
    /// What the request would make is there already.
    ALREADY_EXISTS = 6, "already_exists";
    /// The caller is known and may not do this.
    PERMISSION_DENIED = 7, "permission_denied";
    /// A quota of the caller, or a store of the service, is used up.
    RESOURCE_EXHAUSTED = 8, "resource_exhausted";
    /// The service is not in the state that the request needs; the same request fails until
    /// somebody changes that.
    FAILED_PRECONDITION = 9, "failed_precondition";
    /// A conflict with another request; the caller may begin its whole work anew.
    ABORTED = 10, "aborted";
    /// Past the end of what there is.
    OUT_OF_RANGE = 11, "out_of_range";
    /// The service does not do this.
    UNIMPLEMENTED = 12, "unimplemented";
    /// The service is broken.
    INTERNAL = 13, "internal";
    /// The service cannot do this now; the same request may succeed in a moment.
    UNAVAILABLE = 14, "unavailable";
    /// Data is lost or damaged beyond repair.
    DATA_LOSS = 15, "data_loss";
    /// The request does not say who calls, or not so that the service believes it.
    UNAUTHENTICATED = 16, "unauthenticated";
}

/// The first number that a service may give a meaning of its own.
const OWN: u16 = 1_000;

impl AppCode {
    /// A code of the service's own; `None` below 1,000, where those that all services share stand.
    pub const fn own(number: u16) -> Option<Self> {
        match NonZeroU16::new(number) {
            Some(own) if number >= OWN => Some(Self(own)),
            _ => None,
        }
    }

    /// The number on the wire.
    pub const fn to_wire(self) -> u16 {
        self.0.get()
    }

    /// Reads the number on the wire, also one of a later version; `None` for 0, which is no code.
    pub const fn from_wire(number: u16) -> Option<Self> {
        match NonZeroU16::new(number) {
            Some(number) => Some(Self(number)),
            None => None,
        }
    }
}

impl fmt::Display for AppCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.as_str() {
            Some(word) => f.pad(word),
            None => self.0.fmt(f),
        }
    }
}

impl fmt::Debug for AppCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_but_none_survives_the_wire() {
        assert_eq!(AppCode::from_wire(0), None);
        for number in [1, 2, 5, 16, 17, 999, 1_000, u16::MAX] {
            assert_eq!(AppCode::from_wire(number).unwrap().to_wire(), number);
        }
    }

    #[test]
    fn a_service_has_the_numbers_from_1_000_on() {
        assert_eq!((AppCode::own(0), AppCode::own(5), AppCode::own(999)), (None, None, None));
        assert_eq!(AppCode::own(1_000).unwrap().to_string(), "1000");
        assert_eq!(AppCode::UNAUTHENTICATED.to_string(), "unauthenticated");
    }
}
