//! lmkd, the low-memory killer daemon.

fn main() -> anyhow::Result<()> {
    lmkd::logging::init(false);
    let args: Vec<String> = std::env::args().collect();
    let has = |f: &str| args.iter().any(|a| a == f);
    let val = |f: &str| args.iter().position(|a| a == f).map(|i| args[i + 1].clone().into());
    lmkd::daemon::Daemon::run(lmkd::config::Options {
        socket: val("--socket"),
        psi: val("--psi"),
        adopt: !has("--no-adopt"),
        dry_run: has("--dry-run"),
    })
}
