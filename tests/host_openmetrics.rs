//! `lmkctl status --openmetrics` as a strict reader of the format takes it: of a real daemon, and of recordings with
//! whatever words and numbers may stand in one.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

mod host;
mod operator;

use host::app::App;
use host::daemon::Daemon;
use host::pressure::Pressure;
use lmkd::clock::MonoTime;
use lmkd::config::Tunables;
use lmkd::control::wire::KillCount;
use lmkd::kernel::Sample;
use lmkd::policy::KillReason;
use lmkd::policy::Signals;
use lmkd::policy::Verdict;
use lmkd::recorder::few::Text;
use lmkd::recorder::frame;
use lmkd::recorder::frame::Body;
use lmkd::recorder::Header;
use lmkd::recorder::Seen;
use lmkd::recorder::Settings;
use lmkd::recorder::Spread;
use lmkd::recorder::Status;
use lmkd::recorder::MAGIC;
use lmkd::units::Kib;
use lmkd::units::PageSize;
use lmkd::units::Pages;
use operator::openmetrics::parse;
use operator::openmetrics::Family;
use std::fs;

fn family<'a>(families: &'a [Family], name: &str) -> &'a Family {
    families.iter().find(|family| family.name == name).unwrap_or_else(|| panic!("no {name}"))
}

/// The value of the only sample with these labels.
fn value(families: &[Family], name: &str, labels: &[(&str, &str)]) -> f64 {
    let has = |(label, value): &(&str, &str), sample: &operator::openmetrics::Sample| {
        sample.labels.get(*label).is_some_and(|found| found == value)
    };
    let mut all = families
        .iter()
        .flat_map(|family| &family.samples)
        .filter(|sample| sample.name == name && labels.iter().all(|label| has(label, sample)));
    let found = all.next().unwrap_or_else(|| panic!("no {name} {labels:?}"));
    assert!(all.next().is_none(), "{name} {labels:?} twice");
    found.value
}

/// What the daemon's state is, as a collector reads it.
fn told(arguments: &[&str]) -> Vec<Family> {
    let (code, text, error) = operator::run(&[&["status", "--openmetrics"], arguments].concat());
    assert_eq!(code, 0, "{error}");
    parse(&text).unwrap_or_else(|why| panic!("{why}\n{text}"))
}

#[test]
fn a_collector_reads_the_state_of_a_daemon_that_has_killed_nobody() {
    let daemon = Daemon::start(&[]);
    let app = App::start("com.example.next");
    let mut client = daemon.client();
    client.register_all(&[app.at(900)]).unwrap();
    client.kill_count(KillCount::Total).unwrap();
    let families = told(&[&format!("--socket={}", daemon.socket.display())]);
    assert_eq!(value(&families, "lmkd_registered_processes", &[]), 1.0);
    assert_eq!(value(&families, "lmkd_clients", &[]), 1.0);
    assert!(value(&families, "lmkd_watermark_bytes", &[("watermark", "low")]) > 0.0);
    assert!(family(&families, "lmkd_kills").samples.is_empty());
    assert_eq!(family(&families, "lmkd_kill_signal_seconds").samples.len(), 1, "the count alone");
    let states = &family(&families, "lmkd_pressure_source").samples;
    assert_eq!(states.iter().map(|state| state.value).sum::<f64>(), 1.0, "one of them holds");
    for (name, kind, unit) in [
        ("lmkd_kills", "counter", ""),
        ("lmkd_kill_exit_seconds", "summary", "seconds"),
        ("lmkd_memory_free_bytes", "gauge", "bytes"),
        ("lmkd_thrashing_ratio", "gauge", "ratio"),
        ("lmkd_pressure_source", "stateset", ""),
        ("lmkd_build", "info", ""),
    ] {
        let family = family(&families, name);
        assert_eq!((family.kind.as_str(), family.unit.as_str()), (kind, unit), "{name}");
    }
}

#[test]
fn a_collector_reads_of_a_kill() {
    let Some(mut pressure) = Pressure::prepare("a_collector_reads_of_a_kill") else { return };
    let args = pressure.args();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let daemon = Daemon::start(&args);
    let mut app = App::start("com.example.hog");
    let mut client = daemon.client();
    client.register_all(&[app.at(900)]).unwrap();
    client.kill_count(KillCount::Total).unwrap();
    pressure.rise();
    assert_eq!(app.ended_by(), Some(9));
    pressure.fall();
    let socket = format!("--socket={}", daemon.socket.display());
    let families = host::until("the exit to be counted", || {
        let families = told(&[&socket]);
        (value(&families, "lmkd_exits_total", &[]) == 1.0).then_some(families)
    });
    assert_eq!(value(&families, "lmkd_kills_total", &[("reason", "NOT_RESPONDING")]), 1.0);
    assert_eq!(value(&families, "lmkd_kill_signal_seconds_count", &[]), 1.0);
    let quantile = |share| value(&families, "lmkd_kill_signal_seconds", &[("quantile", share)]);
    assert!(0.0 < quantile("0.5") && quantile("0.5") <= quantile("1.0"), "{families:?}");
}

fn put(file: &mut Vec<u8>, seq: u64, body: &impl Body) {
    let mut buffer = [0; frame::LONGEST];
    let len = frame::seal(&mut buffer, seq, MonoTime::from_millis(1000), body).unwrap();
    file.extend_from_slice(&buffer[..len]);
}

#[test]
fn whatever_a_recording_holds_is_escaped_and_within_the_rules() {
    let odd = Text::new(b"6.1\\n \"quoted\"\nand a line {with=\"labels\"} 7");
    let header = Header {
        version: Text::new(b"\\"),
        kernel: odd,
        page: PageSize::from_bytes(16_384),
        boot: Text::default(),
        pid: 300,
        started: MonoTime::ZERO,
        wall_ns: 0,
        dry_run: true,
        adopt: false,
    };
    let most = Spread { count: u64::MAX, p50: 0, p90: 1, p99: u64::MAX, max: u64::MAX };
    let signals = Signals { free: Pages(i64::MAX), thrashing: i64::MAX, ..Signals::default() };
    let verdict = Verdict { signals: Some(signals), cause: None };
    let reasons = [(KillReason::Vendor(0), 1), (KillReason::Minfree, u32::MAX)];
    let full = Status {
        seen: Some(Seen { sample: Sample::default(), verdict }),
        by_reason: reasons.into_iter().collect(),
        to_signal: most,
        owed: Kib(i64::MAX),
        lost_events: u64::MAX,
        descriptors: Some(7),
        ..Status::default()
    };
    for status in [Status::default(), full] {
        let mut file = MAGIC.to_vec();
        put(&mut file, 0, &header);
        put(&mut file, 1, &Settings { tunables: Tunables::default() });
        put(&mut file, 2, &status);
        let dir = host::own_dir();
        let path = dir.join("state.rec");
        fs::write(&path, file).unwrap();
        let families = told(&["--from", path.to_str().unwrap()]);
        let build = &family(&families, "lmkd_build").samples[0];
        assert_eq!(build.labels["kernel"], odd.to_string());
        assert_eq!(build.labels["version"], "\\");
        fs::remove_dir_all(dir).unwrap();
    }
}

/// The reader itself: what breaks a rule is refused.
#[test]
fn what_is_not_openmetrics_is_refused() {
    let good = "# TYPE a_seconds counter\n# UNIT a_seconds seconds\n# HELP a_seconds Some.\n\
                a_seconds_total{x=\"\\\\ \\\" \\n\"} 1.5\n# EOF\n";
    let families = parse(good).unwrap();
    assert_eq!(families[0].samples[0].labels["x"], "\\ \" \n");
    let buckets =
        "# TYPE h histogram\n# HELP h Some.\nh_bucket{le=\"1\"} 2\nh_bucket{le=\"+Inf\"} 3\n\
                   h_count 3\n# EOF\n";
    assert_eq!(parse(buckets).unwrap()[0].samples.len(), 3);
    let bad = [
        (good, "# EOF\n", ""),
        (good, "# EOF\n", "# EOF"),
        (good, "# EOF\n", "# EOF\n\n"),
        (good, "1.5\n", "1.5\n\n"),
        (good, "_total", ""),
        (good, "_total", "_count"),
        (good, "1.5", "-1.5"),
        (good, "1.5", " 1.5"),
        (good, "1.5", "inf"),
        (good, "1.5", "1,5"),
        (good, "\\n", "\\t"),
        (good, "x=", "9x="),
        (good, "\\n\"}", "\\n\",x=\"\"}"),
        (good, "\\n\"}", "\\n\",}"),
        (good, "counter", "count"),
        (good, "# TYPE a_seconds counter\n", ""),
        (good, "# HELP a_seconds Some.\n", ""),
        (good, "# UNIT a_seconds seconds", "# UNIT a_seconds bytes"),
        (
            good,
            "# UNIT a_seconds seconds\n# HELP a_seconds Some.",
            "# HELP a_seconds Some.\n# UNIT a_seconds seconds",
        ),
        (good, "# UNIT a_seconds seconds\n", "# TYPE a_seconds counter\n"),
        (good, "# EOF", "a_seconds_total{x=\"\\\\ \\\" \\n\"} 1.5\n# EOF"),
        (good, "# EOF", "# HELP a_seconds More.\n# EOF"),
        (good, "# EOF", "# TYPE a_seconds_total gauge\n# HELP a_seconds_total Other.\n# EOF"),
        (good, "counter", "info"),
        (buckets, "} 2", "} 4"),
        (buckets, "} 2", "} 1.5"),
        (buckets, "h_count 3", "h_count 4"),
        (buckets, "+Inf", "2"),
        (buckets, "le=\"1\"", "ge=\"1\""),
    ];
    for (text, part, other) in bad {
        let broken = text.replacen(part, other, 1);
        assert_ne!(broken, text);
        assert!(parse(&broken).is_err(), "taken:\n{broken}");
    }
}
