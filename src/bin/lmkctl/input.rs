//! Where records come from: the running daemon, or a file.

use crate::history::Clock;
use crate::history::History;
use anyhow::bail;
use anyhow::Context;
use clap::value_parser;
use clap::Arg;
use clap::ArgMatches;
use lmkd::clock::MonoTime;
use lmkd::control::handover;
use lmkd::recorder::client::Client;
use lmkd::recorder::client::ClientError;
use lmkd::recorder::client::PATIENCE;
use lmkd::recorder::wire;
use lmkd::recorder::wire::Request;
use lmkd::recorder::Entry;
use lmkd::recorder::Record;
use lmkd::recorder::Recording;
use std::io;
use std::os::fd::AsFd;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

/// `--from`, for what can be read from a file too.
pub fn from() -> Arg {
    path("from", "FILE", "Read a recording in place of asking the running daemon")
        .short('f')
        .conflicts_with_all(["socket", "ctl"])
}

/// `--socket` and `--ctl`: which daemon.
pub fn sockets() -> [Arg; 2] {
    [
        path("socket", "PATH", "The daemon's socket, as it was given to lmkd"),
        path("ctl", "PATH", "Its socket for operators, if that is not beside it"),
    ]
}

fn path(name: &'static str, value: &'static str, help: &'static str) -> Arg {
    Arg::new(name).long(name).value_name(value).value_parser(value_parser!(PathBuf)).help(help)
}

/// A connection to the daemon.
pub fn connect(arguments: &ArgMatches) -> anyhow::Result<Client> {
    let path = match (arguments.get_one::<PathBuf>("ctl"), arguments.get_one::<PathBuf>("socket")) {
        (Some(ctl), _) => ctl.clone(),
        (None, Some(socket)) => wire::path_beside(socket),
        (None, None) => wire::path_beside(&handover::default_path()),
    };
    Ok(Client::connect(&path)?)
}

/// An empty history of this daemon.
pub fn begin(client: &Client) -> anyhow::Result<History> {
    match client.header() {
        Some(header) => Ok(History::new(header.clone(), client.greeting().at)),
        None => bail!("the daemon does not say who it is"),
    }
}

/// What a recording tells: that of a file, or the daemon's up to now.
pub fn history(arguments: &ArgMatches) -> anyhow::Result<History> {
    if let Some(path) = arguments.get_one::<PathBuf>("from") {
        let recording = read(path)?;
        return Ok(History::of(recording.header, recording.entries));
    }
    ask(arguments, Request::Dump)
}

/// How things stand now, or at the end of a file.
pub fn status(arguments: &ArgMatches) -> anyhow::Result<History> {
    match arguments.get_one::<PathBuf>("from") {
        Some(_) => history(arguments),
        None => ask(arguments, Request::Status),
    }
}

fn ask(arguments: &ArgMatches, request: Request) -> anyhow::Result<History> {
    let mut client = connect(arguments)?;
    let mut history = begin(&client)?;
    client.request(request)?;
    while let Some(entry) = client.next(Some(PATIENCE))? {
        history.take(entry);
    }
    Ok(history)
}

/// Reads a file. What a torn one lacks is said.
fn read(path: &Path) -> anyhow::Result<Recording> {
    let recording = Recording::open(path).with_context(|| path.display().to_string())?;
    if let Some(tear) = recording.tear {
        eprintln!("lmkctl: {}: {tear}", path.display());
    }
    Ok(recording)
}

/// Somebody who reads along.
pub trait Follower {
    /// Takes the next record.
    fn entry(&mut self, entry: &Entry, clock: &Clock) -> io::Result<()>;

    /// When it wants to be told the time, if no record comes before.
    fn due(&self) -> Option<MonoTime>;

    /// Is told the time.
    fn time(&mut self, now: MonoTime, clock: &Clock) -> io::Result<()>;
}

/// Hands out the records of a file; or those that the daemon makes from now on, until it ends,
/// which is an error, or nobody reads standard output any more.
pub fn follow(arguments: &ArgMatches, follower: &mut dyn Follower) -> anyhow::Result<()> {
    if let Some(path) = arguments.get_one::<PathBuf>("from") {
        let recording = read(path)?;
        let start = recording.entries.first().map_or(MonoTime::ZERO, |entry| entry.at);
        let clock = Clock::new(start, recording.header.wall_ns);
        for entry in &recording.entries {
            if follower.due().is_some_and(|due| due < entry.at) {
                follower.time(entry.at, &clock)?;
            }
            follower.entry(entry, &clock)?;
        }
        return Ok(());
    }
    let mut client = connect(arguments)?;
    let clock = begin(&client)?.clock;
    // What is in force already, for whoever counts windows or tells of changes.
    client.request(Request::Status)?;
    while let Some(entry) = client.next(Some(PATIENCE))? {
        if matches!(entry.record, Record::Settings(_) | Record::Status(_)) {
            follower.entry(&entry, &clock)?;
        }
    }
    client.request(Request::Follow { history: false })?;
    loop {
        let now = MonoTime::now();
        let patience = follower.due().map(|due| {
            // A nanosecond more: the time has passed then, not only come.
            Duration::from_nanos(due.as_nanos().saturating_sub(now.as_nanos()).saturating_add(1))
        });
        match client.next(Some(Duration::ZERO)) {
            Ok(Some(entry)) => follower.entry(&entry, &clock)?,
            Ok(None) => return Ok(()),
            Err(ClientError::Late) if client.reader_goes(io::stdout().as_fd(), patience)? => {
                return Ok(());
            }
            Err(ClientError::Late) => {}
            Err(error) => return Err(error.into()),
        }
        follower.time(MonoTime::now(), &clock)?;
    }
}
