//! The command line as a whole.

use clap::{Parser, Subcommand};

use crate::{
    call::CallArgs,
    completions::CompletionsArgs,
    config::ConfigArgs,
    demo::{DemoArgs, worker::WorkerArgs},
    drain::DrainArgs,
    ls::LsArgs,
    migrate::MigrateArgs,
    serve::{GuardArgs, ServeArgs},
    settings::Settings,
};

/// Streaming endpoints: one request goes out, a stream of items comes back.
///
/// Try `sinew demo` first. Then serve any program in one shell and call it from another:
///
///     sinew serve text/words/split -- tr ' ' '\n'
///     sinew call text/words/split --data 'streams that end'
#[derive(Debug, Parser)]
#[command(name = "sinew", version, verbatim_doc_comment, max_term_width = 100)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) settings: Settings,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Serve(ServeArgs),
    Call(CallArgs),
    Ls(LsArgs),
    Drain(DrainArgs),
    Migrate(MigrateArgs),
    Demo(DemoArgs),
    Config(ConfigArgs),
    Completions(CompletionsArgs),
    #[command(hide = true)]
    DemoWorker(WorkerArgs),
    #[command(hide = true)]
    Guard(GuardArgs),
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_definition_holds_together() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_command_keeps_its_own_options_with_and_without_dashes() {
        for line in [
            "sinew serve a/b/c --weight 3 -- tr -d x --weight 9",
            "sinew serve a/b/c --weight 3 tr -d x --weight 9",
            "sinew serve --weight 3 a/b/c tr -d x --weight 9",
        ] {
            let Command::Serve(serve) = Cli::parse_from(line.split(' ')).command else {
                panic!("{line}");
            };
            assert_eq!(serve.command, ["tr", "-d", "x", "--weight", "9"], "{line}");
            assert_eq!(serve.weight, 3);
        }
    }

    #[test]
    fn nonsense_is_a_usage_error() {
        for line in [
            "sinew serve a/b/c",
            "sinew serve a/b -- cat",
            "sinew call a/b/c --data x --file y",
            "sinew call a/b/c --mode random --instance 1",
            "sinew call a/b/c --timeout 0s",
            "sinew call a/b/c --header novalue",
            "sinew call a/b/c --header =x",
            "sinew call a/b/c --instance xyz",
            "sinew serve a/b/c --concurrency 0 -- cat",
        ] {
            let error = Cli::try_parse_from(line.split(' ')).unwrap_err();
            assert_eq!(error.exit_code(), 2, "{line}");
        }
    }
}
