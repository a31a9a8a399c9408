//! What is so at a moment of the script: its clock, its peers, its listeners, and what is still to be played.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixDatagram;
use std::time::{Duration, Instant};

use super::step::{Asked, Peer, Step};
use crate::{Close, ConnectionId, Event, ListenerId, OutBuf, Wait, WatchId};

#[derive(Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "independent facts about one peer; most of their mixes occur")]
pub(super) struct PeerState {
    /// The descriptor under which it was accepted, until it is adopted.
    pub(super) accepted_as: Option<RawFd>,
    pub(super) connection: Option<ConnectionId>,
    /// Held so that the number is not used again.
    pub(super) socket: Option<OwnedFd>,
    pub(super) coming: VecDeque<u8>,
    pub(super) has_ended: bool,
    pub(super) told_of_end: bool,
    pub(super) has_failed: bool,
    pub(super) pauses_reading: bool,
    pub(super) sending: Option<OutBuf>,
    pub(super) holds_sends: bool,
    pub(super) sent: Vec<u8>,
    pub(super) closing: Option<Close>,
    pub(super) linger_until: Option<Instant>,
    pub(super) is_closed: bool,
}

#[derive(Debug)]
pub(super) struct ListenerState {
    pub(super) id: ListenerId,
    pub(super) accepts: bool,
    pub(super) is_ending: bool,
    pub(super) backlog: VecDeque<Peer>,
}

#[derive(Debug)]
pub(super) struct State {
    pub(super) now: Instant,
    /// When the last turn of the script was played: delays count from it.
    pub(super) played_at: Instant,
    pub(super) turns: VecDeque<(Duration, Vec<Step>)>,
    pub(super) peers: Vec<PeerState>,
    pub(super) listeners: Vec<ListenerState>,
    pub(super) watches: Vec<WatchId>,
    pub(super) asked: Vec<Asked>,
}

impl PeerState {
    /// Whether something came that its connection was not told.
    pub(super) fn has_to_tell(&self) -> bool {
        let reads = !self.pauses_reading && !self.has_failed && !self.is_closed && self.closing.is_none();
        let has_more = !self.coming.is_empty() || (self.has_ended && !self.told_of_end);
        self.connection.is_some() && reads && has_more
    }
}

impl State {
    pub(super) fn new_peer(&mut self) -> Peer {
        self.peers.push(PeerState::default());
        Peer(self.peers.len() - 1)
    }

    pub(super) fn of(&mut self, id: ConnectionId) -> Option<&mut PeerState> {
        self.peers.iter_mut().find(|peer| peer.connection == Some(id) && !peer.is_closed)
    }

    pub(super) fn listener(&mut self, id: ListenerId) -> Option<&mut ListenerState> {
        self.listeners.iter_mut().find(|listener| listener.id == id)
    }

    /// Moves the clock as far as this wait goes; whether the next turn of the script is due then.
    pub(super) fn advance(&mut self, wait: Wait, has_something: bool) -> io::Result<bool> {
        let due = self.turns.front().map(|(delay, _)| self.played_at + *delay);
        let lingering = self.peers.iter().filter(|peer| !peer.is_closed).filter_map(|peer| peer.linger_until);
        let next = due.into_iter().chain(lingering).min();
        let until = match wait {
            _ if has_something => self.now,
            Wait::Poll => self.now,
            Wait::For(time) => next.map_or(self.now + time, |next| next.min(self.now + time)),
            Wait::Forever => next.ok_or_else(|| {
                io::Error::new(io::ErrorKind::UnexpectedEof, "the script is over, and the worker waits for ever")
            })?,
        };
        self.now = self.now.max(until);
        Ok(due.is_some_and(|due| due <= self.now))
    }

    pub(super) fn play(&mut self, step: Step, events: &mut Vec<Event>) {
        match step {
            Step::Connect { listener, peer } => {
                if let Some(listener) = self.listener(listener) {
                    listener.backlog.push_back(peer);
                } else {
                    // Nobody listens under this id yet, or any more: the test talks to a bare platform.
                    self.accept(listener, peer, events);
                }
            }
            Step::Bytes { peer, bytes } => self.peers[peer.0].coming.extend(bytes),
            Step::End { peer } => self.peers[peer.0].has_ended = true,
            Step::Fail { peer, code } => {
                let peer = &mut self.peers[peer.0];
                let Some(connection) = peer.connection.filter(|_| !peer.has_failed && !peer.is_closed) else { return };
                (peer.has_failed, peer.sending) = (true, None);
                if peer.closing.is_none() {
                    events.push(Event::Error { connection, error: io::Error::from_raw_os_error(code) });
                }
            }
            Step::Take { peer } => self.complete_send(peer, events),
            Step::Stall { listener, code } => {
                events.push(Event::AcceptStalled { listener, error: io::Error::from_raw_os_error(code) });
            }
            Step::ListenerFails { listener, code } => {
                self.listeners.retain(|other| other.id != listener);
                events.push(Event::ListenerGone { listener, error: Some(io::Error::from_raw_os_error(code)) });
            }
            Step::Readable { watch } => {
                if self.watches.contains(&watch) {
                    events.push(Event::Watch { watch });
                }
            }
            Step::Pass { time } => self.now += time,
        }
    }

    pub(super) fn accept(&mut self, listener: ListenerId, peer: Peer, events: &mut Vec<Event>) {
        let socket = OwnedFd::from(UnixDatagram::unbound().expect("a test has a descriptor left"));
        self.peers[peer.0].accepted_as = Some(socket.as_raw_fd());
        events.push(Event::Accepted { listener, socket, peer: None });
    }

    pub(super) fn accept_all(&mut self, events: &mut Vec<Event>) {
        let accepting = self.listeners.iter_mut().filter(|listener| listener.accepts || listener.is_ending);
        let found: Vec<_> =
            accepting.flat_map(|listener| listener.backlog.drain(..).map(|peer| (listener.id, peer))).collect();
        for (listener, peer) in found {
            self.accept(listener, peer, events);
        }
        let ended = self.listeners.iter().filter(|listener| listener.is_ending).map(|listener| listener.id);
        events.extend(ended.map(|listener| Event::ListenerGone { listener, error: None }));
        self.listeners.retain(|listener| !listener.is_ending);
    }

    pub(super) fn complete_send(&mut self, peer: Peer, events: &mut Vec<Event>) {
        let peer = &mut self.peers[peer.0];
        if let (Some(connection), Some(out)) = (peer.connection, peer.sending.take()) {
            peer.sent.extend_from_slice(&out.head);
            peer.sent.extend_from_slice(&out.body);
            events.push(Event::Sent { connection, out });
        }
    }

    /// Closes what has nothing left to wait for.
    pub(super) fn close_all(&mut self, events: &mut Vec<Event>) {
        let now = self.now;
        for peer in self.peers.iter_mut().filter(|peer| !peer.is_closed) {
            let (Some(connection), Some(how)) = (peer.connection, peer.closing) else { continue };
            let is_over = match how {
                Close::Abort => true,
                Close::AfterSend => peer.sending.is_none(),
                Close::Linger(time) if peer.sending.is_none() => {
                    let until = *peer.linger_until.get_or_insert(now + time);
                    until <= now || peer.has_ended || peer.has_failed
                }
                Close::Linger(_) => false,
            };
            if is_over {
                (peer.is_closed, peer.socket) = (true, None);
                events.push(Event::Closed { connection });
            }
        }
    }
}
