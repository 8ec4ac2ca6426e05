//! Telling the protocols of one port apart.

use std::sync::Arc;

use sinew_mux_driver::{DriverConfig, MuxProtocol};
use sinew_net::{Detect, Protocol};
use sinew_plane_request_tcp::TcpRequestServer;

use crate::fixture::{Taker, config, echo};

fn protocols() -> (MuxProtocol, TcpRequestServer) {
    let mux = MuxProtocol::new(DriverConfig::default().checked().unwrap(), Arc::new(echo));
    (mux, TcpRequestServer::new(config().checked().unwrap(), Arc::new(Taker::default())))
}

#[test]
fn one_or_two_bytes_tell_the_protocols_apart() {
    let (mux, frames) = protocols();
    for (bytes, verdicts) in [
        (&b"\0"[..], (Detect::No, Detect::More)),
        (b"\x16", (Detect::No, Detect::No)),
        (b"\xffSNEW", (Detect::Yes, Detect::No)),
        // Dynamo's call-home, whose header length has 64 bits.
        (b"\0\0\0\0\0\0\0\x40", (Detect::No, Detect::No)),
        (b"\x00\x20", (Detect::No, Detect::Yes)),
        (b"\x04\x00", (Detect::No, Detect::Yes)),
        (b"GET / HTTP/1.1", (Detect::No, Detect::No)),
        (b"\x05\x00", (Detect::No, Detect::No)),
        (b"{\"a\"", (Detect::No, Detect::No)),
    ] {
        assert_eq!((mux.detect(bytes), frames.detect(bytes)), verdicts, "{bytes:?}");
    }
}

#[test]
fn the_verdict_does_not_change_with_more_bytes() {
    let (mux, frames) = protocols();
    for first in 0..=u16::MAX {
        let bytes = first.to_be_bytes();
        let protocols: [&dyn Protocol; 2] = [&mux, &frames];
        for protocol in protocols {
            let verdict = protocol.detect(&bytes);
            assert_ne!(verdict, Detect::More, "{first:04x}");
            let early = protocol.detect(&bytes[..1]);
            assert!(early == Detect::More || early == verdict, "{first:04x}");
        }
        assert!(mux.detect(&bytes) == Detect::No || frames.detect(&bytes) == Detect::No);
        if (1..=1024).contains(&first) {
            assert_eq!(frames.detect(&bytes), Detect::Yes, "{first:04x}");
        }
    }
}
