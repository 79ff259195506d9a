//! The kinds of records.

use super::few::Few;
use super::few::Text;
use super::frame::Body;
use super::frame::Frame;
use super::frame::TearCause;
use super::kill::Fate;
use super::kill::Kill;
use super::look::Look;
use super::settings::Settings;
use super::status::Status;
use crate::clock::MonoTime;
use crate::codec::coded_enum;
use crate::codec::coded_struct;
use crate::codec::CodecError;
use crate::codec::Coded;
use crate::codec::Reader;
use crate::codec::Writer;
use crate::oom_score_adj::OomScoreAdj;
use crate::policy::Added;
use crate::policy::MinfreeTable;
use crate::policy::Policy;
use crate::policy::Poller;
use crate::units::PageSize;

/// A record with its number and time.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// Counts up by one from record to record; 0 for what was added on the way out of the ring
    /// ([`Header`], [`Lost`], [`End`], [`Refused`]).
    pub seq: u64,
    /// When it was made.
    pub at: MonoTime,
    /// What it says.
    pub record: Record,
}

macro_rules! records {
    ($($(#[$doc:meta])* $number:literal => $name:ident($body:ty) $must:literal,)*) => {
        /// What a record says. Large ones are boxed.
        #[derive(Clone, Debug, PartialEq)]
        pub enum Record {
            $($(#[$doc])* $name(Box<$body>),)*
        }

        $(impl Body for $body {
            const KIND: u8 = $number;
            const MUST_BE_KNOWN: bool = $must;
        })*

        impl Entry {
            /// Reads a frame. None if its kind is not known and need not be.
            ///
            /// # Errors
            ///
            /// The fields are not what the kind has; an unknown kind that must be known is
            /// [`Unreadable::Kind`].
            pub fn read(frame: &Frame<'_>) -> Result<Option<Self>, Unreadable> {
                let mut fields = frame.fields;
                let fields = &mut fields;
                let record = match frame.kind {
                    $(<$body>::KIND => <$body>::take(fields).map(|body| Record::$name(body.into())),)*
                    kind if frame.must_be_known => return Err(Unreadable::Kind(kind)),
                    _ => return Ok(None),
                };
                let record = record.map_err(|error| Unreadable::Torn(TearCause::Fields(error)))?;
                Ok(Some(Self { seq: frame.seq, at: frame.at, record }))
            }

            /// Bytes of memory that it takes in a list, which may be half empty.
            pub(super) const fn memory(&self) -> usize {
                let body = match &self.record {
                    $(Record::$name(_) => size_of::<$body>(),)*
                };
                2 * size_of::<Self>() + body
            }
        }
    };
}

/// Why a whole frame is not a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unreadable {
    /// It is of a kind that only later versions know, and that must be known to go on.
    Kind(u8),
    /// Its fields are damaged.
    Torn(TearCause),
}

records! {
    /// What wrote the recording, and where. Once, at the start.
    1 => Header(Header) true,
    /// The settings in force from here on.
    2 => Settings(Settings) true,
    /// The decision's memory at this point. From here on a replay can start.
    3 => Checkpoint(Checkpoint) true,
    /// Something reached the decision that is no look.
    4 => Input(Input) true,
    /// A look at memory.
    5 => Look(Look) true,
    /// A process was killed. Its [`Record::Look`] stands before it.
    6 => Kill(Kill) false,
    /// A later moment of a kill.
    7 => Fate(Fate) false,
    /// A registered process came, moved or went.
    8 => Change(Change) false,
    /// Those registered at this point, a few at a time.
    9 => Registered(Registered) false,
    /// What tells of pressure from here on.
    10 => Sources(Sources) false,
    /// The state of the daemon, as asked for.
    11 => Status(Status) false,
    /// Records are missing here.
    12 => Lost(Lost) true,
    /// An answer ends here.
    13 => End(End) false,
    /// A request is not answered.
    14 => Refused(Refused) false,
}

/// What wrote the recording, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// The daemon's version.
    pub version: Text<24>,
    /// The kernel's release, by uname(2).
    pub kernel: Text<64>,
    /// The kernel's page size.
    pub page: PageSize,
    /// `/proc/sys/kernel/random/boot_id`, empty if it cannot be read.
    pub boot: Text<36>,
    /// The daemon's process id.
    pub pid: i32,
    /// When the daemon started.
    pub started: MonoTime,
    /// Nanoseconds since 1970 at the moment of this record: the two clocks side by side.
    pub wall_ns: u64,
    /// Whether nobody is killed.
    pub dry_run: bool,
    /// Whether processes that nobody registered are candidates.
    pub adopt: bool,
}

coded_struct!(Header { version, kernel, page, boot, pid, started, wall_ns, dry_run, adopt });

/// Everything that the decision remembers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// The decision.
    pub policy: Policy,
    /// When the next look is due.
    pub poller: Poller,
}

impl Coded for Checkpoint {
    fn put(&self, out: &mut Writer<'_>) {
        self.policy.put(out);
        self.poller.put(out);
        self.policy.added().put(out);
    }

    fn take(from: &mut Reader<'_>) -> Result<Self, CodecError> {
        let mut policy = Policy::take(from)?;
        let poller = Poller::take(from)?;
        // That of an older daemon ends here.
        policy.add(if from.rest().is_empty() { Added::default() } else { Coded::take(from)? });
        Ok(Self { policy, poller })
    }
}

/// Something that reached the decision beside looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Input {
    /// The kernel says that the zones' watermarks have changed.
    WatermarksChanged,
    /// A client set the minfree levels.
    Minfree(MinfreeTable),
    /// Whether the kernel tells of every change of the zones' watermarks from now on.
    WatermarkChangesAreTold(bool),
    /// Whether there are no pressure events from now on, and memory is sampled instead.
    PressureIsSampled(bool),
}

coded_enum!(Input, "input" {
    0 => WatermarksChanged,
    1 => Minfree(table),
    2 => WatermarkChangesAreTold(told),
    3 => PressureIsSampled(sampled),
});

/// A registered process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Process {
    /// Its id.
    pub pid: i32,
    /// Its user.
    pub uid: u32,
    /// Its rank.
    pub adj: OomScoreAdj,
}

coded_struct!(Process { pid, uid, adj });

/// A change among the registered processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// It is registered from now on.
    Added(Process),
    /// It has another rank.
    Moved(Process),
    /// It is no longer registered.
    Removed {
        /// Its id.
        pid: i32,
        /// Why.
        why: Removal,
    },
}

coded_enum!(Change, "registry change" {
    0 => Added(process),
    1 => Moved(process),
    2 => Removed { pid, why },
});

/// Why a process is no longer registered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Removal {
    /// It has exited on its own.
    Exited,
    /// It was killed.
    Killed,
    /// A client said so.
    Asked,
    /// It could not be killed: it was gone or is not ours to signal.
    PassedOver,
}

coded_enum!(Removal, "reason of removal" {
    0 => Exited,
    1 => Killed,
    2 => Asked,
    3 => PassedOver,
});

/// Some of those registered, in kill order where sizes do not matter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registered {
    /// Whether these are the first: those named before are no longer registered unless named again.
    pub first: bool,
    /// Whether these are the last.
    pub last: bool,
    /// The processes.
    pub processes: Few<Process, 64>,
}

coded_struct!(Registered { first, last, processes });

/// What wakes the daemon, best first: the rung of the ladder it stands on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sources {
    /// How pressure is heard of.
    pub pressure: Pressure,
    /// How reclaim is heard of.
    pub reclaim: Reclaims,
}

coded_struct!(Sources { pressure, reclaim });

impl Sources {
    /// The window of the pressure monitors, if there are any.
    #[must_use]
    pub const fn window_ms(&self) -> Option<i64> {
        match self.pressure {
            Pressure::Monitors { window_ms, .. } => Some(window_ms),
            Pressure::Waiting | Pressure::Sampling { .. } => None,
        }
    }
}

/// How pressure is heard of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Pressure {
    /// Not yet: a client has to say that the boot is completed.
    #[default]
    Waiting,
    /// The kernel tells: its pressure monitors are armed.
    Monitors {
        /// The window, ms.
        window_ms: i64,
        /// Whether one is armed for medium pressure.
        medium: bool,
        /// Whether one is armed for critical pressure.
        critical: bool,
        /// Whether windows were stretched for lack of CAP_SYS_RESOURCE.
        unprivileged: bool,
    },
    /// The daemon looks by itself.
    Sampling {
        /// How often, ms.
        every_ms: i64,
    },
}

coded_enum!(Pressure, "pressure source" {
    0 => Waiting,
    1 => Monitors { window_ms, medium, critical, unprivileged },
    2 => Sampling { every_ms },
});

/// How reclaim is heard of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Reclaims {
    /// From vmstat's counters, at each look.
    #[default]
    Counters,
    /// From the daemon's own BPF programs.
    OwnPrograms,
    /// From Android's BPF programs.
    AndroidPrograms,
}

coded_enum!(Reclaims, "reclaim source" {
    0 => Counters,
    1 => OwnPrograms,
    2 => AndroidPrograms,
});

/// Records that are missing: they were overwritten before they were read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lost {
    /// How many.
    pub records: u64,
}

coded_struct!(Lost { records });

/// The end of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct End {
    /// How many records the answer had, this one and the header not counted.
    pub records: u64,
}

coded_struct!(End { records });

/// A request that is not answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Why, for a human.
    pub why: Text<120>,
}

coded_struct!(Refused { why });
