//! Runs one scenario: apps registered by importance, then memory taken away from them.

use crate::judge;
use crate::service::SOCKET;
use crate::trace;
use crate::wire::Client;
use anyhow::bail;
use anyhow::Context;
use anyhow::Result;
use rustix::event::poll;
use rustix::event::PollFd;
use rustix::event::PollFlags;
use rustix::event::Timespec;
use std::fs;
use std::io::BufRead;
use std::io::BufReader;
use std::os::unix::process::ExitStatusExt;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;
use std::time::Duration;
use std::time::Instant;

/// The importances that every scenario registers, the most expendable first.
const IMPORTANCES: [i32; 8] = [900, 800, 700, 500, 200, 100, 0, -800];
const APP_UID: u32 = 10_000;

/// A scenario's numbers.
#[derive(Debug)]
pub struct Plan {
    pub name: String,
    /// Size of each app.
    pub app_mib: u64,
    /// Disk that the foreground app keeps reading through the file cache.
    pub cache_mib: u64,
    /// Where the hog stops, and its speed.
    pub hog_mib: u64,
    pub speed: u64,
    /// Kills that the hog makes necessary.
    pub kills: usize,
    pub daemon: u32,
    pub log: String,
    pub limit: Duration,
}

/// A process of the scenario.
pub struct App {
    pub adj: i32,
    pub child: Child,
    /// The signal that ended it, once its parent has seen it.
    pub death: Option<i32>,
}

/// What a scenario left behind, for [`judge`].
pub struct Outcome {
    pub plan: Plan,
    pub apps: Vec<App>,
    pub hog_done: bool,
    pub kill_events: Vec<u32>,
    pub oom_kills: (u64, u64),
    pub trace: Vec<(u64, trace::Event)>,
    pub log: String,
}

impl Plan {
    fn parse(args: &[String]) -> Result<Self> {
        let mut plan = Self {
            name: "scenario".into(),
            app_mib: 25,
            cache_mib: 0,
            hog_mib: 0,
            speed: 50,
            kills: 1,
            daemon: 0,
            log: "/tmp/lmkd.log".into(),
            limit: Duration::from_secs(120),
        };
        for pair in args.chunks(2) {
            let [key, value] = pair else { bail!("{pair:?}: a name without a value") };
            match key.as_str() {
                "--name" => plan.name.clone_from(value),
                "--app" => plan.app_mib = value.parse()?,
                "--cache" => plan.cache_mib = value.parse()?,
                "--hog" => plan.hog_mib = value.parse()?,
                "--speed" => plan.speed = value.parse()?,
                "--kills" => plan.kills = value.parse()?,
                "--daemon" => plan.daemon = value.parse()?,
                "--log" => plan.log.clone_from(value),
                "--limit" => plan.limit = Duration::from_secs(value.parse()?),
                _ => bail!("{key}: no such option"),
            }
        }
        Ok(plan)
    }
}

fn spawn(args: &[String]) -> Result<(Child, BufReader<std::process::ChildStdout>)> {
    let mut child = Command::new("/proc/self/exe").args(args).stdout(Stdio::piped()).spawn()?;
    let output = child.stdout.take().context("no pipe")?;
    Ok((child, BufReader::new(output)))
}

fn oom_kills() -> Result<u64> {
    let vmstat = fs::read_to_string("/proc/vmstat")?;
    let line = vmstat.lines().find_map(|line| line.strip_prefix("oom_kill "));
    Ok(line.context("no oom_kill in vmstat")?.parse()?)
}

/// One JSON line of what the machine looks like.
fn sample(start: Instant) -> Result<()> {
    let meminfo = fs::read_to_string("/proc/meminfo")?;
    let kb = |name: &str| {
        let line = meminfo.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|rest| rest.split_whitespace().next()).unwrap_or("0").to_owned()
    };
    let pressure = fs::read_to_string("/proc/pressure/memory").unwrap_or_default();
    let mut totals = pressure.lines().filter_map(|line| line.rsplit('=').next());
    println!(
        "{{\"event\":\"sample\",\"ms\":{},\"free_kb\":{},\"file_kb\":{},\"swap_free_kb\":{},\"some_us\":{},\"full_us\":{}}}",
        start.elapsed().as_millis(),
        kb("MemFree:"),
        kb("Cached:"),
        kb("SwapFree:"),
        totals.next().unwrap_or("0"),
        totals.next().unwrap_or("0"),
    );
    Ok(())
}

/// `play OPTIONS`: an error if any check failed.
pub fn play(args: &[String]) -> Result<()> {
    let plan = Plan::parse(args)?;
    // The times of deaths and kill events are worthless if the pressure delays their reader.
    lmkd::sys::sched::lock_memory().context("mlockall")?;
    lmkd::sys::sched::set_fifo(0, 2).context("sched_setscheduler")?;
    trace::start().context("tracefs")?;
    let oom_kills_before = oom_kills()?;
    let client = Client::connect(SOCKET);
    if let Err(error) = &client {
        println!("{{\"event\":\"no daemon\",\"why\":\"{error}\"}}");
    }
    let mut apps = Vec::new();
    for (number, adj) in IMPORTANCES.into_iter().enumerate() {
        let cache = if adj == 0 { plan.cache_mib } else { 0 };
        let (child, mut output) = spawn_app(plan.app_mib, cache)?;
        output.read_line(&mut String::new())?;
        let (pid, uid) = (child.id(), APP_UID + u32::try_from(number)?);
        match &client {
            Ok(client) => client.procprio(pid, uid, adj)?,
            Err(_) => fs::write(format!("/proc/{pid}/oom_score_adj"), adj.to_string())?,
        }
        println!("{{\"event\":\"app\",\"pid\":{pid},\"adj\":{adj},\"mib\":{}}}", plan.app_mib);
        apps.push(App { adj, child, death: None });
    }
    let start = Instant::now();
    sample(start)?;
    let (mut hog, output) =
        spawn(&["hog".into(), plan.hog_mib.to_string(), plan.speed.to_string()])?;
    lmkd::sys::sched::set_normal(i32::try_from(hog.id())?)?;
    println!("{{\"event\":\"hog\",\"pid\":{},\"mib\":{}}}", hog.id(), plan.hog_mib);
    let mut kill_events = Vec::new();
    let mut hog_done = false;
    let mut settle: Option<Instant> = None;
    while start.elapsed() < plan.limit
        && settle.is_none_or(|at| at.elapsed() < Duration::from_secs(2))
    {
        let tick = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };
        let mut fds = Vec::new();
        if let Ok(client) = &client {
            fds.push(PollFd::new(client, PollFlags::IN));
        }
        if settle.is_none() {
            fds.push(PollFd::new(output.get_ref(), PollFlags::IN));
        }
        poll(&mut fds, Some(&tick))?;
        let heard = fds.last().map_or(PollFlags::empty(), PollFd::revents);
        if settle.is_none() && !heard.is_empty() {
            hog_done = heard.contains(PollFlags::IN);
            settle = Some(Instant::now());
        }
        while let Some(pid) = client.as_ref().ok().and_then(Client::kill_event) {
            println!(
                "{{\"event\":\"prockill\",\"ms\":{},\"pid\":{pid}}}",
                start.elapsed().as_millis()
            );
            kill_events.push(pid);
        }
        for app in apps.iter_mut().filter(|app| app.death.is_none()) {
            if let Some(status) = app.child.try_wait()? {
                app.death = Some(status.signal().unwrap_or(0));
                let (ms, pid) = (start.elapsed().as_millis(), app.child.id());
                println!("{{\"event\":\"death\",\"ms\":{ms},\"pid\":{pid},\"adj\":{}}}", app.adj);
            }
        }
        sample(start)?;
    }
    if let Some(status) = hog.try_wait()? {
        println!("{{\"event\":\"hog died\",\"status\":\"{status}\"}}");
        hog_done = false;
    }
    let trace = trace::read()?;
    let oom_kills = (oom_kills_before, oom_kills()?);
    for child in apps.iter_mut().map(|app| &mut app.child).chain([&mut hog]) {
        let _ = child.kill();
        let _ = child.wait();
    }
    let log = fs::read_to_string(&plan.log).unwrap_or_default();
    judge::judge(&Outcome { plan, apps, hog_done, kill_events, oom_kills, trace, log })
}

fn spawn_app(mib: u64, cache: u64) -> Result<(Child, BufReader<std::process::ChildStdout>)> {
    let (child, output) = spawn(&["app".into(), mib.to_string(), cache.to_string()])?;
    lmkd::sys::sched::set_normal(i32::try_from(child.id())?)?;
    Ok((child, output))
}
