//! Settings from environment variables. This is the one place that reads them.

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
    /// The defaults, changed by the variables of the process: the `SINEW_*` names, and those of
    /// Dynamo that mean the same. [`settings::all`](crate::settings::all) lists them, and
    /// `sinew config reference` prints the list. A variable that is set to nothing counts as not
    /// set.
    ///
    /// # Errors
    /// The variable, what is wrong with it, and what to do: a value that cannot be read, a
    /// `SINEW_*` name that means nothing, a variable and its alias that say different things, or
    /// one that asks for what this build has not.
    pub fn from_env() -> Result<Self, ConfigError> {
        Self::from_env_with(Overrides::default())
    }

    /// The same, with what comes before the variables, such as the options of a command line.
    /// What a variable says of the same is not looked at, beyond whether it can be read.
    ///
    /// # Errors
    /// As [`from_env`](Self::from_env).
    pub fn from_env_with(overrides: Overrides) -> Result<Self, ConfigError> {
        read(Variables::read(std::env::vars_os())?, overrides, Features::THIS)
    }

    /// The same from any list of variables.
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

/// What the process should log as its environment has it, and the variable that says so:
/// `SINEW_LOG` or `DYN_LOG`, else `RUST_LOG`. For programs that set up their own logging; a
/// [`Config`] does not.
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

/// Every setting of the environment, in the order of the page that lists them.
pub fn all() -> impl Iterator<Item = (Part, &'static Setting)> {
    table::PARTS.iter().flat_map(|(part, settings)| settings.iter().map(|one| (*part, one)))
}
