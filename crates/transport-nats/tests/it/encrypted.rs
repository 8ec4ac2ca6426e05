//! Servers that demand TLS. The certificates in `tls` are good until 2126, for `localhost`.

use std::time::Duration;

use sinew_plane::{Code, Error};
use sinew_transport_nats::{NatsConfig, NatsConnection};

use crate::server::Server;

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/tls");

fn demanding(more: &str) -> Server {
    Server::with(&format!(
        "tls {{ cert_file: \"{FOLDER}/server.pem\", key_file: \"{FOLDER}/server.key\", {more} }}"
    ))
}

async fn connect(config: NatsConfig) -> Result<NatsConnection, Error> {
    let startup_timeout = Duration::from_millis(500);
    NatsConnection::connect(NatsConfig { startup_timeout, ..config }.checked().unwrap()).await
}

/// Its certificate is not trusted here; a build without TLS does not even ask, and must not panic.
#[tokio::test]
async fn a_server_that_demands_tls_of_a_plain_address_is_an_error() {
    let server = demanding("");
    let error = connect(server.config()).await.unwrap_err();
    assert_eq!(error.code(), Code::ConnectTimedOut);
    assert!(error.message().contains("TLS") || error.message().contains("IO error"), "{error}");
}

#[cfg(feature = "tls")]
mod with_tls {
    use sinew_transport_nats::NatsTls;

    use super::*;
    use crate::handler::{Recorder, send, serve};

    fn encrypted(server: &Server, tls: NatsTls) -> NatsConfig {
        let servers = vec![format!("tls://localhost:{}", server.port)];
        NatsConfig { servers, tls, ..NatsConfig::default() }
    }

    fn trusting() -> NatsTls {
        NatsTls { ca_file: Some(format!("{FOLDER}/ca.pem").into()), ..NatsTls::default() }
    }

    #[tokio::test]
    async fn requests_travel_encrypted() {
        let server = demanding("");
        let connection = connect(encrypted(&server, trusting())).await.unwrap();
        let handler = Recorder::accepting();
        let _endpoint = serve(&connection, &handler).await;
        send(&connection, "x").await.unwrap();
        assert_eq!(handler.count(), 1);
    }

    #[tokio::test]
    async fn who_is_not_trusted_is_not_connected_to() {
        let server = demanding("");
        let error = connect(encrypted(&server, NatsTls::default())).await.unwrap_err();
        assert_eq!(error.code(), Code::ConnectTimedOut);
    }

    #[tokio::test]
    async fn a_plain_server_behind_an_encrypted_address_is_not_connected_to() {
        let server = Server::start();
        connect(encrypted(&server, trusting())).await.unwrap_err();
    }

    #[tokio::test]
    async fn a_server_may_want_our_certificate() {
        let server = demanding(&format!("ca_file: \"{FOLDER}/ca.pem\", verify: true"));
        connect(encrypted(&server, trusting())).await.unwrap_err();
        let known = NatsTls {
            client_certificate_file: Some(format!("{FOLDER}/server.pem").into()),
            client_key_file: Some(format!("{FOLDER}/server.key").into()),
            ..trusting()
        };
        let connection = connect(encrypted(&server, known)).await.unwrap();
        assert!(connection.is_connected());
    }
}
