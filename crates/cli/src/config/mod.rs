//! `sinew config`: the settings of the environment.

mod page;

use clap::{Args, Subcommand, ValueEnum};

use crate::{
    exit::{Exit, Failure},
    output::print,
};

/// Show the settings that variables of the environment make.
#[derive(Debug, Args)]
pub(crate) struct ConfigArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// List every variable: its other names, values, default and meaning.
    #[command(after_help = "Examples:
  sinew config reference | less
  sinew config reference --format markdown > docs/settings.md")]
    Reference {
        /// text for a terminal, or the page of the documentation.
        #[arg(long, value_enum, default_value = "text")]
        format: Format,
    },
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Format {
    Text,
    Markdown,
}

/// Writes what was asked for. Nothing is read from the environment, so that this helps with one
/// that is wrong.
pub(crate) fn run(args: &ConfigArgs) -> Result<Exit, Failure> {
    let What::Reference { format } = args.what;
    let page = match format {
        Format::Text => page::text(),
        Format::Markdown => page::markdown(),
    };
    print(&page)?;
    Ok(Exit::Complete)
}
