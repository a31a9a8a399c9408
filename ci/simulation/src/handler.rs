//! The handler of a run: checks what it is given against the plan, reads and answers as the plan says, and checks what it is told.
//! What an answer consists of is in `handler/answering.rs`.

mod answering;

use std::rc::Rc;

use bytes::Bytes;
use turboapi_core::answer::Answer;
use turboapi_core::handler::{BodyUse, Ended, Handler, Outcome, Part};
use turboapi_core::request::{Request, RequestId};
use turboapi_core::router::{Match, RouteId};
use turboapi_core::worker::Worker;
use turboapi_platform::fakes::simulated::{Moment, Network};
use turboapi_platform::{ConnectionId, Platform};

use crate::bodies::{Intake, Route};
use crate::plan::{Form, Item, Plan, Valid};
use crate::tally::{self, Tally};

/// Microseconds after which a call took long.
const LONG: Moment = 500;

/// One call of the handler.
#[derive(Clone, Debug)]
pub struct Call {
    /// On which connection.
    pub connection: ConnectionId,
    /// For which request.
    pub token: u32,
    /// When.
    pub at: Moment,
    /// When it was told that its answer is complete, or the connection gone. At once where it answered at once.
    pub ended_at: Option<Moment>,
    /// It was told that the connection is gone.
    pub was_gone: bool,
    /// The answer was begun, then given up.
    pub was_cut: bool,
    /// How far its body had come when it began to answer.
    pub began: Option<Progress>,
    /// The same when it gave the last of its answer.
    pub answered: Option<Progress>,
    /// Each time that it was given something of its body, and how much it had then. The first is the call.
    pub given: Vec<Progress>,
    /// Each read, and how much it has taken with that.
    pub reads: Vec<(Moment, usize)>,
    /// How many requests the handler had when it was called, this one not among them.
    pub waiting_before: usize,
}

/// How far a body had come.
#[derive(Clone, Copy, Debug)]
pub struct Progress {
    /// When.
    pub at: Moment,
    /// Bytes that its handler was given.
    pub given: usize,
    /// Its handler was told that this is all.
    pub is_complete: bool,
    /// How often its handler had read.
    pub reads: usize,
}

/// A request that is to be answered later.
#[derive(Debug)]
struct Waiting {
    id: RequestId,
    call: usize,
    due: Moment,
    /// Parts that were handed over, the start among them.
    handed: usize,
    /// Bytes of its body that it has taken.
    taken: usize,
    /// Its next read; none while it waits for a part, or wants no more.
    read_at: Option<Moment>,
    wants_more: bool,
    awaits_writable: bool,
    writable_allowed: usize,
    was_told_of_half_close: bool,
}

/// See the module.
#[derive(Debug)]
pub struct Actor {
    plan: Rc<Plan>,
    network: Network,
    /// In order.
    pub calls: Vec<Call>,
    waiting: Vec<Waiting>,
    gone: Vec<RequestId>,
    complete: Vec<RequestId>,
    /// The last call did.
    took_long: bool,
    /// Counts.
    pub tally: Tally,
}

fn token_of(path: &str) -> Option<u32> {
    path.rsplit_once('/')?.1.parse().ok()
}

impl Plan {
    /// The item that has this token.
    #[must_use]
    pub fn item(&self, token: u32) -> Option<&Item> {
        let client = self.clients.get((token / 100).checked_sub(1)? as usize)?;
        client.items.get(token as usize % 100)
    }

    /// The same, where it was called and so must be valid.
    pub(crate) fn valid(&self, token: u32) -> &Valid {
        let valid = self.item(token).and_then(Item::valid);
        valid.unwrap_or_else(|| panic!("request {token}, which the handler was called with, is not one to be answered"))
    }
}

impl Actor {
    /// For this plan.
    #[must_use]
    pub fn new(plan: Rc<Plan>, network: Network) -> Self {
        Self {
            plan,
            network,
            calls: Vec::new(),
            waiting: Vec::new(),
            gone: Vec::new(),
            complete: Vec::new(),
            took_long: false,
            tally: Tally::default(),
        }
    }

    /// Requests that it has.
    #[must_use]
    pub fn waiting_count(&self) -> usize {
        self.waiting.len()
    }

    /// Whether all that it has are requests that it will never answer.
    #[must_use]
    pub fn answers_nobody(&self) -> bool {
        let form = |waiting: &Waiting| self.plan.valid(self.calls[waiting.call].token).conduct.form;
        self.waiting.iter().all(|waiting| form(waiting) == Form::Never)
    }

    /// When it will go on by itself.
    #[must_use]
    pub fn next_due(&self) -> Option<Moment> {
        let next = |waiting: &Waiting| waiting.read_at.into_iter().chain(waiting.answers_at()).min();
        self.waiting.iter().filter_map(next).min()
    }

    /// Reads, and gives the answers and parts of answers, whose time has come; connections in random order.
    pub fn go_on<P: Platform>(&mut self, worker: &mut Worker<P>) {
        while let Some(id) = self.gone.pop() {
            self.tally.add(tally::Outcome::StaleAnswer);
            let part = Part::Json { status: 200, body: Bytes::from_static(b"stale") };
            assert_eq!(worker.answer(id, part, self), Ok(false), "a late answer to {id:?} found somebody");
            assert!(!worker.read_body(id, 1), "a late read of {id:?} found somebody");
        }
        while let Some(id) = self.complete.pop() {
            assert!(!worker.read_body(id, 1), "{id:?} is answered, and its body can be read");
        }
        loop {
            let now = self.network.now();
            let is_due = |waiting: &Waiting| {
                waiting.answers_at().is_some_and(|at| at <= now) || waiting.read_at.is_some_and(|at| at <= now)
            };
            let due = self.waiting.iter().filter(|waiting| is_due(waiting)).count();
            if due == 0 {
                return;
            }
            let chosen = self.network.draw(|random| random.below(due as u64)) as usize;
            let Some(at) = (0..self.waiting.len()).filter(|at| is_due(&self.waiting[*at])).nth(chosen) else { return };
            let answers = self.waiting[at].answers_at().is_some_and(|at| at <= now);
            let reads = self.waiting[at].read_at.is_some_and(|at| at <= now);
            if reads && (!answers || self.network.draw(|random| random.chance(128))) {
                self.read_one(at, worker);
            } else {
                self.answer_one(at, worker);
            }
        }
    }

    /// Checks that what a handler has not taken stops its connection's reading over the bound, and nothing else does.
    ///
    /// # Panics
    /// Where it does not, or something else does.
    pub fn check_pauses(&self) {
        for waiting in &self.waiting {
            let call = &self.calls[waiting.call];
            let Some(progress) = call.given.last().filter(|progress| !progress.is_complete) else { continue };
            let untaken = progress.given - waiting.taken;
            let must_pause = untaken > self.plan.limits.body_untaken_bytes_max;
            let pauses = self.network.pauses_reading(call.connection);
            let token = call.token;
            assert_eq!(pauses, must_pause, "whether reading stands, with {untaken} bytes of {token} not taken");
        }
    }

    fn read_one<P: Platform>(&mut self, at: usize, worker: &mut Worker<P>) {
        let now = self.network.now();
        let waiting = &mut self.waiting[at];
        let call = &mut self.calls[waiting.call];
        let valid = self.plan.valid(call.token);
        let Intake { pause, bytes, stops_after, is_awaited, .. } = valid.body.intake;
        let progress = call.given.last().copied().unwrap_or_else(|| unreachable!("the call is the first"));
        let taken = (progress.given - waiting.taken).min(bytes).min(stops_after - waiting.taken);
        waiting.taken += taken;
        call.reads.push((now, waiting.taken));
        let has_all = progress.is_complete && waiting.taken == progress.given;
        waiting.wants_more = !has_all && waiting.taken < stops_after;
        waiting.read_at = (waiting.wants_more && waiting.taken < progress.given).then_some(now + pause);
        if !waiting.wants_more && is_awaited && valid.conduct.form != Form::Never {
            waiting.due = now + valid.conduct.later.unwrap_or_default();
        }
        if !has_all && !waiting.wants_more {
            self.tally.add(tally::Outcome::StoppedReading);
        }
        self.network.note("handler reads", u64::from(call.token), taken as u64);
        assert!(worker.read_body(waiting.id, taken), "the reader of {} is told that it is over", call.token);
    }

    fn answer_one<P: Platform>(&mut self, at: usize, worker: &mut Worker<P>) {
        let plan = Rc::clone(&self.plan);
        let waiting = &mut self.waiting[at];
        let (id, call, step) = (waiting.id, waiting.call, waiting.handed);
        waiting.handed += 1;
        let token = self.calls[call].token;
        let valid = plan.valid(token);
        let conduct = valid.conduct;
        let part = answering::part(token, valid, step);
        let more = matches!(part, Part::Body { more: true, .. });
        let is_last = !more && !matches!(part, Part::Start { .. });
        let fails = step > 0
            && (conduct.form == Form::WrongLength || conduct.form == Form::FailsWithin && matches!(part, Part::Failed));
        waiting.awaits_writable = more && matches!(conduct.form, Form::Parts { waits: true, .. });
        waiting.writable_allowed += usize::from(more);
        // Between two parts a little time may pass.
        waiting.due = self.network.now() + u64::from(step % 2 == 1) * 300 + conduct.part_pause;
        // HEAD takes any length: there is no body that could break its promise.
        self.calls[call].was_cut = fails && (conduct.form == Form::FailsWithin || valid.method != "HEAD");
        self.network.note("handler answers", u64::from(token), step as u64);
        let reads = self.calls[call].reads.len();
        let progress = Progress { at: self.network.now(), reads, ..self.calls[call].progress() };
        self.calls[call].began.get_or_insert(progress);
        if is_last && !self.calls[call].was_cut {
            self.calls[call].answered = Some(progress);
        }
        let done = worker.answer(id, part, self);
        let is_error = fails && conduct.form == Form::WrongLength && valid.method != "HEAD";
        assert_eq!(done.is_err(), is_error, "part {step} of {token}: {done:?}");
        assert!(done.is_err() || done == Ok(true), "the answer to {token} found nobody, and it was not told Gone");
        let still_waits = self.waiting.iter().any(|waiting| waiting.id == id);
        assert_eq!(still_waits, !is_last, "after part {step} of {token}");
    }

    /// Begins the record of a call, which ends it too where it is answered at once.
    fn note_call(&mut self, request: &Request<'_>, token: u32, is_later: bool) {
        let now = self.network.now();
        let valid = self.plan.valid(token);
        let progress = Progress { at: now, given: request.body.len(), is_complete: request.is_body_complete, reads: 0 };
        let began = (!is_later).then_some(progress);
        let was_cut = !is_later && matches!(valid.conduct.form, Form::FailsWithin | Form::WrongLength);
        self.calls.push(Call {
            connection: request.id.connection,
            token,
            at: now,
            ended_at: (!is_later).then_some(now),
            was_gone: false,
            was_cut,
            began,
            answered: began.filter(|_| !was_cut),
            given: vec![progress],
            reads: Vec::new(),
            waiting_before: self.waiting.len(),
        });
    }

    /// Keeps the request of the last call, which came at `now`, for an answer after `delay`.
    fn suspend(&mut self, request: &Request<'_>, valid: &Valid, now: Moment, delay: Moment) {
        let intake = valid.body.intake;
        let wants_more = !valid.body.route.is_whole() && intake.stops_after > 0;
        let waits = valid.conduct.form == Form::Never || wants_more && intake.is_awaited;
        self.waiting.push(Waiting {
            id: request.id,
            call: self.calls.len() - 1,
            due: if waits { Moment::MAX } else { now + delay },
            handed: 0,
            taken: if valid.body.route.is_whole() { request.body.len() } else { 0 },
            read_at: wants_more.then_some(now + intake.begins_after),
            wants_more,
            awaits_writable: false,
            writable_allowed: 0,
            was_told_of_half_close: false,
        });
    }

    fn check(&self, request: &Request<'_>) -> (u32, Rc<Plan>) {
        let plan = Rc::clone(&self.plan);
        let token = token_of(request.path).unwrap_or_else(|| panic!("the handler was called for {:?}", request.path));
        let valid = plan.valid(token);
        let method = request.head.method.name(request.head_bytes);
        assert_eq!(method, valid.method.as_bytes(), "method of {token}");
        check_part(token, valid, 0, request.body, request.is_body_complete);
        assert!(request.is_body_complete || !valid.body.route.is_whole(), "{token} was called before it was whole");
        assert_eq!(request.head.minor_version == 0, valid.is_old, "version of {token}");
        (token, plan)
    }
}

/// Holds a part of a body against the plan, and whether it is the last.
fn check_part(token: u32, valid: &Valid, given: usize, part: &[u8], is_complete: bool) {
    let content = &valid.body.content;
    let end = given + part.len();
    assert!(
        content.get(given..end) == Some(part),
        "body of {token}: {} bytes after {given} are not its own",
        part.len()
    );
    assert!(!is_complete || end == content.len(), "body of {token}: complete with {end} of {} bytes", content.len());
    assert!(!is_complete || valid.body.breaks.is_none(), "body of {token}: complete, and it is malformed");
}

impl Call {
    fn progress(&self) -> Progress {
        self.given.last().copied().unwrap_or_else(|| unreachable!("the call is the first"))
    }
}

impl Waiting {
    /// When it goes on with its answer, if nothing has to come before.
    fn answers_at(&self) -> Option<Moment> {
        (!self.awaits_writable && self.due != Moment::MAX).then_some(self.due)
    }
}

impl Handler for Actor {
    fn took_long(&mut self) -> bool {
        if self.took_long {
            self.tally.add(tally::Outcome::TookLong);
        }
        self.took_long
    }

    fn body_use(&mut self, matched: Match) -> BodyUse {
        let route = match matched {
            Match::Found(RouteId(index)) => Route::ROUTED[index as usize].0,
            _ => Route::Whole,
        };
        BodyUse { is_wanted_whole: route.is_whole(), bytes_max: self.plan.own_limits.of(route) }
    }

    fn body(&mut self, id: RequestId, part: &[u8], is_complete: bool) {
        self.network.note("handler given", id.connection.bits(), part.len() as u64);
        let Some(waiting) = self.waiting.iter_mut().find(|waiting| waiting.id == id) else {
            panic!("{id:?} is given a part, and its handler has ended")
        };
        let call = &mut self.calls[waiting.call];
        let progress = call.progress();
        assert!(!progress.is_complete, "{id:?} is given a part after the last");
        assert!(is_complete || !part.is_empty(), "{id:?} is given nothing");
        let valid = self.plan.valid(call.token);
        check_part(call.token, valid, progress.given, part, is_complete);
        let now = self.network.now();
        call.given.push(Progress { at: now, given: progress.given + part.len(), is_complete, reads: call.reads.len() });
        if waiting.wants_more && waiting.read_at.is_none() {
            waiting.read_at = Some(now + valid.body.intake.pause);
        }
    }

    fn call(&mut self, request: &Request<'_>, answer: &mut Answer<'_>) -> Outcome {
        let (token, plan) = self.check(request);
        let valid = plan.valid(token);
        let conduct = valid.conduct;
        let now = self.network.now();
        self.network.note("handler called", u64::from(token), request.body.len() as u64);
        self.note_call(request, token, conduct.later.is_some());
        self.network.pass(conduct.computes);
        self.took_long = conduct.computes > LONG;
        if let Some(delay) = conduct.later {
            self.suspend(request, valid, now, delay);
            return Outcome::Later;
        }
        let done = answering::at_once(token, valid, answer);
        assert_eq!(done, Ok(()), "the answer to {token}");
        Outcome::Answered
    }

    fn writable(&mut self, id: RequestId) {
        self.network.note("handler told writable", id.connection.bits(), id.number.into());
        self.tally.add(tally::Outcome::Writable);
        let Some(waiting) = self.waiting.iter_mut().find(|waiting| waiting.id == id) else {
            panic!("{id:?} is writable, and its handler has ended")
        };
        assert!(waiting.writable_allowed > 0, "{id:?} is writable more often than there were parts");
        waiting.writable_allowed -= 1;
        waiting.awaits_writable = false;
    }

    fn ended(&mut self, id: RequestId, how: Ended) {
        self.network.note("handler told ended", id.connection.bits(), how as u64);
        let Some(at) = self.waiting.iter().position(|waiting| waiting.id == id) else {
            panic!("{id:?} was told {how:?}, and its handler had ended or was never called")
        };
        let waiting = &mut self.waiting[at];
        let call = &mut self.calls[waiting.call];
        match how {
            Ended::HalfClosed => {
                assert!(!waiting.was_told_of_half_close, "{id:?} was told HalfClosed twice");
                waiting.was_told_of_half_close = true;
                self.tally.add(tally::Outcome::EndedHalfClosed);
                return;
            }
            Ended::Complete => {
                assert!(waiting.handed > 0, "{id:?} was told Complete, and had said nothing");
                self.complete.push(id);
                self.tally.add(tally::Outcome::Later);
            }
            Ended::Gone => {
                call.was_gone = true;
                if !call.was_cut {
                    self.gone.push(id);
                }
                self.tally.add(tally::Outcome::EndedGone);
            }
        }
        call.ended_at = Some(self.network.now());
        self.waiting.swap_remove(at);
    }
}
