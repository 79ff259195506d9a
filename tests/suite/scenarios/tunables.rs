//! Tunables that a scenario changes, and gives back.

use crate::run::Guard;
use crate::run::Run;
use anyhow::ensure;
use anyhow::Result;
use serde_json::json;

const NAMESPACE: &str = "persist.device_config.lmkd_native";

/// The property of a tunable.
pub fn property(name: &str) -> String {
    format!("{NAMESPACE}.{name}")
}

/// Runs `script`, which may change these tunables; afterwards they are what they were.
pub fn keeping(
    run: &mut Run<'_>,
    names: &[&str],
    script: impl FnOnce(&mut Run<'_>) -> Result<()>,
) -> Result<()> {
    let mut before = Vec::new();
    for name in names {
        before.push((property(name), run.device.property(&property(name))?));
    }
    let done = script(run);
    let mut back = Ok(());
    for (name, value) in before {
        // The others are set back all the same.
        back = back.and(run.device.set_property(&name, &value));
    }
    done.and(back).and_then(|()| reload(run))
}

/// Runs `script` with other tunables in force; afterwards they are what they were.
pub fn with(
    run: &mut Run<'_>,
    tunables: &[(&str, &str)],
    script: impl FnOnce(&mut Run<'_>) -> Result<()>,
) -> Result<()> {
    let names: Vec<&str> = tunables.iter().map(|(name, _)| *name).collect();
    keeping(run, &names, |run| {
        for (name, value) in tunables {
            run.device.set_property(&property(name), value)?;
        }
        reload(run)?;
        script(run)
    })
}

/// Has the daemon read them now: init's own word to it may come later.
fn reload(run: &mut Run<'_>) -> Result<()> {
    if run.guard != Guard::Lmkd {
        return Ok(());
    }
    let order = json!({"do": "update_props"});
    let answer = match run.remote.order(order.clone()) {
        Ok(answer) => answer,
        // Nobody has connected yet.
        Err(_) => {
            run.connect()?;
            run.remote.order(order)?
        }
    };
    ensure!(answer["taken"] == true, "the daemon did not take the tunables");
    Ok(())
}
