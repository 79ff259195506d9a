use super::*;

fn story(id: &str) -> Story {
    let line = |name: &str, value: fn(f64) -> f64| Series {
        name: name.to_owned(),
        points: (0..600).map(|n| f64::from(n) / 10.0).map(|t| (t, value(t))).collect(),
    };
    let kill = |at: f64, label: &str, mark| Kill {
        at,
        label: label.to_owned(),
        victim: "'com.example.<app>' (123)".to_owned(),
        adj: Some(900),
        rule: "LOW_MEM".to_owned(),
        reason: "free memory 13920kB < low watermark 14048kB".to_owned(),
        latency_ms: Some(30.1),
        more: vec![("freed".to_owned(), "27184 kB".to_owned())],
        mark,
    };
    Story {
        id: id.to_owned(),
        title: "Slow growth".to_owned(),
        text: vec!["Eight apps and one that grows.".to_owned()],
        from: 0.0,
        to: 60.0,
        panels: vec![Panel {
            title: "Memory".to_owned(),
            series: vec![line("free", |t| 400.0 - 6.0 * t), line("file cache", |t| 100.0 + t)],
            thresholds: vec![line("low watermark", |_| 13.7), line("far away", |_| 9000.0)],
            ..Panel::default()
        }],
        lives: vec![Life {
            name: "com.example.<app>".to_owned(),
            pid: 123,
            stays: vec![
                Stay { from: 0.0, to: 20.0, adj: Some(0) },
                Stay { from: 20.0, to: 40.0, adj: Some(900) },
            ],
            fate: Fate::Killed(0),
        }],
        kills: vec![
            kill(40.0, "1", KillMark::Plain),
            kill(40.1, "2", KillMark::Comes),
            kill(41.0, "3", KillMark::Goes),
            kill(50.0, "4", KillMark::Moves),
        ],
        tables: Vec::new(),
    }
}

fn page() -> Page {
    Page {
        title: "A <test>".to_owned(),
        facts: vec![("kernel".to_owned(), "6.1 & more".to_owned())],
        sections: vec![
            Section::Story(Box::new(story("one"))),
            Section::Pair(Box::new([story("left"), story("right")])),
            Section::Histograms(
                "Latencies".to_owned(),
                vec![Histogram {
                    title: "event to signal".to_owned(),
                    values: vec![0.4, 1.5, 30.0],
                }],
            ),
            Section::Table(
                Vec::new(),
                Table {
                    caption: "Settings".to_owned(),
                    columns: vec!["name".to_owned(), "value".to_owned()],
                    rows: vec![Row {
                        cells: vec!["a".to_owned(), "1".to_owned()],
                        ..Row::default()
                    }],
                },
            ),
        ],
    }
}

#[test]
fn a_page_asks_for_nothing_from_outside_and_runs_no_script() {
    let html = page().html().unwrap();
    assert!(!html.contains("<script"));
    assert!(!html.contains("src="));
    assert!(!html.contains("@import") && !html.contains("url("));
    let links = html.split("href=\"").skip(1).map(|rest| rest.split('"').next().unwrap());
    for link in links {
        assert!(link.starts_with('#') || link == "data:,", "{link}");
    }
}

#[test]
fn names_from_outside_are_text_and_never_markup() {
    let html = page().html().unwrap();
    assert!(html.contains("A &lt;test&gt;"));
    assert!(html.contains("6.1 &amp; more"));
    assert!(!html.contains("<app>"));
}

#[test]
fn every_mark_leads_to_a_row_and_says_the_kill_in_words() {
    let html = page().html().unwrap();
    let marks: Vec<&str> = html.split("<a class=\"kill\" href=\"#").skip(1).collect();
    // Three stories of four kills, for two widths.
    assert_eq!(marks.len(), 24);
    for mark in marks {
        let id = mark.split('"').next().unwrap();
        assert_eq!(html.matches(&format!("id=\"{id}\"")).count(), 1, "{id}");
        assert!(mark.contains("aria-label=\"Kill "));
        assert!(mark.contains("free memory 13920kB &lt; low watermark"));
    }
}

#[test]
fn ids_are_distinct() {
    let html = page().html().unwrap();
    let mut ids: Vec<&str> =
        html.split(" id=\"").skip(1).map(|rest| rest.split('"').next().unwrap()).collect();
    let all = ids.len();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), all);
}

#[test]
fn a_threshold_far_above_is_told_and_not_drawn() {
    let panel = &story("one").panels[0];
    assert!(panel.top() < 500.0);
    assert!(page().html().unwrap().contains("far away (9000 MiB, above the picture)"));
}

#[test]
fn events_are_signs_of_distinct_shape_within_the_picture_and_in_the_legend() {
    let events = |name: &str, value: f64| Series {
        name: name.to_owned(),
        points: (0..5).map(|n| (f64::from(n), value)).chain([(4.001, value)]).collect(),
    };
    let panel = Panel {
        title: "Pressure".to_owned(),
        unit: Unit::Percent,
        series: vec![Series { name: "stall".to_owned(), points: vec![(0.0, 1.0), (5.0, 2.0)] }],
        events: vec![events("medium", 7.0), events("critical", 70.0)],
        ..Panel::default()
    };
    assert!(panel.top() >= 70.0);
    let story = Story { id: "p".to_owned(), to: 5.0, panels: vec![panel], ..Story::default() };
    let page = Page { sections: vec![Section::Story(Box::new(story))], ..Page::default() };
    let html = page.html().unwrap();
    // Two widths and the legend; two that cannot be told apart are one.
    assert_eq!((html.matches("<circle").count(), html.matches("<polygon").count()), (11, 11));
    for name in ["medium", "critical"] {
        assert!(html.contains(&format!("</svg>{name}</li>")), "{name}");
    }
}

#[test]
fn an_empty_story_is_drawn() {
    let empty = Story { id: "none".to_owned(), panels: vec![Panel::default()], ..Story::default() };
    let page = Page { sections: vec![Section::Story(Box::new(empty))], ..Page::default() };
    assert!(page.html().unwrap().contains("<svg"));
}

#[test]
fn percentiles_are_those_of_the_nearest_rank() {
    let one = Histogram { title: String::new(), values: (1..=100).map(f64::from).collect() };
    assert_eq!(one.summary(), "100 times: p50 50 ms, p99 99 ms, at most 100 ms");
    assert_eq!(one.buckets().iter().map(|(.., count)| count).sum::<usize>(), 100);
    assert_eq!(Histogram::default().summary(), "not once");
}
