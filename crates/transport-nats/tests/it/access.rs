//! Who may connect, and what they may do.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use sinew_plane::{Code, Error, Executed, InstanceId, RequestPlaneHandler};
use sinew_transport_nats::{NatsAuth, NatsConfig, NatsConnection, NatsServer};

use crate::{
    handler::{Recorder, name, send, serve},
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

/// A server where only some may listen to the subjects of workers.
fn guarded() -> Server {
    Server::with(
        "authorization { users: [ \
         { user: all, password: hush }, \
         { user: me, password: hush, permissions: { subscribe: { deny: \"ns1_backend.>\" } } } \
         ] }",
    )
}

#[tokio::test]
async fn a_subject_that_may_not_be_served_fails_at_once_and_is_free_again() {
    let server = guarded();
    let connection = connect_as(&server, user("me", "hush")).await.unwrap();
    let handler = Recorder::accepting() as Arc<dyn RequestPlaneHandler>;
    let nats = NatsServer::new(connection, handler);
    let endpoint = name("ns1/backend/generate");
    // Twice, as the second would find what the first left behind.
    for _ in 0..2 {
        let start = Instant::now();
        let own = nats.serve(&endpoint, InstanceId(0x1f)).await.unwrap_err();
        let shared = nats.serve_shared(&endpoint).await.unwrap_err();
        assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
        for error in [own, shared] {
            assert_eq!(error.code(), Code::ConnectFailed, "{error}");
            assert!(error.message().contains("ns1_backend.generate"), "{error}");
            assert!(error.message().contains("allow this user"), "{error}");
        }
    }
    // The same connection may serve others.
    nats.serve(&name("ns2/backend/generate"), InstanceId(1)).await.unwrap();

    let connection = connect_as(&server, user("all", "hush")).await.unwrap();
    let _endpoint = serve(&connection, &Recorder::accepting()).await;
    send(&connection, "x").await.unwrap();
}

#[cfg(feature = "jetstream")]
#[tokio::test]
async fn a_queue_that_may_not_be_used_is_said_at_once() {
    use sinew_transport_nats::{NatsQueue, QueueConfig};

    let folder = tempfile::tempdir().unwrap();
    let server = Server::with(&format!(
        "jetstream {{ store_dir: \"{}\" }}\n\
         authorization {{ users: [ {{ user: me, password: hush, \
         permissions: {{ publish: {{ deny: \"$JS.API.CONSUMER.MSG.NEXT.>\" }} }} }} ] }}",
        folder.path().display()
    ));
    let connection = connect_as(&server, user("me", "hush")).await.unwrap();
    let config = QueueConfig::new("jobs").checked().unwrap();
    let queue = NatsQueue::open(&connection, config).await.unwrap();
    let start = Instant::now();
    let error = queue.take(1, Duration::from_secs(20)).await.unwrap_err();
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
    assert_eq!(error.code(), Code::ConnectFailed, "{error}");
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

    fn credentials(file: &str) -> NatsAuth {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/credentials/");
        NatsAuth::CredentialsFile(format!("{folder}{file}").into())
    }

    /// An operator with one account, made for these tests. `user.creds` is a user of the account;
    /// `stranger.creds` is as good in itself, of an account that the server does not know.
    const OPERATOR: &str = include_str!("credentials/operator.jwt");
    const ACCOUNT: &str = include_str!("credentials/account");
    const ACCOUNT_JWT: &str = include_str!("credentials/account.jwt");

    #[tokio::test]
    async fn a_credentials_file_is_let_in() {
        let [operator, account, jwt] = [OPERATOR, ACCOUNT, ACCOUNT_JWT].map(str::trim);
        let server = Server::with(&format!(
            "operator: {operator}\nresolver: MEMORY\nresolver_preload: {{ {account}: {jwt} }}"
        ));
        is_let_in(&server, credentials("user.creds")).await;
        is_refused(&server, credentials("stranger.creds")).await;
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
