//! The command line.

use crate::run::Guard;
use crate::run::Scenario;
use crate::scenarios;
use anyhow::bail;
use anyhow::Context;
use anyhow::Result;
use std::path::PathBuf;

const HELP: &str = "\
usage: ANDROID_SERIAL=HOST:PORT suite --actor FILE [OPTION...]

  --actor FILE      the actor, built for the device
  --daemon FILE     the daemon under test, built for the device; without it, the one that the device runs is tested
  --rc FILE         its service file (default init/lmkd_rs.rc)
  --replace         put the daemon at the stock daemon's path, not beside it
  --lmkctl FILE     the operator's tool, built for the device: a recording of each scenario is kept beside its story
  --out FOLDER      where stories and logs go (default target/suite)
  --only NAME,...   these scenarios
  --core            the scenarios that every kernel has to pass
  --compare         the scenarios that daemons are compared by: also with no daemon, and with earlyoom if it is given;
                    prints a table
  --earlyoom CMD    how to run earlyoom on the device
  --then CMD        a shell command of the host to run at the end, while the daemon under test is still there
  --list            the names of the scenarios that these options select
  --help
";

/// What to test.
pub struct Args {
    pub actor: PathBuf,
    pub daemon: Option<PathBuf>,
    pub rc: PathBuf,
    pub replace: bool,
    pub lmkctl: Option<PathBuf>,
    pub out: PathBuf,
    pub only: Vec<String>,
    pub core: bool,
    pub compare: bool,
    pub earlyoom: Option<String>,
    pub then: Option<String>,
}

/// What was asked for.
pub enum Command {
    Run(Args),
    Say(String),
}

impl Args {
    /// From the words after the program's name.
    pub fn parse(mut words: impl Iterator<Item = String>) -> Result<Command> {
        let mut args = Self {
            actor: PathBuf::new(),
            daemon: None,
            rc: "init/lmkd_rs.rc".into(),
            replace: false,
            lmkctl: None,
            out: "target/suite".into(),
            only: Vec::new(),
            core: false,
            compare: false,
            earlyoom: None,
            then: None,
        };
        let mut list = false;
        while let Some(word) = words.next() {
            let mut value = || words.next().with_context(|| format!("{word} wants a value"));
            match word.as_str() {
                "--actor" => args.actor = value()?.into(),
                "--daemon" => args.daemon = Some(value()?.into()),
                "--rc" => args.rc = value()?.into(),
                "--lmkctl" => args.lmkctl = Some(value()?.into()),
                "--replace" => args.replace = true,
                "--out" => args.out = value()?.into(),
                "--only" => args.only.extend(value()?.split(',').map(str::to_owned)),
                "--core" => args.core = true,
                "--compare" => args.compare = true,
                "--earlyoom" => args.earlyoom = Some(value()?),
                "--then" => args.then = Some(value()?),
                "--help" => return Ok(Command::Say(HELP.to_owned())),
                "--list" => list = true,
                _ => bail!("{word}: no such option; --help lists them"),
            }
        }
        for name in &args.only {
            if !scenarios::all().iter().any(|scenario| scenario.name == name) {
                bail!("{name}: no such scenario; --list lists them");
            }
        }
        if list {
            let chosen = args.scenarios();
            let lines = chosen.iter().map(|one| format!("{:<18} {}\n", one.name, one.title));
            return Ok(Command::Say(lines.collect()));
        }
        if args.actor.as_os_str().is_empty() {
            bail!("--actor is missing; --help lists the options");
        }
        Ok(Command::Run(args))
    }

    /// Who is tested, one after the other.
    pub fn guards(&self) -> Vec<Guard> {
        match (self.compare, &self.earlyoom) {
            (false, _) => vec![Guard::Lmkd],
            (true, None) => vec![Guard::Lmkd, Guard::Nobody],
            (true, Some(_)) => vec![Guard::Lmkd, Guard::Nobody, Guard::Earlyoom],
        }
    }

    /// The scenarios asked for.
    pub fn scenarios(&self) -> Vec<Scenario> {
        let wanted = |scenario: &Scenario| {
            if self.only.is_empty() {
                (!self.core || scenario.core) && (!self.compare || scenario.compared)
            } else {
                self.only.iter().any(|name| name == scenario.name)
            }
        };
        scenarios::all().into_iter().filter(wanted).collect()
    }
}
