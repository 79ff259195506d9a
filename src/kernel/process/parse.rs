//! What stands in `status`, `stat` and `statm`.

use super::ProcError;
use super::TaskName;
use crate::kernel::scan;
use crate::units::Kib;
use crate::units::Pages;

/// The kernel's own name of a process, as `status` has it: 15 bytes at most, of which backslashes
/// and newlines stand escaped. What is beyond is cut.
pub type Comm = [u8; 16];

/// Lines of `/proc/PID/status`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// `Name`: changes when a process changes its name, and costs the process nothing to read.
    pub comm: Comm,
    /// `State`: R, S, D, Z, T, ...; one in a frozen group of cgroup v1 has D.
    pub state: u8,
    /// `Tgid`: differs from the id asked for if that is a thread's.
    pub tgid: i32,
    /// `Uid`, the effective one.
    pub uid: u32,
    /// `VmRSS`; a kernel thread, a zombie, and a leader that left its threads behind have none.
    pub rss: Option<Kib>,
    /// `VmSwap`, likewise.
    pub swap: Option<Kib>,
    /// `Threads`; 0 if the kernel does not say.
    pub threads: u32,
}

impl Status {
    /// The kernel's own name, for where the process's is not known.
    #[must_use]
    pub fn short_name(&self) -> TaskName {
        TaskName::new(self.comm.split(|byte| *byte == 0).next().unwrap_or(&[]))
    }
}

/// Fields of `/proc/PID/stat`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stat {
    /// `state`: R, S, D, Z, T, ...
    pub state: u8,
    /// `ppid`
    pub ppid: i32,
    /// `flags`, the kernel's `PF_*`.
    pub flags: u64,
    /// `minflt`
    pub minflt: u64,
    /// `majflt`
    pub majflt: u64,
    /// `nice`, -20 (best) to 19
    pub nice: i32,
    /// `num_threads`
    pub threads: u64,
    /// `starttime`, clock ticks since boot.
    pub start_time: u64,
    /// `rt_priority`: 1 to 99, 0 if it is in no real-time class.
    pub rt_priority: u32,
    /// `policy`: the number of its scheduling class, 0 for the normal one.
    pub policy: u32,
}

impl Stat {
    /// Whether this is a thread of the kernel (`PF_KTHREAD` of `include/linux/sched.h`).
    #[must_use]
    pub const fn is_kernel_thread(&self) -> bool {
        self.flags & 0x0020_0000 != 0
    }
}

/// A number and nothing else.
pub(super) fn number<T: std::str::FromStr>(text: &[u8]) -> Option<T> {
    if !text.first()?.is_ascii_digit() && *text.first()? != b'-' {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse().ok()
}

fn words(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty())
}

/// Collects the wanted lines of `status`.
#[derive(Debug, Default)]
pub(super) struct StatusLines {
    comm: Comm,
    state: u8,
    tgid: Option<i32>,
    uid: Option<u32>,
    rss: Option<Kib>,
    swap: Option<Kib>,
    threads: Option<u32>,
}

impl StatusLines {
    pub(super) fn line(&mut self, line: &[u8]) {
        let (key, value) = scan::split_word(line);
        let mut values = words(value);
        match key {
            b"Name:" => {
                let name = value.strip_prefix(b"\t").unwrap_or(value);
                self.comm.iter_mut().zip(name).for_each(|(to, from)| *to = *from);
            }
            b"State:" => {
                self.state = values.next().and_then(|word| word.first().copied()).unwrap_or(0)
            }
            b"Tgid:" => self.tgid = values.next().and_then(number),
            b"Uid:" => self.uid = values.nth(1).and_then(number),
            b"VmRSS:" => self.rss = values.next().and_then(number).map(Kib),
            b"VmSwap:" => self.swap = values.next().and_then(number).map(Kib),
            b"Threads:" => self.threads = values.next().and_then(number),
            _ => {}
        }
    }

    pub(super) fn finish(self) -> Result<Status, ProcError> {
        Ok(Status {
            comm: self.comm,
            state: self.state,
            tgid: self.tgid.ok_or(ProcError::Malformed("Tgid"))?,
            uid: self.uid.ok_or(ProcError::Malformed("Uid"))?,
            rss: self.rss,
            swap: self.swap,
            threads: self.threads.unwrap_or(0),
        })
    }
}

/// The name stands in parentheses and may hold spaces and parentheses of its own, so fields are
/// counted from the last one.
pub(super) fn parse_stat(text: &[u8]) -> Result<Stat, ProcError> {
    let end = text.iter().rposition(|byte| *byte == b')').ok_or(ProcError::Malformed("name"))?;
    let mut fields = words(text.get(end.saturating_add(1)..).unwrap_or(&[]));
    // Numbers of proc_pid_stat(5); the first one after the name is the third.
    let mut at: usize = 3;
    let mut field = |wanted: usize| {
        let skip = wanted.saturating_sub(at);
        at = wanted.saturating_add(1);
        fields.nth(skip)
    };
    let state = field(3).and_then(|word| word.first().copied());
    Ok(Stat {
        state: state.ok_or(ProcError::Malformed("state"))?,
        ppid: field(4).and_then(number).ok_or(ProcError::Malformed("ppid"))?,
        flags: field(9).and_then(number).ok_or(ProcError::Malformed("flags"))?,
        minflt: field(10).and_then(number).ok_or(ProcError::Malformed("minflt"))?,
        majflt: field(12).and_then(number).ok_or(ProcError::Malformed("majflt"))?,
        nice: field(19).and_then(number).unwrap_or(0),
        threads: field(20).and_then(number).ok_or(ProcError::Malformed("num_threads"))?,
        start_time: field(22).and_then(number).ok_or(ProcError::Malformed("starttime"))?,
        rt_priority: field(40).and_then(number).unwrap_or(0),
        policy: field(41).and_then(number).unwrap_or(0),
    })
}

/// The second field of `statm`.
pub(super) fn parse_statm(text: &[u8]) -> Result<Pages, ProcError> {
    words(text).nth(1).and_then(number).map(Pages).ok_or(ProcError::Malformed("resident"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_spaces_and_parentheses_does_not_shift_the_fields() {
        let text = b"77 (a) b (c)) S 1 77 77 0 -1 4194560 11 0 22 0 3 4 0 0 20 0 5 0 12345 1 2\n";
        let stat = parse_stat(text).unwrap();
        assert_eq!((stat.state, stat.ppid, stat.minflt, stat.majflt), (b'S', 1, 11, 22));
        assert_eq!((stat.threads, stat.start_time, stat.flags), (5, 12345, 4_194_560));
    }

    #[test]
    fn nice_value_and_class_are_the_fields_19_40_and_41() {
        let fields = |range: std::ops::RangeInclusive<i32>| {
            range.map(|number| number.to_string()).collect::<Vec<_>>().join(" ")
        };
        let text = format!("1 (x) S {} -5 {} 50 2 42", fields(4..=18), fields(20..=39));
        let stat = parse_stat(text.as_bytes()).unwrap();
        assert_eq!((stat.nice, stat.rt_priority, stat.policy), (-5, 50, 2));
    }

    fn parse_status(text: &[u8]) -> Result<Status, ProcError> {
        let mut lines = StatusLines::default();
        text.split(|byte| *byte == b'\n').for_each(|line| lines.line(line));
        lines.finish()
    }

    #[test]
    fn a_file_that_lacks_a_field_is_refused_by_its_name() {
        assert_eq!(parse_status(b"Name:\tx\n"), Err(ProcError::Malformed("Tgid")));
        assert_eq!(parse_status(b"Tgid:\t1\nUid:\tx\n"), Err(ProcError::Malformed("Uid")));
        assert_eq!(parse_stat(b"1 (x) S 1"), Err(ProcError::Malformed("flags")));
        assert_eq!(parse_stat(b""), Err(ProcError::Malformed("name")));
        assert_eq!(parse_statm(b"12"), Err(ProcError::Malformed("resident")));
        assert_eq!(parse_statm(b"12 x"), Err(ProcError::Malformed("resident")));
    }

    #[test]
    fn the_kernels_name_is_kept_as_it_stands() {
        let comm = |name: &str| {
            parse_status(format!("Name:\t{name}\nTgid:\t1\nUid:\t1\t2\n").as_bytes()).unwrap().comm
        };
        assert_eq!(comm("com.example.app"), *b"com.example.app\0");
        assert_eq!(comm("a b"), *b"a b\0\0\0\0\0\0\0\0\0\0\0\0\0");
        assert_eq!(comm(&"\\n".repeat(15)), *b"\\n\\n\\n\\n\\n\\n\\n\\n");
    }
}
