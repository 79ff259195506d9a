//! lmkctl, the operator's tool: what lmkd sees, what it did and why, what this machine lacks.

mod doctor;
mod events;
mod explain;
#[cfg(feature = "pages")]
mod generate;
mod history;
mod input;
mod json;
mod openmetrics;
mod record;
#[cfg(feature = "pages")]
mod replay;
#[cfg(feature = "pages")]
mod report;
mod status;
mod text;
#[cfg(feature = "pages")]
mod timeline;
mod wait;
mod watch;
mod why_not;
mod words;

use clap::Arg;
use clap::ArgAction;
use clap::ArgMatches;
use clap::Command;
use std::io;
use std::io::Write;
use std::process::ExitCode;

/// What could not be done, for all subcommands. clap ends with 2 for a command line that is not
/// understood.
const FAILED: u8 = 1;

/// The end of the help.
const EXIT_STATUS: &str = "\
Exit status: 0 done; 1 it could not be done, and the message says why; 2 the command line is not
understood, and the message names the value. Some subcommands have more: see their --help.";

/// A subcommand: its command line, and what it does, which ends in an exit status.
type Subcommand = (fn() -> Command, fn(&ArgMatches, &mut dyn Write) -> anyhow::Result<u8>);

/// In the order of the help.
const SUBCOMMANDS: &[Subcommand] = &[
    (status::command, status::run),
    (watch::command, watch::run),
    (explain::command, explain::run),
    (why_not::command, why_not::run),
    (events::command, events::run),
    (record::command, record::run),
    (doctor::command, doctor::run),
    (wait::command, wait::run),
    #[cfg(feature = "pages")]
    (replay::command, replay::run),
    #[cfg(feature = "pages")]
    (report::command, report::run),
    #[cfg(feature = "pages")]
    (generate::completions_command, generate::completions),
    #[cfg(feature = "pages")]
    (generate::man_command, generate::man),
];

/// The whole command line.
fn command() -> Command {
    Command::new("lmkctl")
        .version(env!("CARGO_PKG_VERSION"))
        .about("Asks Android's low-memory killer daemon what it sees, what it did and why")
        .after_help(EXIT_STATUS)
        .subcommand_required(true)
        .arg_required_else_help(true)
        .disable_help_subcommand(true)
        .subcommands(SUBCOMMANDS.iter().map(|(command, _)| command()))
}

/// An option without a value.
fn flag(name: &'static str) -> Arg {
    Arg::new(name).long(name).action(ArgAction::SetTrue)
}

fn main() -> ExitCode {
    let matches = command().get_matches();
    let mut out = io::stdout().lock();
    match run(&matches, &mut out).and_then(|status| Ok(out.flush().map(|()| status)?)) {
        Ok(status) => ExitCode::from(status),
        // Whoever read the output has seen enough.
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("lmkctl: {error:#}");
            ExitCode::from(FAILED)
        }
    }
}

fn run(matches: &ArgMatches, out: &mut dyn Write) -> anyhow::Result<u8> {
    let called = matches.subcommand().and_then(|(name, arguments)| {
        let (_, run) = SUBCOMMANDS.iter().find(|(command, _)| command().get_name() == name)?;
        Some(run(arguments, out))
    });
    called.unwrap_or(Ok(FAILED))
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let io = error.downcast_ref::<io::Error>();
    io.is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

#[cfg(test)]
mod tests;
