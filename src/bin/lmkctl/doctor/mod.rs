//! `lmkctl doctor`: whether this machine lets the daemon do its work, and whether its settings make
//! sense.
//!
//! Every probe is the real call, on a child or a descriptor of this process's own, and leaves
//! nothing behind.

mod contradictions;
mod daemon;
mod finding;
mod kernel;
mod levels;
mod memory;
mod rights;
mod settings;

use crate::flag;
use clap::value_parser;
use clap::Arg;
use clap::ArgAction;
use clap::ArgMatches;
use clap::Command;
use contradictions::Machine;
use daemon::Subject;
use finding::Area;
use settings::Settings;
use std::io::Write;
use std::path::Path;
use std::path::PathBuf;

/// The end of the help.
const MORE: &str = "\
Each line is ok, degraded (the daemon works, with less) or BROKEN (it cannot do its work), the last
two with the effect and the remedy; unknown is what only root may look at, or only a running daemon
can tell. Where one runs, its rights, limits, settings and minfree levels are looked at, else those of
whoever asks, as if that user started it.

Exit status: 0 all is well; 3 something is degraded; 4 something is broken; 1 the examination itself
failed; 2 the command line is not understood.

Examples:
  lmkctl doctor                                    this machine, and the daemon if one runs
  lmkctl doctor --props vendor.prop --json         settings before they are shipped, for a program
  lmkctl doctor --minfree 18432:0,46080:900        minfree levels, in pages as LMK_TARGET has them

--json prints one object: schema (1), worst, and findings, each with area, check, state (ok, unknown,
degraded, broken), found, effect, remedy.";

/// The command line.
pub fn command() -> Command {
    Command::new("doctor")
        .about("Examine kernel, rights, limits, sockets and settings; needs no daemon")
        .after_help(MORE)
        .args([
            flag("json").help("One JSON object"),
            Arg::new("set")
                .long("set")
                .value_name("NAME=VALUE")
                .action(ArgAction::Append)
                .help("Examine this setting of a tunable; may be repeated"),
            Arg::new("props")
                .long("props")
                .value_name("FILE")
                .value_parser(value_parser!(PathBuf))
                .help("Examine the settings in a file of NAME=VALUE lines"),
            Arg::new("psi")
                .long("psi")
                .value_name("FILE")
                .value_parser(value_parser!(PathBuf))
                .help("Pressure file that the daemon is to watch"),
            Arg::new("minfree")
                .long("minfree")
                .value_name("PAGES:ADJ,...")
                .value_parser(levels::parse)
                .help("Examine these minfree levels"),
            Arg::new("socket")
                .long("socket")
                .value_name("PATH")
                .value_parser(value_parser!(PathBuf))
                .help("The daemon's socket"),
        ])
}

/// Examines; the exit status.
pub fn run(arguments: &ArgMatches, out: &mut dyn Write) -> anyhow::Result<u8> {
    let subject = Subject::find(arguments.get_one::<PathBuf>("socket"));
    let settings = Settings::gather(arguments, &subject);
    let kernel = kernel::examine(&subject, &settings);
    let (memory, sample) = memory::examine(Path::new("/"), settings.pressure_file());
    let machine = Machine::of(&subject, &kernel, sample.as_ref());
    let areas: [Area; 5] = [
        ("kernel", kernel),
        ("memory", memory),
        ("daemon", subject.examine()),
        ("rights", rights::examine(&subject)),
        ("settings", settings.examine(&machine)),
    ];
    if arguments.get_flag("json") {
        finding::print_json(&areas, out)?;
    } else {
        finding::print(&areas, out)?;
    }
    Ok(finding::worst(&areas).exit_status())
}
