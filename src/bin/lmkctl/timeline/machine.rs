//! A machine of 512 MiB in which one process grows, with the real decision, recorded.

use lmkd::clock::MonoTime;
use lmkd::config::Tunables;
use lmkd::kernel::Meminfo;
use lmkd::kernel::Sample;
use lmkd::kernel::Stall;
use lmkd::kernel::Vmstat;
use lmkd::kernel::Watermarks;
use lmkd::kill::ledger::Moments;
use lmkd::oom_score_adj::OomScoreAdj;
use lmkd::policy::Admission;
use lmkd::policy::Level;
use lmkd::policy::Policy;
use lmkd::policy::Poller;
use lmkd::policy::Trigger;
use lmkd::recorder::few::Few;
use lmkd::recorder::few::Text;
use lmkd::recorder::frame;
use lmkd::recorder::frame::Body;
use lmkd::recorder::Act;
use lmkd::recorder::Change;
use lmkd::recorder::Checkpoint;
use lmkd::recorder::Fate;
use lmkd::recorder::Header;
use lmkd::recorder::Kill;
use lmkd::recorder::Look;
use lmkd::recorder::Process;
use lmkd::recorder::Recording;
use lmkd::recorder::Registered;
use lmkd::recorder::Removal;
use lmkd::recorder::Seen;
use lmkd::recorder::Settings;
use lmkd::recorder::Step;
use lmkd::recorder::MAGIC;
use lmkd::units::Kib;
use lmkd::units::PageSize;
use lmkd::units::Pages;

const APP_PAGES: i64 = 6400;

/// The machine and its recording so far.
pub struct Machine {
    bytes: Vec<u8>,
    seq: u64,
    ms: u64,
    policy: Policy,
    tunables: Tunables,
    free: i64,
    apps: Vec<Process>,
    tickets: u32,
    scanned: i64,
}

impl Machine {
    /// With eight apps registered. Swap is what the kernel says it is, whatever memory is left.
    pub fn new(tunables: Tunables) -> Self {
        let tunables = Tunables { swap_compression_ratio: 0, ..tunables };
        let adjs = [900, 800, 700, 500, 200, 100, 0, -800];
        let apps = adjs.into_iter().zip(0..).map(|(adj, n)| Process {
            pid: 120 + n,
            uid: 10_000 + u32::try_from(n).unwrap(),
            adj: OomScoreAdj::new(adj).unwrap(),
        });
        let mut machine = Self {
            bytes: MAGIC.to_vec(),
            seq: 0,
            ms: 60_000,
            policy: Policy::new(PageSize::SMALL),
            tunables,
            free: 20_000,
            apps: apps.collect(),
            tickets: 0,
            scanned: 0,
        };
        // The header has the time of the dump, and no number.
        machine.ms = 900_000;
        machine.write(&Header {
            version: Text::new(b"0.1.0"),
            kernel: Text::new(b"6.1.0-56-cloud-amd64"),
            page: PageSize::SMALL,
            boot: Text::new(b"8a2e7a0e-6a57-44a5-8d1b-7d2f2c9c3b11"),
            pid: 101,
            started: MonoTime::from_millis(60_000),
            wall_ns: 1_763_902_584_042_000_000,
            dry_run: false,
            adopt: false,
        });
        machine.ms = 60_000;
        machine.write(&Settings { tunables: machine.tunables.clone() });
        machine.write(&Checkpoint { policy: machine.policy.clone(), poller: Poller::new() });
        let processes: Few<Process, 64> = machine.apps.iter().copied().collect();
        machine.write(&Registered { first: true, last: true, processes });
        machine
    }

    fn write<B: Body>(&mut self, body: &B) {
        let mut buffer = [0; frame::LONGEST];
        let at = MonoTime::from_millis(self.ms);
        let len = frame::seal(&mut buffer, self.seq, at, body).unwrap();
        self.bytes.extend_from_slice(&buffer[..len]);
        self.seq += 1;
    }

    fn sample(&mut self) -> Sample {
        self.scanned += 100;
        let file = 1200 + self.free / 4;
        Sample {
            now: MonoTime::from_millis(self.ms),
            vmstat: Vmstat {
                nr_free_pages: self.free,
                nr_inactive_file: file / 2,
                nr_active_file: file / 2,
                pgscan_kswapd: self.scanned,
                ..Vmstat::default()
            },
            meminfo: Meminfo {
                total: Pages(123_000),
                free: Pages(self.free),
                active_file: Pages(file / 2),
                inactive_file: Pages(file / 2),
                active_anon: Pages(80_000 - self.free),
                swap_total: Pages(60_000),
                swap_free: Pages(30_000),
                ..Meminfo::default()
            },
            watermarks: Some(Watermarks {
                min: Pages(2800),
                low: Pages(3500),
                high: Pages(4200),
                total_reserve: Pages(5000),
            }),
            stall: Some(Stall { full_avg10_centi: (4200 - self.free).clamp(0, 4200) / 2 }),
            reclaim: None,
            boost: None,
        }
    }

    /// A look; whether it killed.
    pub fn look(&mut self, trigger: Trigger) -> bool {
        let now = MonoTime::from_millis(self.ms);
        let admission = self.policy.admit(trigger, now, None, &self.tunables);
        let (mut seen, mut act, mut victim) = (None, Act::Nothing, None);
        if matches!(admission, Admission::Evaluate { .. }) {
            let sample = self.sample();
            let verdict = self.policy.evaluate(trigger, &sample, &self.tunables);
            if let Some(cause) = verdict.cause {
                match self.apps.iter().position(|app| app.adj >= cause.min_adj) {
                    Some(place) => {
                        let app = self.apps.remove(place);
                        self.tickets += 1;
                        self.policy.note_kill(&cause, &self.tunables);
                        act = Act::Killed { pid: app.pid, ticket: self.tickets };
                        victim = Some((app, cause));
                    }
                    None => act = Act::Nobody,
                }
            }
            seen = Some(Seen { sample, verdict });
        }
        let plan = self.policy.poll_plan(trigger, false);
        let look = self.seq;
        let tried = Few::default();
        self.write(&Look {
            trigger,
            woken: now,
            now,
            pending: None,
            admission,
            seen,
            act,
            tried,
            waiting: false,
            plan,
        });
        let Some((app, cause)) = victim else { return false };
        let micros = |micros: u64| MonoTime::from_nanos(now.as_nanos() + micros * 1000);
        let signalled = micros(1200 + 300 * u64::from(self.tickets));
        let moments = Moments {
            woken: now,
            decided: micros(400),
            raised: micros(900),
            signalled,
            ..Moments::default()
        };
        self.write(&Kill {
            ticket: self.tickets,
            look,
            pid: app.pid,
            uid: app.uid,
            adj: app.adj,
            name: Text::new(format!("com.example.app{}", app.pid).as_bytes()),
            rss: Kib(APP_PAGES * 4),
            swap: Kib(0),
            threads: 12,
            cause,
            moments,
            next: self.apps.iter().take(8).copied().collect(),
        });
        self.ms += 40;
        let (exited, released) = (Some(micros(39_000)), Some(micros(30_000)));
        let moments = Moments { exited, released, ..moments };
        self.write(&Fate { ticket: self.tickets, pid: app.pid, step: Step::Exited, moments });
        self.write(&Change::Removed { pid: app.pid, why: Removal::Killed });
        self.free += APP_PAGES;
        true
    }

    /// Memory is taken in steps of 100 ms, each with a look; `pages` may be negative.
    pub fn grow(&mut self, pages: i64, steps: u32) -> u32 {
        let mut kills = 0;
        for step in 0..steps {
            self.ms += 100;
            self.free -= pages;
            let medium = step == 0 && self.free < 12_000;
            let trigger = if medium { Trigger::Event(Level::Medium) } else { Trigger::Poll };
            kills += u32::from(self.look(trigger));
        }
        kills
    }

    /// Nothing happens.
    pub fn rest(&mut self, ms: u64) {
        self.ms += ms;
    }

    /// The recording as a file.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The recording.
    pub fn recording(&self) -> Recording {
        Recording::parse(&self.bytes).unwrap()
    }
}
