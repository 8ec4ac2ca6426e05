//! The two ends of a connection, and how each numbers its streams.

/// Which end of a connection a side is. It decides how the side numbers the streams that it opens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Made the connection; opens streams 1, 3, 5, ...
    Dialler,
    /// Accepted it; opens streams 2, 4, 6, ...
    Acceptor,
}

impl Role {
    /// The other end.
    pub const fn peer(self) -> Self {
        match self {
            Self::Dialler => Self::Acceptor,
            Self::Acceptor => Self::Dialler,
        }
    }

    /// The first stream that this end opens.
    pub const fn first_stream(self) -> u32 {
        match self {
            Self::Dialler => 1,
            Self::Acceptor => 2,
        }
    }

    /// True when this end opens streams with this number.
    pub const fn opens(self, stream: u32) -> bool {
        stream != 0 && stream % 2 == self.first_stream() % 2
    }
}
