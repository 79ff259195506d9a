//! Clients of the daemon: system_server as ProcessList plays it, and some that behave badly.

use crate::out::Out;
use anyhow::Context;
use anyhow::Result;
use lmkd::control::client::Client;
use lmkd::control::client::KillEvent;
use lmkd::control::wire::Event;
use lmkd::control::wire::KillCount;
use lmkd::control::wire::ProcPrio;
use lmkd::control::wire::ProcType;
use lmkd::control::wire::Target;
use lmkd::control::wire::Targets;
use lmkd::oom_score_adj::OomScoreAdj;
use lmkd::processes::Pid;
use lmkd::units::Pages;
use rustix::event::poll;
use rustix::event::PollFd;
use rustix::event::PollFlags;
use rustix::event::Timespec;
use rustix::net::AddressFamily;
use rustix::net::SendFlags;
use rustix::net::SocketAddrUnix;
use rustix::net::SocketType;
use serde_json::json;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::sync::Arc;
use std::time::Duration;

/// Where Android's init puts the daemon's control socket.
pub const SOCKET: &str = "/dev/socket/lmkd";

/// Connects, and does what system_server does on each connection.
pub fn connect() -> Result<Client> {
    let mut client = Client::connect(Path::new(SOCKET))?;
    client.set_timeout(Some(Duration::from_secs(5)))?;
    client.purge()?;
    client.subscribe(Event::Kill)?;
    client.subscribe(Event::Stat)?;
    Ok(client)
}

/// `target MINFREE:ADJ...`: sends these levels; done once the daemon has served them.
pub fn target(args: &[String]) -> Result<()> {
    let level = |text: &String| {
        let (minfree, adj) = text.split_once(':').context("MINFREE:ADJ")?;
        let adj = OomScoreAdj::new(adj.parse()?).context("not an oom_score_adj")?;
        Ok(Target { minfree: Pages(minfree.parse()?), adj })
    };
    let levels: Vec<Target> = args.iter().map(level).collect::<Result<_>>()?;
    let mut client = connect()?;
    client.set_targets(&Targets::new(&levels).context("too many levels")?)?;
    client.kill_count(KillCount::Total)?;
    Ok(())
}

/// A record of the protocol.
pub fn record(pid: u32, uid: u32, adj: i32) -> Result<ProcPrio> {
    Ok(ProcPrio {
        pid: Pid::new(i32::try_from(pid)?).context("not a pid")?,
        uid,
        adj: OomScoreAdj::new(adj).context("not an oom_score_adj")?,
        kind: ProcType::App,
    })
}

/// Passes on what the daemon has to tell. An error means that it hung up.
pub fn listen(client: &mut Client, out: &Out) -> Result<()> {
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    loop {
        let mut fds = [PollFd::new(client, PollFlags::IN)];
        if poll(&mut fds, Some(&now))? == 0 {
            return Ok(());
        }
        match client.next_event()? {
            KillEvent::Killed(kill) => {
                out.event("told", json!({"pid": kill.pid, "rss_kb": kill.rss_kb}));
            }
            KillEvent::Stat { stat, name } => {
                let name = String::from_utf8_lossy(&name);
                let fields = json!({
                    "name": name, "uid": stat.uid, "adj": stat.oom_score_adj,
                    "reason": stat.kill_reason, "rss": stat.rss_in_bytes,
                });
                out.event("stat", fields);
            }
        }
    }
}

/// A subscriber that never reads.
pub fn deaf() -> Result<Client> {
    connect()
}

/// Clients that send what no client should, until told to stop.
pub struct Rabble(Arc<AtomicBool>);

impl Rabble {
    /// `crowd` idle connections, one that hangs up half-way again and again, one that sends nonsense, and one that
    /// sends registrations of a process that is not there, as fast as it can.
    pub fn start(crowd: u64) -> Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let idle: Vec<OwnedFd> = (0..crowd).map(|_| plain()).collect::<Result<_>>()?;
        let flag = Arc::clone(&stop);
        std::thread::spawn(move || {
            let _idle = idle;
            let mut round = 0_u32;
            while !flag.load(Ordering::Relaxed) {
                round = round.wrapping_add(1);
                let Ok(socket) = plain() else { continue };
                for packet in nonsense(round) {
                    let _ = rustix::net::send(&socket, &packet, SendFlags::NOSIGNAL);
                }
                std::thread::sleep(Duration::from_millis(20));
            }
        });
        let flag = Arc::clone(&stop);
        let flood = plain()?;
        std::thread::spawn(move || {
            let _ = lmkd::sys::sched::set_normal(0);
            let packet = words(&[1, 0x3f_ffff, 10_000, 900]);
            while !flag.load(Ordering::Relaxed) {
                let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
                if rustix::net::send(&flood, &packet, flags).is_err() {
                    std::thread::sleep(Duration::from_millis(1));
                }
            }
        });
        Ok(Self(stop))
    }
}

impl Drop for Rabble {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn plain() -> Result<OwnedFd> {
    let fd = rustix::net::socket(AddressFamily::UNIX, SocketType::SEQPACKET, None)?;
    rustix::net::connect(&fd, &SocketAddrUnix::new(SOCKET)?)?;
    Ok(fd)
}

fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_be_bytes()).collect()
}

/// Packets that a daemon must refuse without an answer and without hanging up.
fn nonsense(round: u32) -> Vec<Vec<u8>> {
    let minus_1001 = (-1001_i32).cast_unsigned();
    vec![
        vec![0, 0, 1],
        words(&[1, 2, 3]),
        words(&[1, 1, 2, 3, 4, 5]),
        words(&[0, 1, 2, 3]),
        words(&[3, 9]),
        words(&[8]),
        words(&[12]),
        words(&[11]),
        words(&[11, 1, 2, 3, 4, 5]),
        words(&[1, 1, 10_000, 1001]),
        words(&[1, 1, 10_000, minus_1001]),
        words(&[1, 1, 10_000, 0, 2]),
        words(&[5, 77]),
        words(&[4, minus_1001, u32::MAX]),
        words(&[round.wrapping_mul(0x9e37_79b9); 20]),
    ]
}
