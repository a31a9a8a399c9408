//! A client as the plan wants it: connects, writes in pieces, waits for answers or does not, ends or breaks.

use std::rc::Rc;

use turboapi_platform::ListenerId;
use turboapi_platform::fakes::simulated::{Moment, Network, Peer};

use crate::plan::{ClientPlan, Ending, Item, Plan, Valid};
use crate::response;

/// One client.
#[derive(Debug)]
pub struct Client {
    plan: Rc<Plan>,
    index: usize,
    /// Its connection, once there is one.
    pub peer: Option<Peer>,
    is_done: bool,
    /// Nothing of it before this time.
    next_at: Moment,
    connected_at: Moment,
    /// The item that it is at, and how much of it was written.
    item: usize,
    offset: usize,
    /// Where the next answer begins in what it has read, and what came so far.
    parsed: usize,
    answers: usize,
    interims: usize,
    /// An answer said `connection: close`.
    was_told_to_close: bool,
    /// Waits for `100 Continue` until then; for ever if none.
    patience: Option<Option<Moment>>,
    interims_before: usize,
    /// Where it stops in its last item, if it does.
    stops_at: usize,
}

impl Client {
    /// Before its connection.
    #[must_use]
    pub fn new(plan: Rc<Plan>, index: usize, network: &Network) -> Self {
        let own = &plan.clients[index];
        let last = own.items.last().map_or(0, |item| item.bytes.len());
        let stops_at = match own.ending {
            Ending::Midway | Ending::Stops if last > 0 => network.draw(|random| random.below(last as u64)) as usize,
            _ => last,
        };
        Self {
            next_at: own.connect_at,
            plan,
            index,
            peer: None,
            is_done: false,
            connected_at: 0,
            item: 0,
            offset: 0,
            parsed: 0,
            answers: 0,
            interims: 0,
            was_told_to_close: false,
            patience: None,
            interims_before: 0,
            stops_at,
        }
    }

    /// What the plan says of it.
    #[must_use]
    pub fn own(&self) -> &ClientPlan {
        &self.plan.clients[self.index]
    }

    /// Whether it will do nothing more.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.is_done
    }

    /// When it will do something by itself; none if it waits for the server.
    #[must_use]
    pub fn next_due(&self) -> Option<Moment> {
        if self.is_done {
            return None;
        }
        let Some(_) = self.peer else { return Some(self.next_at) };
        let breaks = match self.own().ending {
            Ending::Breaks(after, _) => Some(self.connected_at + after),
            _ => None,
        };
        let patience = self.patience.flatten();
        let writes = (self.patience.is_none() && self.may_write()).then_some(self.next_at);
        [breaks, patience, writes].into_iter().flatten().min()
    }

    /// Whether the next bytes may be written, but for the time.
    fn may_write(&self) -> bool {
        let own = self.own();
        self.item < own.items.len() && (own.is_pipelined || self.offset > 0 || self.answers >= self.item)
    }

    /// Does what its time has come for.
    pub fn act(&mut self, network: &Network) {
        if self.is_done {
            return;
        }
        let now = network.now();
        let Some(peer) = self.peer else {
            if now >= self.next_at {
                self.peer = network.connect(ListenerId(0), self.own().reader);
                self.is_done = self.peer.is_none();
                self.connected_at = now;
            }
            return;
        };
        if let Ending::Breaks(after, code) = self.own().ending
            && now >= self.connected_at + after
        {
            network.reset(peer, code);
            self.is_done = true;
            return;
        }
        if network.is_over_for_peer(peer) {
            self.is_done = true;
            return;
        }
        self.read(peer, network);
        if let Some(until) = self.patience {
            let was_let = self.interims > self.interims_before || self.answers > self.item;
            if !was_let && until.is_none_or(|until| now < until) {
                return;
            }
            self.patience = None;
            // RFC 9110 §10.1.1: who is answered while it waits may send the body all the same, or leave it out. What comes
            // in parts may look whole before its handler is done.
            let valid = self.own().items.get(self.item).and_then(Item::valid);
            let looks_whole = valid.is_some_and(Valid::streams);
            let is_final = self.answers > self.item && self.interims == self.interims_before;
            if is_final && !looks_whole && network.draw(|random| random.chance(128)) {
                (self.item, self.offset) = (self.item + 1, 0);
            }
        }
        self.write(peer, network);
    }

    fn read(&mut self, peer: Peer, network: &Network) {
        let answers_before = self.answers;
        network.with_read(peer, |bytes| {
            while self.parsed < bytes.len() {
                let is_head = self.own().items.get(self.answers).is_some_and(Item::is_head);
                // What is wrong with an answer is for the judge, who sees all of it.
                let Ok(Some(response)) = response::parse(&bytes[self.parsed..], is_head, false) else { break };
                self.parsed += response.end;
                if response.status < 200 {
                    self.interims += 1;
                } else {
                    self.answers += 1;
                    self.was_told_to_close |= response.closes;
                }
            }
        });
        if self.answers > answers_before && self.offset == 0 && !self.own().is_pipelined {
            self.next_at = network.now() + self.own().think;
        }
    }

    fn write(&mut self, peer: Peer, network: &Network) {
        let plan = Rc::clone(&self.plan);
        let own = &plan.clients[self.index];
        let mut bytes = Vec::new();
        // Pieces without a pause between them leave as one, as far as nothing has to be waited for.
        while network.now() >= self.next_at && self.may_write() && self.patience.is_none() {
            let item = &own.items[self.item];
            let is_last = self.item + 1 == own.items.len();
            let end = if is_last { self.stops_at } else { item.bytes.len() };
            let waits_at = match item.valid() {
                Some(valid) if valid.expects.is_some() && self.offset < item.head_bytes => item.head_bytes.min(end),
                _ => end,
            };
            let max = own.write_bytes_max;
            let wanted =
                if max == usize::MAX { max } else { 1 + network.draw(|random| random.below(max as u64)) as usize };
            // One that writes by the byte would never end with a long body.
            let wanted = wanted.max(item.bytes.len() / 100);
            let piece = wanted.min(waits_at - self.offset);
            bytes.extend_from_slice(&item.bytes[self.offset..self.offset + piece]);
            self.offset += piece;
            if let Some(patience) =
                item.valid().and_then(|valid| valid.expects).filter(|_| self.offset == item.head_bytes)
            {
                self.patience = Some(patience.map(|time| network.now() + time));
                self.interims_before = self.interims;
            }
            if self.offset == end {
                (self.item, self.offset) = (self.item + 1, 0);
            }
            self.next_at = network.now() + own.write_pause;
        }
        if !bytes.is_empty() {
            network.write(peer, &bytes);
        }
        let has_written = self.item == own.items.len();
        match own.ending {
            Ending::AfterWriting | Ending::Midway if has_written => self.end(peer, network),
            Ending::AfterAnswers if has_written && (self.answers >= own.items.len() || self.was_told_to_close) => {
                self.end(peer, network);
            }
            _ => {}
        }
    }

    fn end(&mut self, peer: Peer, network: &Network) {
        network.end(peer);
        self.is_done = true;
    }
}
