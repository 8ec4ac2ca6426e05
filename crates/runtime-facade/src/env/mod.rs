//! Settings from environment variables. No other module reads the environment.

mod draft;
mod form;
mod overrides;
mod read;
mod setting;
mod table;
#[cfg(test)]
mod tests;

use std::ffi::OsString;

use self::{draft::Draft, read::Variables};
pub use self::{
    overrides::Overrides,
    setting::{Effect, Setting},
    table::Part,
};
use crate::{Config, ConfigError, features::Features};

impl Config {
    /// Reads the settings from the environment: the defaults, changed by the `SINEW_*` variables
    /// and by those of Dynamo's variables that have a counterpart.
    /// [`settings::all`](crate::settings::all) lists them, and `sinew config reference` prints the
    /// list. An empty variable counts as not set.
    ///
    /// # Errors
    /// The variable, what is wrong with it, and what to do: a value that cannot be read, a
    /// `SINEW_*` name that means nothing, a variable and its alias that say different things, or
    /// one that needs a feature that this build does not have.
    pub fn from_env() -> Result<Self, ConfigError> {
        Self::from_env_with(Overrides::default())
    }

    /// As [`from_env`](Self::from_env), with overrides that take precedence over the variables,
    /// such as the options of a command line. A variable that an override replaces is still checked
    /// for whether it can be parsed.
    ///
    /// # Errors
    /// As [`from_env`](Self::from_env).
    pub fn from_env_with(overrides: Overrides) -> Result<Self, ConfigError> {
        read(Variables::read(std::env::vars_os())?, overrides, Features::THIS)
    }

    /// As [`from_env`](Self::from_env), from a given list of variables.
    ///
    /// # Errors
    /// As [`from_env`](Self::from_env).
    pub fn from_variables<N: Into<OsString>, V: Into<OsString>>(
        variables: impl IntoIterator<Item = (N, V)>,
    ) -> Result<Self, ConfigError> {
        read(Variables::read(variables)?, Overrides::default(), Features::THIS)
    }
}

fn read(
    variables: Variables,
    overrides: Overrides,
    build: Features,
) -> Result<Config, ConfigError> {
    let mut draft = Draft { chosen: overrides, ..Draft::new() };
    for (part, settings) in table::PARTS {
        for setting in *settings {
            // How a program logs is its own affair.
            variables.take(setting, &mut draft, *part != Part::Logging)?;
        }
    }
    draft.finish(build)
}

/// The log filter that the environment sets, with the name of the variable: `SINEW_LOG` or
/// `DYN_LOG`, else `RUST_LOG`. For programs that set up their own logging, because a [`Config`]
/// sets up none.
///
/// # Errors
/// As [`Config::from_env`], for the variables of logging alone.
pub fn log_filter() -> Result<Option<(&'static str, String)>, ConfigError> {
    log_filter_of(&Variables::read(std::env::vars_os())?)
}

fn log_filter_of(variables: &Variables) -> Result<Option<(&'static str, String)>, ConfigError> {
    let mut draft = Draft::new();
    for setting in table::logging::SETTINGS {
        variables.take(setting, &mut draft, true)?;
    }
    let ours = draft.log.zip(draft.given.get("SINEW_LOG").copied());
    let all = draft.rust_log.map(|filter| (filter, "RUST_LOG"));
    Ok(ours.or(all).map(|(filter, name)| (name, filter)))
}

/// Every setting of the environment, in the order of the page `docs/settings.md`.
pub fn all() -> impl Iterator<Item = (Part, &'static Setting)> {
    table::PARTS.iter().flat_map(|(part, settings)| settings.iter().map(|one| (*part, one)))
}
