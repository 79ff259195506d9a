//! The codec on arbitrary bytes.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use lmkd::control::wire::KillStat;
use lmkd::control::wire::Message;
use lmkd::control::wire::Packet;
use lmkd::control::wire::ProcPrio;
use lmkd::control::wire::ProcType;
use lmkd::control::wire::Request;
use lmkd::control::wire::BATCH_MAX;
use lmkd::control::wire::STAT_NAME_MAX;
use lmkd::oom_score_adj::OomScoreAdj;
use lmkd::processes::Pid;
use proptest::collection::vec;
use proptest::prelude::*;

fn process() -> impl Strategy<Value = ProcPrio> {
    (2..=Pid::LIMIT, any::<u32>(), -1000..=1000, any::<bool>()).prop_map(
        |(pid, uid, adj, service)| ProcPrio {
            pid: Pid::new(pid).unwrap(),
            uid,
            adj: OomScoreAdj::new(adj).unwrap(),
            kind: if service { ProcType::Service } else { ProcType::App },
        },
    )
}

/// A command word that exists, then anything.
fn likely_packet() -> impl Strategy<Value = Vec<u8>> {
    (0..14_u8, vec(prop_oneof![Just(0_u8), Just(0xff), 0..4_u8, any::<u8>()], 0..64))
        .prop_map(|(command, rest)| [&[0, 0, 0, command][..], &rest].concat())
}

proptest! {
    #[test]
    fn no_bytes_make_a_decoder_panic(bytes in vec(any::<u8>(), 0..300)) {
        if let Err(refusal) = Request::decode(&bytes) {
            prop_assert!(!refusal.to_string().is_empty());
        }
        let _ = Message::decode(&bytes);
    }

    #[test]
    fn whatever_is_accepted_means_the_same_when_sent_again(bytes in likely_packet()) {
        let _ = Message::decode(&bytes);
        if let Ok(request) = Request::decode(&bytes) {
            let again = request.encode();
            prop_assert_eq!(Request::decode(again.as_bytes()), Ok(request));
            if let Request::ProcsPrio(batch) = request {
                prop_assert!(batch.count() <= BATCH_MAX);
            }
        }
    }

    #[test]
    fn processes_survive_the_way_alone_and_in_a_batch(all in vec(process(), 1..=BATCH_MAX)) {
        let packet = Packet::procs_prio(&all);
        let Ok(Request::ProcsPrio(batch)) = Request::decode(packet.as_bytes()) else {
            return Err(TestCaseError::fail("no batch"));
        };
        prop_assert_eq!(batch.map(Result::unwrap).collect::<Vec<_>>(), all.clone());
        for one in all {
            let packet = Request::ProcPrio(one).encode();
            prop_assert_eq!(Request::decode(packet.as_bytes()), Ok(Request::ProcPrio(one)));
        }
    }

    #[test]
    fn statistics_survive_the_way(longs in any::<[i64; 6]>(), words in any::<[i32; 7]>(),
                                  uid: u32, name in vec(1..=255_u8, 0..300)) {
        let stat = KillStat {
            pgfault: longs[0],
            pgmajfault: longs[1],
            rss_in_bytes: longs[2],
            cache_in_bytes: longs[3],
            swap_in_bytes: longs[4],
            process_start_time_ns: longs[5],
            uid,
            oom_score_adj: words[0],
            min_oom_score: words[1],
            free_mem_kb: words[2],
            free_swap_kb: words[3],
            kill_reason: words[4],
            thrashing: words[5],
            max_thrashing: words[6],
        };
        let packet = stat.encode(&name);
        let name = &name[..name.len().min(STAT_NAME_MAX)];
        prop_assert_eq!(packet.as_bytes().len(), 87 + name.len());
        prop_assert_eq!(Message::decode(packet.as_bytes()), Some(Message::Stat(stat, name)));
    }
}
