//! Where the processes of one test find each other, and how their requests travel.

use std::sync::atomic::{AtomicU32, Ordering};

use sinew::{EndpointName, PayloadFormat};
use tempfile::TempDir;

/// What keeps the entries of the instances.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Backend {
    File,
    Etcd,
}

/// How requests travel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Plane {
    Tcp,
    Nats,
}

/// How payloads are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Codec {
    Json,
    Msgpack,
}

impl Codec {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::Msgpack => "msgpack",
        }
    }

    pub(crate) fn format(self) -> PayloadFormat {
        match self {
            Self::Json => PayloadFormat::Json,
            Self::Msgpack => PayloadFormat::Msgpack,
        }
    }
}

/// A deployment of its own: an endpoint that no other test uses, and the variables that lead all
/// processes to it.
pub(crate) struct Place {
    pub(crate) endpoint: EndpointName,
    pub(crate) plane: Plane,
    backend: Backend,
    /// The root of the file store.
    pub(crate) folder: TempDir,
}

impl Place {
    pub(crate) fn new(backend: Backend, plane: Plane) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let (process, number) = (std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let endpoint = format!("interop-{process}-{number}/backend/generate").parse().unwrap();
        Self { endpoint, plane, backend, folder: tempfile::tempdir().unwrap() }
    }

    /// What sets up a process, a stock one and ours alike.
    pub(crate) fn variables(&self) -> Vec<(String, String)> {
        let mut all = Vec::new();
        match self.backend {
            Backend::File => {
                all.push(("DYN_DISCOVERY_BACKEND", "file".to_owned()));
                all.push(("DYN_FILE_KV", self.folder.path().display().to_string()));
            }
            Backend::Etcd => {
                all.push(("DYN_DISCOVERY_BACKEND", "etcd".to_owned()));
                all.push(("ETCD_ENDPOINTS", service("SINEW_TEST_ETCD")));
            }
        }
        match self.plane {
            Plane::Tcp => all.push(("DYN_REQUEST_PLANE", "tcp".to_owned())),
            Plane::Nats => {
                all.push(("DYN_REQUEST_PLANE", "nats".to_owned()));
                all.push(("NATS_SERVER", service("SINEW_TEST_NATS")));
            }
        }
        all.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
    }

    /// The same and more, for one process.
    pub(crate) fn variables_and(&self, more: &[(&str, &str)]) -> Vec<(String, String)> {
        let more = more.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        self.variables().into_iter().chain(more).collect()
    }
}

/// The address of a server that was started for the tests.
pub(crate) fn service(variable: &str) -> String {
    std::env::var(variable).unwrap_or_else(|_| {
        panic!("{variable} is not set: run these tests with `cargo xtask test --interop`")
    })
}
