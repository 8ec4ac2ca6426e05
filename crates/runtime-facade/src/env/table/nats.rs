//! Settings of NATS: its servers, the authentication, and the timeout of an acknowledgement.

use crate::{
    env::{form::Form, setting::Setting},
    servers,
};

/// A path to a file, which is opened when it is needed.
macro_rules! file {
    ($field:ident) => {
        Form::Text {
            form: "a file",
            set: |draft, text| {
                draft.nats.$field = Some(text.into());
                Ok(())
            },
        }
    };
}

pub(super) const SETTINGS: &[Setting] = &[
    Setting::new(
        "SINEW_NATS_SERVER",
        Form::Text {
            form: "nats://HOST:PORT,... or tls://HOST:PORT,...",
            set: |draft, text| {
                draft.config.nats = servers::nats_servers(text)?;
                Ok(())
            },
        },
        "",
        "the NATS servers; with none there is no NATS. tls:// needs the feature nats-tls",
    )
    .alias(&["NATS_SERVER"])
    .needs("nats"),
    Setting::new(
        "SINEW_NATS_USER",
        Form::Text {
            form: "a name",
            set: |draft, text| {
                draft.nats.user = Some(text.to_owned());
                Ok(())
            },
        },
        "",
        "who asks NATS; goes with SINEW_NATS_PASSWORD",
    )
    .alias(&["NATS_AUTH_USERNAME"])
    .needs("nats"),
    Setting::new(
        "SINEW_NATS_PASSWORD",
        Form::Secret(|draft, text| draft.nats.password = Some(text.to_owned())),
        "",
        "the password of SINEW_NATS_USER",
    )
    .alias(&["NATS_AUTH_PASSWORD"])
    .needs("nats"),
    Setting::new(
        "SINEW_NATS_TOKEN",
        Form::Secret(|draft, text| draft.nats.token = Some(text.to_owned())),
        "",
        "a token, in place of a user",
    )
    .alias(&["NATS_AUTH_TOKEN"])
    .needs("nats"),
    Setting::new(
        "SINEW_NATS_NKEY",
        Form::Secret(|draft, text| draft.nats.nkey = Some(text.to_owned())),
        "",
        "the seed of an nkey, in place of a user",
    )
    .alias(&["NATS_AUTH_NKEY"])
    .needs("nats-nkeys"),
    Setting::new(
        "SINEW_NATS_CREDENTIALS_FILE",
        file!(credentials),
        "",
        "a file with a user's JWT and nkey seed, in place of a user",
    )
    .alias(&["NATS_AUTH_CREDENTIALS_FILE"])
    .needs("nats-nkeys"),
    Setting::new(
        "SINEW_NATS_TLS_CA_FILE",
        file!(ca_file),
        "",
        "certificates to trust with tls://, in place of the system's",
    )
    .alias(&["NATS_TLS_CA_CERT_PATH"])
    .needs("nats-tls"),
    Setting::new(
        "SINEW_NATS_TLS_CERT_FILE",
        file!(certificate_file),
        "",
        "our certificate, where the server wants one; goes with SINEW_NATS_TLS_KEY_FILE",
    )
    .alias(&["NATS_TLS_CLIENT_CERT_PATH"])
    .needs("nats-tls"),
    Setting::new(
        "SINEW_NATS_TLS_KEY_FILE",
        file!(key_file),
        "",
        "the key of SINEW_NATS_TLS_CERT_FILE",
    )
    .alias(&["NATS_TLS_CLIENT_KEY_PATH"])
    .needs("nats-tls"),
    Setting::new(
        "SINEW_NATS_ACK_TIMEOUT",
        Form::Seconds {
            least: 1,
            most: 3_600,
            set: |draft, time| draft.config.nats_ack_timeout = time,
        },
        "5",
        "longest wait for the acknowledgement of a request over NATS",
    )
    .alias(&["DYN_NATS_REQUEST_TIMEOUT_SECS"])
    .needs("nats"),
];
