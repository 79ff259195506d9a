//! Plays init, system_server and the apps for the scenarios of the pocket device and of phones.
//!
//! `actor init LOG COMMAND...` creates the daemon's control socket as Android's init does and becomes the
//! daemon. `actor play OPTIONS` runs one scenario and prints JSON lines: what happened and what was
//! checked. `actor app` and `actor hog` are the processes that it spawns.

mod app;
mod judge;
mod scenario;
mod service;
mod trace;
mod wire;

use anyhow::bail;
use anyhow::Result;

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.first().map(String::as_str) {
        Some("init") => service::become_daemon(&args[1..]),
        Some("app") => app::hold(&args[1..]),
        Some("hog") => app::grow(&args[1..]),
        Some("play") => scenario::play(&args[1..]),
        _ => bail!("usage: actor init|play|app|hog ..."),
    }
}
