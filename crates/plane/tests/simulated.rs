//! A simulation sets the clock and the random numbers, once for the whole process.

use std::{
    cell::Cell,
    sync::OnceLock,
    time::{Duration, Instant, SystemTime},
};

use sinew_plane::{Backoff, Context, Jitter, Retries, StreamId, clock, random};

thread_local! {
    static SECONDS: Cell<u64> = const { Cell::new(0) };
    static DRAWN: Cell<u64> = const { Cell::new(0) };
}

fn now() -> Instant {
    static START: OnceLock<Instant> = OnceLock::new();
    *START.get_or_init(Instant::now) + Duration::from_secs(SECONDS.get())
}

fn time_of_day() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(SECONDS.get())
}

fn next() -> u64 {
    DRAWN.set(DRAWN.get() + 1);
    DRAWN.get()
}

// One test, as the sources are those of the process.
#[test]
fn everything_follows_the_sources_that_were_set_first() {
    assert!(clock::set_source(clock::Source { now, time_of_day }));
    assert!(!clock::set_source(clock::Source { now: Instant::now, time_of_day: SystemTime::now }));
    assert!(random::set_source(next));
    assert!(!random::set_source(|| 7));

    let context = Context::builder().timeout(Duration::from_secs(60)).build();
    SECONDS.set(45);
    assert_eq!(context.remaining(), Some(Duration::from_secs(15)));
    assert_eq!(clock::time_of_day(), SystemTime::UNIX_EPOCH + Duration::from_secs(45));

    let draw = || {
        DRAWN.set(0);
        let backoff = Backoff::exponential(Duration::from_secs(1), Duration::from_secs(60));
        let mut retries = Retries::new(backoff.with_jitter(Jitter::Half));
        let pauses = [(); 3].map(|()| retries.pause());
        (StreamId::random(), random::generator().u64(..), pauses)
    };
    assert_eq!(draw(), draw(), "they repeat");
    DRAWN.set(0);
    assert_eq!(StreamId::random(), StreamId(1 << 64 | 2));
}
