//! `lmkctl record`: the daemon's recording, into a file.

use crate::flag;
use crate::input;
use anyhow::Context;
use clap::value_parser;
use clap::Arg;
use clap::ArgMatches;
use clap::Command;
use lmkd::recorder::client::ClientError;
use lmkd::recorder::wire::Request;
use std::fs::File;
use std::io;
use std::io::Write;
use std::os::fd::AsFd;
use std::path::Path;
use std::path::PathBuf;

/// The end of the help.
const MORE: &str = "\
A recording holds the settings, every look at memory with all its numbers, registrations, and the
kills with what became of them, as long ago as the daemon's ring reaches, and without --follow the
state of the daemon at its end. `status`, `explain`, `why-not`, `events`, `replay` and `report` read it with --from or as their argument.

Exit status: 0 written; 1 no daemon to ask, or the file cannot be written; 2 the command line is not
understood.

Examples:
  lmkctl record lmkd.rec              what is in the ring
  lmkctl record --follow lmkd.rec     that, and all that comes, until Ctrl-C or the daemon's end
  lmkctl record - | ssh host 'cat > lmkd.rec'";

/// The command line.
pub fn command() -> Command {
    Command::new("record")
        .about("Write the daemon's recording to a file")
        .after_help(MORE)
        .args([
            Arg::new("file")
                .required(true)
                .value_name("FILE")
                .value_parser(value_parser!(PathBuf))
                .help("Where to; - is standard output"),
            flag("follow").help("Go on with what the daemon records from now on"),
        ])
        .args(input::sockets())
}

/// Writes; the exit status.
pub fn run(arguments: &ArgMatches, out: &mut dyn Write) -> anyhow::Result<u8> {
    let mut client = input::connect(arguments)?;
    let path = arguments.get_one::<PathBuf>("file").map_or(Path::new("-"), PathBuf::as_path);
    let follow = arguments.get_flag("follow");
    let request = if follow { Request::Follow { history: true } } else { Request::Dump };
    if path == Path::new("-") {
        client.copy_to(request, out, Some(io::stdout().as_fd()))??;
        return Ok(0);
    }
    let named = || path.display().to_string();
    if !follow {
        // What is in the file stays until there is something to put in its place.
        let mut whole = Vec::new();
        client.copy_to(request, &mut whole, None)??;
        std::fs::write(path, whole).with_context(named)?;
        return Ok(0);
    }
    let mut file = File::create(path).with_context(named)?;
    match client.copy_to(request, &mut file, None) {
        // Whatever came is whole.
        Err(ClientError::Closed) => Ok(0),
        written => written?.with_context(named).map(|_| 0),
    }
}
