//! Ends of a response, and what its reader hears of them.

use futures_util::{StreamExt, stream};

use super::*;
use crate::{Code, Executed};

/// A handler may hand on an error of a service that refused it: that one did not run.
#[tokio::test]
async fn an_item_that_came_says_that_it_ran() {
    for code in Code::ALL {
        let refused = || Error::new(*code, "elsewhere").with_executed(Executed::No);
        let mut early = ManyOut::new(stream::iter([Err::<u8, _>(refused())]), Context::new());
        let error = early.next().await.unwrap().unwrap_err();
        assert_eq!(error.executed(), Executed::No, "{code}");

        let values = stream::iter([Ok(1), Err(refused())]);
        let mut late = ManyOut::new(values, Context::new());
        late.next().await.unwrap().unwrap();
        let error = late.next().await.unwrap().unwrap_err();
        assert_eq!((error.executed(), error.is_safe_to_resend()), (Executed::Yes, false));
        let Some(Outcome::Failed { error }) = late.outcome() else { panic!("{code}") };
        assert_eq!(error.executed(), Executed::Yes, "{code}");
    }
}

#[tokio::test]
async fn the_end_is_complete_or_the_first_error() {
    let mut good = ManyOut::new(stream::iter([Ok(1), Ok(2)]), Context::new());
    assert_eq!(good.by_ref().count().await, 2);
    assert!(matches!(good.outcome(), Some(Outcome::Complete { items: 2 })));

    let broken = stream::iter([Ok(1), Err(Error::handler("boom")), Ok(3)]);
    let mut broken = ManyOut::new(broken, Context::new());
    let seen: Vec<_> = broken.by_ref().collect().await;
    assert_eq!(seen.len(), 2, "nothing follows an error");
    assert!(matches!(broken.outcome(), Some(Outcome::Failed { .. })));
}
