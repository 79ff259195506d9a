//! The packets of the lmkd socket, byte for byte those of AOSP's `lmkd.h`.
//!
//! One command is one SEQPACKET datagram of 32-bit big-endian words, the first of which is the
//! command's number. [`Request`] is what clients send, [`Message`] what the daemon sends. Nothing
//! here allocates or does I/O.

mod message;
mod request;

#[cfg(test)]
mod tests;

pub use message::reply;
pub use message::KillNotice;
pub use message::KillStat;
pub use message::Message;
pub use message::StatPacket;
pub use message::KILL_NOTICE_LEN;
pub use message::REPLY_LEN;
pub use message::STAT_MAX_LEN;
pub use message::STAT_NAME_MAX;
pub use request::Batch;
pub use request::Event;
pub use request::KillCount;
pub use request::Packet;
pub use request::ProcPrio;
pub use request::ProcType;
pub use request::Refusal;
pub use request::Request;
pub use request::Target;
pub use request::Targets;
pub use request::BATCH_MAX;
pub use request::REQUEST_MAX;
pub use request::TARGETS_MAX;

/// The commands, as `enum lmk_cmd` numbers them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// LMK_TARGET: the minfree levels.
    Target = 0,
    /// LMK_PROCPRIO: register a process, or change its oom_score_adj.
    ProcPrio = 1,
    /// LMK_PROCREMOVE: forget a process.
    ProcRemove = 2,
    /// LMK_PROCPURGE: forget all processes of the sender and all unclaimed ones.
    ProcPurge = 3,
    /// LMK_GETKILLCNT: how many were killed; answered.
    GetKillCnt = 4,
    /// LMK_SUBSCRIBE: receive packets about kills.
    Subscribe = 5,
    /// LMK_PROCKILL: a process was killed; sent by the daemon.
    ProcKill = 6,
    /// LMK_UPDATE_PROPS: read all properties again; answered.
    UpdateProps = 7,
    /// LMK_STAT_KILL_OCCURRED: statistics of a kill; sent by the daemon.
    StatKillOccurred = 8,
    /// LMK_START_MONITORING: make the pressure monitors that waited for the boot to end.
    StartMonitoring = 9,
    /// LMK_BOOT_COMPLETED: what needs a booted device may be set up; answered.
    BootCompleted = 10,
    /// LMK_PROCS_PRIO: LMK_PROCPRIO for up to three processes.
    ProcsPrio = 11,
}

impl Command {
    /// The command with this number.
    #[must_use]
    pub const fn new(number: u32) -> Option<Self> {
        Some(match number {
            0 => Self::Target,
            1 => Self::ProcPrio,
            2 => Self::ProcRemove,
            3 => Self::ProcPurge,
            4 => Self::GetKillCnt,
            5 => Self::Subscribe,
            6 => Self::ProcKill,
            7 => Self::UpdateProps,
            8 => Self::StatKillOccurred,
            9 => Self::StartMonitoring,
            10 => Self::BootCompleted,
            11 => Self::ProcsPrio,
            _ => return None,
        })
    }

    /// Its number.
    #[must_use]
    pub const fn number(self) -> u32 {
        self as u32
    }

    /// Its name in AOSP.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Target => "LMK_TARGET",
            Self::ProcPrio => "LMK_PROCPRIO",
            Self::ProcRemove => "LMK_PROCREMOVE",
            Self::ProcPurge => "LMK_PROCPURGE",
            Self::GetKillCnt => "LMK_GETKILLCNT",
            Self::Subscribe => "LMK_SUBSCRIBE",
            Self::ProcKill => "LMK_PROCKILL",
            Self::UpdateProps => "LMK_UPDATE_PROPS",
            Self::StatKillOccurred => "LMK_STAT_KILL_OCCURRED",
            Self::StartMonitoring => "LMK_START_MONITORING",
            Self::BootCompleted => "LMK_BOOT_COMPLETED",
            Self::ProcsPrio => "LMK_PROCS_PRIO",
        }
    }
}

/// The big-endian word at `index`; None past the end.
fn word(bytes: &[u8], index: usize) -> Option<[u8; 4]> {
    let at = index.checked_mul(4)?;
    bytes.get(at..at.checked_add(4)?)?.try_into().ok()
}

fn unsigned(bytes: &[u8], index: usize) -> Option<u32> {
    word(bytes, index).map(u32::from_be_bytes)
}

fn signed(bytes: &[u8], index: usize) -> Option<i32> {
    word(bytes, index).map(i32::from_be_bytes)
}
