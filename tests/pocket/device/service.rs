//! A service as its section describes it.

use crate::identity;
use anyhow::bail;
use anyhow::ensure;
use anyhow::Context;
use anyhow::Result;
use rustix::net::SocketType;
use rustix::process::Resource;
use rustix::thread::CapabilitySet;
use std::time::Duration;

/// What is on `service` lines and below them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    pub name: String,
    pub command: Vec<String>,
    pub classes: Vec<String>,
    pub user: Option<u32>,
    pub groups: Vec<u32>,
    /// Without the line a service that is not root has none.
    pub capabilities: Option<CapabilitySet>,
    pub sockets: Vec<Socket>,
    pub critical: bool,
    pub oneshot: bool,
    pub disabled: bool,
    pub overrides: bool,
    pub oom_score_adj: i32,
    pub rlimits: Vec<(Resource, Option<u64>, Option<u64>)>,
    pub environment: Vec<(String, String)>,
    pub task_profiles: Vec<String>,
    pub restart_period: Duration,
}

/// A socket that init binds for the service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Socket {
    pub name: String,
    pub kind: SocketType,
    pub passcred: bool,
    pub listen: bool,
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
}

impl Service {
    pub fn new(name: &str, command: &[String]) -> Result<Self> {
        ensure!(!command.is_empty(), "service {name} has no command");
        Ok(Self {
            name: name.to_owned(),
            command: command.to_vec(),
            classes: Vec::new(),
            user: None,
            groups: Vec::new(),
            capabilities: None,
            sockets: Vec::new(),
            critical: false,
            oneshot: false,
            disabled: false,
            overrides: false,
            oom_score_adj: -1000,
            rlimits: Vec::new(),
            environment: Vec::new(),
            task_profiles: Vec::new(),
            restart_period: Duration::from_secs(5),
        })
    }

    /// Takes a line of the section.
    pub fn option(&mut self, words: &[String]) -> Result<()> {
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        match words.as_slice() {
            ["class", names @ ..] if !names.is_empty() => {
                self.classes = names.iter().map(ToString::to_string).collect();
            }
            ["user", name] => self.user = Some(identity::id(name)?),
            ["group", names @ ..] if !names.is_empty() => {
                self.groups = names.iter().map(|name| identity::id(name)).collect::<Result<_>>()?;
            }
            ["capabilities", names @ ..] => {
                let mut all = CapabilitySet::empty();
                for name in names {
                    all |= identity::capability(name)?;
                }
                self.capabilities = Some(all);
            }
            ["socket", name, kind, mode, owner @ ..] if owner.len() <= 2 => {
                self.sockets.push(Socket::new(name, kind, mode, owner)?);
            }
            ["critical"] => self.critical = true,
            ["oneshot"] => self.oneshot = true,
            ["disabled"] => self.disabled = true,
            ["override"] => self.overrides = true,
            ["oom_score_adjust", adj] => self.oom_score_adj = adj.parse().context("adj")?,
            ["restart_period", secs] => {
                self.restart_period = Duration::from_secs(secs.parse().context("seconds")?);
            }
            ["setenv", name, value] => {
                self.environment.push(((*name).to_owned(), (*value).to_owned()));
            }
            ["task_profiles", names @ ..] if !names.is_empty() => {
                self.task_profiles = names.iter().map(ToString::to_string).collect();
            }
            ["rlimit", what, soft, hard] => {
                self.rlimits.push((resource(what)?, limit(soft)?, limit(hard)?));
            }
            _ => bail!("'{}' is not understood here", words.join(" ")),
        }
        Ok(())
    }

    /// What init refuses only once it has the whole section.
    pub fn check(&self) -> Result<()> {
        let name = &self.name;
        ensure!(!(self.critical && self.oneshot), "service {name} is both critical and oneshot");
        ensure!(self.user.is_some(), "service {name} names no user");
        Ok(())
    }
}

impl Socket {
    fn new(name: &str, kind: &str, mode: &str, owner: &[&str]) -> Result<Self> {
        let mut flags = kind.split('+');
        let kind = match flags.next() {
            Some("dgram") => SocketType::DGRAM,
            Some("stream") => SocketType::STREAM,
            Some("seqpacket") => SocketType::SEQPACKET,
            _ => bail!("'{kind}' is no type of socket"),
        };
        let mut owner = owner.iter().map(|name| identity::id(name));
        let mut socket = Self {
            name: name.to_owned(),
            kind,
            passcred: false,
            listen: false,
            mode: u32::from_str_radix(mode, 8).context("mode")?,
            uid: owner.next().transpose()?.unwrap_or(0),
            gid: owner.next().transpose()?.unwrap_or(0),
        };
        for flag in flags {
            match flag {
                "passcred" => socket.passcred = true,
                "listen" => socket.listen = true,
                _ => bail!("'{flag}' is no flag of a socket"),
            }
        }
        Ok(socket)
    }
}

fn resource(name: &str) -> Result<Resource> {
    Ok(match name {
        "memlock" => Resource::Memlock,
        "nofile" => Resource::Nofile,
        "nice" => Resource::Nice,
        "rtprio" => Resource::Rtprio,
        _ => bail!("'{name}' is no limit known here"),
    })
}

fn limit(text: &str) -> Result<Option<u64>> {
    if text == "unlimited" {
        return Ok(None);
    }
    text.parse().map(Some).with_context(|| format!("'{text}' is no limit"))
}
