//! The minfree levels beside memory: which one is chosen, and why the others are not.

use super::View;
use lmkd::oom_score_adj::OomScoreAdj;
use lmkd::policy::MinfreeTable;
use lmkd::units::Pages;
use serde_json::json;
use serde_json::Value;

/// What the levels are compared with.
struct Memory {
    free: Pages,
    file: Pages,
}

impl Memory {
    fn of(view: &View<'_>) -> Option<Self> {
        let meminfo = &view.looked.look.seen.as_ref()?.sample.meminfo;
        let free = MinfreeTable::other_free(meminfo, &view.facts.signals.watermarks);
        Some(Self { free, file: MinfreeTable::other_file(meminfo) })
    }

    fn is_below(&self, level: Pages) -> bool {
        self.free < level && self.file < level
    }

    /// Which level is chosen, counted from 0.
    fn chosen(&self, table: &MinfreeTable) -> Option<usize> {
        table.levels().position(|(pages, _)| self.is_below(pages))
    }
}

/// A line for each level, with what memory has above it, and what comes of all.
pub(super) fn lines(table: Option<&MinfreeTable>, view: &View<'_>) -> Vec<String> {
    let Some(table) = table else {
        return vec!["Which levels clients sent is not known here.".to_owned()];
    };
    let Some(memory) = Memory::of(view) else { return Vec::new() };
    let page = view.facts.page;
    let kib = |pages: Pages| pages.to_kib(page);
    let (free, file) = (kib(memory.free), kib(memory.file));
    let mut lines = vec![format!("free memory above the reserve {free}kB, file cache {file}kB")];
    if table.levels().next().is_none() {
        lines.push("no client has sent levels: nobody is killed".to_owned());
        return lines;
    }
    let chosen = memory.chosen(table);
    for (index, (pages, adj)) in table.levels().enumerate() {
        let kb = kib(pages);
        let why = match chosen {
            Some(first) if first < index => "not reached: an earlier one is chosen".to_owned(),
            Some(first) if first == index => format!(
                "CHOSEN: free memory {free}kB < {kb}kB, file cache {file}kB < {kb}kB; kills down \
                 to {adj}"
            ),
            _ if memory.free >= pages => format!("free memory {free}kB >= {kb}kB"),
            _ => format!("file cache {file}kB >= {kb}kB"),
        };
        lines.push(format!("level {} of oom_score_adj {:<4} {why}", pages.get(), adj.get()));
    }
    match chosen.and_then(|index| table.levels().nth(index)) {
        None => lines.push("no level is chosen: nobody is killed".to_owned()),
        Some((_, adj)) => lines.extend(view.nobody_from(Some(adj))),
    }
    lines
}

/// The same for programs.
pub(super) fn to_json(table: &MinfreeTable, view: &View<'_>) -> Value {
    let Some(memory) = Memory::of(view) else { return Value::Null };
    let page = view.facts.page;
    let kb = |pages: Pages| pages.to_kib(page).get();
    let chosen = memory.chosen(table);
    let level = |(index, (pages, adj)): (usize, (Pages, OomScoreAdj))| {
        json!({
            "pages": pages.get(),
            "kb": kb(pages),
            "oom_score_adj": adj.get(),
            "chosen": chosen == Some(index),
        })
    };
    json!({
        "free_kb": kb(memory.free),
        "file_cache_kb": kb(memory.file),
        "levels": table.levels().enumerate().map(level).collect::<Vec<_>>(),
    })
}
