//! Who may connect, and what they may do.

use std::time::{Duration, Instant};

use sinew_plane::{Code, Error, Executed};
use sinew_transport_nats::{NatsAuth, NatsConfig, NatsConnection};

use crate::{
    handler::{Recorder, send, serve},
    server::Server,
};

async fn connect_as(server: &Server, auth: NatsAuth) -> Result<NatsConnection, Error> {
    NatsConnection::connect(NatsConfig { auth, ..server.config() }.checked().unwrap()).await
}

async fn is_let_in(server: &Server, auth: NatsAuth) {
    let connection = connect_as(server, auth).await.unwrap();
    let handler = Recorder::accepting();
    let _endpoint = serve(&connection, &handler).await;
    send(&connection, "x").await.unwrap();
}

/// Trying again with the same secret is no use, so the refusal comes at once.
async fn is_refused(server: &Server, auth: NatsAuth) {
    let start = Instant::now();
    let error = connect_as(server, auth).await.unwrap_err();
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    assert_eq!(error.code(), Code::ConnectFailed);
    assert!(error.message().contains("authorization"), "{error}");
    assert!(!format!("{error:?}").contains("hush"), "{error:?}");
}

fn user(user: &str, password: &str) -> NatsAuth {
    NatsAuth::UserPassword { user: user.to_owned(), password: password.to_owned() }
}

#[tokio::test]
async fn a_user_needs_the_right_password() {
    let server = Server::with("authorization { user: me, password: hush }");
    is_let_in(&server, user("me", "hush")).await;
    is_refused(&server, user("me", "hush-hush")).await;
    is_refused(&server, NatsAuth::None).await;
}

#[tokio::test]
async fn a_token_needs_to_be_the_right_one() {
    let server = Server::with("authorization { token: hush }");
    is_let_in(&server, NatsAuth::Token("hush".to_owned())).await;
    is_refused(&server, NatsAuth::Token("hush-hush".to_owned())).await;
}

#[tokio::test]
async fn a_denied_subject_is_said_at_once() {
    let server = Server::with(
        "authorization { users: [ { user: me, password: hush, \
         permissions: { publish: { deny: \"ns1_backend.>\" } } } ] }",
    );
    let connection = connect_as(&server, user("me", "hush")).await.unwrap();
    let start = Instant::now();
    let error = send(&connection, "x").await.unwrap_err();
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
    assert_eq!((error.code(), error.executed()), (Code::ConnectFailed, Executed::No));
    assert!(error.message().contains("does not let us"), "{error}");
}

#[cfg(feature = "nkeys")]
mod nkeys {
    use super::*;

    /// The example pair of the NATS documentation.
    const SEED: &str = "SUACSSL3UAHUDXKFSNVUZRF5UHPMWZ6BFDTJ7M6USDXIEDNPPQYYYCU3VY";
    const PUBLIC: &str = "UDXU4RCSJNZOIQHZNWXHXORDPRTGNJAHAHFRGZNEEJCPQTT2M7NLCNF4";

    #[tokio::test]
    async fn an_nkey_is_let_in() {
        let settings = format!("authorization {{ users: [ {{ nkey: {PUBLIC} }} ] }}");
        let server = Server::with(&settings);
        is_let_in(&server, NatsAuth::Nkey(SEED.to_owned())).await;
        is_refused(&server, NatsAuth::None).await;
    }

    #[tokio::test]
    async fn a_credentials_file_that_is_not_there_is_said_at_once() {
        let server = Server::start();
        let auth = NatsAuth::CredentialsFile("/nonexistent/user.creds".into());
        let error = connect_as(&server, auth).await.unwrap_err();
        assert!(error.message().contains("user.creds"), "{error}");
    }
}
