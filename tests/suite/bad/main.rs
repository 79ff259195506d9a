//! Daemons that are wrong in one way each, so that the suite can show that it notices.
//!
//! Takes the place of the daemon on the device: init's socket, registration, kills below a tenth of memory. The file
//! /data/local/tmp/bad says how it is wrong: `order` kills the least expendable app, `overlap` two at once, `hang` stops
//! for ever at the first sign of pressure, `crash` ends there, `silent` kills rightly and tells nobody, and `good` is
//! not wrong but for that.

use anyhow::Context;
use anyhow::Result;
use lmkd::control::handover;
use lmkd::control::wire::ProcPrio;
use lmkd::control::wire::Request;
use lmkd::pidfd::PidFd;
use rustix::event::poll;
use rustix::event::PollFd;
use rustix::event::PollFlags;
use rustix::event::Timespec;
use rustix::net::RecvFlags;
use std::os::fd::OwnedFd;
use std::time::Duration;

const MODE: &str = "/data/local/tmp/bad";
const TICK: Timespec = Timespec { tv_sec: 0, tv_nsec: 20_000_000 };

fn main() -> Result<()> {
    let listener = handover::from_init("ANDROID_SOCKET_lmkd", "/dev/socket/lmkd")?
        .context("not started by init")?;
    rustix::net::listen(&listener, 8)?;
    lmkd::sys::sched::lock_memory()?;
    lmkd::sys::sched::set_fifo(0, 1)?;
    let mode = std::fs::read_to_string(MODE).unwrap_or_default();
    let (mut clients, mut apps) = (Vec::new(), Vec::new());
    loop {
        serve(&listener, &mut clients, &mut apps)?;
        if free_share()? < 10 {
            kill(mode.trim(), &mut apps);
        }
    }
}

/// Takes what clients have to say for a moment.
fn serve(listener: &OwnedFd, clients: &mut Vec<OwnedFd>, apps: &mut Vec<ProcPrio>) -> Result<()> {
    let mut fds: Vec<PollFd<'_>> = vec![PollFd::new(listener, PollFlags::IN)];
    fds.extend(clients.iter().map(|client| PollFd::new(client, PollFlags::IN)));
    poll(&mut fds, Some(&TICK))?;
    let ready: Vec<bool> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
    let mut index = 0;
    clients.retain(|client| {
        index += 1;
        !ready[index] || hear(client, apps)
    });
    if ready[0] {
        clients.push(rustix::net::accept(listener)?);
    }
    Ok(())
}

/// One packet; whether the client is still there.
fn hear(client: &OwnedFd, apps: &mut Vec<ProcPrio>) -> bool {
    let mut packet = [0; 64];
    let Ok((length, _)) = rustix::net::recv(client, &mut packet, RecvFlags::DONTWAIT) else {
        return false;
    };
    match Request::decode(&packet[..length]) {
        Ok(Request::ProcPrio(app)) => {
            let path = format!("/proc/{}/oom_score_adj", app.pid);
            let _ = std::fs::write(path, app.adj.to_string());
            apps.retain(|known| known.pid != app.pid);
            apps.push(app);
        }
        Ok(Request::GetKillCnt(_)) => {
            let zero = [4_u32, 0].map(u32::to_be_bytes).concat();
            let _ = rustix::net::send(client, &zero, rustix::net::SendFlags::NOSIGNAL);
        }
        _ => {}
    }
    length > 0
}

/// Available memory, percent.
fn free_share() -> Result<u64> {
    let meminfo = std::fs::read_to_string("/proc/meminfo")?;
    let kb = |name: &str| -> Option<u64> {
        let line = meminfo.lines().find_map(|line| line.strip_prefix(name))?;
        line.split_whitespace().next()?.parse().ok()
    };
    let (available, total) = (kb("MemAvailable:"), kb("MemTotal:"));
    Ok(available.context("meminfo")? * 100 / total.context("meminfo")?.max(1))
}

fn kill(mode: &str, apps: &mut Vec<ProcPrio>) {
    match mode {
        "hang" => loop {
            std::thread::park();
        },
        "crash" => std::process::exit(1),
        _ => {}
    }
    apps.sort_by_key(|app| app.adj);
    let at_once = if mode == "overlap" { 2 } else { 1 };
    let mut victims = Vec::new();
    for _ in 0..at_once {
        // Nothing at or below 0 is on offer.
        let first = apps.iter().position(|app| app.adj.get() > 0);
        let Some(first) = first else { break };
        let app = if mode == "order" { apps.remove(first) } else { apps.remove(apps.len() - 1) };
        if let Ok(victim) = PidFd::open(app.pid.get()) {
            let _ = victim.kill();
            victims.push(victim);
        }
    }
    for victim in victims {
        while !victim.has_exited() {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}
