//! Settings of the limits and timeouts of a process.

use std::time::Duration;

use sinew_plane::budget::MIN_BUDGET_BYTES;

use crate::env::{
    draft::Draft,
    form::{Form, count},
    setting::Setting,
};

/// Longest grace period that a setting may ask for, in seconds.
const WEEK: u64 = 7 * 86_400;

/// The wait for one backend at the start, under its Dynamo name.
const fn startup(name: &'static str, meaning: &'static str) -> Setting {
    let form =
        Form::Seconds { least: 1, most: 3_600, set: |draft, time| draft.startup_waits.push(time) };
    Setting::new(name, form, "", meaning)
}

/// A limit of a shutdown, under its Dynamo name.
const fn grace(name: &'static str) -> Setting {
    let form = Form::Seconds { least: 0, most: WEEK, set: |draft, time| draft.graces.push(time) };
    let meaning = "how long a shutdown lets requests finish, where SINEW_GRACE_MS is not set; of \
                   Dynamo's two names for it the shorter time counts";
    Setting::new(name, form, "", meaning)
}

/// The time limit of one wait of a call. Code and the command line can set no limit.
const fn wait(
    name: &'static str,
    set: fn(&mut Draft, Duration),
    default: &'static str,
    meaning: &'static str,
) -> Setting {
    Setting::new(name, Form::Seconds { least: 1, most: WEEK, set }, default, meaning)
}

pub(super) const SETTINGS: &[Setting] = &[
    Setting::new(
        "SINEW_MAX_IN_FLIGHT",
        count("requests", 1 << 20, |draft, n| {
            draft.config.max_in_flight = usize::try_from(n).unwrap_or(usize::MAX);
        }),
        "8192",
        "requests in flight over all endpoints of a process; more are refused, and routers try \
         another instance",
    )
    .alias(&["DYN_ENGINE_REQUEST_LIMIT"]),
    Setting::new(
        "SINEW_MEMORY_BUDGET",
        Form::Bytes {
            least: MIN_BUDGET_BYTES,
            most: 1 << 50,
            set: |draft, bytes| draft.config.memory_budget = Some(bytes),
        },
        "a quarter of the memory of the control group or the machine",
        "bytes that a process may hold for its peers; new requests are refused when it is spent",
    ),
    wait(
        "SINEW_ACCEPT_TIMEOUT",
        |draft, time| draft.config.limits.accept = Some(time),
        "10",
        "longest wait of a call until a worker has accepted its request; over NATS and from Dynamo \
         workers, until the acknowledgement",
    ),
    wait(
        "SINEW_FIRST_ITEM_TIMEOUT",
        |draft, time| draft.config.limits.first_item = Some(time),
        "",
        "longest wait of a call for its first item; none unless it is set",
    ),
    wait(
        "SINEW_IDLE_TIMEOUT",
        |draft, time| draft.config.limits.idle = Some(time),
        "",
        "longest wait of a call for each further item; none unless it is set",
    ),
    Setting::new(
        "SINEW_STARTUP_WAIT",
        Form::Seconds {
            least: 1,
            most: 3_600,
            set: |draft, time| draft.config.startup_wait = time,
        },
        "120",
        "how long a start waits for an etcd or a NATS that is not there; sinew call and sinew ls \
         wait 5 s at the most",
    ),
    startup(
        "ETCD_STARTUP_CONNECT_TIMEOUT_SECONDS",
        "the same, where SINEW_STARTUP_WAIT is not set; the longer of this and that of NATS counts",
    ),
    startup(
        "NATS_STARTUP_CONNECT_TIMEOUT_SECONDS",
        "the same, where SINEW_STARTUP_WAIT is not set; the longer of this and that of etcd counts",
    ),
    Setting::new(
        "SINEW_GRACE_MS",
        Form::Millis {
            least: 0,
            most: WEEK * 1_000,
            set: |draft, time: Duration| draft.config.grace = time,
        },
        "30000",
        "how long a shutdown lets requests finish",
    ),
    grace("DYN_WORKER_GRACEFUL_SHUTDOWN_TIMEOUT"),
    grace("DYN_RUNTIME_GRACEFUL_SHUTDOWN_TIMEOUT_SECS"),
];
