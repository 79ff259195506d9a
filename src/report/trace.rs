//! A kill as an instant event in the kernel's trace, where Perfetto shows it among everything else.

use super::text::Text;
use crate::oom_score_adj::OomScoreAdj;
use crate::policy::KillReason;
use rustix::fs::Mode;
use rustix::fs::OFlags;
use rustix::io::Errno;
use std::fmt::Write;
use std::os::fd::OwnedFd;

/// Where tracefs may be mounted.
const MARKERS: [&str; 2] =
    ["/sys/kernel/tracing/trace_marker", "/sys/kernel/debug/tracing/trace_marker"];

/// The kernel's `trace_marker`, held open.
#[derive(Debug)]
pub struct TraceMarker {
    file: OwnedFd,
    own_pid: i32,
}

impl TraceMarker {
    /// Opens it.
    ///
    /// # Errors
    ///
    /// ENOENT if tracefs is not mounted, EACCES if this process may not write there. Tracing is
    /// then left out.
    pub fn open() -> Result<Self, Errno> {
        let flags = OFlags::WRONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let open = |path: &str| rustix::fs::open(path, flags, Mode::empty());
        let file =
            MARKERS.iter().find_map(|path| open(path).ok()).map_or_else(|| open(MARKERS[0]), Ok)?;
        Ok(Self::new(file))
    }

    fn new(file: OwnedFd) -> Self {
        Self { file, own_pid: rustix::process::getpid().as_raw_nonzero().get() }
    }

    /// Marks the moment of a kill. What cannot be written is left out.
    ///
    /// The text is atrace's for an instant on a track of its own, `N|PID|TRACK|NAME`, with the name
    /// that AOSP's lmkd gives a kill.
    pub fn kill(
        &self,
        pid: i32,
        reason: Option<KillReason>,
        adj: OomScoreAdj,
        min_adj: OomScoreAdj,
        max_thrashing: i64,
    ) {
        let reason = reason.map_or(-1, KillReason::number);
        let own_pid = self.own_pid;
        // Six numbers of at most 20 digits and 30 letters: it cannot be too long.
        let mut event = Text::<192>::new();
        let _ = write!(
            event,
            "N|{own_pid}|lowmemorykiller|lmk,{pid},{reason},{adj},{min_adj},{max_thrashing}"
        );
        let _ = rustix::io::write(&self.file, event.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    #[test]
    fn a_kill_is_one_instant_event() {
        let (mut reader, writer) = std::io::pipe().unwrap();
        let marker = TraceMarker::new(writer.into());
        let adj = OomScoreAdj::saturating;
        marker.kill(77, Some(KillReason::LowMem), adj(900), adj(701), i64::MIN);
        drop(marker);
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        let own = std::process::id();
        assert_eq!(text, format!("N|{own}|lowmemorykiller|lmk,77,8,900,701,{}", i64::MIN));
    }
}
