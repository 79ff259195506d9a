//! Free memory against the zones' watermarks, and how long those may be remembered.

use super::Wmark;
use crate::clock::MonoTime;
use crate::codec::coded_struct;
use crate::codec::CodecError;
use crate::codec::Coded;
use crate::codec::Reader;
use crate::codec::Writer;
use crate::kernel::Meminfo;
use crate::kernel::Watermarks;
use crate::units::Pages;

/// Watermarks older than this are read again, unless the kernel tells of their changes: they follow
/// `min_free_kbytes` and memory hotplug.
const MAX_AGE_MS: i64 = 60_000;

/// The watermarks last read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Remembered {
    marks: Watermarks,
    read_at: MonoTime,
    outdated: bool,
    /// The kernel tells when they change.
    told: bool,
}

coded_struct!(Remembered { marks, read_at, outdated, told });

impl Remembered {
    /// Whether they must be read again before they can be used.
    pub(super) fn are_stale(&self, now: MonoTime) -> bool {
        self.outdated
            || self.marks.high == Pages::ZERO
            || (!self.told && now.millis_since(self.read_at) > MAX_AGE_MS)
    }

    /// Whether [`Self::have_changed`] will be called for every change. What was missed until now
    /// is made up for.
    pub(super) fn will_be_told(&mut self, told: bool) {
        self.told = told;
        self.outdated |= told;
    }

    /// The kernel says that they have changed, or may have.
    pub(super) fn have_changed(&mut self) {
        self.outdated = true;
    }

    /// What [`Self::refresh`] will return, without taking note of it.
    pub(super) fn with(&self, fresh: Option<Watermarks>) -> Watermarks {
        fresh.unwrap_or(self.marks)
    }

    /// The fresh ones if there are any, else those remembered. If they are not to `last`, they are
    /// as stale as before.
    pub(super) fn refresh(
        &mut self,
        fresh: Option<Watermarks>,
        now: MonoTime,
        last: bool,
    ) -> Watermarks {
        match fresh {
            Some(marks) if last => {
                *self = Self { marks, read_at: now, outdated: false, told: self.told };
            }
            Some(marks) => self.marks = marks,
            None => {}
        }
        self.marks
    }
}

/// The watermarks as they are without a boost.
///
/// After memory fragments (`watermark_boost_factor`) the kernel raises the marks of a zone by up to
/// one and a half times its high one, usually until kswapd has made a round. What it prints includes
/// that, and newer kernels print the boost beside it. Where they do not it is guessed: all three
/// marks rise alike, so the lowest read are right until the distances between them change, or the
/// kernel says that the marks do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Unboosted(Watermarks);

impl Coded for Unboosted {
    fn put(&self, out: &mut Writer<'_>) {
        self.0.put(out);
    }
    fn take(from: &mut Reader<'_>) -> Result<Self, CodecError> {
        Watermarks::take(from).map(Self)
    }
}

impl From<Watermarks> for Unboosted {
    fn from(marks: Watermarks) -> Self {
        Self(marks)
    }
}

impl Unboosted {
    /// Learns from marks just read, `boost` pages of which are a boost if the kernel tells.
    pub(super) fn learn(&mut self, read: &Watermarks, boost: Option<Pages>) {
        if let Some(boost) = boost {
            let [min, low, high] =
                [read.min, read.low, read.high].map(|mark| (mark - boost).max(Pages::ZERO));
            self.0 = Watermarks { min, low, high, ..*read };
            return;
        }
        let spread = |marks: &Watermarks| (marks.low - marks.min, marks.high - marks.low);
        if self.0.high == Pages::ZERO || spread(read) != spread(&self.0) || read.low < self.0.low {
            self.0 = *read;
        }
    }

    /// What was learned holds no longer.
    pub(super) fn forget(&mut self) {
        *self = Self::default();
    }

    /// The marks; `read` if none were learned.
    pub(super) fn or(self, read: Watermarks) -> Watermarks {
        if self.0.high == Pages::ZERO {
            read
        } else {
            self.0
        }
    }
}

/// Free pages that any allocation may take; those of CMA areas only movable ones may.
pub(super) fn free(meminfo: &Meminfo) -> Pages {
    meminfo.free - meminfo.cma_free
}

/// The lowest watermark that `free` has fallen below.
pub(super) fn breached(free: Pages, marks: &Watermarks) -> Wmark {
    if free < marks.min {
        Wmark::Min
    } else if free < marks.low {
        Wmark::Low
    } else if free < marks.high {
        Wmark::High
    } else {
        Wmark::None
    }
}
