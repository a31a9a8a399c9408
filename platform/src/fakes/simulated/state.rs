//! The kernel's side: what travels, arrives, is taken, lingers and breaks, and what is due to be told of it.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use super::moment::Moment;
use super::random::Random;
use super::weather::{Happening, Weather};
use super::wire::{Completion, Peer, Travel, Wire};
use crate::{Close, ConnectionId, Event, ListenerId};

/// As the real backends: how long accepting rests when descriptors run short.
const ACCEPT_BACK_OFF: Moment = 75_000;

#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "independent facts about one listener")]
pub(super) struct Listener {
    pub(super) id: ListenerId,
    pub(super) accepts: bool,
    pub(super) is_ending: bool,
    pub(super) fails: bool,
    pub(super) backlog: VecDeque<Peer>,
    pub(super) retry_at: Moment,
    pub(super) told_of_stall: bool,
}

#[derive(Debug)]
pub(super) struct State {
    pub(super) started: Instant,
    pub(super) now: Moment,
    pub(super) random: Random,
    pub(super) weather: Weather,
    pub(super) wires: Vec<Wire>,
    pub(super) listeners: Vec<Listener>,
    pub(super) null: File,
    pub(super) counts: [u32; Happening::ALL.len()],
    pub(super) hash: u64,
    pub(super) trace: Option<Vec<String>>,
    pub(super) slots_used: u64,
    pub(super) linger_bytes_max: usize,
}

impl State {
    pub(super) fn count(&mut self, what: Happening) {
        self.counts[what as usize] += 1;
    }

    pub(super) fn note(&mut self, what: &'static str, whom: u64, amount: u64) {
        self.hash = mix(mix(mix(mix(self.hash, self.now), sum(what.as_bytes())), whom), amount);
        if let Some(trace) = &mut self.trace {
            trace.push(format!("{:>12.6} s  {what} {whom:#x} {amount}", Duration::from_micros(self.now).as_secs_f64()));
        }
    }

    pub(super) fn latency(&mut self) -> Moment {
        let max = self.weather.latency_max;
        if max == 0 { 0 } else { self.random.below(max) }
    }

    pub(super) fn travel(&mut self, peer: Peer, what: &'static str, amount: usize, travel: Travel) {
        self.note(what, peer.0 as u64, amount as u64);
        let at = self.now + self.latency();
        let wire = &mut self.wires[peer.0];
        let at = wire.under_way.back().map_or(at, |(last, _)| at.max(*last));
        wire.under_way.push_back((at, travel));
    }

    pub(super) fn of(&mut self, id: ConnectionId) -> Option<usize> {
        self.wires.iter().position(|wire| wire.connection == Some(id) && wire.history.closed_at.is_none())
    }

    /// Lets everything happen to one wire that is due, but for the telling.
    pub(super) fn work(&mut self, index: usize) {
        if self.wires[index].connection.is_none() {
            return;
        }
        while self.wires[index].under_way.front().is_some_and(|(at, _)| *at <= self.now) {
            if let Some((_, travel)) = self.wires[index].under_way.pop_front() {
                self.arrive(index, travel);
            }
        }
        // Reading makes room, and room lets the kernel take more.
        while self.read(index) | self.take(index) {}
        self.go_on_closing(index);
    }

    pub(super) fn arrive(&mut self, index: usize, travel: Travel) {
        let wire = &mut self.wires[index];
        match travel {
            Travel::Bytes(_) if wire.is_released => self.destroy_unread(index),
            Travel::Bytes(bytes) => {
                if let Some((until, left)) = &mut wire.lingers {
                    let is_too_much = bytes.len() >= *left;
                    *left = left.saturating_sub(bytes.len());
                    if is_too_much && wire.coming.is_empty() {
                        *until = self.now;
                        // What stands behind these bytes is answered by a reset.
                        wire.coming.push_back(0);
                        wire.history.sent_too_much = true;
                        self.count(Happening::LingerBytes);
                    }
                } else if !wire.has_failed {
                    wire.coming.extend(bytes);
                }
            }
            Travel::End => {
                wire.has_ended = true;
                self.count(Happening::Eof);
            }
            Travel::Reset(code) => self.fail(index, code),
        }
    }

    /// A reset reaches the peer: on many systems that ends what it had not read yet.
    pub(super) fn destroy_unread(&mut self, index: usize) {
        let loses = self.random.chance(self.weather.loses);
        let wire = &mut self.wires[index];
        if loses && wire.read < wire.out.len() {
            (wire.history.lost, wire.taken) = (true, wire.read);
            self.count(Happening::LostBytes);
        }
    }

    pub(super) fn fail(&mut self, index: usize, code: i32) {
        let loses = self.random.chance(self.weather.loses);
        let at = self.now + self.latency();
        let wire = &mut self.wires[index];
        if wire.is_released || wire.has_failed {
            return;
        }
        wire.has_failed = true;
        if loses {
            wire.coming.clear();
            wire.completions.retain(|(_, completion)| !matches!(completion, Completion::Sent(_)));
        }
        let was_sending = wire.sending.take().is_some();
        if wire.closing.is_some() {
            self.count(Happening::ResetWhileClosing);
            self.release(index);
            return;
        }
        wire.complete(at, Completion::Error(code));
        self.count(Happening::PeerReset);
        if was_sending {
            self.count(Happening::ResetInSend);
        }
    }

    /// The peer reads; whether it did.
    pub(super) fn read(&mut self, index: usize) -> bool {
        let now = self.now;
        let wire = &mut self.wires[index];
        if wire.read == wire.taken || !wire.is_reading() || wire.has_failed || wire.read_at > now {
            return false;
        }
        let bytes = (wire.taken - wire.read).min(wire.reader.bytes).min(wire.reader.stops_after - wire.read);
        wire.read += bytes;
        wire.read_at = now + wire.reader.pause;
        true
    }

    /// The kernel takes of the present send what it has room for; whether it took any.
    pub(super) fn take(&mut self, index: usize) -> bool {
        let wire = &self.wires[index];
        if wire.sending.is_none() || wire.take_at > self.now || (wire.room() == 0 && wire.taken < wire.out.len()) {
            return false;
        }
        let all = wire.out.len() - wire.taken;
        let mut bytes = all.min(wire.room());
        let is_full = bytes < all;
        if bytes > 1 && self.random.chance(self.weather.shortens) {
            bytes = 1 + self.random.below(bytes as u64 - 1) as usize;
            self.wires[index].take_at = self.now + 1 + self.latency();
            self.count(Happening::Shortened);
        } else if is_full {
            self.count(Happening::WindowFull);
        }
        let at = self.now + self.latency();
        let wire = &mut self.wires[index];
        wire.taken += bytes;
        if wire.taken == wire.out.len()
            && let Some(out) = wire.sending.take()
        {
            wire.complete(at, Completion::Sent(out));
        }
        true
    }

    pub(super) fn go_on_closing(&mut self, index: usize) {
        let (now, bytes_max) = (self.now, self.linger_bytes_max);
        let wire = &mut self.wires[index];
        if wire.is_released || wire.sending.is_some() {
            return;
        }
        let is_over = match (wire.closing, wire.lingers) {
            (None, _) => false,
            (Some(Close::Abort | Close::AfterSend), _) => true,
            (Some(Close::Linger(time)), None) => {
                let unread = wire.coming.len();
                wire.coming.clear();
                wire.lingers = Some((now + time.as_micros() as Moment, bytes_max.saturating_sub(unread)));
                let is_too_much = unread > 0 && unread >= bytes_max;
                if is_too_much {
                    wire.coming.push_back(0);
                    wire.history.sent_too_much = true;
                    self.counts[Happening::LingerBytes as usize] += 1;
                }
                wire.has_ended || time.is_zero() || is_too_much
            }
            (Some(Close::Linger(_)), Some((until, _))) => {
                let is_over_by_time = until <= now && !wire.has_ended && wire.coming.is_empty();
                if is_over_by_time {
                    self.counts[Happening::LingerTime as usize] += 1;
                }
                wire.has_ended || until <= now
            }
        };
        if is_over {
            self.release(index);
        }
    }

    /// The kernel closes the socket. Bytes that nobody read turn that into a reset.
    pub(super) fn release(&mut self, index: usize) {
        let at = self.now + self.latency();
        let wire = &mut self.wires[index];
        let is_reset = wire.closing == Some(Close::Abort) || !wire.coming.is_empty();
        wire.is_released = true;
        wire.history.was_reset = is_reset;
        wire.socket = None;
        wire.complete(at, Completion::Closed);
        if is_reset {
            self.destroy_unread(index);
        }
    }

    /// Tells one completion of a wire, if one is due.
    pub(super) fn tell_completion(&mut self, index: usize, events: &mut Vec<Event>) -> bool {
        let now = self.now;
        let wire = &mut self.wires[index];
        let Some(connection) = wire.connection else { return false };
        if wire.completions.front().is_none_or(|(at, _)| *at > now) {
            return false;
        }
        let Some((_, completion)) = wire.completions.pop_front() else { return false };
        match completion {
            Completion::Sent(out) => {
                let record = wire.history.sends.iter_mut().find(|record| record.told_at.is_none());
                let bytes = out.len() as u64;
                if let Some(record) = record {
                    record.told_at = Some(now);
                }
                let is_late = wire.closing.is_some();
                events.push(Event::Sent { connection, out });
                self.note("Sent", connection.bits(), bytes);
                if is_late {
                    self.count(Happening::SentAfterClose);
                }
            }
            Completion::Error(code) => {
                // Closed meanwhile: only `Closed` follows, and `close` has seen to it.
                wire.coming.clear();
                wire.told_of_failure = true;
                wire.history.error_at = Some(now);
                events.push(Event::Error { connection, error: io::Error::from_raw_os_error(code) });
                self.note("Error", connection.bits(), code as u64);
            }
            Completion::Closed => {
                wire.history.closed_at = Some(now);
                events.push(Event::Closed { connection });
                self.note("Closed", connection.bits(), 0);
            }
        }
        true
    }

    pub(super) fn accept(&mut self, events: &mut Vec<Event>) {
        let mut at = 0;
        while at < self.listeners.len() {
            if self.accept_from(at, events) {
                at += 1;
            } else {
                self.listeners.swap_remove(at);
            }
        }
    }

    /// Whether the listener goes on.
    pub(super) fn accept_from(&mut self, at: usize, events: &mut Vec<Event>) -> bool {
        let id = self.listeners[at].id;
        if self.listeners[at].fails {
            self.note("ListenerGone", id.0.into(), 1);
            self.count(Happening::ListenerFailed);
            events.push(Event::ListenerGone { listener: id, error: Some(io::ErrorKind::InvalidInput.into()) });
            return false;
        }
        while (self.listeners[at].accepts || self.listeners[at].is_ending)
            && self.listeners[at].retry_at <= self.now
            && !self.listeners[at].backlog.is_empty()
        {
            if self.random.chance(self.weather.stalls) {
                self.listeners[at].retry_at = self.now + ACCEPT_BACK_OFF;
                if !std::mem::replace(&mut self.listeners[at].told_of_stall, true) {
                    self.note("AcceptStalled", id.0.into(), 0);
                    self.count(Happening::AcceptStalled);
                    let error = io::Error::from_raw_os_error(libc::EMFILE);
                    events.push(Event::AcceptStalled { listener: id, error });
                }
                return true;
            }
            let Some(peer) = self.listeners[at].backlog.pop_front() else { break };
            let socket = OwnedFd::from(self.null.try_clone().expect("a simulation has a descriptor left"));
            self.wires[peer.0].accepted_as = Some(socket.as_raw_fd());
            self.listeners[at].told_of_stall = false;
            self.note("Accepted", peer.0 as u64, 0);
            events.push(Event::Accepted { listener: id, socket, peer: None });
        }
        if self.listeners[at].backlog.is_empty() {
            self.listeners[at].told_of_stall = false;
            if self.listeners[at].is_ending {
                self.note("ListenerGone", id.0.into(), 0);
                events.push(Event::ListenerGone { listener: id, error: None });
                return false;
            }
        }
        true
    }

    pub(super) fn next_due(&self) -> Option<Moment> {
        let listeners = self.listeners.iter().filter(|listener| {
            listener.fails || listener.is_ending || (listener.accepts && !listener.backlog.is_empty())
        });
        let wires = self.wires.iter().filter_map(Wire::next_due);
        listeners.map(|listener| listener.retry_at).chain(wires).min()
    }
}

pub(super) fn mix(hash: u64, value: u64) -> u64 {
    (hash ^ value).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29)
}

/// Depends on each byte and its place; eight at a time.
pub(super) fn sum(bytes: &[u8]) -> u64 {
    let words = bytes.chunks(8).map(|chunk| {
        let mut word = [0; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        u64::from_le_bytes(word)
    });
    words.fold(0, mix)
}
