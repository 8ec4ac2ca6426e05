//! Settings of where a process listens, and of the addresses that it announces.

use crate::env::{
    draft::own_address,
    form::{Form, port},
    setting::Setting,
};

const HOST: &str = "an IP address, or the name of a network interface";
const TOLD: &str = "HOST or HOST:PORT; an IPv6 address with or without brackets";

pub(super) const SETTINGS: &[Setting] = &[
    Setting::new(
        "SINEW_LISTEN_HOST",
        Form::Text {
            form: HOST,
            set: |draft, text| {
                draft.config.listen.set_ip(own_address(text)?);
                Ok(())
            },
        },
        "127.0.0.1",
        "where a worker listens. 0.0.0.0 and :: are all addresses of the machine, of which others \
         are told one. Beyond loopback it needs SINEW_INSECURE",
    )
    .alias(&["DYN_TCP_RPC_HOST"]),
    Setting::new(
        "SINEW_LISTEN_PORT",
        // A port has been read.
        port(|draft, port| draft.config.listen.set_port(u16::try_from(port).unwrap_or_default())),
        "0",
        "the port of a worker; 0 picks a free one",
    )
    .alias(&["DYN_TCP_RPC_PORT", "DYN_TCP_REQUEST_PORT"]),
    Setting::new(
        "SINEW_LISTEN_BACKLOG",
        Form::Number {
            unit: "connections",
            least: 1,
            most: 65_535,
            set: |draft, n| {
                draft.config.tcp.listen.backlog = u32::try_from(n).unwrap_or(u32::MAX);
            },
        },
        "4096",
        "connections that wait to be accepted; the kernel may allow fewer (net.core.somaxconn)",
    )
    .alias(&["DYN_TCP_LISTEN_BACKLOG"]),
    Setting::new(
        "SINEW_ADVERTISE",
        Form::Text {
            form: TOLD,
            set: |draft, text| {
                text.parse::<sinew_transport_tcp::Advertised>()?;
                draft.config.advertise = Some(text.to_owned());
                Ok(())
            },
        },
        "the address that is bound",
        "what others are told in place of the address that is bound; its host counts for \
         responses that dial back, too",
    ),
    Setting::new(
        "SINEW_CALL_HOME_HOST",
        Form::Text {
            form: HOST,
            set: |draft, text| {
                own_address(text)?;
                draft.config.call_home.host = text.parse()?;
                Ok(())
            },
        },
        "where the process listens, or its first address that others reach",
        "where a caller waits for workers that dial it back",
    )
    .alias(&["DYN_TCP_RESPONSE_STREAM_HOST"]),
    Setting::new(
        "SINEW_CALL_HOME_PORT",
        port(|draft, port| draft.config.call_home.port = u16::try_from(port).unwrap_or_default()),
        "0",
        "the port for workers that dial back; 0 picks a free one",
    )
    .alias(&["DYN_TCP_RESPONSE_STREAM_PORT"]),
    Setting::new(
        "SINEW_CALL_HOME_ADVERTISE",
        Form::Text {
            form: TOLD,
            set: |draft, text| {
                text.parse::<sinew_transport_tcp::Advertised>()?;
                draft.config.call_home.listen.advertise = Some(text.to_owned());
                Ok(())
            },
        },
        "the host of SINEW_ADVERTISE, else the address that is bound",
        "what workers are told to dial back to",
    ),
    Setting::new(
        "SINEW_ALLOW_CALL_HOME",
        Form::Text {
            form: "networks or addresses, as 10.0.0.0/8,fd00::7",
            set: |draft, text| {
                let network = |one: &str| one.trim().parse().map_err(|error| format!("{error}"));
                draft.config.dial_back.allowed_networks =
                    text.split(',').map(network).collect::<Result<_, String>>()?;
                Ok(())
            },
        },
        "no others",
        "networks in which a worker dials callers back beyond those that it dials anyway: see \
         \"Where a worker dials back\" in docs/dynamo.md",
    ),
    Setting::new(
        "SINEW_INSECURE",
        Form::Switch(|draft, on| draft.config.insecure = on),
        "false",
        "allows plain text beyond loopback, where anyone on the way can read and send requests",
    ),
    Setting::new(
        "SINEW_UNIX",
        Form::Switch(|draft, on| draft.config.unix = on),
        "true",
        "also listens on a Unix socket, for callers on the same host",
    ),
    Setting::new(
        "SINEW_FRAME_CHECKS",
        Form::Choice {
            of: &["off", "write", "verify"],
            // Each of the words is one.
            set: |draft, text| draft.config.frame_checks = text.parse().ok(),
        },
        "verify beyond loopback, and within the host none but those that a peer asks for",
        "the checks of frames, in the mux and in Dynamo's two-part frames: off; write them for the \
         peer; verify those that arrive too",
    ),
];
