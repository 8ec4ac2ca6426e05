//! The members of the cluster: one is used at a time, and the next one if it fails.

use std::{
    fmt,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use etcd_client::{Client, ConnectOptions, Error};
use tokio::time::{Instant, timeout};

use super::{BACKEND, EtcdConfig, outage_log::OutageLog};
use crate::DiscoveryError;

/// Status codes of gRPC with which a member says something about what was asked. All others say
/// something about the member.
mod code {
    pub(super) const INVALID_ARGUMENT: i32 = 3;
    pub(super) const NOT_FOUND: i32 = 5;
    pub(super) const ALREADY_EXISTS: i32 = 6;
    pub(super) const PERMISSION_DENIED: i32 = 7;
    pub(super) const RESOURCE_EXHAUSTED: i32 = 8;
    pub(super) const FAILED_PRECONDITION: i32 = 9;
    pub(super) const OUT_OF_RANGE: i32 = 11;
    pub(super) const UNAUTHENTICATED: i32 = 16;
}

/// Why a request has no answer.
#[derive(Debug, Clone)]
pub(super) struct Fault {
    kind: Kind,
    text: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// The member does not do its work; another one may.
    Member,
    /// What was asked for is not there: a lease, mostly.
    NotFound,
    /// Trying again brings the same: the password is wrong, there are no users.
    Refused,
    /// The user may not.
    Forbidden,
    /// Any other answer that another member would give as well.
    Answer,
}

impl Fault {
    /// A fault of the member.
    pub(super) fn of_member(text: impl Into<String>) -> Self {
        Self { kind: Kind::Member, text: text.into() }
    }

    /// An answer that no other member would give differently.
    pub(super) fn answer(text: impl Into<String>) -> Self {
        Self { kind: Kind::Answer, text: text.into() }
    }

    pub(super) fn is_of_member(&self) -> bool {
        self.kind == Kind::Member
    }

    pub(super) fn is_not_found(&self) -> bool {
        self.kind == Kind::NotFound
    }

    pub(super) fn is_refusal(&self) -> bool {
        matches!(self.kind, Kind::Refused | Kind::Forbidden)
    }

    pub(super) fn is_forbidden(&self) -> bool {
        self.kind == Kind::Forbidden
    }

    /// etcd says so with the code of any other bad argument: `authentication failed, invalid user
    /// ID or password`, `user name is empty`, `authentication is not enabled`.
    fn is_about_the_user(&self) -> bool {
        let about = |word| self.text.contains(word);
        self.kind == Kind::Refused && (about("authentication") || about("user name is empty"))
    }

    fn read(error: &Error) -> Self {
        let text = match error {
            Error::GRpcStatus(status) => status.message().to_owned(),
            other => other.to_string(),
        };
        let kind = match error {
            Error::GRpcStatus(status) => match status.code() as i32 {
                code::NOT_FOUND => Kind::NotFound,
                code::PERMISSION_DENIED => Kind::Forbidden,
                code::INVALID_ARGUMENT | code::FAILED_PRECONDITION | code::UNAUTHENTICATED => {
                    Kind::Refused
                }
                code::ALREADY_EXISTS | code::RESOURCE_EXHAUSTED | code::OUT_OF_RANGE => {
                    Kind::Answer
                }
                _ => Kind::Member,
            },
            // What the client makes of an answer that renews a lease for no time.
            Error::LeaseKeepAliveError(text) if text == "lease not found" => Kind::NotFound,
            Error::InvalidArgs(_) | Error::InvalidUri(_) => Kind::Refused,
            _ => Kind::Member,
        };
        Self { kind, text }
    }

    pub(super) fn into_error(self, doing: &str) -> DiscoveryError {
        let what = format!("{doing}: {self}");
        if self.kind == Kind::Forbidden || self.is_about_the_user() {
            return DiscoveryError::Denied { backend: BACKEND, what };
        }
        DiscoveryError::Unavailable { backend: BACKEND, what, source: None }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// The members, and the connection to the one in use.
pub(super) struct Members {
    endpoints: Vec<String>,
    options: ConnectOptions,
    request_timeout: Duration,
    current: Mutex<Current>,
    /// Why the last member did not answer, while none does.
    lost: Mutex<Option<String>>,
    outages: Mutex<OutageLog>,
}

#[derive(Default)]
struct Current {
    /// Which member, counted on and on; changes with every turn to the next one.
    turn: usize,
    client: Option<Client>,
}

impl Members {
    pub(super) fn new(config: &EtcdConfig) -> Self {
        Self {
            endpoints: config.endpoints.clone(),
            options: config.options(),
            request_timeout: config.request_timeout,
            current: Mutex::default(),
            lost: Mutex::default(),
            outages: Mutex::default(),
        }
    }

    /// The members as they were given.
    pub(super) fn endpoints(&self) -> &[String] {
        &self.endpoints
    }

    /// Longest wait for one answer.
    pub(super) fn request_timeout(&self) -> Duration {
        self.request_timeout
    }

    /// Asks the member in use, and if that one fails, each other one once. Every question may
    /// therefore be asked twice and must bear it.
    pub(super) async fn call<T, F>(&self, ask: impl Fn(Client) -> F) -> Result<T, Fault>
    where
        F: Future<Output = Result<T, Error>>,
    {
        self.call_in_turn(ask).await.map(|(answer, _)| answer)
    }

    /// As [`call`](Self::call); says also whose turn it was, for [`give_up`](Self::give_up).
    pub(super) async fn call_in_turn<T, F>(
        &self,
        ask: impl Fn(Client) -> F,
    ) -> Result<(T, usize), Fault>
    where
        F: Future<Output = Result<T, Error>>,
    {
        let begun = Instant::now();
        let mut last = Fault::of_member("no member");
        for _ in &self.endpoints {
            let (turn, known) = self.current();
            let endpoint = self.endpoint(turn);
            let asked = async {
                let client = match known {
                    Some(client) => client,
                    None => self.connect(turn).await?,
                };
                ask(client).await
            };
            let fault = match timeout(self.request_timeout, asked).await {
                Ok(Ok(answer)) => {
                    self.note_answer(endpoint);
                    return Ok((answer, turn));
                }
                Ok(Err(error)) => Fault::read(&error),
                Err(_) => Fault::of_member(format!("no answer in {:?}", self.request_timeout)),
            };
            let fault = Fault { text: format!("{endpoint}: {fault}"), ..fault };
            if fault.kind != Kind::Member {
                self.note_answer(endpoint);
                return Err(fault);
            }
            tracing::debug!(%fault, "etcd member fails");
            self.give_up(turn, Some(begun));
            last = fault;
        }
        if self.lock_lost().replace(last.to_string()).is_none() {
            tracing::warn!(fault = %last, "etcd cannot be reached: keeping what is known");
        }
        Err(last)
    }

    /// Leaves the member whose turn it was, unless somebody has done so already. It has left
    /// unanswered what it was asked `since` then.
    pub(super) fn give_up(&self, turn: usize, since: Option<Instant>) {
        if let Some(since) = since {
            self.lock_outages().note_silence(since);
        }
        let mut current = self.lock();
        if current.turn == turn {
            *current = Current { turn: turn.wrapping_add(1), client: None };
        }
    }

    /// Why no member answers now; `None` when one does, or nothing was asked.
    pub(super) fn trouble(&self) -> Option<String> {
        let lost = self.lock_lost().clone();
        lost.map(|fault| format!("etcd cannot be reached: {fault}"))
    }

    /// True when etcd does not answer, or did not for a while within `window`.
    pub(super) fn had_outage(&self, window: Duration, now: Instant) -> bool {
        self.lock_outages().was_within(window, now)
    }

    fn note_answer(&self, endpoint: &str) {
        self.lock_outages().note_answer(Instant::now());
        if self.lock_lost().take().is_some() {
            tracing::info!(endpoint, "etcd can be reached again");
        }
    }

    fn current(&self) -> (usize, Option<Client>) {
        let current = self.lock();
        (current.turn, current.client.clone())
    }

    async fn connect(&self, turn: usize) -> Result<Client, Error> {
        let client = Client::connect([self.endpoint(turn)], Some(self.options.clone())).await?;
        let mut current = self.lock();
        if current.turn == turn {
            current.client = Some(client.clone());
        }
        Ok(client)
    }

    fn endpoint(&self, turn: usize) -> &str {
        // `EtcdConfig::check` leaves no empty list.
        self.endpoints.get(turn % self.endpoints.len().max(1)).map_or("", String::as_str)
    }

    fn lock_lost(&self) -> std::sync::MutexGuard<'_, Option<String>> {
        self.lost.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_outages(&self) -> std::sync::MutexGuard<'_, OutageLog> {
        self.outages.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Current> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
