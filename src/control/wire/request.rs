//! What clients send.

use super::signed;
use super::unsigned;
use super::Command;
use crate::oom_score_adj::OomScoreAdj;
use crate::processes::Pid;
use crate::units::Pages;
use std::fmt;

/// Longest request that is looked at, `CTRL_PACKET_MAX_SIZE` of AOSP; what follows is ignored.
pub const REQUEST_MAX: usize = 52;
/// Most pairs of an LMK_TARGET.
pub const TARGETS_MAX: usize = 6;
/// Most records of an LMK_PROCS_PRIO.
pub const BATCH_MAX: usize = 3;

/// One command of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request<'a> {
    /// Use these minfree levels.
    Target(Targets),
    /// Register this process, or change its oom_score_adj.
    ProcPrio(ProcPrio),
    /// Forget this process.
    ProcRemove(Pid),
    /// Forget every process of the sender, and those nobody claims.
    ProcPurge,
    /// How many were killed? Answered with a count.
    GetKillCnt(KillCount),
    /// Send packets of this kind from now on.
    Subscribe(Event),
    /// Read all properties again. Answered with 0 or -1.
    UpdateProps,
    /// Make the pressure monitors that waited for the boot to end.
    StartMonitoring,
    /// The boot is completed. Answered with 0, 1 (known already) or -1 (it is not).
    BootCompleted,
    /// Register these processes one by one; one refused does not stop the others.
    ProcsPrio(Batch<'a>),
}

/// A process and its place in the kill order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProcPrio {
    /// Its id.
    pub pid: Pid,
    /// Its user.
    pub uid: u32,
    /// Its place.
    pub adj: OomScoreAdj,
    /// Whether a memory protection may be set for it.
    pub kind: ProcType,
}

/// What a registered process is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ProcType {
    /// An app, also if the client did not say.
    #[default]
    App = 0,
    /// A native service.
    Service = 1,
}

/// What can be subscribed to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// LMK_PROCKILL packets.
    Kill = 0,
    /// LMK_STAT_KILL_OCCURRED packets.
    Stat = 1,
}

impl Event {
    /// Its bit in a client's mask.
    #[must_use]
    pub const fn bit(self) -> u8 {
        match self {
            Self::Kill => 1,
            Self::Stat => 2,
        }
    }
}

/// One minfree level: with less free memory than this, processes from this adj on may be killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target {
    /// Free memory, in pages of the device.
    pub minfree: Pages,
    /// Lowest adj to kill.
    pub adj: OomScoreAdj,
}

/// The minfree levels of one LMK_TARGET, as many as it had.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Targets {
    levels: [Option<Target>; TARGETS_MAX],
}

impl Targets {
    /// These levels; None if they are more than [`TARGETS_MAX`].
    #[must_use]
    pub fn new(levels: &[Target]) -> Option<Self> {
        let mut all = Self::default();
        for (index, level) in levels.iter().enumerate() {
            *all.levels.get_mut(index)? = Some(*level);
        }
        Some(all)
    }

    /// The levels in the order of the packet.
    pub fn iter(&self) -> impl Iterator<Item = Target> + '_ {
        self.levels.iter().flatten().copied()
    }

    /// Whether the packet had none; AOSP ignores such a packet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.levels.iter().all(Option::is_none)
    }
}

/// Which kills an LMK_GETKILLCNT asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KillCount {
    /// All.
    Total,
    /// Those of victims with an adj in this range, ends included.
    Between(OomScoreAdj, OomScoreAdj),
    /// An empty range, so none.
    Nothing,
}

impl KillCount {
    /// As the two words say: a lowest adj above 1000 means all kills, and what lies outside
    /// -1000..=1000 is cut off.
    #[must_use]
    pub fn new(min: i32, max: i32) -> Self {
        if min > max {
            Self::Nothing
        } else if min > OomScoreAdj::MAX.get() {
            Self::Total
        } else if max < OomScoreAdj::MIN.get() {
            Self::Nothing
        } else {
            Self::Between(
                OomScoreAdj::saturating(i64::from(min)),
                OomScoreAdj::saturating(i64::from(max)),
            )
        }
    }

    const fn words(self) -> (i32, i32) {
        match self {
            Self::Total => (OomScoreAdj::MAX.get() + 1, OomScoreAdj::MAX.get() + 1),
            Self::Between(min, max) => (min.get(), max.get()),
            Self::Nothing => (1, 0),
        }
    }
}

/// Why a packet, or one record of a batch, is not acted upon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Not even a command word.
    TooShort(usize),
    /// The command does not have this length.
    Length(Command, usize),
    /// There is no such command.
    Unknown(u32),
    /// A command that only the daemon sends.
    NotForClients(Command),
    /// No process that can be registered has this id.
    Pid(i32),
    /// Outside -1000..=1000.
    Adj {
        /// Whose.
        pid: Pid,
        /// What the packet says.
        adj: i32,
    },
    /// Neither an app nor a service.
    ProcType {
        /// Whose.
        pid: Pid,
        /// What the packet says.
        kind: u32,
    },
    /// Nothing that can be subscribed to.
    Event(u32),
    /// A negative number of pages, or an adj outside -1000..=1000.
    Target {
        /// Pages.
        minfree: i32,
        /// Its adj.
        adj: i32,
    },
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooShort(len) => write!(f, "packet of {len} bytes has no command"),
            Self::Length(command, len) => {
                write!(f, "{} cannot be {len} bytes long", command.name())
            }
            Self::Unknown(number) => write!(f, "unknown command {number}"),
            Self::NotForClients(command) => {
                write!(f, "{} is sent by the daemon, not to it", command.name())
            }
            Self::Pid(pid) => write!(f, "pid {pid} cannot be registered"),
            Self::Adj { pid, adj } => {
                write!(f, "oom_score_adj {adj} of pid {pid} is outside -1000..1000")
            }
            Self::ProcType { pid, kind } => {
                write!(f, "process type {kind} of pid {pid} is unknown")
            }
            Self::Event(kind) => write!(f, "event type {kind} cannot be subscribed to"),
            Self::Target { minfree, adj } => {
                write!(f, "minfree level {minfree}:{adj} is outside 0..:-1000..1000")
            }
        }
    }
}

impl std::error::Error for Refusal {}

impl ProcPrio {
    fn decode(pid: i32, uid: u32, adj: i32, kind: u32) -> Result<Self, Refusal> {
        let pid = Pid::new(pid).ok_or(Refusal::Pid(pid))?;
        let adj = OomScoreAdj::new(adj).ok_or(Refusal::Adj { pid, adj })?;
        let kind = match kind {
            0 => ProcType::App,
            1 => ProcType::Service,
            _ => return Err(Refusal::ProcType { pid, kind }),
        };
        Ok(Self { pid, uid, adj, kind })
    }
}

/// The records of an LMK_PROCS_PRIO, decoded as they are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Batch<'a> {
    records: &'a [u8],
}

impl Iterator for Batch<'_> {
    type Item = Result<ProcPrio, Refusal>;

    fn next(&mut self) -> Option<Self::Item> {
        const RECORD: usize = 16;
        let (record, rest) = self.records.split_at_checked(RECORD)?;
        self.records = rest;
        let pid = signed(record, 0)?;
        let uid = unsigned(record, 1)?;
        let adj = signed(record, 2)?;
        let kind = unsigned(record, 3)?;
        Some(ProcPrio::decode(pid, uid, adj, kind))
    }
}

impl<'a> Request<'a> {
    /// Reads one datagram. Of a longer one than [`REQUEST_MAX`] the rest is ignored, as are one to
    /// three bytes after the last whole word.
    ///
    /// # Errors
    ///
    /// Anything that must not be acted upon. Such a packet gets no reply.
    pub fn decode(datagram: &'a [u8]) -> Result<Self, Refusal> {
        let bytes = datagram.get(..REQUEST_MAX).unwrap_or(datagram);
        let number = unsigned(bytes, 0).ok_or(Refusal::TooShort(bytes.len()))?;
        let command = Command::new(number).ok_or(Refusal::Unknown(number))?;
        let wrong = Refusal::Length(command, datagram.len());
        let words = bytes.len() / 4;
        let exactly = |wanted: usize| if words == wanted { Ok(()) } else { Err(wrong) };
        let i32_at = |index| signed(bytes, index).ok_or(wrong);
        let u32_at = |index| unsigned(bytes, index).ok_or(wrong);
        match command {
            Command::Target => {
                if words % 2 == 0 {
                    return Err(wrong);
                }
                let mut targets = Targets::default();
                for (pair, level) in targets.levels.iter_mut().take(words / 2).enumerate() {
                    let (minfree, adj) = (i32_at(1 + 2 * pair)?, i32_at(2 + 2 * pair)?);
                    *level = match OomScoreAdj::new(adj) {
                        Some(adj) if minfree >= 0 => {
                            Some(Target { minfree: Pages(i64::from(minfree)), adj })
                        }
                        _ => return Err(Refusal::Target { minfree, adj }),
                    };
                }
                Ok(Self::Target(targets))
            }
            Command::ProcPrio => {
                let kind = match words {
                    4 => 0,
                    5 => u32_at(4)?,
                    _ => return Err(wrong),
                };
                ProcPrio::decode(i32_at(1)?, u32_at(2)?, i32_at(3)?, kind).map(Self::ProcPrio)
            }
            Command::ProcRemove => {
                exactly(2)?;
                let pid = i32_at(1)?;
                Pid::new(pid).map(Self::ProcRemove).ok_or(Refusal::Pid(pid))
            }
            Command::ProcPurge => exactly(1).map(|()| Self::ProcPurge),
            Command::GetKillCnt => {
                exactly(3)?;
                Ok(Self::GetKillCnt(KillCount::new(i32_at(1)?, i32_at(2)?)))
            }
            Command::Subscribe => {
                exactly(2)?;
                match u32_at(1)? {
                    0 => Ok(Self::Subscribe(Event::Kill)),
                    1 => Ok(Self::Subscribe(Event::Stat)),
                    other => Err(Refusal::Event(other)),
                }
            }
            Command::UpdateProps => exactly(1).map(|()| Self::UpdateProps),
            Command::StartMonitoring => exactly(1).map(|()| Self::StartMonitoring),
            Command::BootCompleted => exactly(1).map(|()| Self::BootCompleted),
            Command::ProcsPrio => {
                // Of none at all: the last packet of a batch of Android's system_server may be that.
                if words % 4 != 1 {
                    return Err(wrong);
                }
                let records = bytes.get(4..words * 4).ok_or(wrong)?;
                Ok(Self::ProcsPrio(Batch { records }))
            }
            Command::ProcKill | Command::StatKillOccurred => Err(Refusal::NotForClients(command)),
        }
    }

    /// The datagram that says this.
    #[must_use]
    pub fn encode(&self) -> Packet {
        match *self {
            Self::Target(targets) => {
                let mut packet = Packet::new(Command::Target);
                for level in targets.iter() {
                    packet.push(i32::try_from(level.minfree.get()).unwrap_or(i32::MAX));
                    packet.push(level.adj.get());
                }
                packet
            }
            // Four words if they say it all: AOSP before Android 12 knows no type.
            Self::ProcPrio(process) => {
                let mut packet = Packet::new(Command::ProcPrio);
                packet.push_process(&process);
                if process.kind != ProcType::App {
                    packet.push(process.kind as i32);
                }
                packet
            }
            Self::ProcRemove(pid) => {
                let mut packet = Packet::new(Command::ProcRemove);
                packet.push(pid.get());
                packet
            }
            Self::ProcPurge => Packet::new(Command::ProcPurge),
            Self::GetKillCnt(range) => {
                let (min, max) = range.words();
                let mut packet = Packet::new(Command::GetKillCnt);
                packet.push(min);
                packet.push(max);
                packet
            }
            Self::Subscribe(event) => {
                let mut packet = Packet::new(Command::Subscribe);
                packet.push(event as i32);
                packet
            }
            Self::UpdateProps => Packet::new(Command::UpdateProps),
            Self::StartMonitoring => Packet::new(Command::StartMonitoring),
            Self::BootCompleted => Packet::new(Command::BootCompleted),
            Self::ProcsPrio(batch) => {
                let mut packet = Packet::new(Command::ProcsPrio);
                packet.push_bytes(batch.records);
                packet
            }
        }
    }
}

/// A request ready to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet {
    bytes: [u8; REQUEST_MAX],
    len: usize,
}

impl Packet {
    fn new(command: Command) -> Self {
        let mut packet = Self { bytes: [0; REQUEST_MAX], len: 0 };
        packet.push_bytes(&command.number().to_be_bytes());
        packet
    }

    /// An LMK_PROCS_PRIO of the first [`BATCH_MAX`] of these.
    #[must_use]
    pub fn procs_prio(processes: &[ProcPrio]) -> Self {
        let mut packet = Self::new(Command::ProcsPrio);
        for process in processes.iter().take(BATCH_MAX) {
            packet.push_process(process);
            packet.push(process.kind as i32);
        }
        packet
    }

    /// The datagram.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }

    fn push_process(&mut self, process: &ProcPrio) {
        self.push(process.pid.get());
        self.push_bytes(&process.uid.to_be_bytes());
        self.push(process.adj.get());
    }

    fn push(&mut self, word: i32) {
        self.push_bytes(&word.to_be_bytes());
    }

    /// Appends; the longest request there is fits.
    fn push_bytes(&mut self, bytes: &[u8]) {
        let end = self.len.saturating_add(bytes.len());
        if let Some(free) = self.bytes.get_mut(self.len..end) {
            free.copy_from_slice(bytes);
            self.len = end;
        }
    }
}
