//! All scenarios, the most telling first.

mod kernels;
mod lifecycle;
mod pressed;
mod pressure;
mod reasons;
mod sockets;
mod tunables;
mod victims;

use crate::run::Scenario;
use crate::run::Swap;

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
