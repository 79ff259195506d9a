//! The actor on stage: takes orders of the host, one JSON object a line, and reports what happens, the same way.
//!
//! Every order has a `do` and an `id`, and is answered by the event `done` or `failed` with that id:
//!
//! | `do` | fields | effect |
//! | --- | --- | --- |
//! | `spawn` | `name`, `kind` (noise, sparse, file), `mib`, `threads`, `role`, `sched` (normal, nice, idle, fifo), `adj`, `register` | an app; done once it has its memory, or is dead |
//! | `rank` | `apps`: [[name, adj], ...], `batch` | (re)registers apps, one by one or three a packet |
//! | `forget` | `name` | takes an app out of the kill order |
//! | `grow` | `name`, `mib`, `speed` (MiB/s), `deaths` | an app grows, until so many registered apps have died, if given |
//! | `end` | `names` | ends apps; without names all of them |
//! | `hold`, `release` | `name` | keeps an app from exiting once it is killed; lets it go |
//! | `reuse` | fields of `spawn`, `pid` | an app that gets the id of a dead one |
//! | `run` | `name`, `argv` | another program |
//! | `cover` | `file`, `with` | a file of /proc shows another; without `with` it is read-only |
//! | `uncover` | | all files of /proc are as they were |
//! | `connect`, `disconnect` | | system_server comes and goes; it comes back by itself each second |
//! | `count` | | asks the daemon for its number of kills, after which all earlier orders have been served |
//! | `start_monitoring`, `boot_completed`, `update_props` | | commands of the protocol |
//! | `deaf`, `rabble`, `peace` | `crowd` | a subscriber that never reads, clients that misbehave, neither |
//! | `look` | `pid` | what a daemon has cost |
//! | `quit` | | ends everything |
//!
//! Events: `hello`, `sample` each 100 ms, `app`, `threads`, `rank`, `death`, `grown`, `frames`, `late`, `connected`,
//! `disconnected`, `told`, `stat`, and of the kernel `sigkill`, `sigterm`, `exit`, `oom`, and `lost` for what of its
//! record is missing. `us` is the monotonic clock.

use crate::cast::App;
use crate::cast::Shape;
use crate::cast::FIRST_APP_UID;
use crate::machine;
use crate::mounts::Mounts;
use crate::out::now_us;
use crate::out::Out;
use crate::players;
use crate::raw;
use crate::reuse;
use crate::trace::Trace;
use anyhow::bail;
use anyhow::Context;
use anyhow::Result;
use lmkd::control::client::Client;
use lmkd::control::wire::KillCount;
use lmkd::sys::signal::SignalFd;
use rustix::event::poll;
use rustix::event::PollFd;
use rustix::event::PollFlags;
use rustix::event::Timespec;
use rustix::process::setrlimit;
use rustix::process::Resource;
use rustix::process::Rlimit;
use serde_json::json;
use serde_json::Value;
use std::fs;
use std::os::fd::AsFd;
use std::os::fd::OwnedFd;
use std::process::Command;

/// The wait of system_server between two tries to connect.
const RECONNECT_US: u64 = 1_000_000;

/// An app that grows until others have died of it.
struct Press {
    name: String,
    deaths: u64,
}

struct Stage {
    out: Out,
    apps: Vec<App>,
    client: Option<Client>,
    /// The next try to connect, while there should be a connection and is none.
    connect_at: Option<u64>,
    deaf: Vec<Client>,
    rabble: Option<players::Rabble>,
    press: Option<Press>,
    mounts: Mounts,
    pipe: OwnedFd,
    cache: String,
    quit: bool,
}

/// `serve CACHE_FILE`: until the order to quit or the end of the input.
pub fn serve(args: &[String]) -> Result<()> {
    let [cache] = args else { bail!("serve CACHE_FILE") };
    // What an adbd sends that has lost the host. The end of the input says the same, and leaves time to tidy up.
    let _hangup = SignalFd::block(&[libc::SIGHUP]).context("SIGHUP")?;
    // The times of deaths are worthless if pressure delays their reader; and it must outlive everything.
    fs::write("/proc/self/oom_score_adj", "-1000").context("oom_score_adj")?;
    // Two descriptors for each app, and there are thousands.
    let many = Rlimit { current: Some(1 << 14), maximum: Some(1 << 14) };
    setrlimit(Resource::Nofile, many).context("open files")?;
    lmkd::sys::sched::lock_memory().context("mlockall")?;
    raw::set_fifo(false)?;
    let mounts = Mounts::new().context("what is mounted on /proc")?;
    let (out, writer) = Out::start();
    let trace = Trace::start(out.clone());
    let (words, pipe) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    let machine = machine::sample();
    let hello = json!({
        "pid": std::process::id(),
        "kernel": fs::read_to_string("/proc/sys/kernel/osrelease")?.trim(),
        "page_kb": rustix::param::page_size() / 1024,
        "machine": machine,
        "framework": machine::has_framework(),
        "trace": trace.as_ref().map_or_else(|error| format!("{error:#}"), |_| "yes".to_owned()),
    });
    out.event("hello", hello);
    machine::watch(out.clone());
    let mut stage = Stage {
        out,
        apps: Vec::new(),
        client: None,
        connect_at: None,
        deaf: Vec::new(),
        rabble: None,
        press: None,
        mounts,
        pipe,
        cache: cache.clone(),
        quit: false,
    };
    stage.run(&words)?;
    stage.end(|_| true);
    drop((stage, trace));
    // The samplers hold the writer open for as long as there is a process.
    let _ = writer;
    Ok(())
}

/// Splits what a descriptor gives into lines.
#[derive(Default)]
struct Lines(Vec<u8>);

impl Lines {
    /// Reads once; None at the end of the input.
    fn read(&mut self, fd: impl AsFd) -> Option<Vec<String>> {
        let mut buffer = [0; 16 << 10];
        let read = rustix::io::read(fd, &mut buffer).ok()?;
        if read == 0 {
            return None;
        }
        self.0.extend_from_slice(buffer.get(..read)?);
        let whole = self.0.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        let text: Vec<u8> = self.0.drain(..whole).collect();
        Some(String::from_utf8_lossy(&text).lines().map(str::to_owned).collect())
    }
}

impl Stage {
    fn run(&mut self, words: &OwnedFd) -> Result<()> {
        let stdin = std::io::stdin();
        let (mut orders, mut told) = (Lines::default(), Lines::default());
        while !self.quit {
            let mut fds =
                vec![PollFd::new(&stdin, PollFlags::IN), PollFd::new(words, PollFlags::IN)];
            let living = self.apps.iter().enumerate().filter(|(_, app)| app.end.is_none());
            let (places, living): (Vec<usize>, Vec<&App>) = living.unzip();
            fds.extend(living.into_iter().map(|app| PollFd::new(app, PollFlags::IN)));
            fds.extend(self.client.iter().map(|client| PollFd::new(client, PollFlags::IN)));
            let tick = Timespec { tv_sec: 0, tv_nsec: 200_000_000 };
            poll(&mut fds, Some(&tick))?;
            let (order, word) = (!fds[0].revents().is_empty(), !fds[1].revents().is_empty());
            // Of thousands of apps, only those that have something to tell are looked at.
            let ended = places.into_iter().zip(&fds[2..]);
            let ended = ended.filter(|(_, fd)| !fd.revents().is_empty());
            let ended: Vec<usize> = ended.map(|(place, _)| place).collect();
            drop(fds);
            self.count_deaths(&ended);
            self.listen();
            if word {
                for line in told.read(words).unwrap_or_default() {
                    self.hear(&line);
                }
            }
            if order {
                let Some(lines) = orders.read(&stdin) else { return Ok(()) };
                for line in lines {
                    self.obey(&line);
                }
            }
            self.reconnect();
        }
        Ok(())
    }

    /// `ended` are the places of apps whose threads are all gone.
    fn count_deaths(&mut self, ended: &[usize]) {
        let mut deaths = 0;
        for place in ended {
            let Some(app) = self.apps.get_mut(*place) else { continue };
            let Some(us) = app.has_ended() else { continue };
            deaths += u64::from(app.adj.is_some() && !app.ended);
            let fields = json!({
                "pid": app.pid, "name": app.name, "end": app.end, "ended": app.ended,
            });
            self.out.event_at(us, "death", fields);
            if let Some(id) = app.order.take() {
                self.out.event("done", json!({"id": id, "pid": app.pid, "died": true}));
            }
        }
        if let Some(press) = &mut self.press {
            press.deaths = press.deaths.saturating_sub(deaths);
            if press.deaths == 0 {
                let name = std::mem::take(&mut press.name);
                self.press = None;
                if let Ok(app) = self.app(&name) {
                    let _ = app.tell("stop");
                }
            }
        }
    }

    fn listen(&mut self) {
        let Some(client) = &mut self.client else { return };
        if let Err(error) = players::listen(client, &self.out) {
            self.out.event("disconnected", json!({"why": format!("{error:#}")}));
            self.client = None;
            self.connect_at = Some(now_us() + RECONNECT_US);
        }
    }

    fn reconnect(&mut self) {
        if self.connect_at.is_some_and(|at| at <= now_us()) {
            self.connect_at = match players::connect() {
                Ok(client) => {
                    self.client = Some(client);
                    self.out.event("connected", json!({}));
                    None
                }
                Err(_) => Some(now_us() + RECONNECT_US),
            };
        }
    }

    /// A line of an app.
    fn hear(&mut self, line: &str) {
        let mut words = line.split(' ');
        let Some(pid) = words.next().and_then(|pid| pid.parse::<u32>().ok()) else { return };
        let Some(word) = words.next() else { return };
        let numbers: Vec<u64> = words.filter_map(|number| number.parse().ok()).collect();
        let Some(app) = self.apps.iter_mut().find(|app| app.pid == pid && app.end.is_none()) else {
            return;
        };
        match (word, numbers.as_slice()) {
            ("ready", _) => {
                let threads = app.threads();
                if threads.len() > 1 {
                    self.out.event("threads", json!({"pid": pid, "tids": threads}));
                }
                if let Some(id) = app.order.take() {
                    self.out.event("done", json!({"id": id, "pid": pid}));
                }
            }
            ("grown", [mib]) => self.out.event("grown", json!({"name": app.name, "mib": mib})),
            ("late", [us, took]) => self.out.event_at(*us, "late", json!({"took_us": took})),
            ("frames", [count, over_16, over_100, over_1000, longest]) => {
                let fields = json!({
                    "count": count, "over_16_ms": over_16, "over_100_ms": over_100,
                    "over_1000_ms": over_1000, "longest_us": longest,
                });
                self.out.event("frames", fields);
            }
            _ => {}
        }
    }

    fn obey(&mut self, line: &str) {
        let order: Value = serde_json::from_str(line).unwrap_or_default();
        let id = order["id"].as_u64().unwrap_or(0);
        match self.execute(&order, id) {
            Ok(Some(mut fields)) => {
                fields["id"] = json!(id);
                self.out.event("done", fields);
            }
            // The answer comes later.
            Ok(None) => {}
            Err(error) => {
                self.out.event("failed", json!({"id": id, "why": format!("{error:#}")}));
            }
        }
    }

    fn execute(&mut self, order: &Value, id: u64) -> Result<Option<Value>> {
        let name = order["name"].as_str().unwrap_or("app").to_owned();
        let number = |key: &str| order[key].as_u64().unwrap_or(0);
        match order["do"].as_str().unwrap_or("") {
            "spawn" => return self.spawn(order, id).map(|()| None),
            "reuse" => {
                reuse::make_next(u32::try_from(number("pid"))?)?;
                return self.spawn(order, id).map(|()| None);
            }
            "rank" => self.rank(order)?,
            "forget" => {
                let pid = self.app(&name)?.pid;
                let client = self.client.as_mut().context("no connection")?;
                client.unregister(players::record(pid, 0, 0)?.pid)?;
            }
            "grow" => {
                let line = format!("grow {} {}", number("mib"), number("speed"));
                self.app(&name)?.tell(&line)?;
                let deaths = number("deaths");
                self.press = (deaths > 0).then_some(Press { name, deaths });
            }
            "end" => match order["names"].as_array() {
                Some(names) => self.end(|app| names.iter().any(|name| *name == app.name.as_str())),
                None => self.end(|_| true),
            },
            "hold" => {
                let pid = self.app(&name)?.pid;
                let mut command = Command::new(std::env::current_exe()?);
                command.args(["hold", &pid.to_string()]);
                self.start_helper(command, &format!("holds-{name}"), id)?;
                return Ok(None);
            }
            "release" => self.end(|app| app.name == format!("holds-{name}")),
            "run" => {
                let argv: Vec<&str> = order["argv"]
                    .as_array()
                    .into_iter()
                    .flatten()
                    .filter_map(Value::as_str)
                    .collect();
                let mut command = Command::new(std::env::current_exe()?);
                command.arg("run").args(argv);
                let pid = self.start_helper(command, &name, id)?;
                // It has nothing to say.
                if let Some(app) = self.apps.last_mut() {
                    app.order = None;
                }
                return Ok(Some(json!({"pid": pid})));
            }
            "connect" => {
                self.client = Some(players::connect()?);
                self.out.event("connected", json!({}));
            }
            "disconnect" => {
                self.client = None;
                self.connect_at = None;
            }
            "count" => {
                let client = self.client.as_mut().context("no connection")?;
                return Ok(Some(json!({"count": client.kill_count(KillCount::Total)?})));
            }
            "start_monitoring" => {
                self.client.as_mut().context("no connection")?.start_monitoring()?;
            }
            "boot_completed" => {
                let answer = self.client.as_mut().context("no connection")?.boot_completed()?;
                return Ok(Some(json!({"answer": format!("{answer:?}")})));
            }
            "update_props" => {
                let taken = self.client.as_mut().context("no connection")?.update_props()?;
                return Ok(Some(json!({"taken": taken})));
            }
            "deaf" => self.deaf.push(players::deaf()?),
            "rabble" => self.rabble = Some(players::Rabble::start(number("crowd"))?),
            "peace" => {
                self.deaf.clear();
                self.rabble = None;
            }
            "look" => return machine::look(u32::try_from(number("pid"))?).map(Some),
            "cover" => {
                let file = order["file"].as_str().context("file")?;
                match order["with"].as_str() {
                    Some(with) => self.mounts.cover(file, with)?,
                    None => self.mounts.forbid_writing(file)?,
                }
            }
            "uncover" => self.mounts.uncover()?,
            "quit" => self.quit = true,
            other => bail!("{other}: no such order"),
        }
        Ok(Some(json!({})))
    }

    fn app(&mut self, name: &str) -> Result<&mut App> {
        let living = |app: &&mut App| app.name == name && app.end.is_none();
        self.apps.iter_mut().find(living).with_context(|| format!("{name}: not on stage"))
    }

    fn spawn(&mut self, order: &Value, id: u64) -> Result<()> {
        let text =
            |key: &str, default: &'static str| order[key].as_str().unwrap_or(default).to_owned();
        let (name, kind, role) = (text("name", "app"), text("kind", "noise"), text("role", "rest"));
        let sched = text("sched", "normal");
        let uid = FIRST_APP_UID + u32::try_from(self.apps.len())?;
        let shape = Shape {
            name: &name,
            kind: &kind,
            mib: order["mib"].as_u64().unwrap_or(0),
            threads: order["threads"].as_u64().unwrap_or(0),
            role: &role,
            sched: &sched,
            // What grows plays the system; apps are users of their own.
            uid: if role == "grow" { 0 } else { uid },
        };
        let mut app = App::start(&shape, self.pipe.as_fd(), &self.cache)?;
        app.order = Some(id);
        let born = json!({"pid": app.pid, "name": name, "kb": shape.mib * 1024});
        self.out.event("app", born);
        let adj = order["adj"].as_i64().map(i32::try_from).transpose()?;
        let register = order["register"].as_bool().unwrap_or(true);
        if let (Some(adj), false) = (adj, register) {
            app.set_adj(adj)?;
        }
        self.apps.push(app);
        if let (Some(adj), true) = (adj, register) {
            self.register(&[(name, adj)], false)?;
        }
        Ok(())
    }

    fn start_helper(&mut self, command: Command, name: &str, id: u64) -> Result<u32> {
        let mut app = App::run(command, name, 0, self.pipe.as_fd())?;
        app.set_adj(-1000)?;
        app.order = Some(id);
        self.apps.push(app);
        Ok(self.apps.last().context("empty")?.pid)
    }

    fn rank(&mut self, order: &Value) -> Result<()> {
        let mut apps = Vec::new();
        for pair in order["apps"].as_array().context("apps")? {
            let adj = i32::try_from(pair[1].as_i64().context("adj")?)?;
            apps.push((pair[0].as_str().context("name")?.to_owned(), adj));
        }
        self.register(&apps, order["batch"].as_bool().unwrap_or(false))
    }

    /// Registers by the daemon, or sets the priorities itself where there is none.
    fn register(&mut self, apps: &[(String, i32)], batch: bool) -> Result<()> {
        let mut records = Vec::new();
        for (name, adj) in apps {
            let has_daemon = self.client.is_some();
            let app = self.app(name)?;
            if !has_daemon {
                app.set_adj(*adj)?;
            }
            app.adj = Some(*adj);
            records.push(players::record(app.pid, app.uid, *adj)?);
            let fields = json!({"pid": app.pid, "name": name, "adj": adj});
            self.out.event("rank", fields);
        }
        let Some(client) = &mut self.client else { return Ok(()) };
        if batch {
            client.register_all(&records)?;
        } else {
            records.iter().try_for_each(|record| client.register(record))?;
        }
        Ok(())
    }

    fn end(&mut self, which: impl Fn(&App) -> bool) {
        self.apps.iter_mut().filter(|app| which(app)).for_each(App::finish);
    }
}
