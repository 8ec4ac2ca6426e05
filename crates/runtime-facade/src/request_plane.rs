//! Which planes requests take, as text.

use std::{fmt, str::FromStr};

/// Which planes a process calls over and is called over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RequestPlane {
    /// Direct connections first; NATS beside them when servers are configured.
    #[default]
    Auto,
    /// Direct connections alone: the mux between Sinew peers, Dynamo's frames with the rest.
    Tcp,
    /// NATS alone. Responses dial back to the caller over TCP.
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
