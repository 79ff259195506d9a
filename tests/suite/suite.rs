//! The scenario suite: real memory pressure on a device that adb reaches, by a real daemon that its init starts.
//!
//! ANDROID_SERIAL names the device: a phone with a userdebug build, Cuttlefish, or the pocket device of tests/pocket.
//! The suite installs the daemon, runs scenarios, writes one story a scenario (see `story.rs`) and puts everything
//! back, also when it is interrupted; if it is killed, the next run does. `suite --help` lists the options. Exit status:
//! 0 all scenarios passed and the device is as it was, 1 not so, 2 bad arguments.

mod adb;
mod args;
mod compare;
mod elf;
mod install;
mod interrupt;
mod journal;
mod judge;
mod latency;
mod play;
mod remote;
mod restore;
mod run;
mod scenarios;
mod state;
mod story;

use crate::adb::Device;
use crate::args::Args;
use crate::args::Command;
use crate::restore::Restoration;
use crate::run::Guard;
use anyhow::Context;
use anyhow::Result;
use std::process::ExitCode;

fn main() -> ExitCode {
    match Args::parse(std::env::args().skip(1)) {
        Ok(Command::Say(text)) => {
            print!("{text}");
            ExitCode::SUCCESS
        }
        Ok(Command::Run(args)) => match test(&args) {
            Ok(true) => ExitCode::SUCCESS,
            Ok(false) => ExitCode::FAILURE,
            Err(error) => {
                eprintln!("suite: {error:#}");
                ExitCode::FAILURE
            }
        },
        Err(error) => {
            eprintln!("suite: {error:#}");
            ExitCode::from(2)
        }
    }
}

/// Whether every scenario passed.
fn test(args: &Args) -> Result<bool> {
    interrupt::watch()?;
    std::fs::create_dir_all(&args.out).with_context(|| args.out.display().to_string())?;
    let device = Device::connect()?;
    // Whatever happens from here on, all is put back at the end.
    let mut restoration = Restoration::begin(&device)?;
    if let Some(daemon) = &args.daemon {
        install::install(&mut restoration, daemon, &args.rc, args.replace)?;
    }
    let mut passed = true;
    for guard in args.guards() {
        let done = play::all(&device, args, guard, restoration.state());
        match done {
            // Of the others only the figures count.
            Ok(all) => passed &= all || guard != Guard::Lmkd,
            Err(error) => {
                eprintln!("suite: {}: {error:#}", guard.name());
                passed = false;
                break;
            }
        }
    }
    if let Some(command) = args.then.as_ref().filter(|_| interrupt::check().is_ok()) {
        let status = std::process::Command::new("sh").args(["-c", command]).status()?;
        println!("     the command at the end: {status}");
        passed &= status.success();
    }
    if let Err(error) = restoration.finish() {
        println!("broken: the device is not as it was: {error:#}");
        passed = false;
    }
    if args.compare {
        let compared: Vec<_> = scenarios::all().into_iter().filter(|one| one.compared).collect();
        let table = compare::table(&compare::stories(&args.out, &compared)?);
        print!("\n{table}");
        std::fs::write(args.out.join("comparison.md"), table)?;
    }
    Ok(passed)
}
