//! The first process: runs actions, keeps services running, owns the properties.

use crate::action::Action;
use crate::command::Command;
use crate::identity;
use crate::properties;
use crate::properties::Properties;
use crate::properties::Request;
use crate::rc::Configuration;
use crate::service::Service;
use anyhow::ensure;
use anyhow::Context;
use anyhow::Result;
use rustix::process::Pid;
use rustix::process::Signal;
use rustix::process::WaitOptions;
use rustix::process::WaitStatus;
use std::collections::VecDeque;
use std::fs;
use std::os::unix::net::UnixListener;
use std::process::Stdio;
use std::sync::mpsc;
use std::sync::mpsc::Receiver;
use std::sync::mpsc::RecvTimeoutError;
use std::sync::mpsc::Sender;
use std::thread;
use std::time::Duration;
use std::time::Instant;

/// This program under its other names.
const SELF: &str = "/system/bin/pocket";
/// Properties that the device begins with.
const DEFAULTS: &str = "/default.prop";
/// Set to `reboot` or `reboot,WHY` it has the device start anew.
const POWER: &str = "sys.powerctl";
/// A critical service that crashes more often than this within the window reboots a device.
const CRASHES: u32 = 4;
const CRASH_WINDOW: Duration = Duration::from_secs(4 * 60);

/// What wakes init up.
enum Event {
    Asked(Request),
    Died(Pid, WaitStatus),
}

/// Why a service is ended.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Told {
    Stop,
    Restart,
}

/// A service and what became of it.
struct Running {
    service: Service,
    pid: Option<Pid>,
    started: Option<Instant>,
    restarts: bool,
    /// It ends because it was asked to.
    told: Option<Told>,
    crashed: Option<Instant>,
    crashes: u32,
}

struct Init {
    properties: Properties,
    actions: Vec<Action>,
    services: Vec<Running>,
    /// Commands to run, in order.
    queue: VecDeque<Command>,
    /// Property triggers count only once the boot has got that far.
    triggers_enabled: bool,
    /// The command before has to end first.
    waits_for: Option<Pid>,
    events: Receiver<Event>,
}

/// Never returns but with an error, after which the kernel panics: a boot that fails is seen.
pub fn run() -> Result<()> {
    ensure!(std::process::id() == 1, "init is the first process");
    let early = std::process::Command::new("/bin/busybox").args(["sh", "/early.sh"]).status()?;
    ensure!(early.success(), "early.sh: {early}");
    let Configuration { services, actions } = Configuration::read()?;
    fs::create_dir_all(properties::DIRECTORY)?;
    let (sender, events) = mpsc::channel();
    let listener = UnixListener::bind(properties::SERVICE).context(properties::SERVICE)?;
    rustix::fs::chmod(properties::SERVICE, rustix::fs::Mode::from_raw_mode(0o666))?;
    let asked = sender.clone();
    thread::spawn(move || {
        properties::serve(&listener, |request| drop(asked.send(Event::Asked(request))));
    });
    thread::spawn(move || reap(&sender));
    let services = services.into_iter().map(Running::new).collect();
    let mut init = Init {
        properties: Properties::default(),
        actions,
        services,
        queue: VecDeque::new(),
        triggers_enabled: false,
        waits_for: None,
        events,
    };
    init.boot()?;
    loop {
        init.step()?;
    }
}

/// Takes in every child that ends, adopted ones too.
fn reap(init: &Sender<Event>) {
    loop {
        match rustix::process::wait(WaitOptions::empty()) {
            Ok(Some((pid, status))) => drop(init.send(Event::Died(pid, status))),
            // No child at the moment.
            _ => thread::sleep(Duration::from_millis(20)),
        }
    }
}

impl Running {
    const fn new(service: Service) -> Self {
        Self {
            service,
            pid: None,
            started: None,
            restarts: false,
            told: None,
            crashed: None,
            crashes: 0,
        }
    }

    /// When it is to be started again.
    fn restart_at(&self) -> Option<Instant> {
        let started = self.started.filter(|_| self.restarts)?;
        Some(started + self.service.restart_period)
    }
}

impl Init {
    fn boot(&mut self) -> Result<()> {
        for line in fs::read_to_string(DEFAULTS).unwrap_or_default().lines() {
            let (name, value) = line.split_once('=').with_context(|| format!("'{line}'"))?;
            self.set(name.trim(), value.trim())?;
        }
        for event in ["init", "late-init"] {
            self.trigger(event);
            self.run_queue()?;
            while self.waits_for.is_some() {
                self.step()?;
            }
        }
        self.triggers_enabled = true;
        let all = self.actions.iter().filter(|action| action.runs_for(None, &self.properties));
        self.queue.extend(all.flat_map(|action| action.commands.clone()));
        self.trigger("boot");
        self.run_queue()?;
        println!("pocket: ready");
        Ok(())
    }

    /// Waits for something to do, and does it.
    fn step(&mut self) -> Result<()> {
        let next = self.services.iter().filter_map(Running::restart_at).min();
        let wait = next
            .map_or(Duration::from_secs(3600), |at| at.saturating_duration_since(Instant::now()));
        match self.events.recv_timeout(wait) {
            Ok(Event::Asked(request)) => {
                let done = self.asked(&request.name, &request.value);
                if let Err(error) = &done {
                    println!("init: {error:#}");
                }
                let _ = request.answer.send(done.is_ok());
            }
            Ok(Event::Died(pid, status)) => self.died(pid, status)?,
            Err(RecvTimeoutError::Timeout) => {}
            Err(error) => return Err(error.into()),
        }
        for index in 0..self.services.len() {
            if self.services[index].restart_at().is_some_and(|at| at <= Instant::now()) {
                self.start(index)?;
            }
        }
        self.run_queue()
    }

    fn trigger(&mut self, event: &str) {
        let of = self.actions.iter().filter(|action| action.runs_at(event, &self.properties));
        self.queue.extend(of.flat_map(|action| action.commands.clone()));
    }

    fn run_queue(&mut self) -> Result<()> {
        while self.waits_for.is_none() {
            let Some(command) = self.queue.pop_front() else { break };
            // As init: a command that fails is said, and the next one runs.
            if let Err(error) = self.run_command(&command) {
                println!("init: {command:?}: {error:#}");
            }
        }
        Ok(())
    }

    fn run_command(&mut self, command: &Command) -> Result<()> {
        match command {
            Command::Start(name) => self.start(self.index(name)?),
            Command::Stop(name) => self.stop(self.index(name)?),
            Command::ClassStart(class) => {
                for index in 0..self.services.len() {
                    let service = &self.services[index].service;
                    if service.classes.contains(class) && !service.disabled {
                        self.start(index)?;
                    }
                }
                Ok(())
            }
            Command::SetProperty(name, value) => {
                let (name, value) = (self.properties.expand(name)?, self.properties.expand(value)?);
                self.set(&name, &value)
            }
            Command::Exec(line) => {
                self.waits_for = Some(self.spawn(line)?);
                Ok(())
            }
            Command::ExecBackground(line) => self.spawn(line).map(drop),
            Command::Trigger(event) => {
                self.trigger(event);
                Ok(())
            }
            Command::Write(path, text) => {
                fs::write(path, self.properties.expand(text)?).with_context(|| path.clone())
            }
            Command::Chmod(mode, path) => {
                Ok(rustix::fs::chmod(path, rustix::fs::Mode::from_raw_mode(*mode))?)
            }
            Command::Chown(user, group, path) => Ok(rustix::fs::chown(
                path,
                Some(rustix::fs::Uid::from_raw(identity::id(user)?)),
                Some(rustix::fs::Gid::from_raw(identity::id(group)?)),
            )?),
        }
    }

    /// A property is to be set from outside; those under `ctl.` are requests.
    fn asked(&mut self, name: &str, value: &str) -> Result<()> {
        match name.strip_prefix("ctl.") {
            None if name == POWER => self.reboot(value),
            None => self.set(name, value),
            Some("start") => self.start(self.index(value)?),
            Some("stop") => self.stop(self.index(value)?),
            Some("restart") => self.restart(self.index(value)?),
            Some(_) => anyhow::bail!("'{name}' is no request known here"),
        }
    }

    /// What is mounted is written first; nobody is asked to end.
    fn reboot(&self, value: &str) -> Result<()> {
        let what = value.split(',').next();
        ensure!(what == Some("reboot"), "'{value}' is nothing that {POWER} does here");
        println!("init: {value}");
        self.spawn(&["/bin/busybox", "reboot", "-f"].map(str::to_owned)).map(drop)
    }

    fn set(&mut self, name: &str, value: &str) -> Result<()> {
        self.properties.set(name, value)?;
        if self.triggers_enabled {
            let changed = Some((name, value));
            let of = self.actions.iter().filter(|a| a.runs_for(changed, &self.properties));
            self.queue.extend(of.flat_map(|action| action.commands.clone()));
        }
        Ok(())
    }

    fn index(&self, name: &str) -> Result<usize> {
        let index = self.services.iter().position(|running| running.service.name == name);
        index.with_context(|| format!("there is no service '{name}'"))
    }

    fn start(&mut self, index: usize) -> Result<()> {
        if self.services[index].pid.is_some() {
            return Ok(());
        }
        let name = self.services[index].service.name.clone();
        let pid = self.spawn(&["launch".to_owned(), name])?;
        let running = &mut self.services[index];
        running.pid = Some(pid);
        running.started = Some(Instant::now());
        running.restarts = false;
        running.told = None;
        self.publish(index, "running")
    }

    fn stop(&mut self, index: usize) -> Result<()> {
        let running = &mut self.services[index];
        running.restarts = false;
        running.told = Some(Told::Stop);
        match running.pid {
            // It is said to be stopped once it is gone.
            Some(pid) => {
                kill(pid);
                Ok(())
            }
            None => self.publish(index, "stopped"),
        }
    }

    fn restart(&mut self, index: usize) -> Result<()> {
        let running = &mut self.services[index];
        match running.pid {
            Some(pid) => {
                running.told = Some(Told::Restart);
                kill(pid);
                Ok(())
            }
            None => self.start(index),
        }
    }

    fn died(&mut self, pid: Pid, status: WaitStatus) -> Result<()> {
        if self.waits_for == Some(pid) {
            self.waits_for = None;
        }
        let index = self.services.iter().position(|running| running.pid == Some(pid));
        let Some(index) = index else { return Ok(()) };
        let running = &mut self.services[index];
        running.pid = None;
        println!("init: service '{}' (pid {pid}) {}", running.service.name, said(status));
        let stays_away = running.service.oneshot || running.told == Some(Told::Stop);
        let crashed = running.told.is_none() && status.exit_status() != Some(0);
        if running.service.critical && crashed {
            self.crashed(index)?;
        }
        if stays_away {
            return self.publish(index, "stopped");
        }
        self.services[index].restarts = true;
        self.publish(index, "restarting")
    }

    /// A critical service has crashed: init counts, and what would reboot a device is said.
    fn crashed(&mut self, index: usize) -> Result<()> {
        let booted = self.properties.get("sys.boot_completed") == Some("1");
        let running = &mut self.services[index];
        let now = Instant::now();
        let recent = running.crashed.is_some_and(|at| now < at + CRASH_WINDOW);
        if recent || !booted {
            running.crashes += 1;
        } else {
            running.crashed = Some(now);
            running.crashes = 1;
        }
        let name = running.service.name.clone();
        if running.crashes <= CRASHES {
            return Ok(());
        }
        if self.properties.get(&format!("init.svc_debug.no_fatal.{name}")) == Some("true") {
            return Ok(());
        }
        println!("init: service '{name}' crashed {} times: would reboot", running.crashes);
        self.set("pocket.would_reboot", &name)
    }

    fn publish(&mut self, index: usize, state: &str) -> Result<()> {
        let running = &self.services[index];
        let name = running.service.name.clone();
        let pid = running.pid.map_or_else(String::new, |pid| pid.to_string());
        self.set(&format!("init.svc_debug_pid.{name}"), &pid)?;
        self.set(&format!("init.svc.{name}"), state)
    }

    /// Starts a program with what Android's init gives all of them, and no ears or voice.
    fn spawn(&self, line: &[String]) -> Result<Pid> {
        let mut command = std::process::Command::new(&line[0]);
        if line[0] == "launch" {
            command = std::process::Command::new(SELF);
            std::os::unix::process::CommandExt::arg0(&mut command, "launch");
        }
        let child = command
            .args(&line[1..])
            .env_clear()
            .env("PATH", "/system/bin:/usr/bin:/usr/sbin:/bin:/sbin")
            .env("ANDROID_ROOT", "/system")
            .env("ANDROID_DATA", "/data")
            .env(lmkd::device::VARIABLE, properties::DIRECTORY)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(fs::OpenOptions::new().write(true).open("/dev/kmsg")?)
            .spawn()
            .with_context(|| line.join(" "))?;
        let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        pid.context("a pid")
    }
}

/// Ends all processes of a service.
fn kill(pid: Pid) {
    let _ = rustix::process::kill_process_group(pid, Signal::KILL);
    // Before it has a group of its own.
    let _ = rustix::process::kill_process(pid, Signal::KILL);
}

fn said(status: WaitStatus) -> String {
    match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => format!("exited with status {code}"),
        (_, Some(signal)) => format!("received signal {signal}"),
        _ => "ended".to_owned(),
    }
}
