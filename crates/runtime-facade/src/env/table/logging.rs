//! Settings of the log and the threads of the `sinew` command. A program that uses the library
//! decides both by itself.

use crate::env::{
    form::{Form, Given, SWITCH, any, one_of},
    setting::Setting,
};

const FILTER: &str = "LEVEL or TARGET=LEVEL, with commas between them";
const LINES: &str = "log lines in JSON, which are not in this build: unset it to have them as text";

pub(in crate::env) const SETTINGS: &[Setting] = &[
    Setting::new(
        "SINEW_LOG",
        Form::Text {
            form: FILTER,
            set: |draft, text| {
                draft.log = Some(text.to_owned());
                Ok(())
            },
        },
        "warn",
        "what is logged on standard error, such as info,sinew::request=debug; --log comes before \
         it",
    )
    .alias(&["DYN_LOG"]),
    Setting::new(
        "RUST_LOG",
        Form::Text {
            form: FILTER,
            set: |draft, text| {
                draft.rust_log = Some(text.to_owned());
                Ok(())
            },
        },
        "",
        "the same, where SINEW_LOG is not set",
    ),
    Setting::new(
        "TOKIO_WORKER_THREADS",
        Form::Number { unit: "threads", least: 1, most: 4_096, set: |_, _| () },
        "one for each core",
        "threads that requests are handled in",
    ),
    Setting::unused("DYN_LOGGING_JSONL", SWITCH, "lines are text").asks(Given::is_on, LINES),
    Setting::unused("DYN_LOGGING_CONSOLE_FORMAT", one_of(&["readable", "jsonl"]), "lines are text")
        .asks(|given| given.text() == "jsonl", LINES),
    Setting::unused("DYN_LOGGING_CONFIG_PATH", any("a file"), "there is no such file").asks(
        Given::at_all,
        "a file with settings of logging, which is not in this build: set SINEW_LOG",
    ),
    Setting::unused("DYN_LOG_USE_LOCAL_TZ", SWITCH, "times are UTC")
        .asks(Given::is_on, "times in the local zone, which are not in this build: they are UTC"),
    Setting::unused("DYN_LOGGING_SPAN_EVENTS", SWITCH, "spans are no lines").asks(
        Given::is_on,
        "a line for each span, which is not in this build: set SINEW_LOG=sinew::request=debug for \
         a line for each request",
    ),
    Setting::unused(
        "DYN_SDK_DISABLE_ANSI_LOGGING",
        SWITCH,
        "lines are coloured on a terminal alone",
    ),
];
