//! The command line of lmkd.

use std::ffi::OsString;
use std::fmt;
use std::path::Path;
use std::path::PathBuf;

/// What `--help` prints, and what follows a wrong argument.
pub const USAGE: &str = "\
usage: lmkd [OPTION]...
Kills processes by oom_score_adj when memory runs out. Without options it runs the daemon.

  --socket PATH      listen here (or, with --reinit and --boot_completed, connect to it)
  --psi FILE         pressure file to watch, /proc/pressure/memory or a cgroup's memory.pressure
  --no-adopt         only registered processes are candidates
  --dry-run          say who would be killed, and kill nobody
  --kill-log FILE    append a JSON object to FILE for each kill
  --record FILE      keep a recording of what was seen and done in FILE, written after each kill
  --ctl PATH         listen here for lmkctl, instead of beside the socket
  --set NAME=VALUE   set a tunable; may be repeated
  --props FILE       set tunables from NAME=VALUE lines
  --reinit           have the running daemon read its properties again
  --boot_completed   tell the running daemon that the boot is completed
  --help-tunables    list the tunables
  --help, --version
";

/// How the daemon is to run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// `--socket`
    pub socket: Option<PathBuf>,
    /// `--psi`
    pub psi: Option<PathBuf>,
    /// Not `--no-adopt`
    pub adopt: bool,
    /// `--dry-run`
    pub dry_run: bool,
    /// `--kill-log`
    pub kill_log: Option<PathBuf>,
    /// `--record`
    pub record: Option<PathBuf>,
    /// `--ctl`
    pub ctl: Option<PathBuf>,
    /// `--set`, in the order given
    pub set: Vec<String>,
    /// `--props`
    pub props: Option<PathBuf>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            socket: None,
            psi: None,
            adopt: true,
            dry_run: false,
            kill_log: None,
            record: None,
            ctl: None,
            set: Vec::new(),
            props: None,
        }
    }
}

impl Options {
    /// The pressure file to watch.
    #[must_use]
    pub fn pressure_file(&self) -> &Path {
        self.psi.as_deref().unwrap_or(Path::new("/proc/pressure/memory"))
    }
}

/// What the program is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Run the daemon.
    Run(Options),
    /// Have the daemon at this socket read its properties again.
    Reinit {
        /// `--socket`
        socket: Option<PathBuf>,
    },
    /// Tell the daemon at this socket that the boot is completed.
    BootCompleted {
        /// `--socket`
        socket: Option<PathBuf>,
    },
    /// Print [`USAGE`].
    Help,
    /// Print the tunables.
    HelpTunables,
    /// Print the version.
    Version,
}

/// Why the command line is not understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CliError {
    /// There is no such option.
    Unknown(String),
    /// The option needs a value and has none.
    NoValue(String),
    /// The option takes no value.
    UnwantedValue(String),
    /// The value is not text.
    NotText(String),
    /// These do not go together.
    Conflict(String, String),
}

impl fmt::Display for CliError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown(arg) => write!(f, "unknown argument '{arg}'"),
            Self::NoValue(option) => write!(f, "{option} needs a value"),
            Self::UnwantedValue(arg) => write!(f, "'{arg}': this option takes no value"),
            Self::NotText(arg) => write!(f, "'{arg}' is not UTF-8"),
            Self::Conflict(one, other) => write!(f, "{one} and {other} do not go together"),
        }
    }
}

impl std::error::Error for CliError {}

/// Reads the arguments, the program's name not among them.
///
/// # Errors
///
/// Anything not understood: the caller prints it with [`USAGE`] and exits with status 2.
pub fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Mode, CliError> {
    let mut arguments = arguments.into_iter();
    let mut options = Options::default();
    let mut modes: Vec<String> = Vec::new();
    let mut only_daemon: Option<String> = None;
    while let Some(argument) = arguments.next() {
        let text = text(argument)?;
        let (name, inline) = match text.split_once('=') {
            Some((name, value)) if name.starts_with("--") => (name, Some(value.to_owned())),
            _ => (text.as_str(), None),
        };
        let takes_value = TAKES_VALUE.contains(&name);
        if !takes_value && inline.is_some() && KNOWN.contains(&name) {
            return Err(CliError::UnwantedValue(text));
        }
        if !KNOWN.contains(&name) {
            return Err(CliError::Unknown(text));
        }
        let value = match (takes_value, inline, name) {
            (false, ..) => String::new(),
            (true, Some(value), _) => value,
            (true, None, _) => {
                let next = arguments.next().ok_or_else(|| CliError::NoValue(name.to_owned()))?;
                self::text(next)?
            }
        };
        match name {
            "--socket" => options.socket = Some(value.into()),
            "--psi" => options.psi = Some(value.into()),
            "--kill-log" => options.kill_log = Some(value.into()),
            "--record" => options.record = Some(value.into()),
            "--ctl" => options.ctl = Some(value.into()),
            "--set" => options.set.push(value),
            "--props" => options.props = Some(value.into()),
            "--no-adopt" => options.adopt = false,
            "--dry-run" => options.dry_run = true,
            mode => modes.push(mode.to_owned()),
        }
        if options_of_the_daemon(name) {
            only_daemon.get_or_insert_with(|| name.to_owned());
        }
    }
    modes.dedup();
    let mode = match modes.as_slice() {
        [] => return Ok(Mode::Run(options)),
        [one, other, ..] => return Err(CliError::Conflict(one.clone(), other.clone())),
        [mode] => mode.as_str(),
    };
    match (mode, only_daemon) {
        ("--help", _) => Ok(Mode::Help),
        ("--help-tunables", _) => Ok(Mode::HelpTunables),
        ("--version", _) => Ok(Mode::Version),
        (mode, Some(option)) => Err(CliError::Conflict(mode.to_owned(), option)),
        ("--reinit", None) => Ok(Mode::Reinit { socket: options.socket }),
        _ => Ok(Mode::BootCompleted { socket: options.socket }),
    }
}

const TAKES_VALUE: [&str; 7] =
    ["--socket", "--psi", "--kill-log", "--record", "--ctl", "--set", "--props"];

/// Whether an option goes with no mode but that of the daemon.
fn options_of_the_daemon(name: &str) -> bool {
    name != "--socket"
        && (TAKES_VALUE.contains(&name) || ["--no-adopt", "--dry-run"].contains(&name))
}

const KNOWN: [&str; 14] = [
    "--socket",
    "--psi",
    "--kill-log",
    "--record",
    "--ctl",
    "--set",
    "--props",
    "--no-adopt",
    "--dry-run",
    "--reinit",
    "--boot_completed",
    "--help",
    "--help-tunables",
    "--version",
];

fn text(argument: OsString) -> Result<String, CliError> {
    argument.into_string().map_err(|raw| CliError::NotText(raw.to_string_lossy().into_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(line: &str) -> Result<Mode, CliError> {
        parse(line.split_whitespace().map(OsString::from))
    }

    #[test]
    fn no_argument_runs_the_daemon() {
        assert_eq!(of(""), Ok(Mode::Run(Options::default())));
    }

    #[test]
    fn values_follow_or_are_joined_by_an_equals_sign() {
        let expected = Options {
            socket: Some("/a".into()),
            set: vec!["debug=1".into(), "swap_util_max=5".into()],
            adopt: false,
            dry_run: true,
            ..Options::default()
        };
        let line = "--socket=/a --set debug=1 --set=swap_util_max=5 --no-adopt --dry-run";
        assert_eq!(of(line), Ok(Mode::Run(expected)));
    }

    #[test]
    fn each_mode_has_its_word() {
        assert_eq!(of("--reinit"), Ok(Mode::Reinit { socket: None }));
        let socket = Some("/a".into());
        assert_eq!(of("--boot_completed --socket /a"), Ok(Mode::BootCompleted { socket }));
        assert_eq!(of("--help"), Ok(Mode::Help));
        assert_eq!(of("--help-tunables"), Ok(Mode::HelpTunables));
        assert_eq!(of("--version"), Ok(Mode::Version));
    }

    #[test]
    fn what_is_not_understood_is_named() {
        assert_eq!(of("--foo=1"), Err(CliError::Unknown("--foo=1".into())));
        assert_eq!(of("run"), Err(CliError::Unknown("run".into())));
        assert_eq!(of("--socket"), Err(CliError::NoValue("--socket".into())));
        assert_eq!(of("--dry-run=1"), Err(CliError::UnwantedValue("--dry-run=1".into())));
        let conflict = |a: &str, b: &str| Err(CliError::Conflict(a.into(), b.into()));
        assert_eq!(of("--reinit --boot_completed"), conflict("--reinit", "--boot_completed"));
        assert_eq!(of("--reinit --dry-run"), conflict("--reinit", "--dry-run"));
    }
}
