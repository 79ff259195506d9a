//! Pages as a browser shows them: at a desktop's and a phone's width, light and dark.
//!
//! `PAGES` holds the files, one a line; `CHROMIUM` the browser; `SHOTS` a folder for pictures of what was seen. The
//! stage `pages` sets them.
#![allow(clippy::unwrap_used)]

mod browser;

use browser::Browser;
use browser::View;
use std::collections::BTreeSet;
use std::env;
use std::fs;
use std::path::Path;
use std::path::PathBuf;

const CHECK: &str = include_str!("browser/check.js");
/// What the tabulator is to reach.
const FOCUSABLE: &str = "[...document.querySelectorAll('a[href], summary, [tabindex=\"0\"]')]\
    .filter((node) => node.checkVisibility())";

fn views() -> impl Iterator<Item = View> {
    [(1280, 900), (390, 844)]
        .into_iter()
        .flat_map(|(width, height)| [false, true].map(|dark| View { width, height, dark }))
}

/// What the page asked for, and what it complained of.
fn complaints(browser: &Browser, page: &Path) -> Vec<String> {
    let own = format!("file://{}", page.display());
    let mut found = Vec::new();
    for request in browser.told("Network.requestWillBeSent") {
        let url = request["request"]["url"].as_str().unwrap_or("");
        let url = url.split('#').next().unwrap_or("");
        if url != own && !url.starts_with("data:") {
            found.push(format!("asks for {url}"));
        }
    }
    for error in browser.told("Runtime.exceptionThrown") {
        found.push(format!("exception: {error}"));
    }
    for entry in browser.told("Log.entryAdded") {
        found.push(format!("log: {}", entry["entry"]));
    }
    for call in browser.told("Runtime.consoleAPICalled") {
        found.push(format!("console: {call}"));
    }
    found
}

/// Of what can be reached by the keyboard, what the tabulator did not reach.
fn unreached(browser: &mut Browser) -> Vec<String> {
    let count = browser.value(&format!("(window.reach = {FOCUSABLE}).length")).as_u64().unwrap();
    let mut reached = BTreeSet::new();
    // Large pages repeat themselves; the first of everything is within these.
    let tabs = count.min(150);
    for _ in 0..tabs {
        browser.tab();
        reached.insert(browser.value("reach.indexOf(document.activeElement)").as_i64().unwrap());
    }
    let missed = (0..i64::try_from(tabs).unwrap()).filter(|n| !reached.contains(n));
    missed
        .map(|n| browser.value(&format!("reach[{n}].outerHTML.slice(0, 100)")).to_string())
        .collect()
}

#[test]
#[ignore = "needs Chromium and pages: the stage `pages` runs it"]
fn pages_are_whole_readable_and_reachable_at_every_width_in_light_and_dark() {
    let chromium = env::var("CHROMIUM").unwrap();
    let shots = env::var_os("SHOTS").unwrap_or(env!("CARGO_TARGET_TMPDIR").into());
    let shots = PathBuf::from(shots);
    fs::create_dir_all(&shots).unwrap();
    let pages = env::var("PAGES").unwrap();
    let pages: Vec<PathBuf> = pages.lines().map(|page| fs::canonicalize(page).unwrap()).collect();
    assert!(!pages.is_empty());
    let mut browser = Browser::start(&chromium, &shots);
    let mut wrong = Vec::new();
    for page in &pages {
        let name = page.file_stem().unwrap().to_string_lossy().into_owned();
        for view in views() {
            let scheme = if view.dark { "dark" } else { "light" };
            let here = format!("{name}-{}-{scheme}", view.width);
            browser.open(page, view);
            let mut found = complaints(&browser, page);
            let checked = browser.value(CHECK);
            found.extend(checked.as_array().unwrap().iter().map(|text| text.to_string()));
            browser.picture(&shots.join(format!("{here}.png")), view.width);
            if view.width == 1280 && !view.dark {
                found.extend(
                    unreached(&mut browser).into_iter().map(|what| format!("no way to {what}")),
                );
            }
            println!("{here}: {} complaints", found.len());
            wrong.extend(found.into_iter().take(10).map(|what| format!("{here}: {what}")));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
