//! Dials the caller, and checks that it is the caller.

use std::{io, net::SocketAddr, pin::pin, time::Duration};

use sinew_dynamo_wire::ControlMessage;
use sinew_plane::{Backoff, Code, Context, Error, Executed, Retries, StopKind, within};
use tokio::{net::TcpStream, time::Instant};

use super::{control_reader::ControlReader, response_writer::End};
use crate::config::{CheckedTcpStreamClientConfig, TcpStreamClientConfig};

/// What is left of the time that reaching a caller may take. Every way that is tried spends of
/// it; pauses in between do not.
pub(crate) struct DialBudget {
    limit: Duration,
    left: Duration,
}

impl DialBudget {
    pub(crate) fn new(config: &TcpStreamClientConfig) -> Self {
        let limit = config.driver.connect_timeout;
        Self { limit, left: limit }
    }

    /// Tries a way for half of the time, so that there is some for another one.
    pub(crate) async fn spend_half<T>(
        &mut self,
        address: SocketAddr,
        way: impl Future<Output = T>,
    ) -> Result<T, Error> {
        self.spend(self.left / 2, address, way).await
    }

    /// Tries a way for as long as there is time.
    async fn spend_all<T>(
        &mut self,
        address: SocketAddr,
        way: impl Future<Output = T>,
    ) -> Result<T, Error> {
        self.spend(self.left, address, way).await
    }

    async fn spend<T>(
        &mut self,
        time: Duration,
        address: SocketAddr,
        way: impl Future<Output = T>,
    ) -> Result<T, Error> {
        let began = Instant::now();
        let tried = tokio::time::timeout(time, way).await;
        self.left = self.left.saturating_sub(began.elapsed());
        tried.map_err(|_| {
            let limit = self.limit;
            let message = format!("no connection to the caller at {address} within {limit:?}");
            Error::new(Code::ConnectTimedOut, message)
        })
    }
}

/// Connects, again after a pause where the failure may pass, for as long as the request wants it.
pub(crate) async fn dial(
    config: &CheckedTcpStreamClientConfig,
    address: SocketAddr,
    context: &Context,
    dial_budget: &mut DialBudget,
) -> Result<TcpStream, Error> {
    let mut pauses = Retries::new(Backoff::linear(config.dial_backoff, Duration::MAX));
    let mut retries = config.dial_retries;
    loop {
        let error = match in_time(context, connect(address, dial_budget)).await? {
            Ok(stream) => return Ok(stream),
            Err(error) => error,
        };
        if retries == 0 || !error.1 {
            return Err(error.0);
        }
        retries -= 1;
        in_time(context, tokio::time::sleep(pauses.pause())).await?;
    }
}

/// Waits for the caller's word that it still waits for the stream, which it gives or not as soon
/// as it has the handshake.
///
/// # Errors
/// [`Code::Cancelled`]: it does not. Nothing is to run.
pub(crate) async fn confirmed(
    socket: &TcpStream,
    control: &mut ControlReader,
    address: SocketAddr,
    context: &Context,
    dial_budget: &mut DialBudget,
) -> Result<(), Error> {
    let said = dial_budget.spend_all(address, control.next(socket));
    match in_time(context, said).await?? {
        Ok(ControlMessage::Ready) => Ok(()),
        Ok(ControlMessage::Kill) | Err(End::Lost(_)) => Err(unwanted()),
        Ok(_) | Err(_) => {
            let message = format!("the caller at {address} does not say whether it waits");
            Err(Error::new(Code::ConnectFailed, message))
        }
    }
}

/// The caller has given up, or was refused: its request does not run.
pub(crate) fn unwanted() -> Error {
    let message = "the caller does not wait for the response: nothing is run";
    Error::new(Code::Cancelled, message).with_executed(Executed::No)
}

/// The error, and whether another try makes sense.
async fn connect(
    address: SocketAddr,
    dial_budget: &mut DialBudget,
) -> Result<TcpStream, (Error, bool)> {
    let failed = |cause: io::Error| {
        // No local port is free just now, or the caller's backlog is full or it restarts.
        let passing = matches!(
            cause.kind(),
            io::ErrorKind::AddrNotAvailable | io::ErrorKind::ConnectionRefused
        );
        let message = format!("no connection to the caller at {address}: {cause}");
        (Error::new(Code::ConnectFailed, message).with_source(cause), passing)
    };
    let connected = dial_budget.spend_all(address, TcpStream::connect(address)).await;
    let stream = connected.map_err(|error| (error, false))?.map_err(failed)?;
    stream.set_nodelay(true).map_err(failed)?;
    Ok(stream)
}

/// Waits no longer than the request may run: a stop alone goes on to the handler.
pub(crate) async fn in_time<T>(
    context: &Context,
    wait: impl Future<Output = T>,
) -> Result<T, Error> {
    let ended = within(context, StopKind::Kill, pin!(wait)).await;
    ended.map_err(|reason| {
        let error = Error::cancelled_while(reason, "the caller was dialled");
        error.with_executed(Executed::No)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_first_way_has_half_of_the_time_and_the_next_what_is_left() {
        let address = SocketAddr::from(([127, 0, 0, 1], 9));
        let config = TcpStreamClientConfig::default();
        let limit = config.driver.connect_timeout;
        let never = std::future::pending::<()>;
        let mut dial_budget = DialBudget::new(&config);
        let began = Instant::now();
        let error = dial_budget.spend_half(address, never()).await.unwrap_err();
        assert_eq!((error.code(), error.executed()), (Code::ConnectTimedOut, Executed::No));
        assert_eq!(began.elapsed(), limit / 2);
        assert!(dial_budget.spend_all(address, never()).await.is_err());
        assert_eq!(began.elapsed(), limit);

        // A way that fails early leaves the more.
        let mut dial_budget = DialBudget::new(&config);
        let began = Instant::now();
        let fails = tokio::time::timeout(limit / 10, never());
        assert!(dial_budget.spend_half(address, fails).await.is_ok());
        assert!(dial_budget.spend_all(address, never()).await.is_err());
        assert_eq!(began.elapsed(), limit);
    }

    #[tokio::test(start_paused = true)]
    async fn the_pause_before_each_further_dial_grows_by_the_same_and_the_end_says_why() {
        // A port that was free a moment ago.
        let reserved = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = reserved.local_addr().unwrap();
        drop(reserved);
        let backoff = Duration::from_millis(200);
        for (retries, pauses) in [(0, 0), (1, 1), (2, 1 + 2), (5, 1 + 2 + 3 + 4 + 5)] {
            let config = TcpStreamClientConfig {
                dial_retries: retries,
                dial_backoff: backoff,
                ..TcpStreamClientConfig::default()
            };
            let config = config.checked().unwrap();
            let began = Instant::now();
            let mut dial_budget = DialBudget::new(&config);
            let dialled = dial(&config, address, &Context::new(), &mut dial_budget).await;
            let error = dialled.unwrap_err();
            assert_eq!((error.code(), error.executed()), (Code::ConnectFailed, Executed::No));
            let said = error.message();
            assert!(said.contains("Connection refused"), "{said}");
            assert!(said.contains(&address.to_string()), "{said}");
            // The clock stands while a dial is refused; a timer may be late by a tick.
            let (waited, expected) = (began.elapsed(), backoff * pauses);
            let late = Duration::from_millis(5 * u64::from(pauses));
            assert!(waited >= expected && waited <= expected + late, "{retries}: {waited:?}");
        }
    }
}
