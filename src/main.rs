//! lmkd, the low-memory killer daemon.

use lmkd::config;
use lmkd::config::Mode;
use lmkd::config::Properties;
use lmkd::config::PropertyStore;
use lmkd::config::SystemProperties;
use lmkd::control::client::BootAnswer;
use lmkd::control::client::Client;
use lmkd::control::client::ClientError;
use lmkd::control::handover;
use lmkd::daemon::Daemon;
use std::fmt::Display;
use std::path::PathBuf;
use std::process::ExitCode;

/// Arguments or settings that are not understood.
const WRONG_USAGE: u8 = 2;
/// A request that was refused, or reached nobody: AOSP's -1.
const REFUSED: u8 = 255;

fn main() -> ExitCode {
    lmkd::logging::init(false);
    let mode = match config::parse_arguments(std::env::args_os().skip(1)) {
        Ok(mode) => mode,
        Err(error) => return wrong_usage(&error),
    };
    match mode {
        Mode::Run(options) => {
            // Before anything is touched: what the operator got wrong is said at once.
            let properties = match Properties::new(&options.set, options.props.as_deref()) {
                Ok(properties) => properties,
                Err(error) => return wrong_usage(&error),
            };
            let run = Daemon::run(options, properties);
            exit(run.map(|()| true).map_err(|error| format!("{error:#}")))
        }
        Mode::Reinit { socket } => {
            // So that init's trigger fires again at the next change.
            if let Err(error) = SystemProperties.set("lmkd.reinit", "") {
                log::warn!("lmkd.reinit cannot be reset: {error}");
            }
            exit_or(ExitCode::from(REFUSED), reinit(socket))
        }
        Mode::BootCompleted { socket } => exit_or(ExitCode::from(REFUSED), boot_completed(socket)),
        Mode::Help => exit(print(config::USAGE.as_bytes())),
        Mode::HelpTunables => {
            let mut text = Vec::new();
            exit(config::help_tunables(&mut text).and_then(|()| print(&text)))
        }
        Mode::Version => exit(print(concat!("lmkd ", env!("CARGO_PKG_VERSION"), "\n").as_bytes())),
    }
}

fn reinit(socket: Option<PathBuf>) -> Result<bool, ClientError> {
    let done = connect(socket)?.update_props()?;
    if !done {
        log::error!("the daemon could not use its new properties and keeps the old");
    }
    Ok(done)
}

fn boot_completed(socket: Option<PathBuf>) -> Result<bool, ClientError> {
    let answer = connect(socket)?.boot_completed()?;
    match answer {
        BootAnswer::Done => {}
        BootAnswer::AlreadyHandled => log::warn!("the daemon knows already"),
        BootAnswer::NotBooted => log::error!("the daemon finds sys.boot_completed not set"),
    }
    Ok(answer == BootAnswer::Done)
}

fn connect(socket: Option<PathBuf>) -> Result<Client, ClientError> {
    Client::connect(&socket.unwrap_or_else(handover::default_path))
}

fn print(text: &[u8]) -> std::io::Result<bool> {
    use std::io::Write;
    std::io::stdout().write_all(text).map(|()| true)
}

fn exit<E: Display>(result: Result<bool, E>) -> ExitCode {
    exit_or(ExitCode::FAILURE, result)
}

fn exit_or<E: Display>(failure: ExitCode, result: Result<bool, E>) -> ExitCode {
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => failure,
        Err(error) => {
            log::error!("{error}");
            failure
        }
    }
}

fn wrong_usage(error: &dyn Display) -> ExitCode {
    eprint!("lmkd: {error}\n{}", config::USAGE);
    ExitCode::from(WRONG_USAGE)
}
