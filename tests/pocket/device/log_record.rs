//! A datagram as liblog writes it to logd, and its text.

use std::fmt::Write;

/// `LOG_ID_MAIN` to `LOG_ID_KERNEL`.
pub const BUFFERS: [&str; 8] =
    ["main", "radio", "events", "system", "crash", "stats", "security", "kernel"];
const EVENTS: usize = 2;
/// Tags of events, as `event.logtags` names them.
const EVENT_TAGS: [(u32, &str); 1] = [(10_195_355, "killinfo")];
const PRIORITIES: [char; 9] = ['?', '?', 'V', 'D', 'I', 'W', 'E', 'F', 'S'];

/// What was logged.
#[derive(Debug, PartialEq, Eq)]
pub struct Record {
    pub buffer: usize,
    pub tid: u16,
    pub secs: u32,
    pub nanos: u32,
    pub priority: char,
    pub tag: String,
    pub message: String,
}

impl Record {
    /// None if it is not what liblog writes.
    pub fn decode(datagram: &[u8]) -> Option<Self> {
        let (header, payload) = datagram.split_at_checked(11)?;
        let buffer = usize::from(header[0]);
        let (priority, tag, message) = match BUFFERS.get(buffer)? {
            _ if buffer == EVENTS => event(payload)?,
            _ => text(payload)?,
        };
        Some(Self {
            buffer,
            tid: u16::from_le_bytes([header[1], header[2]]),
            secs: u32::from_le_bytes(header[3..7].try_into().ok()?),
            nanos: u32::from_le_bytes(header[7..11].try_into().ok()?),
            priority,
            tag,
            message,
        })
    }
}

/// Priority, tag, message; both texts end in a NUL.
fn text(payload: &[u8]) -> Option<(char, String, String)> {
    let (priority, rest) = payload.split_first()?;
    let mut parts = rest.split(|byte| *byte == 0);
    let mut part = || parts.next().map(|bytes| String::from_utf8_lossy(bytes).into_owned());
    Some((*PRIORITIES.get(usize::from(*priority))?, part()?, part()?))
}

/// Tag and one value, which may be a list.
fn event(payload: &[u8]) -> Option<(char, String, String)> {
    let (tag, mut rest) = payload.split_at_checked(4)?;
    let tag = u32::from_le_bytes(tag.try_into().ok()?);
    let name = EVENT_TAGS.iter().find(|(number, _)| *number == tag);
    let name = name.map_or_else(|| format!("[{tag}]"), |(_, name)| (*name).to_owned());
    let mut message = String::new();
    value(&mut rest, &mut message)?;
    // What is left over would be a record of another layout.
    rest.is_empty().then_some(('I', name, message))
}

fn value(rest: &mut &[u8], out: &mut String) -> Option<()> {
    match take(rest, 1)?[0] {
        0 => write!(out, "{}", i32::from_le_bytes(take(rest, 4)?.try_into().ok()?)).ok(),
        1 => write!(out, "{}", i64::from_le_bytes(take(rest, 8)?.try_into().ok()?)).ok(),
        2 => {
            let length = u32::from_le_bytes(take(rest, 4)?.try_into().ok()?);
            out.push_str(&String::from_utf8_lossy(take(rest, usize::try_from(length).ok()?)?));
            Some(())
        }
        3 => {
            out.push('[');
            for index in 0..take(rest, 1)?[0] {
                if index > 0 {
                    out.push(',');
                }
                value(rest, out)?;
            }
            out.push(']');
            Some(())
        }
        4 => write!(out, "{}", f32::from_le_bytes(take(rest, 4)?.try_into().ok()?)).ok(),
        _ => None,
    }
}

fn take<'a>(rest: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (taken, after) = rest.split_at_checked(length)?;
    *rest = after;
    Some(taken)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: [u8; 10] = [0x34, 0x12, 1, 0, 0, 0, 2, 0, 0, 0];

    fn decode(buffer: u8, payload: &[u8]) -> Option<Record> {
        Record::decode(&[&[buffer], &HEADER[..], payload].concat())
    }

    #[test]
    fn a_line_has_priority_tag_and_message() {
        let record = decode(0, b"\x04lowmemorykiller\0hello\0").unwrap();
        assert_eq!((record.tid, record.secs, record.nanos), (0x1234, 1, 2));
        assert_eq!(record.priority, 'I');
        assert_eq!((record.tag.as_str(), record.message.as_str()), ("lowmemorykiller", "hello"));
    }

    #[test]
    fn an_event_is_its_values() {
        let mut payload = 10_195_355_u32.to_le_bytes().to_vec();
        payload.extend([3, 2, 0, 7, 0, 0, 0, 4]);
        payload.extend(1.5_f32.to_le_bytes());
        let record = decode(2, &payload).unwrap();
        assert_eq!((record.tag.as_str(), record.message.as_str()), ("killinfo", "[7,1.5]"));
        payload.push(0);
        assert_eq!(decode(2, &payload), None);
    }

    #[test]
    fn what_is_cut_short_or_unknown_is_no_record() {
        assert_eq!(Record::decode(&[0; 5]), None);
        assert_eq!(decode(9, b"\x04a\0b\0"), None);
        assert_eq!(decode(0, b"\x04"), None);
        assert_eq!(decode(2, &[1, 2, 3]), None);
    }
}
