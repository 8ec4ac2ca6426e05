//! Converts the settings into those of the client library.

use std::{future::ready, time::Duration};

use async_nats::{ConnectOptions, Event};
use sinew_plane::{Backoff, random};
use tokio::sync::mpsc;

use crate::{CheckedNatsConfig, NatsAuth};

/// The options for one session. Its events go to `events`; what does not fit is dropped.
///
/// # Errors
/// A file of the configuration cannot be read.
pub(crate) async fn options(
    config: &CheckedNatsConfig,
    events: mpsc::Sender<Event>,
) -> std::io::Result<ConnectOptions> {
    let backoff = Backoff::exponential(config.backoff_base, config.backoff_max);
    let mut options = ConnectOptions::new()
        .name(&config.name)
        .connection_timeout(config.connect_timeout)
        .ping_interval(config.ping_interval)
        .custom_inbox_prefix(&config.inbox_prefix)
        .subscription_capacity(config.subscription_capacity())
        .reconnect_delay_callback(move |attempt| pause(backoff, attempt))
        .event_callback(move |event| {
            let _ = events.try_send(event);
            ready(())
        });
    let all_tls = config.servers.iter().all(|server| server.is_tls());
    options = if all_tls {
        // Also those servers that the listed ones name.
        secured(options.require_tls(true), config)
    } else {
        // A plain-text server, or who speaks in its place, could name any number of any hosts.
        secured(options.ignore_discovered_servers(), config)
    };
    authenticated(options, &config.auth).await
}

/// The pause before attempt `attempt`, which counts from 1: random, so that the clients of a server
/// that comes back do not all come at once.
fn pause(backoff: Backoff, attempt: usize) -> Duration {
    let round = u32::try_from(attempt.saturating_sub(1)).unwrap_or(u32::MAX);
    backoff.delay(round, &mut random::generator())
}

#[cfg(feature = "tls")]
fn secured(mut options: ConnectOptions, config: &CheckedNatsConfig) -> ConnectOptions {
    use async_nats::rustls::crypto::{CryptoProvider, aws_lc_rs};

    // With several providers compiled in, by whatever other crate, the library would panic when
    // none is chosen. Fails only if somebody chose one meanwhile, which does as well.
    if CryptoProvider::get_default().is_none() {
        let _ = aws_lc_rs::default_provider().install_default();
    }
    if let Some(file) = &config.tls.ca_file {
        options = options.add_root_certificates(file.clone());
    }
    match (&config.tls.client_certificate_file, &config.tls.client_key_file) {
        (Some(certificate), Some(key)) => {
            options.add_client_certificate(certificate.clone(), key.clone())
        }
        _ => options,
    }
}

#[cfg(not(feature = "tls"))]
fn secured(options: ConnectOptions, _: &CheckedNatsConfig) -> ConnectOptions {
    // A server may demand TLS of a plain-text address, and the library panics when it has no
    // cryptography. A certificate file that cannot exist fails that attempt with an error before.
    options.add_root_certificates(std::path::PathBuf::new())
}

async fn authenticated(
    options: ConnectOptions,
    auth: &NatsAuth,
) -> std::io::Result<ConnectOptions> {
    Ok(match auth {
        NatsAuth::UserPassword { user, password } => {
            options.user_and_password(user.clone(), password.clone())
        }
        NatsAuth::Token(token) => options.token(token.clone()),
        #[cfg(feature = "nkeys")]
        NatsAuth::Nkey(seed) => options.nkey(seed.clone()),
        #[cfg(feature = "nkeys")]
        NatsAuth::CredentialsFile(file) => options.credentials_file(file).await?,
        // Without the feature, the configuration refuses the other two.
        _ => options,
    })
}

#[cfg(test)]
mod tests {
    use sinew_plane::Jitter;

    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest() {
        let backoff = Backoff::exponential(Duration::from_millis(50), Duration::from_secs(2));
        let backoff = backoff.with_jitter(Jitter::None);
        let pauses = [0, 1, 2, 3, 6, 7, 1000, usize::MAX].map(|n| pause(backoff, n).as_millis());
        assert_eq!(pauses, [50, 50, 100, 200, 1600, 2000, 2000, 2000]);
    }
}
