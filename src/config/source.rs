//! Where values come from: the system's properties, a file, the command line.

use super::load::BOOT_COMPLETED;
use super::parse;
#[cfg(not(target_os = "android"))]
use super::stand_in::SystemProperties;
use super::table::Kind;
use super::table::Tunable;
use rustix::io::Errno;
use std::collections::HashMap;
use std::fmt;
use std::fs::File;
use std::fs::OpenOptions;
use std::io;
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::path::PathBuf;

/// Longest file of `--props`, bytes: many times all tunables with a paragraph about each.
const FILE_MAX: u64 = 1 << 20;

/// Something that knows values of properties.
pub trait PropertySource {
    /// The value; None if it is not set.
    fn get(&self, name: &str) -> Option<String>;
}

/// Something that properties can be written to.
pub trait PropertyStore: PropertySource {
    /// Sets a property.
    ///
    /// # Errors
    ///
    /// The system does not allow it.
    fn set(&self, name: &str, value: &str) -> Result<(), Errno>;
}

/// Properties in memory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PropertyMap(HashMap<String, String>);

impl PropertySource for PropertyMap {
    fn get(&self, name: &str) -> Option<String> {
        self.0.get(name).cloned()
    }
}

impl<'a> FromIterator<(&'a str, &'a str)> for PropertyMap {
    fn from_iter<I: IntoIterator<Item = (&'a str, &'a str)>>(pairs: I) -> Self {
        Self(pairs.into_iter().map(|(name, value)| (name.into(), value.into())).collect())
    }
}

/// The properties of this device, which bionic knows.
#[cfg(target_os = "android")]
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemProperties;

#[cfg(target_os = "android")]
impl PropertySource for SystemProperties {
    fn get(&self, name: &str) -> Option<String> {
        crate::sys::property::get(name)
    }
}

#[cfg(target_os = "android")]
impl PropertyStore for SystemProperties {
    fn set(&self, name: &str, value: &str) -> Result<(), Errno> {
        crate::sys::property::set(name, value)
    }
}

/// All sources in order: `--set`, then `--props`, then the system.
#[derive(Clone, Debug, Default)]
pub struct Properties {
    set: PropertyMap,
    file: PropertyMap,
    path: Option<PathBuf>,
    system: SystemProperties,
}

impl Properties {
    /// Takes the `name=value` pairs of `--set`, and reads the file of `--props`. Names are those of
    /// the tunables or of their properties, or [`BOOT_COMPLETED`]; values have to parse in full.
    ///
    /// # Errors
    ///
    /// An unknown name, a value that does not parse, or an unreadable file.
    pub fn new(set: &[String], file: Option<&Path>) -> Result<Self, ConfigError> {
        let mut all = Self::default();
        for pair in set {
            let Setting { tunable, name, value } = split(pair)?;
            // Under the name that is looked for first, so that it wins however it was spelled.
            let first = tunable.and_then(|tunable| tunable.properties().next());
            all.set.0.insert(first.unwrap_or(name), value);
        }
        all.path = file.map(Path::to_owned);
        all.read_file(|path| File::open(path))?;
        Ok(all)
    }

    /// Reads the file of `--props` again. A pipe has given all it had, and may keep its reader waiting.
    ///
    /// # Errors
    ///
    /// As [`Self::new`], and a file that is no regular one; what was read before stays.
    pub fn reload(&mut self) -> Result<(), ConfigError> {
        self.read_file(open_regular)
    }

    fn read_file(
        &mut self,
        open: impl FnOnce(&Path) -> io::Result<File>,
    ) -> Result<(), ConfigError> {
        if let Some(path) = &self.path {
            let text = open(path).and_then(text_of);
            self.file = read(&text.map_err(|error| ConfigError::File(path.clone(), error))?)?;
        }
        Ok(())
    }
}

impl PropertySource for Properties {
    fn get(&self, name: &str) -> Option<String> {
        self.set.get(name).or_else(|| self.file.get(name)).or_else(|| self.system.get(name))
    }
}

impl PropertyStore for Properties {
    fn set(&self, name: &str, value: &str) -> Result<(), Errno> {
        self.system.set(name, value)
    }
}

/// Why a setting of the operator is not accepted.
#[derive(Debug)]
pub enum ConfigError {
    /// Not of the form name=value.
    NoValue(String),
    /// Nothing has this name.
    UnknownName(String),
    /// The value is not of the tunable's type.
    BadValue {
        /// The tunable.
        name: String,
        /// What was given.
        value: String,
        /// What is wanted.
        wanted: &'static str,
    },
    /// The file cannot be read.
    File(PathBuf, io::Error),
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoValue(text) => write!(f, "'{text}' is not of the form name=value"),
            Self::UnknownName(name) => {
                write!(f, "there is no tunable '{name}'; --help-tunables lists them")
            }
            Self::BadValue { name, value, wanted } => {
                write!(f, "'{value}' is no value for {name}: {wanted} is wanted")
            }
            Self::File(path, error) => write!(f, "cannot read {}: {error}", path.display()),
        }
    }
}

impl std::error::Error for ConfigError {}

/// A file's text. What never ends, or is some other file of any size, is not read into memory that is locked.
fn text_of(file: File) -> io::Result<String> {
    let mut text = String::new();
    file.take(FILE_MAX.saturating_add(1)).read_to_string(&mut text)?;
    match u64::try_from(text.len()) {
        Ok(len) if len <= FILE_MAX => Ok(text),
        _ => Err(io::ErrorKind::FileTooLarge.into()),
    }
}

/// Opens a file that nobody has to write to meanwhile.
fn open_regular(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path)?;
    if file.metadata()?.is_file() {
        Ok(file)
    } else {
        Err(io::Error::other("only a regular file is read more than once"))
    }
}

/// `name=value` lines; empty ones and those that start with # do not count. A bare name stands for
/// the property that is looked for first.
fn read(text: &str) -> Result<PropertyMap, ConfigError> {
    let mut map = PropertyMap::default();
    let lines = text.lines().map(str::trim);
    for line in lines.filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let Setting { tunable, name, value } = split(line)?;
        let bare = tunable.filter(|tunable| tunable.name == name);
        let first = bare.and_then(|tunable| tunable.properties().next());
        map.0.insert(first.unwrap_or(name), value);
    }
    Ok(map)
}

/// What a `name=value` pair sets.
struct Setting {
    /// None for [`BOOT_COMPLETED`].
    tunable: Option<&'static Tunable>,
    /// As it was given.
    name: String,
    value: String,
}

fn split(pair: &str) -> Result<Setting, ConfigError> {
    let (name, value) =
        pair.split_once('=').ok_or_else(|| ConfigError::NoValue(pair.to_owned()))?;
    let (name, value) = (name.trim().to_owned(), value.trim().to_owned());
    let tunable = Tunable::named(&name);
    if tunable.is_none() && name != BOOT_COMPLETED {
        return Err(ConfigError::UnknownName(name));
    }
    let wanted = match tunable.map(|tunable| &tunable.kind) {
        None | Some(Kind::Bool(_) | Kind::Choice(_)) if parse::boolean(&value).is_none() => {
            "true or false"
        }
        Some(&Kind::Int { bits, .. }) if !matches!(parse::integer(&value, bits), Some((_, ""))) => {
            if bits == 32 {
                "a 32-bit number"
            } else {
                "a number"
            }
        }
        _ => return Ok(Setting { tunable, name, value }),
    };
    Err(ConfigError::BadValue { name, value, wanted })
}

#[cfg(test)]
mod tests {
    use super::super::boot_completed;
    use super::super::load;
    use super::*;
    use rustix::fs::FileType;
    use rustix::fs::Mode;
    use std::io::Write;
    use std::os::fd::AsRawFd;

    fn set(pairs: &[&str]) -> Result<Properties, ConfigError> {
        Properties::new(&pairs.iter().map(ToString::to_string).collect::<Vec<_>>(), None)
    }

    #[test]
    fn the_command_line_wins_over_the_file_however_names_are_spelled() {
        let mut all = set(&["ro.lmk.swap_util_max=50", "debug=on"]).unwrap();
        all.file = read(
            "# a device's\n\npersist.device_config.lmkd_native.swap_util_max = 70\n\
             thrashing_limit=30\n",
        )
        .unwrap();
        let (tunables, _) = load(&all);
        assert_eq!((tunables.swap_util_max, tunables.thrashing_limit), (50, 30));
        assert!(tunables.debug);
    }

    #[test]
    fn inside_a_file_properties_keep_their_order() {
        let text = "ro.lmk.debug=0\npersist.device_config.lmkd_native.debug=1\nro.config.low_ram=1";
        let (tunables, _) = load(&read(text).unwrap());
        assert!(tunables.debug && tunables.low_ram);
    }

    #[test]
    fn errors_name_the_value() {
        for (pair, part) in [
            ("debug", "'debug'"),
            ("debgu=1", "'debgu'"),
            ("debug=maybe", "'maybe'"),
            ("thrashing_limit=", "''"),
            ("thrashing_limit=12ms", "'12ms'"),
            ("kill_timeout_ms=99999999999", "'99999999999'"),
        ] {
            let error = set(&[pair]).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
        let error = Properties::new(&[], Some(Path::new("/nowhere/x"))).unwrap_err();
        assert!(error.to_string().contains("/nowhere/x"));
    }

    #[test]
    fn a_file_that_became_wrong_leaves_what_was_read_before() {
        let path = std::env::temp_dir().join(format!("lmkd-{}.prop", std::process::id()));
        std::fs::write(&path, "swap_util_max=70\n").unwrap();
        let mut all = Properties::new(&[], Some(&path)).unwrap();
        std::fs::write(&path, "swap_util_max=much\n").unwrap();
        assert!(all.reload().unwrap_err().to_string().contains("'much'"));
        assert_eq!(load(&all).0.swap_util_max, 70);
        std::fs::write(&path, "swap_util_max=80\n").unwrap();
        all.reload().unwrap();
        assert_eq!(load(&all).0.swap_util_max, 80);
        std::fs::remove_file(path).unwrap();
    }

    #[test]
    fn a_pipe_is_read_once_and_waited_for_no_more() {
        let (reader, mut writer) = io::pipe().unwrap();
        writer.write_all(b"swap_util_max=70\n").unwrap();
        drop(writer);
        let path = format!("/proc/self/fd/{}", reader.as_raw_fd());
        let mut all = Properties::new(&[], Some(Path::new(&path))).unwrap();
        let error = all.reload().unwrap_err().to_string();
        assert!(error.ends_with("only a regular file is read more than once"), "{error}");
        assert_eq!(load(&all).0.swap_util_max, 70);
        // One with a name, which nobody will ever write to.
        let fifo = std::env::temp_dir().join(format!("lmkd-{}.fifo", std::process::id()));
        rustix::fs::mknodat(rustix::fs::CWD, &fifo, FileType::Fifo, Mode::RUSR, 0).unwrap();
        all.path = Some(fifo.clone());
        assert!(all.reload().is_err());
        std::fs::remove_file(fifo).unwrap();
    }

    #[test]
    fn a_file_that_never_ends_is_refused() {
        let error = Properties::new(&[], Some(Path::new("/dev/zero"))).unwrap_err().to_string();
        assert!(error.contains("/dev/zero: file too large"), "{error}");
    }

    #[test]
    fn a_boot_that_is_not_over_can_be_told() {
        assert_eq!(boot_completed(&set(&["sys.boot_completed=0"]).unwrap()), Some(false));
        // A device has a property of its own.
        if !cfg!(target_os = "android") {
            assert_eq!(boot_completed(&set(&[]).unwrap()), None);
        }
        let file = Properties { file: read("sys.boot_completed=1").unwrap(), ..set(&[]).unwrap() };
        assert_eq!(boot_completed(&file), Some(true));
        assert!(set(&["sys.boot_completed=soon"]).is_err());
    }

    #[test]
    fn settings_without_effect_are_accepted() {
        assert!(set(&["upgrade_pressure=1", "low=1001"]).is_ok());
    }
}
