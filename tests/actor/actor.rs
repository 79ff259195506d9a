//! Plays system_server and the apps for the scenarios of the pocket device and of phones.
//!
//! `actor serve CACHE_FILE` takes orders on its standard input and reports events on its standard output, both JSON
//! lines; see `stage.rs`. `actor app`, `actor hold` and `actor run` are the processes that it starts.
//! `actor target MINFREE:ADJ...` only sends an LMK_TARGET.

mod cast;
mod machine;
mod mounts;
mod out;
mod players;
mod raw;
mod reuse;
mod roles;
mod stage;
mod trace;

use anyhow::bail;
use anyhow::Result;

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.first().map(String::as_str) {
        Some("serve") => stage::serve(&args[1..]),
        Some("app") => roles::play(&args[1..]),
        Some("hold") => roles::hold(&args[1..]),
        Some("run") => roles::run(&args[1..]),
        Some("target") => players::target(&args[1..]),
        _ => bail!("usage: actor serve|app|hold|run|target ..."),
    }
}
