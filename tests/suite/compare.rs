//! Daemons side by side.

use crate::run::Guard;
use crate::run::Scenario;
use anyhow::Context;
use anyhow::Result;
use serde_json::Value;
use std::fmt::Write;
use std::path::Path;

/// The stories that a folder holds of these scenarios, also those of an earlier run of the suite: a scenario that is
/// played once more replaces its own alone.
pub fn stories(folder: &Path, scenarios: &[Scenario]) -> Result<Vec<Value>> {
    let mut stories = Vec::new();
    for scenario in scenarios {
        for guard in [Guard::Lmkd, Guard::Nobody, Guard::Earlyoom] {
            let path = folder.join(format!("{}.{}.json", scenario.name, guard.name()));
            if !path.exists() {
                continue;
            }
            let place = || path.display().to_string();
            let text = std::fs::read_to_string(&path).with_context(place)?;
            stories.push(serde_json::from_str(&text).with_context(place)?);
        }
    }
    Ok(stories)
}

/// A table in Markdown: one row a story.
pub fn table(stories: &[Value]) -> String {
    let mut text = String::from(
        "| scenario | daemon | some, ms | full, ms | kills | kB freed per kill | frames over 16 / 100 / 1000 ms | \
         kernel OOM kills | daemon's CPU, ms | wake-ups |\n|---|---|---|---|---|---|---|---|---|---|\n",
    );
    for story in stories {
        let word = |key: &str| story[key].as_str().unwrap_or("?").to_owned();
        let daemon = word("daemon");
        let figure = |key: &str| match &story["figures"][key] {
            Value::Number(number) => number.as_f64().map_or(String::new(), |f| format!("{f:.0}")),
            _ => "?".to_owned(),
        };
        let watched = |key: &str| if daemon == "none" { "-".to_owned() } else { figure(key) };
        let frames = &story["frames"];
        let frame = |key: &str| frames[key].as_u64().unwrap_or(0);
        let frames = if frames.is_null() {
            String::new()
        } else {
            let over = ["over_16_ms", "over_100_ms", "over_1000_ms"].map(frame);
            format!("{} / {} / {} of {}", over[0], over[1], over[2], frame("count"))
        };
        let _ = writeln!(
            text,
            "| {} | {daemon} | {} | {} | {} | {} | {frames} | {} | {} | {} |",
            word("scenario"),
            figure("some_ms"),
            figure("full_ms"),
            watched("kills"),
            watched("freed_kb_per_kill"),
            figure("oom_kills"),
            watched("daemon_cpu_ms"),
            watched("daemon_wakeups"),
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenarios;
    use serde_json::json;

    #[test]
    fn a_scenario_played_once_more_leaves_the_others_in_the_table() {
        let folder = std::env::temp_dir().join(format!("lmkd-compare-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let write = |scenario: &str, daemon: &str, kills: u64| {
            let figures = json!({"some_ms": 1.4, "full_ms": 0, "kills": kills});
            let story = json!({"scenario": scenario, "daemon": daemon, "figures": figures});
            let name = format!("{scenario}.{daemon}.json");
            std::fs::write(folder.join(name), story.to_string()).unwrap();
        };
        write("slow-growth", "lmkd", 3);
        write("slow-growth", "none", 0);
        write("spike", "lmkd", 5);
        // The second try is of one scenario.
        write("spike", "lmkd", 4);
        let compared: Vec<_> = scenarios::all().into_iter().filter(|one| one.compared).collect();
        let text = table(&stories(&folder, &compared).unwrap());
        std::fs::remove_dir_all(&folder).unwrap();
        let rows: Vec<&str> = text.lines().skip(2).collect();
        assert_eq!(rows.len(), 3, "{text}");
        assert!(rows[0].starts_with("| slow-growth | lmkd | 1 | 0 | 3 |"), "{text}");
        assert!(rows[1].starts_with("| slow-growth | none | 1 | 0 | - |"), "{text}");
        assert!(rows[2].starts_with("| spike | lmkd | 1 | 0 | 4 |"), "{text}");
    }
}
