//! Files and answers of the operator's socket are read by root's tools: no bytes may make them panic.
#![no_main]

use libfuzzer_sys::fuzz_target;
use lmkd::recorder::frame;
use lmkd::recorder::wire::Request;
use lmkd::recorder::Entry;
use lmkd::recorder::Recording;
use lmkd::recorder::Replayer;
use lmkd::recorder::MAGIC;

fuzz_target!(|bytes: &[u8]| {
    let _ = Request::decode(bytes);
    // As they are, and past the checks that few inputs pass.
    let _ = Recording::parse(bytes);
    let _ = Recording::parse(&[&MAGIC, bytes].concat());
    let mut sealed = [0; frame::LONGEST];
    let Some((kind, fields)) = bytes.split_first() else { return };
    let Some(len) = frame::seal_raw(&mut sealed, *kind, fields) else { return };
    let Ok(frame) = frame::first(&sealed[..len]) else { return };
    if let Ok(Some(entry)) = Entry::read(&frame) {
        let mut replayer = Replayer::new(|_| {});
        replayer.next(&entry);
    }
});
