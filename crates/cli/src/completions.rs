//! `sinew completions`: what a shell needs to complete this command.

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use crate::{
    args::Cli,
    exit::{Exit, Failure},
    output::print,
};

/// Print a shell's completion script.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  sinew completions bash > ~/.local/share/bash-completion/completions/sinew
  sinew completions zsh > ~/.zfunc/_sinew        # a folder of $fpath
  sinew completions fish > ~/.config/fish/completions/sinew.fish")]
pub(crate) struct CompletionsArgs {
    /// The shell.
    shell: Shell,
}

pub(crate) fn run(args: &CompletionsArgs) -> Result<Exit, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "sinew", &mut script);
    print(&String::from_utf8_lossy(&script))?;
    Ok(Exit::Complete)
}
