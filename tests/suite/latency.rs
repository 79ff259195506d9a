//! How fast the daemon was, by the last line about each victim: from its wake-up to the SIGKILL, and on to the exit.

use std::fmt;

/// Microseconds, of any number of victims.
#[derive(Default)]
pub struct Latencies {
    signalled: Vec<u64>,
    exited: Vec<u64>,
}

impl Latencies {
    /// Takes `..., signalled 1200us after the event; ...; exited 20000us after the signal` of each such line.
    pub fn add(&mut self, log: &[String]) {
        let number = |line: &str, before: &str, after: &str| {
            let (_, rest) = line.rsplit_once(before)?;
            rest.split_once(after)?.0.parse().ok()
        };
        for line in log {
            let signalled = number(line, "signalled ", "us after the event");
            let Some(signalled) = signalled else { continue };
            self.signalled.push(signalled);
            self.exited.extend(number(line, "exited ", "us after the signal"));
        }
    }
}

impl fmt::Display for Latencies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let of = |values: &[u64]| {
            let mut values = values.to_vec();
            values.sort_unstable();
            let at = |percent: usize| {
                let place = (values.len() * percent).div_ceil(100).saturating_sub(1);
                values.get(place).copied().unwrap_or(0)
            };
            format!("p50 {}us, p99 {}us, max {}us", at(50), at(99), at(100))
        };
        write!(f, "{} kills; wake-up to SIGKILL: {}; ", self.signalled.len(), of(&self.signalled))?;
        write!(f, "SIGKILL to exit: {}", of(&self.exited))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_victims_last_line_counts() {
        let mut latencies = Latencies::default();
        let mut log: Vec<String> = (1..=100)
            .map(|n| {
                format!("Gone: 'a' (7) has exited; decided 5us, raised 6us, signalled {n}us after the event; exited {n}000us after the signal")
            })
            .collect();
        log.push("Kill 'a' (7), uid 1".to_owned());
        latencies.add(&log);
        assert_eq!(
            latencies.to_string(),
            "100 kills; wake-up to SIGKILL: p50 50us, p99 99us, max 100us; \
             SIGKILL to exit: p50 50000us, p99 99000us, max 100000us"
        );
    }

    #[test]
    fn nobody_killed_is_no_error() {
        assert!(Latencies::default().to_string().starts_with("0 kills"));
    }
}
