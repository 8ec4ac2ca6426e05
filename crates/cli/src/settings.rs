//! Settings that all commands share.

use std::{convert::Infallible, fmt::Write, time::Duration};

use clap::Args;
use parking_lot::Mutex;
use sinew::{
    Config, ConfigError, ConnectionEvents, DiscoverySource, RequestPlane, Runtime, StartError,
    settings::Overrides,
};
use sinew_telemetry::{console::tell, printable};

use crate::{
    exit::{Exit, Failure},
    text_layout::seconds,
};

/// How long a person waits for an etcd or a NATS that does not answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// Settings that all commands share.
#[derive(Debug, Args)]
#[command(next_help_heading = "Options of every command")]
pub(crate) struct Settings {
    /// Where instances are announced and found: file:PATH, etcd://HOST:PORT,...,
    /// dns://NAME:PORT or static:HOST:PORT,...
    ///
    /// dns: and static: are for servers at known places, which announce nothing. Given more than
    /// once, all are looked at. Default: $SINEW_DISCOVERY, else a folder of this user.
    #[arg(long, global = true, value_name = "WHERE", display_order = 900, value_parser = place)]
    discovery: Vec<Place>,
    /// How requests travel: auto, tcp or nats.
    ///
    /// auto goes directly where it can, and over NATS where a server for it is named. With nats,
    /// only the request does: the response dials back over TCP. Default: $SINEW_REQUEST_PLANE,
    /// else auto.
    #[arg(long, global = true, value_name = "PLANE", display_order = 901)]
    request_plane: Option<RequestPlane>,
    /// NATS servers: nats://HOST:PORT,... Default: $SINEW_NATS_SERVER.
    #[arg(long, global = true, value_name = "URL", value_delimiter = ',', display_order = 902)]
    nats: Vec<String>,
    /// What to log on standard error, such as debug.
    ///
    /// Levels may be given by target: info,sinew::request=debug. Default: $SINEW_LOG, else
    /// $RUST_LOG, else warn.
    #[arg(long, global = true, value_name = "FILTER", display_order = 903)]
    log: Option<String>,
}

/// Where to look, or why that cannot be read. Reported by [`Settings::config`]: the parser of the
/// command line would quote it, and it may hold a password.
type Place = Result<DiscoverySource, String>;

#[expect(clippy::unnecessary_wraps, reason = "the form of a value parser")]
fn place(text: &str) -> Result<Place, Infallible> {
    Ok(text.parse().map_err(|error: ConfigError| format!("--{error}")))
}

impl Settings {
    pub(crate) fn start_logging(&self) -> Result<(), Failure> {
        let named = sinew::settings::log_filter();
        let named = named.map_err(|error| Failure::caused(Exit::Usage, &error))?;
        let option = self.log.clone().map(|filter| ("--log", filter));
        let (name, filter) = option.or(named).unwrap_or_else(|| ("--log", "warn".to_owned()));
        sinew_telemetry::init_logging(&filter)
            .map_err(|error| Failure::new(Exit::Usage, format!("{name}: {filter:?}: {error}")))
    }

    /// The environment's configuration, with what the command line names in its place.
    pub(crate) fn config(&self) -> Result<Config, Failure> {
        let options = self.overrides().map_err(|message| Failure::new(Exit::Usage, message))?;
        Config::from_env_with(options).map_err(|error| Failure::caused(Exit::Usage, &error))
    }

    fn overrides(&self) -> Result<Overrides, String> {
        let mut options = Overrides::default();
        let mut places = self.discovery.iter().cloned().collect::<Result<Vec<_>, _>>()?;
        match places.len() {
            0 => {}
            1 => options = options.discovery(places.remove(0)),
            _ => options = options.discovery(DiscoverySource::Merged(places)),
        }
        if let Some(plane) = self.request_plane {
            options = options.request_plane(plane);
        }
        if !self.nats.is_empty() {
            let read = options.nats(&self.nats.join(","));
            options = read.map_err(|error| format!("--{error}"))?;
        }
        Ok(options)
    }

    /// A runtime for commands that only call or look, whose caller is waiting. `waiting` is told
    /// which server is waited for.
    pub(crate) async fn runtime(
        &self,
        waiting: &(dyn Fn(&str) + Sync),
    ) -> Result<Runtime, Failure> {
        self.runtime_telling(ConnectionEvents::default(), waiting).await
    }

    /// As [`runtime`](Self::runtime); `events` hear of its connections.
    pub(crate) async fn runtime_telling(
        &self,
        events: ConnectionEvents,
        waiting: &(dyn Fn(&str) + Sync),
    ) -> Result<Runtime, Failure> {
        let mut config = self.config()?;
        config.tcp.driver.events = events;
        config.startup_wait = config.startup_wait.min(PATIENCE);
        Ok(start(config, waiting).await?)
    }

    /// How somebody starts what is found in `discovery` under `name`: the end of a sentence.
    pub(crate) fn how_to_serve(&self, discovery: &DiscoverySource, name: &str) -> String {
        match discovery {
            _ if discovery.announces() => {
                format!(" with: {} serve {name} -- COMMAND", self.same_place())
            }
            DiscoverySource::Memory => {
                " with another discovery: memory is known to one process alone".to_owned()
            }
            // The command with this discovery would serve all the same, and nobody would find it.
            _ => format!(
                " at an address that {discovery} leads to, because none can announce itself \
                 there, with: sinew serve {name} --listen IP:PORT --insecure -- COMMAND"
            ),
        }
    }

    /// `sinew` with the options that make another command find what this one serves.
    pub(crate) fn same_place(&self) -> String {
        let mut text = "sinew".to_owned();
        // Writing to a string does not fail.
        for discovery in self.discovery.iter().flatten() {
            let _ = write!(text, " --discovery {}", quoted(&discovery.to_string()));
        }
        if let Some(plane) = self.request_plane {
            let _ = write!(text, " --request-plane {plane}");
        }
        if !self.nats.is_empty() {
            // Without the user, whom no command shows; a server with one was refused before.
            let host = |one: &String| one.rsplit_once('@').map_or(one.clone(), |(_, h)| h.into());
            let nats: Vec<_> = self.nats.iter().map(host).collect();
            let _ = write!(text, " --nats {}", quoted(&nats.join(",")));
        }
        text
    }
}

/// How long a server is waited for in silence: one that is there answers sooner.
const SILENCE: Duration = Duration::from_millis(250);

/// Starts a runtime, and says on standard error which server it waits for, if one is slow.
/// `waiting` is told of each server at once. Dropping the future gives the start up.
pub(crate) async fn start(
    config: Config,
    waiting: &(dyn Fn(&str) + Sync),
) -> Result<Runtime, StartError> {
    let longest = config.startup_wait;
    let config = config.checked()?;
    let (server, mut said) = (Mutex::new(None), None);
    let note = |what: &str| {
        waiting(what);
        *server.lock() = Some(what.to_owned());
    };
    let mut starting = std::pin::pin!(Runtime::new_telling(config, &note));
    loop {
        tokio::select! {
            biased;
            started = &mut starting => return started,
            () = tokio::time::sleep(SILENCE) => {}
        }
        let slow = server.lock().clone();
        if let Some(what) = &slow
            && slow != said
        {
            let longest = seconds(longest);
            tell(&format!("waiting for {what}, up to {longest}; Ctrl-C ends the waiting"));
            said = slow;
        }
    }
}

/// A word as a shell would have to be given it.
pub(crate) fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:,=@%+".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    // Escaped, so that no control character reaches a terminal.
    format!("'{}'", printable(&word.replace('\'', r"'\''")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_quoted_when_a_shell_would_split_them() {
        assert_eq!(quoted("text/words/split"), "text/words/split");
        assert_eq!(quoted("a b"), "'a b'");
        assert_eq!(quoted("it's"), r"'it'\''s'");
        assert_eq!(quoted(""), "''");
        assert_eq!(quoted("\x1b[2J"), r"'\u{1b}[2J'");
    }
}
