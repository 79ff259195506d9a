//! A strict reader of the OpenMetrics text format, version 1.0: what the specification says MUST be, and of what it says
//! SHOULD be the order of the lines about a family.

use std::collections::BTreeMap;
use std::collections::BTreeSet;

/// A metric family.
#[derive(Clone, Debug, Default)]
pub struct Family {
    pub name: String,
    pub kind: String,
    pub unit: String,
    pub help: String,
    pub samples: Vec<Sample>,
}

/// A line with a value.
#[derive(Clone, Debug)]
pub struct Sample {
    pub name: String,
    pub labels: BTreeMap<String, String>,
    pub value: f64,
}

/// Suffixes of the samples of each type, as they follow the family's name.
const TYPES: [(&str, &[&str]); 8] = [
    ("unknown", &[""]),
    ("gauge", &[""]),
    ("counter", &["_total", "_created"]),
    ("stateset", &[""]),
    ("info", &["_info"]),
    ("histogram", &["_bucket", "_count", "_sum", "_created"]),
    ("gaugehistogram", &["_bucket", "_gcount", "_gsum"]),
    ("summary", &["", "_count", "_sum", "_created"]),
];

/// Reads a whole exposition.
///
/// # Errors
///
/// The first line that breaks a rule, and which.
pub fn parse(text: &str) -> Result<Vec<Family>, String> {
    let body = text.strip_suffix("# EOF\n").ok_or("it does not end with '# EOF' and a newline")?;
    if !body.is_empty() && !body.ends_with('\n') {
        return Err("'# EOF' does not begin its line".to_owned());
    }
    let mut families: Vec<Family> = Vec::new();
    for line in body.split_terminator('\n') {
        take(line, &mut families).map_err(|why| format!("{why}: '{line}'"))?;
    }
    let mut names = BTreeSet::new();
    for family in &families {
        check(family).map_err(|why| format!("{}: {why}", family.name))?;
        for suffix in suffixes(&family.kind)? {
            let name = format!("{}{suffix}", family.name);
            let taken = !names.insert(name.clone());
            if taken || (!suffix.is_empty() && families.iter().any(|other| other.name == name)) {
                return Err(format!("{name} is of two families"));
            }
        }
    }
    Ok(families)
}

fn take(line: &str, families: &mut Vec<Family>) -> Result<(), String> {
    if let Some(about) = line.strip_prefix("# ") {
        let mut words = about.splitn(3, ' ');
        let mut word = || words.next().ok_or("words are missing");
        let (what, name, rest) = (word()?, word()?, word()?);
        if !is_name(name, true) {
            return Err("no name of a family".to_owned());
        }
        if families.last().is_none_or(|family| family.name != name) {
            if families.iter().any(|family| family.name == name) {
                return Err("the family was begun before".to_owned());
            }
            families.push(Family { name: name.to_owned(), ..Family::default() });
        }
        let family = families.last_mut().ok_or("no family")?;
        if !family.samples.is_empty() {
            return Err("it comes after samples".to_owned());
        }
        // TYPE, UNIT, HELP in this order, each at most once.
        let (place, later) = match what {
            "TYPE" => (&mut family.kind, !family.unit.is_empty() || !family.help.is_empty()),
            "UNIT" => (&mut family.unit, !family.help.is_empty()),
            "HELP" => (&mut family.help, false),
            _ => return Err("neither TYPE, UNIT nor HELP".to_owned()),
        };
        if later || !place.is_empty() || rest.is_empty() {
            return Err(format!("{what} twice, too late or empty"));
        }
        *place = if what == "HELP" { unescaped(rest)? } else { rest.to_owned() };
        return Ok(());
    }
    let sample = sample(line)?;
    let family = families.last_mut().ok_or("a sample before any family")?;
    family.samples.push(sample);
    Ok(())
}

fn is_name(name: &str, colons: bool) -> bool {
    let fits = |c: char| c.is_ascii_alphanumeric() || c == '_' || (colons && c == ':');
    !name.is_empty() && !name.starts_with(|c: char| c.is_ascii_digit()) && name.chars().all(fits)
}

/// Only `\\`, `\"` and `\n` are escapes.
fn unescaped(text: &str) -> Result<String, String> {
    let mut out = String::new();
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        match letter {
            '\\' => out.push(match letters.next() {
                Some('n') => '\n',
                Some(other @ ('\\' | '"')) => other,
                other => return Err(format!("no escape: \\{other:?}")),
            }),
            '"' => return Err("a quote that is not escaped".to_owned()),
            other => out.push(other),
        }
    }
    Ok(out)
}

fn sample(line: &str) -> Result<Sample, String> {
    let end = line.find(['{', ' ']).ok_or("no value")?;
    let (name, mut rest) = line.split_at(end);
    if !is_name(name, true) {
        return Err("no name of a sample".to_owned());
    }
    let mut labels = BTreeMap::new();
    if let Some(mut inside) = rest.strip_prefix('{') {
        loop {
            let (label, value) = inside.split_once("=\"").ok_or("a label without a value")?;
            if !is_name(label, false) {
                return Err(format!("no name of a label: {label}"));
            }
            let end = closing_quote(value).ok_or("a label's value does not end")?;
            let (value, after) = value.split_at(end);
            if labels.insert(label.to_owned(), unescaped(value)?).is_some() {
                return Err(format!("the label {label} twice"));
            }
            match after.strip_prefix("\",") {
                Some(next) => inside = next,
                None => break rest = after.strip_prefix("\"}").ok_or("labels do not end")?,
            }
        }
    }
    let number = rest.strip_prefix(' ').ok_or("no space before the value")?;
    Ok(Sample { name: name.to_owned(), labels, value: value(number)? })
}

fn closing_quote(text: &str) -> Option<usize> {
    let mut escaped = false;
    text.char_indices().find_map(|(index, letter)| {
        let ends = letter == '"' && !escaped;
        escaped = letter == '\\' && !escaped;
        ends.then_some(index)
    })
}

/// A number, and neither a time nor an exemplar after it.
fn value(text: &str) -> Result<f64, String> {
    let plain = |c: char| c.is_ascii_digit() || "+-.eE".contains(c);
    let known = ["NaN", "+Inf", "-Inf"].contains(&text) || text.chars().all(plain);
    let value = text.parse().map_err(|_| format!("no number: {text}"))?;
    if known {
        Ok(value)
    } else {
        Err(format!("no number: {text}"))
    }
}

fn suffixes(kind: &str) -> Result<&'static [&'static str], String> {
    let found = TYPES.iter().find(|(name, _)| *name == kind);
    found.map(|(_, suffixes)| *suffixes).ok_or_else(|| format!("no type: '{kind}'"))
}

fn check(family: &Family) -> Result<(), String> {
    let Family { name, kind, unit, help, samples } = family;
    let suffixes = suffixes(kind)?;
    if help.is_empty() {
        return Err("nobody says what it is".to_owned());
    }
    if !unit.is_empty() && !name.ends_with(&format!("_{unit}")) {
        return Err(format!("its name does not end in its unit, {unit}"));
    }
    if !unit.is_empty() && ["info", "stateset"].contains(&kind.as_str()) {
        return Err(format!("a {kind} with a unit"));
    }
    let mut seen = BTreeSet::new();
    for sample in samples {
        let Sample { name: full, labels, value } = sample;
        let suffix = full.strip_prefix(name.as_str()).filter(|suffix| suffixes.contains(suffix));
        let suffix = suffix.ok_or_else(|| format!("{full} is no sample of a {kind}"))?;
        if !seen.insert((full, labels)) {
            return Err(format!("{full} {labels:?} twice"));
        }
        let whole = |value: f64| value >= 0.0 && value.fract() == 0.0;
        let fits = match (kind.as_str(), suffix) {
            ("counter", "_total") | (_, "_sum") => *value >= 0.0,
            (_, "_count" | "_bucket") => whole(*value),
            ("info", _) => *value == 1.0,
            ("stateset", _) => labels.contains_key(name) && [0.0, 1.0].contains(value),
            ("summary", "") => {
                let share = labels.get("quantile").and_then(|text| text.parse().ok());
                share.is_some_and(|share: f64| (0.0..=1.0).contains(&share))
                    && (value.is_nan() || *value >= 0.0)
            }
            _ => true,
        };
        if !fits {
            return Err(format!("{full} {labels:?} cannot be {value}"));
        }
    }
    if kind == "histogram" {
        buckets(family)
    } else {
        Ok(())
    }
}

/// Bounds rise, counts do not fall, and the last, +Inf, is the count.
fn buckets(family: &Family) -> Result<(), String> {
    let of = |suffix: &str| {
        let name = format!("{}{suffix}", family.name);
        family.samples.iter().filter(move |sample| sample.name == name)
    };
    let mut groups: BTreeMap<BTreeMap<String, String>, Vec<(f64, f64)>> = BTreeMap::new();
    for bucket in of("_bucket") {
        let mut labels = bucket.labels.clone();
        let bound = labels.remove("le").ok_or("a bucket without a bound")?;
        groups.entry(labels).or_default().push((value(&bound)?, bucket.value));
    }
    for (labels, all) in &groups {
        let rises = all.windows(2).all(|pair| pair[0].0 < pair[1].0 && pair[0].1 <= pair[1].1);
        let (bound, last) = all.last().copied().unwrap_or_default();
        let count = of("_count").find(|sample| sample.labels == *labels);
        if !rises || bound != f64::INFINITY || count.is_some_and(|count| count.value != last) {
            return Err(format!("the buckets of {labels:?} are not cumulative"));
        }
    }
    Ok(())
}
