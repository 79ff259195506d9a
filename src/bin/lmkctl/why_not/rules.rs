//! The rules: the first failing condition of each, and down to which oom_score_adj it would kill.

use super::View;
use lmkd::oom_score_adj::OomScoreAdj;
use lmkd::policy::Facts;
use lmkd::policy::Rule;
use lmkd::policy::RULES;
use serde_json::json;
use serde_json::Value;

/// Where a line goes on below its rule.
const INDENT: usize = 30;

/// A line for each rule.
pub fn rules(facts: Facts<'_>) -> Vec<String> {
    RULES.iter().map(|rule| line(rule, facts)).collect()
}

/// The same with the floor of each, and one more line where it keeps the rule from killing, or the
/// rule is not asked.
pub(super) fn with_floors(view: &View<'_>) -> Vec<String> {
    let facts = view.facts;
    let alone = view.asks_watermarks_alone();
    let mut lines = Vec::new();
    for rule in &RULES {
        let floor = rule.min_adj(&facts);
        let down = floor.map_or("kills nobody".to_owned(), |adj| format!("kills down to {adj}"));
        lines.push(format!("{}; {down}", line(rule, facts)));
        let unasked = alone && !rule.is_about_watermarks() && rule.first_failing(&facts).is_none();
        let unasked = unasked.then(|| "not asked by a look that follows kswapd".to_owned());
        let obstacles = [unasked, view.nobody_from(floor)];
        lines.extend(obstacles.into_iter().flatten().map(|text| format!("{:INDENT$}{text}", "")));
    }
    lines
}

/// The floors by reason.
pub(super) fn floors(facts: Facts<'_>) -> Value {
    let floor = |rule: &Rule| {
        (rule.reason.name().to_owned(), json!(rule.min_adj(&facts).map(OomScoreAdj::get)))
    };
    Value::Object(RULES.iter().map(floor).collect())
}

fn line(rule: &Rule, facts: Facts<'_>) -> String {
    format!("{:<29} {}", rule.reason.name(), failing(rule, facts))
}

fn failing(rule: &Rule, facts: Facts<'_>) -> String {
    match rule.first_failing(&facts) {
        Some(condition) => condition.said(facts, false).to_string(),
        None => {
            let all = rule.conditions.iter().map(|c| c.said(facts, true).to_string());
            format!("HOLDS: {}", all.collect::<Vec<_>>().join(", "))
        }
    }
}
