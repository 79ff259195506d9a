//! What the daemon says at its start: where pressure comes from, who can be killed, who would be
//! next.

use super::Daemon;
use crate::clock::MonoTime;
use crate::kernel::psi::Source;
use crate::kernel::Sample;
use crate::oom_score_adj::OomScoreAdj;

/// How many of the next victims are shown.
const SHOWN: usize = 8;

impl Daemon {
    /// One screen, in the log.
    pub(super) fn welcome(&mut self) {
        let tunables = &self.tunables;
        match &self.pressure {
            None => log::info!("pressure: not watched before boot is completed"),
            Some(Source::Sampling { every_ms, .. }) => {
                log::info!("pressure: memory is sampled every {every_ms}ms");
            }
            Some(Source::Psi { window_ms, .. }) => log::info!(
                "pressure: {}, some {}ms and full {}ms of {}ms, in windows of {window_ms}ms",
                self.options.pressure_file().display(),
                tunables.psi_partial_stall_ms,
                tunables.psi_complete_stall_ms,
                tunables.psi_window_size_ms,
            ),
        }
        log::info!("page size {}kB", self.page.kib());
        log::info!("socket: {}", self.settings.socket_name());
        if self.options.dry_run {
            log::info!("dry run: nobody is killed");
        }
        let candidates = if self.options.adopt {
            "registered processes, and all others with an oom_score_adj of 0 or more"
        } else {
            "registered processes"
        };
        log::info!("candidates: {candidates}");
        self.show_next();
    }

    fn show_next(&mut self) {
        let mut sample = Sample::default();
        // Without it nobody is known to have anything in swap.
        let _ = self.sampler.read(MonoTime::now(), false, &mut sample);
        self.start_search(OomScoreAdj::FOREGROUND, &sample.meminfo);
        let next = self.searcher.first(&mut self.registry, &self.proc, SHOWN);
        if next.is_empty() {
            log::info!("next victims: nobody yet");
            return;
        }
        log::info!("next victims, should memory run out:");
        log::info!("  oom_score_adj      pid      uid     rss kB  name");
        for candidate in next {
            let pid = candidate.pid.get();
            let rss = self.proc.rss(pid).unwrap_or_default().to_kib(self.page);
            let Ok(status) = self.proc.status(pid) else { continue };
            let name =
                self.ready.name_now(pid, None, &status).unwrap_or_else(|| status.short_name());
            log::info!(
                "  {:>13} {pid:>8} {:>8} {:>10}  {name}",
                candidate.adj.get(),
                candidate.uid,
                rss.get()
            );
        }
    }
}
