//! A recording spans hours in which the daemon slept but for seconds: it is drawn in episodes.

use super::memory_in_words;
use super::panels;
use super::scene;
use super::Timeline;
use super::View;
use lmkd::pages;
use lmkd::pages::Fate;
use lmkd::pages::Kill;
use lmkd::pages::Life;
use lmkd::pages::Row;
use lmkd::pages::Stay;
use lmkd::pages::Story;
use lmkd::pages::Table;
use std::ops::Range;

/// Quiet for so long parts two episodes, seconds.
const QUIET: f64 = 10.0;
/// Drawn before and after what happened, seconds.
const MARGIN: f64 = 0.3;
/// Episodes beyond this, those without kills and then the oldest, are left out.
const MOST: usize = 12;

/// A stretch of looks without a long pause.
#[derive(Clone, Debug)]
pub struct Episode {
    /// Where it begins.
    pub from: f64,
    /// Where it ends.
    pub to: f64,
    /// Its looks in [`Timeline::looks`].
    pub looks: Range<usize>,
}

/// The episodes of a recording that are drawn, and how many are not.
pub fn episodes(timeline: &Timeline<'_>) -> (Vec<Episode>, usize) {
    let mut all: Vec<Episode> = Vec::new();
    for (n, moment) in timeline.looks.iter().enumerate() {
        match all.last_mut() {
            Some(last) if moment.at - last.to < QUIET => {
                last.to = moment.at;
                last.looks.end = n.saturating_add(1);
            }
            _ => {
                all.push(Episode { from: moment.at, to: moment.at, looks: n..n.saturating_add(1) })
            }
        }
    }
    for victim in &timeline.kills {
        let end = victim.moments.and_then(|moments| moments.exited);
        let end = end.map_or(victim.at, |end| timeline.seconds(end));
        let mine = |episode: &&mut Episode| episode.from <= victim.at + MARGIN;
        if let Some(episode) = all.iter_mut().rev().find(mine) {
            episode.to = episode.to.max(end.min(episode.to + QUIET));
        }
    }
    for episode in &mut all {
        episode.from -= MARGIN;
        episode.to += MARGIN;
    }
    let found = all.len();
    let kills = |episode: &Episode| episode.kills(timeline).count();
    // One look and no kill is nothing to draw.
    all.retain(|episode| episode.looks.len() > 1 || kills(episode) > 0);
    // The least telling first: without kills, then the oldest.
    while all.len() > MOST {
        let drop = all.iter().position(|episode| kills(episode) == 0).unwrap_or(0);
        all.remove(drop);
    }
    let left_out = found.saturating_sub(all.len());
    (all, left_out)
}

impl Episode {
    /// Its kills in [`Timeline::kills`].
    pub fn kills<'h>(&self, timeline: &'h Timeline<'_>) -> impl Iterator<Item = usize> + 'h {
        let (from, to) = (self.from, self.to);
        let within = move |at: f64| from <= at && at <= to;
        timeline.kills.iter().enumerate().filter_map(move |(n, kill)| within(kill.at).then_some(n))
    }

    /// The story of it as it was recorded.
    pub fn story(&self, n: usize, timeline: &Timeline<'_>) -> Story {
        let kills: Vec<usize> = self.kills(timeline).collect();
        let drawn: Vec<Kill> = kills
            .iter()
            .filter_map(|kill| timeline.kills.get(*kill))
            .map(|kill| timeline.drawn(kill))
            .collect();
        let ends: Vec<(i32, f64)> = kills
            .iter()
            .filter_map(|kill| timeline.kills.get(*kill))
            .filter(|victim| victim.kill.is_some())
            .map(|victim| {
                let exited = victim.moments.and_then(|moments| moments.exited);
                (victim.pid, exited.map_or(victim.at, |exited| timeline.seconds(exited)))
            })
            .collect();
        let looks = timeline.looks.get(self.looks.clone()).unwrap_or(&[]);
        let views: Vec<View<'_>> = looks.iter().map(|look| View::recorded(*look)).collect();
        self.told(format!("episode-{n}"), timeline, &views, drawn, &ends)
    }

    /// A telling of it: these kills, whose victims ended then.
    pub fn told(
        &self,
        id: String,
        timeline: &Timeline<'_>,
        views: &[View<'_>],
        kills: Vec<Kill>,
        ends: &[(i32, f64)],
    ) -> Story {
        let name = |pid: i32| {
            let named = timeline.kills.iter().filter_map(|victim| victim.kill);
            let mut named = named.filter(|kill| kill.pid == pid);
            named.next_back().map(|kill| kill.name.to_string())
        };
        let killed = |pid: i32, began: f64| {
            let mine = ends.iter().enumerate().find(|(_, (of, at))| *of == pid && *at >= began);
            mine.map(|(kill, (_, at))| (*at, kill))
        };
        let mut lives = timeline.lives.within(self.from, self.to, &name, &killed);
        // Victims that nobody had registered: all that is known of them is their end.
        let strangers = ends.iter().enumerate().filter(|(_, (pid, _))| !timeline.lives.knows(*pid));
        lives.extend(strangers.map(|(kill, (pid, at))| Life {
            name: name(*pid).unwrap_or_default(),
            pid: *pid,
            stays: vec![Stay {
                from: self.from,
                to: *at,
                adj: kills.get(kill).and_then(|kill| kill.adj),
            }],
            fate: Fate::Killed(kill),
        }));
        Story {
            id,
            title: format!(
                "{:.1} s to {:.1} s: {}",
                self.from.max(0.0),
                self.to,
                count(kills.len())
            ),
            from: self.from,
            to: self.to,
            panels: panels(views, timeline.page()),
            lives,
            kills,
            tables: scene::pressure_table(views).into_iter().collect(),
            ..Story::default()
        }
    }

    /// Its row of [`overview`].
    fn row(&self, n: usize, timeline: &Timeline<'_>) -> Row {
        let looks = timeline.looks.get(self.looks.clone()).unwrap_or(&[]);
        let least = looks
            .iter()
            .filter(|moment| moment.look.seen.is_some())
            .min_by_key(|moment| moment.look.seen.as_ref().map(|seen| seen.sample.meminfo.free));
        let least = least.map_or_else(String::new, |moment| {
            format!("{:.1} s: {}", moment.at, memory_in_words(moment.look, timeline.page()))
        });
        let cells = vec![
            format!("{:.1} s", self.from.max(0.0)),
            format!("{:.1} s", self.to - self.from - 2.0 * MARGIN),
            looks.len().to_string(),
            self.kills(timeline).count().to_string(),
            least,
        ];
        Row { cells, leads_to: Some(format!("episode-{n}")), strong: false }
    }
}

/// `3 kills`.
pub fn count(kills: usize) -> String {
    if kills == 1 {
        "1 kill".to_owned()
    } else {
        format!("{kills} kills")
    }
}

/// The episodes as a table.
pub fn overview(timeline: &Timeline<'_>, all: &[Episode], left_out: usize) -> pages::Section {
    let mut text = vec![format!(
        "The daemon looks when something happens. A pause of {QUIET} s between two looks parts two \
         episodes."
    )];
    if left_out > 0 {
        text.push(format!(
            "{left_out} episodes, of one look, without kills or long ago, are left out."
        ));
    }
    let columns = ["begins", "lasts", "looks", "kills", "least free memory"];
    let rows = all.iter().enumerate().map(|(n, episode)| episode.row(n, timeline));
    let table = Table {
        caption: "Episodes".to_owned(),
        columns: columns.map(str::to_owned).to_vec(),
        rows: rows.collect(),
    };
    pages::Section::Table(text, table)
}
