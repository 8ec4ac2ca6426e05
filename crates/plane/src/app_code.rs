//! The application codes with which a handler says what is wrong.

use std::{fmt, num::NonZeroU16};

macro_rules! app_codes {
    ($($(#[$doc:meta])* $name:ident = $number:literal, $text:literal;)+) => {
        impl AppCode {
            $(
                $(#[$doc])*
                // Of a constant, so a 0 in the list does not compile.
                pub const $name: Self = Self(NonZeroU16::new($number).unwrap());
            )+

            /// The name of a code that all services share, such as `not_found`. `None` for a code
            /// of the service's own.
            pub const fn as_str(self) -> Option<&'static str> {
                match self.0.get() { $($number => Some($text),)+ _ => None }
            }
        }
    };
}

/// The application code of an error, which a handler sets: one of the codes that all services
/// share, or one of the service's own.
///
/// The shared codes have the meanings and numbers of gRPC's status codes, so a service that moves
/// from gRPC keeps them. An application code says nothing about the transport. The
/// [`Code`](crate::Code) of such an error is `HandlerFailed`.
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
    /// The handler knows no better code.
    UNKNOWN = 2, "unknown";
    /// The request is wrong by itself, whatever the state of the service.
    INVALID_ARGUMENT = 3, "invalid_argument";
    /// Something that the request names does not exist.
    NOT_FOUND = 5, "not_found";
    /// Something that the request would create exists already.
    ALREADY_EXISTS = 6, "already_exists";
    /// The caller is authenticated and lacks the permission.
    PERMISSION_DENIED = 7, "permission_denied";
    /// A quota of the caller, or a store of the service, is used up.
    RESOURCE_EXHAUSTED = 8, "resource_exhausted";
    /// The service is not in the state that the request needs. The same request fails until that
    /// state is changed.
    FAILED_PRECONDITION = 9, "failed_precondition";
    /// The request conflicts with another one. The caller may start its whole operation again.
    ABORTED = 10, "aborted";
    /// The request goes past the end of a range.
    OUT_OF_RANGE = 11, "out_of_range";
    /// The service does not implement the operation.
    UNIMPLEMENTED = 12, "unimplemented";
    /// The service has an internal fault.
    INTERNAL = 13, "internal";
    /// The service cannot do this now. The same request may succeed later.
    UNAVAILABLE = 14, "unavailable";
    /// Data is lost or damaged and cannot be recovered.
    DATA_LOSS = 15, "data_loss";
    /// The request has no valid credentials.
    UNAUTHENTICATED = 16, "unauthenticated";
}

/// The first number for codes of a service's own.
const OWN: u16 = 1_000;

impl AppCode {
    /// Makes a code of the service's own; `None` below 1,000, the range of the codes that all
    /// services share.
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

    /// Reads the number on the wire, also one of a later version. `None` for 0, which is no code.
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
