//! `lmkctl watch`: pressure, memory, candidates and kills on a terminal, as they are.
//!
//! Plain escape sequences and no crate: a device has none for this, and one view serves both.

mod screen;
mod view;

use crate::events::Levels;
use crate::history::History;
use crate::input;
use anyhow::bail;
use clap::value_parser;
use clap::Arg;
use clap::ArgMatches;
use clap::Command;
use lmkd::clock::MonoTime;
use lmkd::recorder::client::Client;
use lmkd::recorder::client::ClientError;
use lmkd::recorder::client::PATIENCE;
use lmkd::recorder::wire::Request;
use lmkd::recorder::Entry;
use screen::Key;
use screen::Screen;
use std::collections::VecDeque;
use std::io::IsTerminal;
use std::io::Write;
use std::os::fd::AsFd;
use std::time::Duration;
use std::time::Instant;
use view::Choice;
use view::Page;

/// The end of the help.
const MORE: &str = "\
Keys: q quit; space hold and go on; o overview; e explain the last kill; w what keeps each rule from
killing; j and k scroll; + and - look more or less often. Kills are shown as they happen, whatever the pace.

Exit status: 0 left by q; 1 no daemon to ask, it is gone, or this is no terminal; 2 the command line
is not understood.

Examples:
  lmkctl watch
  adb shell -t lmkctl watch --every 250";

/// Fastest and slowest pace, ms.
const PACE_MS: (u64, u64) = (100, 60_000);

/// Most records that are kept for later while the screen is held.
const HELD_BACK: usize = 10_000;

/// The command line.
pub fn command() -> Command {
    Command::new("watch")
        .about("Watch pressure, memory, candidates and kills on a terminal")
        .after_help(MORE)
        .arg(
            Arg::new("every")
                .short('n')
                .long("every")
                .value_name("MS")
                .default_value("1000")
                .value_parser(value_parser!(u64).range(PACE_MS.0..=PACE_MS.1))
                .help("Ask for the state that often"),
        )
        .args(input::sockets())
}

/// Watches; the exit status.
pub fn run(arguments: &ArgMatches, _: &mut dyn Write) -> anyhow::Result<u8> {
    if !std::io::stdin().is_terminal() || !std::io::stdout().is_terminal() {
        bail!("this is no terminal; `lmkctl status` and `lmkctl events` need none");
    }
    let every = arguments.get_one("every").copied().unwrap_or(1000);
    let mut watch = Watch::start(arguments, every)?;
    let screen = Screen::open()?;
    watch.run(&screen)?;
    Ok(0)
}

struct Watch {
    /// Tells of what happens.
    stream: Client,
    /// Is asked how things stand.
    state: Client,
    /// When it was asked, while it has not answered in full.
    asked: Option<Instant>,
    history: History,
    levels: Levels,
    choice: Choice,
    /// What has come while the screen was held.
    held_back: VecDeque<Entry>,
    /// The moment that is shown.
    now: MonoTime,
}

impl Watch {
    fn start(arguments: &ArgMatches, every_ms: u64) -> anyhow::Result<Self> {
        let mut stream = input::connect(arguments)?;
        let state = input::connect(arguments)?;
        let history = input::begin(&stream)?;
        stream.request(Request::Follow { history: true })?;
        let mut watch = Self {
            stream,
            state,
            asked: None,
            history,
            levels: Levels::default(),
            choice: Choice { every_ms, ..Choice::default() },
            held_back: VecDeque::new(),
            now: MonoTime::now(),
        };
        // Here no key is needed to leave: the terminal is not taken yet.
        watch.ask()?;
        while let Some(entry) = watch.state.next(Some(PATIENCE))? {
            watch.history.take(entry);
        }
        watch.asked = None;
        Ok(watch)
    }

    fn run(&mut self, screen: &Screen) -> anyhow::Result<()> {
        let mut due = Instant::now();
        loop {
            let now = Instant::now();
            if now >= due {
                self.ask()?;
                due = now + Duration::from_millis(self.choice.every_ms);
            }
            if !self.choice.held {
                self.now = MonoTime::now();
                self.levels.pass(self.now);
            }
            let size = screen.size();
            let lines = view::lines(&mut self.choice, &self.history, &self.levels, self.now, size);
            screen.show(&lines)?;
            let until = self.asked.map_or(due, |asked| due.min(asked + PATIENCE));
            let clients = [self.stream.as_fd(), self.state.as_fd()];
            let woken = screen.wait(clients, until.saturating_duration_since(now))?;
            if woken.readable {
                self.listen()?;
            }
            self.answered()?;
            for key in woken.keys {
                match key {
                    Key::Leave | Key::Char('q') => return Ok(()),
                    Key::Char(key) => {
                        self.press(key);
                        due = due.min(Instant::now() + Duration::from_millis(self.choice.every_ms));
                    }
                }
            }
        }
    }

    fn press(&mut self, key: char) {
        match key {
            ' ' => {
                self.choice.held = !self.choice.held;
                while let Some(entry) = self.held_back.pop_front() {
                    self.take(entry);
                }
            }
            'o' => self.turn_to(Page::Overview),
            'e' => self.turn_to(Page::Explain),
            'w' => self.turn_to(Page::WhyNot),
            'j' => self.choice.scrolled = self.choice.scrolled.saturating_add(1),
            'k' => self.choice.scrolled = self.choice.scrolled.saturating_sub(1),
            '+' => self.choice.every_ms = (self.choice.every_ms / 2).max(PACE_MS.0),
            '-' => self.choice.every_ms = (self.choice.every_ms * 2).min(PACE_MS.1),
            _ => {}
        }
    }

    fn turn_to(&mut self, page: Page) {
        (self.choice.page, self.choice.scrolled) = (page, 0);
    }

    /// Asks for the state, unless the screen is held. The answer is waited for beside the keys: a daemon that is
    /// stuck must not make this deaf.
    fn ask(&mut self) -> Result<(), ClientError> {
        if self.choice.held || self.asked.is_some() {
            return Ok(());
        }
        self.state.request(Request::Status)?;
        self.asked = Some(Instant::now());
        Ok(())
    }

    /// Takes what has come of the state.
    fn answered(&mut self) -> Result<(), ClientError> {
        let Some(asked) = self.asked else { return Ok(()) };
        loop {
            match self.state.next(Some(Duration::ZERO)) {
                Ok(Some(entry)) => self.history.take(entry),
                Ok(None) => {
                    self.asked = None;
                    return Ok(());
                }
                Err(ClientError::Late) if asked.elapsed() < PATIENCE => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }

    fn take(&mut self, entry: Entry) {
        self.levels.pass(entry.at);
        self.levels.take(&entry);
        self.history.take(entry);
    }

    /// Takes what has happened. While the screen is held it is kept for later, up to a bound: one who
    /// does not read would be hung up on.
    fn listen(&mut self) -> Result<(), ClientError> {
        loop {
            match self.stream.next(Some(Duration::ZERO)) {
                Ok(Some(entry)) if self.choice.held => {
                    if self.held_back.len() >= HELD_BACK {
                        self.held_back.pop_front();
                    }
                    self.held_back.push_back(entry);
                }
                Ok(Some(entry)) => self.take(entry),
                Ok(None) | Err(ClientError::Late) => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }
}
