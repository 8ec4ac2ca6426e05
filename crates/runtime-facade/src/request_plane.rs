//! The planes that requests take, and their text form.

use std::{fmt, str::FromStr};

/// The planes over which a process sends and receives requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RequestPlane {
    /// Direct connections first, and NATS as well if servers are configured.
    #[default]
    Auto,
    /// Direct connections only: the mux with Sinew peers, Dynamo's frames with Dynamo peers.
    Tcp,
    /// NATS only. The worker dials the caller back over TCP with the response.
    Nats,
}

impl FromStr for RequestPlane {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Self::Auto),
            "tcp" => Ok(Self::Tcp),
            "nats" => Ok(Self::Nats),
            _ => Err(format!("{text:?} is not a request plane: write auto, tcp or nats")),
        }
    }
}

impl fmt::Display for RequestPlane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::Tcp => "tcp",
            Self::Nats => "nats",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn planes_are_read_and_shown_alike() {
        for text in ["auto", "tcp", "nats"] {
            assert_eq!(text.parse::<RequestPlane>().unwrap().to_string(), text);
        }
        assert!("http".parse::<RequestPlane>().unwrap_err().contains("tcp or nats"));
    }
}
