//! Takes Samples: four files held open, one buffer, no allocation.

use super::meminfo;
use super::pressure;
use super::pressure::PressureInfo;
use super::reader::HeldFile;
use super::reader::ReadError;
use super::vmstat;
use super::vmstat::PageCounters;
use super::zoneinfo;
use super::Sample;
use super::Stall;
use super::Watermarks;
use crate::clock::MonoTime;
use crate::units::PageSize;
use crate::units::Pages;
use std::fmt;
use std::path::Path;

/// Takes in the files of an ordinary machine in one read each; larger ones take more reads.
const BUFFER_BYTES: usize = 16 * 1024;

/// A file gave no values. Costs this round only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SampleError {
    /// The file's name, without directory.
    pub file: &'static str,
    /// Why.
    pub error: ReadError,
}

impl SampleError {
    /// Whether the sample is whole but for its watermarks, so that those of an earlier one serve.
    #[must_use]
    pub fn costs_watermarks_only(&self) -> bool {
        self.file == ZONEINFO
    }
}

impl fmt::Display for SampleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.error {
            ReadError::Os(errno) => write!(f, "{}: {errno}", self.file),
            // Names the file itself.
            ReadError::Parse(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for SampleError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.error)
    }
}

const ZONEINFO: &str = "zoneinfo";

fn named(file: &'static str) -> impl FnOnce(ReadError) -> SampleError {
    move |error| SampleError { file, error }
}

/// Reads what a decision looks at.
#[derive(Debug)]
pub struct Sampler {
    page: PageSize,
    vmstat: HeldFile,
    meminfo: HeldFile,
    zoneinfo: HeldFile,
    memory: HeldFile,
    io: HeldFile,
    cpu: HeldFile,
    page_counters: Option<PageCounters>,
    buffer: Box<[u8]>,
}

impl Sampler {
    /// Opens the files below `proc_root`, and `memory_pressure`: `/proc/pressure/memory` or the
    /// `memory.pressure` of a cgroup.
    ///
    /// A file that is missing costs what it would have told, and one log line; it is looked for
    /// again whenever it is needed.
    #[must_use]
    pub fn open(proc_root: &Path, memory_pressure: &Path, page: PageSize) -> Self {
        const BLIND: &str = "no decision is possible until it can be read";
        const FOR_THE_RECORD: &str = "records of kills will show 0 for it";
        let at = |name: &str, without_it: &str| HeldFile::open(&proc_root.join(name), without_it);
        Self {
            page,
            vmstat: at("vmstat", BLIND),
            meminfo: at("meminfo", BLIND),
            zoneinfo: at(
                ZONEINFO,
                "watermarks are those read last, and with none no rule about them applies",
            ),
            memory: HeldFile::open(memory_pressure, "stall_limit_critical has no effect"),
            io: at("pressure/io", FOR_THE_RECORD),
            cpu: at("pressure/cpu", FOR_THE_RECORD),
            page_counters: None,
            // Not zero, which the allocator would answer with pages that fault at first use.
            buffer: vec![b'\n'; BUFFER_BYTES].into_boxed_slice(),
        }
    }

    /// Takes a sample at `now`; its watermarks only if `watermarks` says so. Does not allocate.
    ///
    /// A pressure file that cannot be read leaves [`Sample::stall`] empty. The kernel's reclaim
    /// events are not this reader's: [`Sample::reclaim`] is left as it was.
    ///
    /// # Errors
    ///
    /// vmstat, meminfo or, if asked for, zoneinfo cannot be read or lacks a required line. Unless
    /// the error [costs the watermarks only](SampleError::costs_watermarks_only), `out` is then
    /// partly new and must not be used.
    pub fn read(
        &mut self,
        now: MonoTime,
        watermarks: bool,
        out: &mut Sample,
    ) -> Result<(), SampleError> {
        out.now = now;

        let mut parser = vmstat::Parser::default();
        let page_counters = &mut self.page_counters;
        *page_counters = None;
        self.vmstat
            .read_lines(&mut self.buffer, |line| parser.line(line))
            .and_then(|()| {
                *page_counters = parser.page_counters();
                Ok(parser.finish()?)
            })
            .map(|vmstat| out.vmstat = vmstat)
            .map_err(named("vmstat"))?;

        let mut parser = meminfo::Parser::default();
        self.meminfo
            .read_lines(&mut self.buffer, |line| parser.line(line))
            .and_then(|()| Ok(parser.finish(self.page)?))
            .map(|meminfo| out.meminfo = meminfo)
            .map_err(named("meminfo"))?;

        let averages = averages(&mut self.memory, &mut self.buffer);
        out.stall = averages
            .and_then(|averages| averages.full_centi)
            .map(|full_avg10_centi| Stall { full_avg10_centi });

        (out.watermarks, out.boost) = (None, None);
        if watermarks {
            let (marks, boost) = self.read_watermarks()?;
            (out.watermarks, out.boost) = (Some(marks), boost);
        }
        Ok(())
    }

    /// Pages moved since boot, as they were at the last sample; None if that had none.
    #[must_use]
    pub const fn page_counters(&self) -> Option<PageCounters> {
        self.page_counters
    }

    /// The watermarks alone, and what of them is a boost if the kernel says so. Does not allocate.
    ///
    /// # Errors
    ///
    /// zoneinfo cannot be read or lacks a required line.
    pub fn read_watermarks(&mut self) -> Result<(Watermarks, Option<Pages>), SampleError> {
        let mut parser = zoneinfo::Parser::default();
        self.zoneinfo
            .read_lines(&mut self.buffer, |line| parser.line(line))
            .and_then(|()| Ok(parser.finish()?))
            .map_err(named(ZONEINFO))
    }

    /// The stalls on memory, input and output, and CPU, for the record of a kill; 0 for what
    /// cannot be read. Does not allocate.
    pub fn read_pressure(&mut self) -> PressureInfo {
        let mut read = |file| averages(file, &mut self.buffer).unwrap_or_default();
        let (mem, io, cpu) = (read(&mut self.memory), read(&mut self.io), read(&mut self.cpu));
        PressureInfo {
            mem_some: mem.some_centi,
            mem_full: mem.full_centi.unwrap_or(0),
            io_some: io.some_centi,
            io_full: io.full_centi.unwrap_or(0),
            cpu_some: cpu.some_centi,
        }
    }
}

fn averages(file: &mut HeldFile, buffer: &mut [u8]) -> Option<pressure::Averages> {
    let mut parser = pressure::Parser::default();
    file.read_lines(buffer, |line| parser.line(line)).ok()?;
    parser.finish().ok()
}
