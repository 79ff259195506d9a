//! One operator's connection.

use super::answer::Answer;
use super::Packet;
use crate::clock::MonoTime;
use crate::recorder::journal::Shared;
use crate::recorder::record::End;
use crate::recorder::record::Header;
use crate::recorder::ring::Cursor;
use crate::recorder::wire::Request;
use rustix::io::Errno;
use rustix::net::RecvFlags;
use rustix::net::SendFlags;
use std::os::fd::AsFd;
use std::os::fd::BorrowedFd;
use std::os::fd::OwnedFd;

/// How long the loop may take to answer, ms.
const ANSWER_MS: i64 = 2000;

/// Whoever does not read for this long is hung up on, ms.
const BLOCKED_MS: i64 = 30_000;

/// A connection.
pub(super) struct Client {
    socket: OwnedFd,
    task: Task,
    sent: u64,
    /// Since when it has not read.
    blocked: Option<MonoTime>,
}

#[derive(Clone, Copy)]
enum Task {
    Idle,
    /// Waits for the loop's answer, which will stand from this place on.
    Status {
        answers: Cursor,
        since: MonoTime,
        asked: bool,
    },
    /// Gets the ring from here to there.
    Dump {
        from: Cursor,
        to: Cursor,
    },
    /// Gets the ring from here on.
    Follow {
        from: Cursor,
    },
    /// Gets the end of an answer.
    End,
    /// Gets a refusal.
    Refuse(&'static str),
}

/// What became of a packet.
#[derive(PartialEq, Eq)]
enum Sent {
    Yes,
    /// The client does not read.
    Blocked,
    Gone,
}

impl Client {
    pub(super) fn new(socket: OwnedFd) -> Self {
        Self { socket, task: Task::Idle, sent: 0, blocked: None }
    }

    /// Sends the first packet. False if the client is gone.
    pub(super) fn greet(&mut self, packet: &Packet) -> bool {
        self.send(packet, MonoTime::ZERO) == Sent::Yes
    }

    /// Whether every record is of interest to it.
    pub(super) fn follows(&self) -> bool {
        matches!(self.task, Task::Follow { .. })
    }

    /// Whether it does not read.
    pub(super) fn is_blocked(&self) -> bool {
        self.blocked.is_some()
    }

    #[cfg(test)]
    pub(super) fn has_not_read_since(&mut self, when: MonoTime) {
        self.blocked = Some(when);
    }

    /// Whether the loop is still to be asked for it.
    pub(super) fn has_question(&self) -> bool {
        matches!(self.task, Task::Status { asked: false, .. })
    }

    /// The loop has been asked.
    pub(super) fn question_is_asked(&mut self) {
        if let Task::Status { asked, .. } = &mut self.task {
            *asked = true;
        }
    }

    /// When its patience, or ours with it, ends.
    pub(super) fn due(&self) -> Option<MonoTime> {
        match (self.blocked, self.task) {
            // What it asked for stands ready.
            (Some(since), _) => Some(since.plus_millis(BLOCKED_MS)),
            (None, Task::Status { since, .. }) => Some(since.plus_millis(ANSWER_MS)),
            (None, _) => None,
        }
    }

    /// Takes requests and sends what there is. False if the connection is over.
    pub(super) fn serve(
        &mut self,
        shared: &Shared,
        header: &Header,
        packet: &mut Packet,
        now: MonoTime,
    ) -> bool {
        if self.blocked.is_some_and(|since| since.plus_millis(BLOCKED_MS) <= now) {
            log::warn!("an operator is hung up on: it has not read for {BLOCKED_MS}ms");
            return false;
        }
        if !self.take_requests(shared, now) {
            return false;
        }
        loop {
            let mut next = self.task;
            let more = match &mut next {
                Task::Idle => return true,
                Task::Follow { from } => packet.fill(&shared.history, from),
                Task::Dump { from, to } => {
                    // What was written since the request is sent too if it shares a packet.
                    !from.reaches(to) && packet.fill(&shared.history, from)
                }
                Task::Status { answers, since, asked } => {
                    let answer = asked.then(|| Answer::find(&shared.answers, packet, *answers));
                    let answer = answer.flatten();
                    let answered = answer.is_some();
                    if let Some(answer) = answer {
                        answer.complete(header, packet);
                    }
                    if !answered && since.plus_millis(ANSWER_MS) <= now {
                        self.task = Task::Refuse("the daemon's loop does not answer; is it stuck?");
                        continue;
                    }
                    answered
                }
                Task::End => {
                    packet.one(&End { records: self.sent });
                    true
                }
                Task::Refuse(why) => {
                    packet.refuse(why);
                    true
                }
            };
            if !more {
                if let Task::Dump { .. } = next {
                    self.task = Task::End;
                    continue;
                }
                return true;
            }
            match self.send(packet, now) {
                Sent::Yes => {}
                // It is copied anew when the client has read: the ring keeps it as long as it can.
                Sent::Blocked => return true,
                Sent::Gone => return false,
            }
            self.task = match next {
                Task::Status { .. } => Task::End,
                Task::End | Task::Refuse(_) => Task::Idle,
                other => other,
            };
        }
    }

    fn take_requests(&mut self, shared: &Shared, now: MonoTime) -> bool {
        // A byte more than a request, so that a longer packet is none.
        let mut bytes = [0; 5];
        loop {
            match rustix::net::recv(&self.socket, &mut bytes[..], RecvFlags::DONTWAIT) {
                Ok((0, _)) => return false,
                Ok((len, _)) => {
                    self.sent = 0;
                    self.task = match Request::decode(bytes.get(..len).unwrap_or(&[])) {
                        Ok(Request::Status) => {
                            Task::Status { answers: shared.answers.end(), since: now, asked: false }
                        }
                        Ok(Request::Dump) => {
                            Task::Dump { from: Cursor::default(), to: shared.history.end() }
                        }
                        Ok(Request::Follow { history: true }) => {
                            Task::Follow { from: Cursor::default() }
                        }
                        Ok(Request::Follow { history: false }) => {
                            Task::Follow { from: shared.history.end() }
                        }
                        Err(_) => Task::Refuse("this is no request of version 1"),
                    };
                }
                Err(Errno::AGAIN) => return true,
                Err(Errno::INTR) => {}
                Err(_) => return false,
            }
        }
    }

    fn send(&mut self, packet: &Packet, now: MonoTime) -> Sent {
        let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
        loop {
            return match rustix::net::send(&self.socket, packet.bytes(), flags) {
                Ok(_) => {
                    self.blocked = None;
                    self.sent = self.sent.saturating_add(packet.records());
                    Sent::Yes
                }
                Err(Errno::INTR) => continue,
                Err(Errno::AGAIN | Errno::NOBUFS) => {
                    self.blocked.get_or_insert(now);
                    Sent::Blocked
                }
                Err(_) => Sent::Gone,
            };
        }
    }
}

impl AsFd for Client {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
