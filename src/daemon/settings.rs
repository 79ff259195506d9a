//! Where the tunables and the socket come from on this platform.

use super::publisher::Publisher;
use super::publisher::VALUE_MAX;
use crate::config;
use crate::config::Notice;
use crate::config::Options;
use crate::config::Properties;
use crate::config::PropertyStore;
use crate::config::SystemProperties;
use crate::config::Tunables;
use crate::control::handover;
use crate::control::server::Server;
use crate::control::wire::Targets;
use crate::device;
use crate::report::event_log::LOGD_SOCKET;
use crate::report::EventLog;
use crate::report::KillLog;
use anyhow::Context;
use std::fmt::Write;
use std::path::Path;
use std::path::PathBuf;

/// Tells others the minfree levels in force.
const MINFREE_LEVELS: &str = "sys.lmk.minfree_levels";

/// The sources of settings.
pub(super) struct Settings {
    socket: PathBuf,
    properties: Properties,
    /// None where there are no properties.
    minfree: Option<Publisher>,
    /// What was said of the values the last time, so that each is said once.
    said: Vec<Notice>,
}

impl Settings {
    pub(super) fn new(options: &Options, properties: Properties) -> Self {
        let socket = options.socket.clone().unwrap_or_else(handover::default_path);
        Self { socket, properties, minfree: minfree_publisher(), said: Vec::new() }
    }

    /// Reads all tunables at the start, and says what of them could not be used as it was set.
    pub(super) fn load(&mut self) -> Tunables {
        let (tunables, notices) = config::load(&self.properties);
        self.say(notices);
        tunables
    }

    fn say(&mut self, notices: Vec<Notice>) {
        for notice in notices.iter().filter(|notice| !self.said.contains(notice)) {
            log::warn!("{notice}");
        }
        self.said = notices;
    }

    /// Reads the file of settings and all tunables again. None, which is said, if one of them makes
    /// no sense: what is in force is better than a default then.
    pub(super) fn reload(&mut self) -> Option<Tunables> {
        if let Err(error) = self.properties.reload() {
            log::error!("settings are kept as they are: {error}");
            return None;
        }
        let (tunables, notices) = config::load(&self.properties);
        let refused = notices.iter().find_map(|notice| match notice {
            Notice::Refused { name, value, .. } => Some((name, value)),
            Notice::Clamped { .. } | Notice::NoEffect(_) => None,
        });
        if let Some((name, value)) = refused {
            log::error!("settings are kept as they are: {name} = {value} makes no sense");
            return None;
        }
        self.say(notices);
        Some(tunables)
    }

    /// Whether the boot is completed. A host whose operator says nothing has always booted.
    pub(super) fn boot_completed(&self) -> bool {
        config::boot_completed(&self.properties).unwrap_or(!device::is_android())
    }

    /// Lets others see the levels in force, as many as a property has room for.
    pub(super) fn publish_minfree(&self, targets: &Targets) {
        let mut text = String::new();
        for level in targets.iter() {
            let comma = if text.is_empty() { "" } else { "," };
            let before = text.len();
            // Writing to a String cannot fail.
            let _ = write!(text, "{comma}{}:{}", level.minfree, level.adj);
            if text.len() > VALUE_MAX {
                text.truncate(before);
                break;
            }
        }
        log::debug!("minfree levels: {text}");
        if let Some(minfree) = &self.minfree {
            minfree.publish(&text);
        }
    }

    /// Says that kills are reported to subscribed clients, and waits for init's answer: for the start.
    pub(super) fn publish_reports(&self) {
        let name = "sys.lmk.reportkills";
        if let Err(error) = self.properties.set(name, "1") {
            log::warn!("{name} cannot be set: {error}");
        }
    }

    pub(super) fn socket(&self) -> &Path {
        &self.socket
    }

    pub(super) fn socket_name(&self) -> String {
        self.socket.display().to_string()
    }

    /// Init's socket if there is one, else one of our own; and whether it is init's.
    pub(super) fn listen(&mut self) -> anyhow::Result<(Server, bool)> {
        let from_init = handover::from_init(handover::VARIABLE, handover::ANDROID_PATH)?;
        let is_inits = from_init.is_some();
        let listener = match from_init {
            Some(socket) => {
                self.socket = PathBuf::from(handover::ANDROID_PATH);
                socket
            }
            None => handover::open(&self.socket)?,
        };
        let server = Server::new(listener).context("listening on the lmkd socket")?;
        Ok((server, is_inits))
    }
}

fn minfree_publisher() -> Option<Publisher> {
    if !device::is_android() {
        return None;
    }
    let set = |value: &str| SystemProperties.set(MINFREE_LEVELS, value);
    Publisher::start(set, MINFREE_LEVELS)
        .inspect_err(|error| log::warn!("{MINFREE_LEVELS} is not set: no thread for it ({error})"))
        .ok()
}

/// Where event records of kills go: to logd on Android, elsewhere to the file that was asked for.
pub(super) fn open_event_log(file: Option<&KillLog>) -> EventLog {
    let opened = match file {
        Some(file) => file.sink(),
        None if device::is_android() => EventLog::logd(Path::new(LOGD_SOCKET)).map_err(Into::into),
        None => Ok(EventLog::Off),
    };
    opened.unwrap_or_else(|error| {
        log::error!("event records of kills are not written: {error}");
        EventLog::Off
    })
}

/// The file of `--kill-log`.
pub(super) fn open_kill_log(path: &Path) -> Option<KillLog> {
    KillLog::open(path)
        .inspect_err(|error| {
            log::error!("event records of kills are not written: {}: {error}", path.display());
        })
        .ok()
}
