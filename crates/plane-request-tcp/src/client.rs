//! The calling side: requests to any host, over shared connections.

use std::{
    collections::HashMap,
    sync::{
        Arc, OnceLock, Weak,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use parking_lot::RwLock;
use sinew_codec::{EncodedParts, TcpRequestCodec, TcpRequestError};
use sinew_dynamo_wire::request_headers;
use sinew_plane::{BoxFuture, Code, Error, Executed, Headers, RequestPlaneClient};
use tokio::{sync::Semaphore, time::Instant};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    CheckedTcpRequestConfig,
    target::{self, Common, PoolFull, RequestSlot, Target},
};

/// Connections that may end under a request before it is written, before it is given up.
const TRIES: usize = 3;

/// Sends requests in Dynamo's frames and waits for their acknowledgements.
///
/// Addresses are `HOST:PORT/PATH`, as in the records of Dynamo workers; the path is the text after
/// the first `/`. All requests to one `HOST:PORT` share its connections. Each carries many requests
/// at once, and another connection is made only if all are full. Clones share the connections;
/// dropping the last one closes them.
#[derive(Clone)]
pub struct TcpRequestClient {
    inner: Arc<Inner>,
}

struct Inner {
    common: Arc<Common>,
    hosts: RwLock<HashMap<String, Arc<Target>>>,
    sweeper: OnceLock<()>,
}

impl TcpRequestClient {
    /// Makes a client without connections. They are made when they are first needed.
    pub fn new(config: CheckedTcpRequestConfig) -> Self {
        let common = Common {
            dials: Semaphore::new(config.max_connects),
            config,
            tasks: TaskTracker::new(),
            closed: CancellationToken::new(),
            writes: Arc::new(AtomicU64::new(0)),
        };
        let inner =
            Inner { common: Arc::new(common), hosts: RwLock::default(), sweeper: OnceLock::new() };
        Self { inner: Arc::new(inner) }
    }

    /// The number of open connections.
    pub fn connections(&self) -> usize {
        self.inner.hosts.read().values().map(|host| host.connections()).sum()
    }

    /// The number of hosts with a connection or waiting requests.
    pub fn hosts(&self) -> usize {
        self.inner.hosts.read().len()
    }

    /// The number of writes to sockets since the client was made.
    pub fn writes(&self) -> u64 {
        self.inner.common.writes.load(Ordering::Relaxed)
    }

    /// Connects to the host of `address` before the first request, unless there is a connection.
    /// Cancel-safe.
    ///
    /// # Errors
    /// The address is not valid, or no connection can be made.
    pub async fn warm_up(&self, address: &str) -> Result<(), Error> {
        let (host, _) = parse(address)?;
        self.place(host).await.map(drop)
    }

    /// Closes all connections and waits for their tasks. Requests in flight fail; new ones are
    /// refused.
    pub async fn close(&self) {
        self.inner.common.tasks.close();
        self.inner.common.closed.cancel();
        self.inner.common.tasks.wait().await;
        self.inner.hosts.write().clear();
    }

    async fn send(&self, address: &str, payload: Bytes, headers: Headers) -> Result<Bytes, Error> {
        let (host, path) = parse(address)?;
        let mut frame = self.encode(path, &headers, payload)?;
        for _ in 0..TRIES {
            let place = self.place(host).await?;
            let pending = match place.submit(frame) {
                Ok(pending) => pending,
                Err(back) => {
                    frame = back;
                    continue;
                }
            };
            return match pending.await {
                Ok(outcome) => outcome.map(|()| Bytes::new()),
                Err(_) => Err(target::closed().with_executed(Executed::Maybe)),
            };
        }
        let message = format!("connections to {host} end as soon as they are made");
        Err(Error::new(Code::ConnectFailed, message))
    }

    fn encode(&self, path: &str, headers: &Headers, payload: Bytes) -> Result<EncodedParts, Error> {
        let codec = TcpRequestCodec::new(self.inner.common.config.max_message_bytes);
        let headers = request_headers::encode(headers, path);
        codec.encode_request(path, &headers, payload).map_err(|error| {
            let code = match error {
                TcpRequestError::MessageTooLarge { .. }
                | TcpRequestError::HeadersTooLarge { .. } => Code::TooLarge,
                _ => Code::InvalidPayload,
            };
            Error::new(code, error.to_string())
        })
    }

    async fn place(&self, address: &str) -> Result<RequestSlot, Error> {
        loop {
            match self.host(address)?.place().await {
                Ok(place) => return Ok(place),
                Err(PoolFull::Failed(error)) => return Err(error),
                Err(PoolFull::Retired) => {}
            }
        }
    }

    fn host(&self, address: &str) -> Result<Arc<Target>, Error> {
        let Inner { common, hosts, .. } = &*self.inner;
        if common.closed.is_cancelled() {
            return Err(target::closed());
        }
        if let Some(host) = hosts.read().get(address) {
            return Ok(Arc::clone(host));
        }
        self.inner.start_sweeper();
        let mut hosts = hosts.write();
        if hosts.len() >= common.config.max_hosts && !hosts.contains_key(address) {
            evict_one(&mut hosts)?;
        }
        let host = hosts
            .entry(address.to_owned())
            .or_insert_with(|| Arc::new(Target::new(address, Arc::clone(common))));
        Ok(Arc::clone(host))
    }
}

/// Forgets the host that has been idle for longest.
fn evict_one(hosts: &mut HashMap<String, Arc<Target>>) -> Result<(), Error> {
    let mut idle: Vec<_> =
        hosts.iter().filter_map(|(name, host)| Some((host.idle_since()?, name))).collect();
    idle.sort_unstable();
    let evicted = idle.into_iter().find(|(since, name)| hosts[*name].retire(*since));
    let Some((_, name)) = evicted else {
        let message = "requests to too many hosts at once (max_hosts)";
        return Err(Error::new(Code::Exhausted, message));
    };
    let name = name.clone();
    hosts.remove(&name);
    Ok(())
}

impl Inner {
    /// Starts the task that forgets idle hosts. It holds no client, and ends with it.
    fn start_sweeper(self: &Arc<Self>) {
        self.sweeper.get_or_init(|| {
            let this = Arc::downgrade(self);
            let closed = self.common.closed.clone();
            let pause = self.common.config.idle_timeout / 4;
            self.common.tasks.spawn(async move {
                closed.run_until_cancelled_owned(sweep(this, pause)).await;
            });
        });
    }

    fn forget_idle(&self) {
        let Some(before) = Instant::now().checked_sub(self.common.config.idle_timeout) else {
            return;
        };
        self.hosts.write().retain(|_, host| !host.retire(before));
    }
}

async fn sweep(client: Weak<Inner>, pause: Duration) {
    loop {
        tokio::time::sleep(pause).await;
        let Some(client) = client.upgrade() else { return };
        client.forget_idle();
    }
}

/// `HOST:PORT/PATH` in two. What the path may be is the codec's to say.
fn parse(address: &str) -> Result<(&str, &str), Error> {
    let wrong = |reason: &str| {
        let shown: String = address.chars().take(120).collect();
        let message = format!("{shown:?} {reason}: write HOST:PORT/PATH");
        Error::new(Code::InvalidPayload, message)
    };
    let (host, path) = address.split_once('/').ok_or_else(|| wrong("has no path"))?;
    let (name, port) = host.rsplit_once(':').ok_or_else(|| wrong("has no port"))?;
    if name.is_empty() || port.parse::<u16>().is_err() {
        return Err(wrong("names no host and port"));
    }
    Ok((host, path))
}

impl RequestPlaneClient for TcpRequestClient {
    fn send_request(
        &self,
        address: String,
        payload: Bytes,
        headers: Headers,
    ) -> BoxFuture<'_, Result<Bytes, Error>> {
        Box::pin(async move { self.send(&address, payload, headers).await })
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.common.closed.cancel();
    }
}

impl std::fmt::Debug for TcpRequestClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TcpRequestClient")
            .field("hosts", &self.hosts())
            .field("connections", &self.connections())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::TcpRequestConfig;

    #[tokio::test]
    async fn no_more_dials_than_allowed_are_under_way_over_all_hosts() {
        let config = TcpRequestConfig { max_connects: 2, ..TcpRequestConfig::default() };
        let client = TcpRequestClient::new(config.checked().unwrap());
        let taken = client.inner.common.dials.acquire_many(2).await.unwrap();
        let mut listeners = Vec::new();
        let mut dials = Vec::new();
        for _ in 0..8 {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = format!("{}/p", listener.local_addr().unwrap());
            listeners.push(listener);
            let client = client.clone();
            dials.push(tokio::spawn(async move { client.warm_up(&address).await }));
        }
        // All of them have come as far as they can.
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        assert_eq!((client.hosts(), client.connections()), (8, 0));
        assert!(dials.iter().all(|dial| !dial.is_finished()));
        drop(taken);
        for dial in dials {
            dial.await.unwrap().unwrap();
        }
        assert_eq!(client.connections(), 8);
        assert_eq!(client.inner.common.dials.available_permits(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_turn_that_does_not_come_is_a_connect_timeout() {
        let client = TcpRequestClient::new(TcpRequestConfig::default().checked().unwrap());
        let _taken = client.inner.common.dials.acquire_many(64).await.unwrap();
        let error = client.warm_up("127.0.0.1:9/p").await.unwrap_err();
        assert_eq!((error.code(), error.executed()), (Code::ConnectTimedOut, Executed::No));
    }

    #[test]
    fn addresses_are_those_of_dynamos_records() {
        let address = "192.0.2.2:34479/5315a1fc98a85605/ns1/backend/generate";
        let parsed = ("192.0.2.2:34479", "5315a1fc98a85605/ns1/backend/generate");
        assert_eq!(parse(address).unwrap(), parsed);
        assert_eq!(parse("[::1]:9/1f/a%2Fb/c").unwrap(), ("[::1]:9", "1f/a%2Fb/c"));
        for bad in ["", "host", "host:1", "host/path", ":1/path", "host:x/path", "host:70000/p"] {
            let error = parse(bad).unwrap_err();
            assert_eq!(error.code(), Code::InvalidPayload, "{bad}");
            assert!(error.message().contains("HOST:PORT/PATH"), "{error}");
        }
    }
}
