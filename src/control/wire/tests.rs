use super::*;
use crate::oom_score_adj::OomScoreAdj;
use crate::processes::Pid;
use crate::units::Pages;

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text
        .bytes()
        .filter(u8::is_ascii_hexdigit)
        .map(|digit| u8::try_from(char::from(digit).to_digit(16).unwrap()).unwrap())
        .collect();
    digits.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}

fn process(pid: i32, uid: u32, adj: i32, kind: ProcType) -> ProcPrio {
    ProcPrio { pid: Pid::new(pid).unwrap(), uid, adj: OomScoreAdj::new(adj).unwrap(), kind }
}

fn level(minfree: i64, adj: i32) -> Target {
    Target { minfree: Pages(minfree), adj: OomScoreAdj::new(adj).unwrap() }
}

#[test]
fn golden_requests_are_read_and_written_byte_for_byte() {
    let adj = |adj| OomScoreAdj::new(adj).unwrap();
    let golden = [
        (
            "00000001 000004D2 00002711 00000384",
            Request::ProcPrio(process(1234, 10001, 900, ProcType::App)),
        ),
        (
            "00000001 000004D2 00002711 00000384 00000001",
            Request::ProcPrio(process(1234, 10001, 900, ProcType::Service)),
        ),
        (
            "00000001 000004D2 000003E8 FFFFFC7C",
            Request::ProcPrio(process(1234, 1000, -900, ProcType::App)),
        ),
        ("00000002 000004D2", Request::ProcRemove(Pid::new(1234).unwrap())),
        ("00000003", Request::ProcPurge),
        (
            "00000004 FFFFFC18 000003E8",
            Request::GetKillCnt(KillCount::Between(adj(-1000), adj(1000))),
        ),
        ("00000004 000003E9 000003E9", Request::GetKillCnt(KillCount::Total)),
        ("00000005 00000000", Request::Subscribe(Event::Kill)),
        ("00000005 00000001", Request::Subscribe(Event::Stat)),
        ("00000007", Request::UpdateProps),
        ("00000009", Request::StartMonitoring),
        ("0000000A", Request::BootCompleted),
        (
            "00000000 00004800 00000000 00013B00 000003B6",
            Request::Target(Targets::new(&[level(18432, 0), level(80640, 950)]).unwrap()),
        ),
        ("00000000", Request::Target(Targets::default())),
    ];
    for (bytes, request) in golden {
        assert_eq!(Request::decode(&hex(bytes)), Ok(request), "{bytes}");
        assert_eq!(request.encode().as_bytes(), hex(bytes), "{bytes}");
    }
}

#[test]
fn a_golden_batch_is_read_and_written_byte_for_byte() {
    let bytes = hex("0000000B 000004D2 00002711 00000384 00000000 \
                     00000514 00002712 00000000 00000000");
    let both = [process(1234, 10001, 900, ProcType::App), process(1300, 10002, 0, ProcType::App)];
    let Ok(Request::ProcsPrio(batch)) = Request::decode(&bytes) else { panic!("no batch") };
    assert_eq!(batch.collect::<Vec<_>>(), both.map(Ok));
    assert_eq!(Packet::procs_prio(&both).as_bytes(), bytes);
    assert_eq!(Request::ProcsPrio(batch).encode().as_bytes(), bytes);
}

#[test]
fn golden_messages_are_written_and_read_byte_for_byte() {
    let replies = [
        ("00000004 00000007", Command::GetKillCnt, 7),
        ("00000007 00000000", Command::UpdateProps, 0),
        ("00000007 FFFFFFFF", Command::UpdateProps, -1),
        ("0000000A 00000000", Command::BootCompleted, 0),
        ("0000000A 00000001", Command::BootCompleted, 1),
        ("0000000A FFFFFFFF", Command::BootCompleted, -1),
    ];
    for (bytes, command, value) in replies {
        assert_eq!(reply(command, value), hex(bytes)[..]);
        assert_eq!(Message::decode(&hex(bytes)), Some(Message::Reply { command, value }));
    }
    let notice = KillNotice { pid: 1234, uid: 10001, rss_kb: 51200 };
    let bytes = hex("00000006 000004D2 00002711 0000C800");
    assert_eq!(notice.encode(), bytes[..]);
    assert_eq!(Message::decode(&bytes), Some(Message::Killed(notice)));
}

fn stat() -> KillStat {
    KillStat {
        pgfault: 1000,
        pgmajfault: 10,
        rss_in_bytes: 52_428_800,
        cache_in_bytes: 0,
        swap_in_bytes: 4096,
        process_start_time_ns: 1_000_000_000,
        uid: 10001,
        oom_score_adj: 900,
        min_oom_score: 701,
        free_mem_kb: 81920,
        free_swap_kb: 0,
        kill_reason: 8,
        thrashing: 12,
        max_thrashing: 40,
    }
}

#[test]
fn golden_statistics_are_written_and_read_byte_for_byte() {
    let bytes = hex("00000008 00000000000003E8 000000000000000A 0000000003200000 \
                     0000000000000000 0000000000001000 000000003B9ACA00 00002711 00000384 \
                     000002BD 00014000 00000000 00000008 0000000C 00000028 0005 636F6D2E61 00");
    assert_eq!(bytes.len(), 92);
    assert_eq!(stat().encode(b"com.a").as_bytes(), bytes);
    assert_eq!(Message::decode(&bytes), Some(Message::Stat(stat(), b"com.a")));
}

#[test]
fn a_long_name_is_cut_and_a_nul_ends_it() {
    let packet = stat().encode(&[b'x'; 4096]);
    assert_eq!(packet.as_bytes().len(), STAT_MAX_LEN);
    assert_eq!(STAT_MAX_LEN, 214);
    assert_eq!(stat().encode(b"a\0bc").as_bytes().len(), 88);
    assert_eq!(stat().encode(b"").as_bytes().len(), 87);
}

#[test]
fn what_must_not_be_acted_upon_is_refused() {
    let refused = [
        "",
        "000001",
        "00000001 000004D2 00002711",
        "00000001 000004D2 00002711 00000384 00000000 00000000",
        "00000000 00000001 00000001 00000001",
        "00000003 00000000",
        "00000006 000004D2 00002711 0000C800",
        "00000008",
        "0000000C",
        "FFFFFFFF",
        "0000000B 000004D2 00002711 00000384 00000000 00000001",
        "00000001 000004D2 00002711 000003E9",
        "00000001 000004D2 00002711 FFFFFC17",
        "00000001 000004D2 00002711 00000384 00000002",
        "00000001 00000000 00002711 00000384",
        "00000001 00000001 00002711 00000384",
        "00000001 FFFFFFFF 00002711 00000384",
        "00000002 00000000",
        "00000004 00000000",
        "00000005 00000002",
        "00000005 FFFFFFFF",
        "00000007 00000000",
        "00000009 00000000",
        "0000000A 00000000",
        "00000000 FFFFFFFF 00000000",
        "00000000 00000001 000003E9",
    ];
    for bytes in refused {
        let refusal = Request::decode(&hex(bytes)).expect_err(bytes);
        assert!(!refusal.to_string().is_empty());
    }
}

#[test]
fn a_batch_of_nobody_is_no_mistake() {
    let bytes = hex("0000000B");
    let Ok(Request::ProcsPrio(batch)) = Request::decode(&bytes) else { panic!("no batch") };
    assert_eq!(batch.count(), 0);
}

#[test]
fn one_bad_record_does_not_hide_the_others_of_its_batch() {
    let bytes = hex("0000000B 000004D2 00002711 000003E9 00000000 \
                     00000514 00002712 00000000 00000000");
    let Ok(Request::ProcsPrio(batch)) = Request::decode(&bytes) else { panic!("no batch") };
    let all: Vec<_> = batch.collect();
    assert!(matches!(all[0], Err(Refusal::Adj { adj: 1001, .. })));
    assert_eq!(all[1], Ok(process(1300, 10002, 0, ProcType::App)));
}

#[test]
fn a_60_byte_datagram_is_read_as_its_first_52() {
    let three = [5, 6, 7].map(|pid| process(pid, 1, 2, ProcType::App));
    let mut bytes = Packet::procs_prio(&three).as_bytes().to_vec();
    bytes.resize(60, 0);
    let Ok(Request::ProcsPrio(batch)) = Request::decode(&bytes) else { panic!("no batch") };
    assert_eq!(batch.collect::<Vec<_>>(), three.map(Ok));
}

#[test]
fn bytes_after_the_last_whole_word_are_ignored() {
    let bytes = hex("00000002 000004D2 FFFFFF");
    assert_eq!(Request::decode(&bytes), Ok(Request::ProcRemove(Pid::new(1234).unwrap())));
}

#[test]
fn kill_counts_are_asked_for_within_the_range_there_is() {
    let adj = |adj| OomScoreAdj::new(adj).unwrap();
    let all = KillCount::Between(OomScoreAdj::MIN, OomScoreAdj::MAX);
    assert_eq!(KillCount::new(1, 0), KillCount::Nothing);
    assert_eq!(KillCount::new(i32::MIN, i32::MAX), all);
    assert_eq!(KillCount::new(1001, 1001), KillCount::Total);
    assert_eq!(KillCount::new(900, 5000), KillCount::Between(adj(900), OomScoreAdj::MAX));
    assert_eq!(KillCount::new(-5000, -1001), KillCount::Nothing);
}

#[test]
fn a_kill_notice_of_older_releases_is_understood() {
    let notice = KillNotice { pid: 1234, uid: 10001, rss_kb: 0 };
    let bytes = hex("00000006 000004D2 00002711");
    assert_eq!(Message::decode(&bytes), Some(Message::Killed(notice)));
}

#[test]
fn any_prefix_of_any_packet_is_read_without_panic() {
    let stat = stat().encode(b"com.a");
    for len in 0..=stat.as_bytes().len() {
        let _ = Message::decode(&stat.as_bytes()[..len]);
    }
    let mut bytes = [0xff; 64];
    for number in 0..20 {
        bytes[3] = number;
        bytes[..3].fill(0);
        for len in 0..=bytes.len() {
            if let Ok(Request::ProcsPrio(batch)) = Request::decode(&bytes[..len]) {
                assert!(batch.count() <= BATCH_MAX);
            }
        }
    }
}
