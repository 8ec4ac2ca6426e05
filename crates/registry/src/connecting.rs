//! Which of several routes is up first.

use std::pin::pin;

use sinew_plane::{CONNECT_ATTEMPT_DELAY, Context, Error, Executed, StopKind, staggered, within};
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
    let up = within(context, StopKind::Stop, pin!(race)).await.map_err(|reason| {
        let places: Vec<_> = routes.iter().map(|route| route.address.as_str()).collect();
        let doing = format!("{} did not answer", places.join(", "));
        Error::cancelled_while(reason, &doing).with_executed(Executed::No)
    })?;
    let before = 0..up.unwrap_or_default();
    let slower = before.filter(|place| failed.iter().all(|(failed, _)| failed != place)).collect();
    Ok(Connecting { up, failed, slower })
}
