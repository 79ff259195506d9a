//! All scenarios, the most telling first.

mod kernels;
mod lifecycle;
mod pressed;
mod pressure;
mod reasons;
mod sockets;
mod tunables;
mod victims;

use crate::remote::is;
use crate::run::Run;
use crate::run::Scenario;
use crate::run::Swap;
use anyhow::Result;
use serde_json::json;
use std::time::Duration;

/// The table.
pub fn all() -> Vec<Scenario> {
    [
        pressure::SCENARIOS,
        reasons::SCENARIOS,
        lifecycle::SCENARIOS,
        victims::SCENARIOS,
        sockets::SCENARIOS,
        kernels::SCENARIOS,
    ]
    .into_iter()
    .flatten()
    .copied()
    .collect()
}

/// Who may go as well: on a starved host the hog outruns the scenario's own apps, and there must be somebody left before
/// the protected.
fn small_apps(run: &mut Run<'_>, adjs: &[i32]) -> Result<()> {
    for adj in adjs {
        run.app(&format!("app-{adj}"), *adj, 4)?;
    }
    Ok(())
}

/// Ends a process on stage, and waits until it has ended.
fn end(run: &mut Run<'_>, name: &str, pid: u32) -> Result<()> {
    let mark = run.remote.mark();
    run.remote.order(json!({"do": "end", "names": [name]}))?;
    run.remote.wait("an end", mark, Duration::from_secs(20), |event| {
        (is(event, "death") && event["pid"] == pid).then_some(())
    })
}

/// What most of them have in common.
const BASE: Scenario = Scenario {
    name: "",
    title: "",
    core: false,
    compared: false,
    swap: Swap::On,
    needs: None,
    restarts_daemon: false,
    script: |_| Ok(()),
};
