//! Recordings survive their way through bytes, and damage to them is met with what is left.

mod dice;

use super::frame;
use super::frame::Body;
use super::frame::TearCause;
use super::*;
use crate::clock::MonoTime;
use crate::codec::coded_struct;
use crate::codec::Coded;
use crate::codec::Writer;
use dice::Dice;
use dice::Roll;

/// Appends a record.
fn add<B: Body>(bytes: &mut Vec<u8>, seq: u64, body: &B) {
    let mut buffer = [0; frame::LONGEST];
    let len = frame::seal(&mut buffer, seq, MonoTime::from_nanos(seq * 10), body).unwrap();
    bytes.extend_from_slice(&buffer[..len]);
}

/// A recording of a header and as many looks.
fn recording(looks: u64) -> Vec<u8> {
    let mut dice = Dice::new(looks);
    let mut bytes = MAGIC.to_vec();
    add(&mut bytes, 0, &Header::roll(&mut dice));
    for seq in 1..=looks {
        add(&mut bytes, seq, &Look::roll(&mut dice));
    }
    bytes
}

fn comes_back<B: Body + Roll + Clone>(dice: &mut Dice, wrap: fn(Box<B>) -> Record) {
    let body = B::roll(dice);
    let mut bytes = Vec::new();
    add(&mut bytes, 3, &body);
    let entry = Entry::read(&frame::first(&bytes).unwrap()).unwrap().unwrap();
    let at = MonoTime::from_nanos(30);
    assert_eq!(entry, Entry { seq: 3, at, record: wrap(Box::new(body)) });
}

#[test]
fn a_record_of_every_kind_comes_back() {
    for seed in 0..256 {
        let dice = &mut Dice::new(seed);
        comes_back(dice, Record::Header);
        comes_back(dice, Record::Settings);
        comes_back(dice, Record::Checkpoint);
        comes_back(dice, Record::Input);
        comes_back(dice, Record::Look);
        comes_back(dice, Record::Kill);
        comes_back(dice, Record::Fate);
        comes_back(dice, Record::Change);
        comes_back(dice, Record::Registered);
        comes_back(dice, Record::Sources);
        comes_back(dice, Record::Status);
        comes_back(dice, Record::Lost);
        comes_back(dice, Record::End);
        comes_back(dice, Record::Refused);
    }
}

#[test]
fn damage_anywhere_costs_what_follows_it_and_nothing_before() {
    let undamaged = recording(20);
    let whole = Recording::parse(&undamaged).unwrap();
    // Every byte, and every bit of it in turn.
    for at in 8..undamaged.len() {
        let mut bytes = undamaged.clone();
        bytes[at] ^= 1 << (at % 8);
        match Recording::parse(&bytes) {
            Ok(read) => {
                let len = read.entries.len();
                assert_eq!(read.entries, whole.entries[..len]);
                // Padding is not looked at.
                let all = len == whole.entries.len();
                assert!(read.tear.is_some_and(|tear| tear.offset <= at) || all);
            }
            Err(error) => assert!(matches!(error, ReadError::NoHeader(Some(_))), "{error}"),
        }
    }
}

#[test]
fn a_torn_file_is_read_up_to_the_tear() {
    let bytes = recording(5);
    let whole = Recording::parse(&bytes).unwrap();
    assert_eq!((whole.entries.len(), whole.tear), (6, None));
    let torn = Recording::parse(&bytes[..bytes.len() - 3]).unwrap();
    assert_eq!(torn.entries, whole.entries[..5]);
    let tear = torn.tear.unwrap();
    assert_eq!(tear.cause, TearCause::CutOff);
    assert_eq!(tear.offset + tear.left, bytes.len() - 3);
    assert!(tear.to_string().starts_with(&format!("torn at byte {}", tear.offset)));
}

#[test]
fn a_file_of_zeros_after_a_power_cut_is_read_up_to_them() {
    let mut bytes = recording(2);
    bytes.extend_from_slice(&[0; 64]);
    let torn = Recording::parse(&bytes).unwrap();
    assert_eq!(torn.entries.len(), 3);
    assert_eq!(torn.tear.unwrap().cause, TearCause::Length(0));
}

#[test]
fn another_version_and_other_files_are_refused_by_name() {
    let mut bytes = recording(1);
    bytes[7] = 2;
    let error = Recording::parse(&bytes).unwrap_err();
    assert!(matches!(error, ReadError::Version(2)));
    assert!(error.to_string().contains("version 2"), "{error}");
    for other in [&b""[..], b"LMKDRE", b"\x7fELF....", &[0; 100]] {
        assert!(matches!(Recording::parse(other), Err(ReadError::NotARecording)));
    }
    assert!(matches!(Recording::parse(&MAGIC), Err(ReadError::NoHeader(None))));
}

#[test]
fn what_never_ends_is_no_recording() {
    let error = Recording::open(&std::path::Path::new("/").join("dev/zero")).unwrap_err();
    assert!(matches!(error, ReadError::NotARecording), "{error}");
}

struct Later<const KIND: u8, const MUST: bool> {
    value: u64,
}
coded_struct!(Later < 200, false > { value });
coded_struct!(Later < 201, true > { value });
impl Body for Later<200, false> {
    const KIND: u8 = 200;
    const MUST_BE_KNOWN: bool = false;
}
impl Body for Later<201, true> {
    const KIND: u8 = 201;
    const MUST_BE_KNOWN: bool = true;
}

#[test]
fn an_unknown_kind_is_left_out_unless_it_must_be_known() {
    let mut bytes = recording(1);
    add(&mut bytes, 2, &Later::<200, false> { value: 1 });
    add(&mut bytes, 3, &End { records: 1 });
    let read = Recording::parse(&bytes).unwrap();
    assert_eq!((read.entries.len(), read.skipped, read.tear), (3, 1, None));
    let offset = bytes.len();
    add(&mut bytes, 4, &Later::<201, true> { value: 1 });
    let error = Recording::parse(&bytes).unwrap_err();
    assert!(matches!(error, ReadError::Kind { kind: 201, offset: o } if o == offset), "{error}");
}

/// What was added at its end came bit by bit.
#[test]
fn a_state_is_read_whether_its_daemon_knows_less_or_more() {
    let whole = Status::roll(&mut Dice::new(1));
    let without_steps = Status { steps: None, ..whole.clone() };
    let bare = Status { outlook: None, ..without_steps.clone() };
    let body = |status: &Status| {
        let mut body = [0; frame::LONGEST];
        let mut out = Writer::new(&mut body);
        out.bytes(&[1, 1]);
        status.put(&mut out);
        let len = out.finish().unwrap();
        body[..len].to_vec()
    };
    let read = |body: &[u8]| {
        let mut buffer = [0; frame::LONGEST];
        let len = frame::seal_raw(&mut buffer, Status::KIND, body).unwrap();
        match Entry::read(&frame::first(&buffer[..len]).unwrap()) {
            Ok(Some(Entry { record: Record::Status(status), .. })) => Some(*status),
            Ok(other) => panic!("{other:?}"),
            Err(_) => None,
        }
    };
    // Of each, the byte that says that there is none.
    for (status, added) in [(&bare, 2), (&without_steps, 1)] {
        let body = body(status);
        for cut in 0..=added {
            assert_eq!(read(&body[..body.len() - cut]).as_ref(), Some(status), "{cut}");
        }
    }
    let all = body(&whole);
    assert_eq!(read(&[&all[..], &[7, 0, 0xff]].concat()), Some(whole));
    // What it is made of comes whole or not at all.
    assert_eq!(read(&all[..all.len() - 1]), None);
}

#[test]
fn a_recording_begins_with_its_header() {
    let mut bytes = MAGIC.to_vec();
    add(&mut bytes, 1, &End { records: 0 });
    assert!(matches!(Recording::parse(&bytes), Err(ReadError::NoHeader(None))));
}

#[test]
fn the_largest_records_fit_their_frame() {
    let mut buffer = [0; frame::LONGEST];
    let mut longest = 0;
    for seed in 0..200 {
        let dice = &mut Dice::new(seed);
        dice.extreme = true;
        let at = MonoTime::from_nanos(u64::MAX);
        for len in [
            frame::seal(&mut buffer, u64::MAX, at, &Status::roll(dice)),
            frame::seal(&mut buffer, u64::MAX, at, &Registered::roll(dice)),
            frame::seal(&mut buffer, u64::MAX, at, &Kill::roll(dice)),
            frame::seal(&mut buffer, u64::MAX, at, &Look::roll(dice)),
            frame::seal(&mut buffer, u64::MAX, at, &Settings::roll(dice)),
            frame::seal(&mut buffer, u64::MAX, at, &Checkpoint::roll(dice)),
        ] {
            longest = longest.max(len.unwrap());
        }
    }
    assert!(longest > 1000, "{longest}");
}

#[test]
fn no_fields_are_too_strange_to_be_refused_or_replayed() {
    let mut dice = Dice::new(9);
    let mut buffer = [0; frame::LONGEST];
    let mut read = 0;
    for round in 0..20_000 {
        let kind = u8::try_from(round % 20).unwrap();
        // Small bytes, too, which are more often an enum or a length.
        let small = round % 3 == 0;
        let bytes: Vec<u8> =
            (0..200).map(|_| dice.next().to_le_bytes()[0] & if small { 1 } else { 0xff }).collect();
        let len = frame::seal_raw(&mut buffer, kind, &bytes).unwrap();
        let Ok(frame) = frame::first(&buffer[..len]) else { continue };
        if let Ok(Some(entry)) = Entry::read(&frame) {
            let mut replayer = Replayer::new(|_| {});
            replayer.next(&entry);
            read += 1;
        }
    }
    assert!(read > 100, "{read}");
}

/// Each has 16 bytes in the file.
#[test]
fn a_file_of_many_records_of_nothing_takes_no_more_memory_than_is_given_to_it() {
    const MOST: usize = 1 << 20;
    let mut bytes = recording(3);
    let (head, none) =
        (bytes.len(), Registered { first: false, last: false, processes: few::Few::default() });
    add(&mut bytes, 4, &none);
    let one = bytes[head..].to_vec();
    assert_eq!(one.len(), 16);
    bytes.extend(std::iter::repeat_n(&one[..], 1 << 16).flatten());
    let read = Recording::parse_within(&bytes, MOST).unwrap();
    let list = read.entries.capacity() * size_of::<Entry>();
    let bodies = read.entries.iter().map(|entry| entry.memory() - 2 * size_of::<Entry>());
    assert!(list + bodies.sum::<usize>() <= MOST, "{list}");
    assert!(read.entries.len() > 900, "{}", read.entries.len());
    let tear = read.tear.unwrap();
    assert_eq!((tear.cause, tear.offset + tear.left), (TearCause::Memory, bytes.len()));
    assert!(tear.to_string().contains("take all memory"), "{tear}");
    // What is given to any file is enough for as many.
    assert_eq!(Recording::parse(&bytes).unwrap().tear, None);
}
