//! Which of several routes is up first.

use std::time::Duration;

use sinew_plane::{CONNECT_ATTEMPT_DELAY, CancelReason, Code, Context, Error, Executed, staggered};
use tokio::time::sleep;

use crate::Route;

/// What came of connecting to some routes, by their places in the list.
#[derive(Debug, Default)]
pub(crate) struct Connecting {
    /// The one that is up, or that needs no connection.
    pub(crate) up: Option<usize>,
    /// Those that failed, in the order of their failures.
    pub(crate) failed: Vec<(usize, Error)>,
    /// Those before it that had not answered by then.
    pub(crate) slower: Vec<usize>,
}

/// Connects to the routes in their order, to the next one when those before it have failed or are
/// slow, until one is up. No request is sent. Dropping the future gives only the waiting up.
///
/// # Errors
/// The request's cancel or deadline; nothing has run.
pub(crate) async fn connect(routes: &[&Route], context: &Context) -> Result<Connecting, Error> {
    let (mut begun, mut failed) = (0, Vec::new());
    let next = || {
        let place = begun;
        let connecting = routes.get(place)?.connect();
        begun += 1;
        Some(async move {
            if let Some(connecting) = connecting {
                connecting.await.map_err(|error| (place, error))?;
            }
            Ok(place)
        })
    };
    let race = staggered(|| sleep(CONNECT_ATTEMPT_DELAY), next, |error| failed.push(error));
    let up = in_time(context, routes, race).await?;
    let before = 0..up.unwrap_or_default();
    let slower = before.filter(|place| failed.iter().all(|(failed, _)| failed != place)).collect();
    Ok(Connecting { up, failed, slower })
}

/// Waits no longer than the request may.
async fn in_time<T>(
    context: &Context,
    routes: &[&Route],
    wait: impl Future<Output = T>,
) -> Result<T, Error> {
    let left = context.remaining();
    tokio::select! {
        biased;
        value = wait => Ok(value),
        () = context.stopped() => {
            let reason = context.reason().unwrap_or(CancelReason::Caller);
            Err(Error::cancelled(reason).with_executed(Executed::No))
        }
        () = sleep(left.unwrap_or(Duration::MAX)), if left.is_some() => {
            let places: Vec<_> = routes.iter().map(|route| route.address.as_str()).collect();
            let message = format!("no answer from {} before the deadline", places.join(", "));
            Err(Error::new(Code::DeadlineExceeded, message).with_executed(Executed::No))
        }
    }
}
