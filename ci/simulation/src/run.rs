//! One run: clients, handler and worker take turns until nothing is left, and every turn is looked at.

use std::fs::File;
use std::os::fd::AsFd;
use std::rc::Rc;
use std::time::Duration;

use turboapi_core::answer::Preamble;
use turboapi_core::balance::Spread;
use turboapi_core::connection::Shared;
use turboapi_core::router::{RouteKind, RouteSpec, Router};
use turboapi_core::worker::Worker;
use turboapi_platform::fakes::referee::Referee;
use turboapi_platform::fakes::simulated::{Happening, Moment, Network, Simulated};
use turboapi_platform::{ListenerId, Wait, Wake};

use crate::bodies::Route;
use crate::client::Client;
use crate::handler::Actor;
use crate::judge::{self, Facts};
use crate::plan::Plan;
use crate::tally::{Outcome, Tally};

/// Turns that no run needs: more of them is a spin.
const TURNS_MAX: u32 = 40_000;

/// What came of one seed.
#[derive(Debug)]
pub struct Report {
    /// Two runs share it only if the same things happened at the same times.
    pub hash: u64,
    /// What happened.
    pub tally: Tally,
}

/// Runs one seed. `trace` gets a line for each thing that happens, also when it panics.
///
/// # Panics
/// At the first thing that must not happen.
pub fn simulate(seed: u64, trace: Option<&mut Vec<String>>) -> Report {
    let plan = Rc::new(Plan::draw(seed));
    let simulated = Simulated::new(&plan.io, seed, plan.weather, trace.is_some()).expect("the simulation's sizes fit");
    let network = simulated.network();
    let run = std::panic::AssertUnwindSafe(|| Run::new(Rc::clone(&plan), simulated).play());
    match trace {
        None => run(),
        Some(trace) => {
            trace.push(format!("{plan:#?}"));
            let result = std::panic::catch_unwind(run);
            trace.extend(network.take_trace());
            result.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        }
    }
}

struct Run {
    plan: Rc<Plan>,
    network: Network,
    worker: Worker<Referee<Simulated>>,
    actor: Actor,
    clients: Vec<Client>,
    drain_began_at: Option<Moment>,
    has_woken: bool,
    has_failed_listener: bool,
    turns: u32,
}

impl Run {
    fn new(plan: Rc<Plan>, simulated: Simulated) -> Self {
        let network = simulated.network();
        let routes = Route::ROUTED.iter().map(|(_, prefix)| RouteSpec {
            template: format!("{prefix}/{{token}}"),
            methods: Vec::new(),
            kind: RouteKind::Route,
        });
        let router = Router::new(routes.collect(), false).expect("these routes do not conflict");
        // No date: it would be the wall clock's.
        let shared = Shared::new(plan.limits.clone(), router, Preamble::new(None, false));
        let mut worker = Worker::new(Referee::over(simulated), shared);
        let null = File::open("/dev/null").expect("/dev/null is there");
        worker.listen(null.as_fd(), Spread::Kernel).expect("the simulation listens once");
        let clients = (0..plan.clients.len()).map(|index| Client::new(Rc::clone(&plan), index, &network)).collect();
        let actor = Actor::new(Rc::clone(&plan), network.clone());
        Self {
            plan,
            network,
            worker,
            actor,
            clients,
            drain_began_at: None,
            has_woken: false,
            has_failed_listener: false,
            turns: 0,
        }
    }

    fn play(mut self) -> Report {
        while !self.is_quiet() {
            self.act();
            let wait = self.wait();
            if let Err(error) = self.turn(wait) {
                // Nobody will do anything any more. A connection may be left only because a handler never answers.
                assert!(
                    self.worker.connections_count() == self.actor.waiting_count() && self.actor.answers_nobody(),
                    "{error}, and connections are open that no handler answers"
                );
                break;
            }
        }
        if self.drain_began_at.is_none() {
            self.drain();
        }
        let patience = self.plan.drain_timeout.as_micros() as Moment + 2_000_000;
        let until = self.drain_began_at.unwrap_or_default() + patience;
        while !self.worker.is_drained() {
            assert!(self.network.now() <= until, "not drained {patience} µs after the drain began");
            self.act();
            let wait = self.wait();
            self.turn(wait).expect("a worker that drains has a deadline");
        }
        self.finish()
    }

    /// Whether nobody is connected or will connect.
    fn is_quiet(&self) -> bool {
        let is_over = |client: &Client| client.is_done() && client.peer.is_none_or(|peer| self.network.is_over(peer));
        self.worker.connections_count() == 0 && self.clients.iter().all(is_over)
    }

    fn act(&mut self) {
        let now = self.network.now();
        if self.plan.drain_at.is_some_and(|at| now >= at) && self.drain_began_at.is_none() {
            self.actor.tally.add(Outcome::Drain);
            self.drain();
        }
        if self.plan.wake_at.is_some_and(|at| now >= at) && !self.has_woken {
            self.has_woken = true;
            let waker = self.worker.waker();
            waker.wake();
            waker.wake();
        }
        if self.plan.listener_fails_at.is_some_and(|at| now >= at) && !self.has_failed_listener {
            self.has_failed_listener = true;
            self.network.fail_listener(ListenerId(0));
        }
        for client in &mut self.clients {
            client.act(&self.network);
        }
        self.actor.go_on(&mut self.worker);
        self.actor.check_pauses();
    }

    fn drain(&mut self) {
        self.network.note("drain", 0, self.plan.drain_timeout.as_millis() as u64);
        self.drain_began_at = Some(self.network.now());
        self.worker.drain(self.plan.drain_timeout);
    }

    /// Until one of our own things is due.
    fn wait(&self) -> Wait {
        let now = self.network.now();
        let plan = &self.plan;
        let drain = plan.drain_at.filter(|_| self.drain_began_at.is_none());
        let wake = plan.wake_at.filter(|_| !self.has_woken);
        let listener = plan.listener_fails_at.filter(|_| !self.has_failed_listener);
        let clients = self.clients.iter().filter_map(Client::next_due);
        let next = clients.chain([drain, wake, listener, self.actor.next_due()].into_iter().flatten()).min();
        match next {
            // One whose handler never answers is due at the end of time.
            None | Some(Moment::MAX) => Wait::Forever,
            Some(at) if at <= now => Wait::Poll,
            Some(at) => Wait::For(Duration::from_micros(at - now)),
        }
    }

    fn turn(&mut self, wait: Wait) -> std::io::Result<()> {
        self.turns += 1;
        assert!(self.turns < TURNS_MAX, "{TURNS_MAX} turns, and no end");
        self.worker.turn(wait)?;
        self.worker.dispatch(&mut self.actor);
        assert_eq!(self.worker.in_flight(), self.actor.waiting_count(), "requests in flight");
        self.actor.check_pauses();
        let connections_max = self.plan.limits.connections_max + self.plan.clients.len();
        assert!(self.worker.connections_count() < connections_max, "{} connections", self.worker.connections_count());
        Ok(())
    }

    fn finish(self) -> Report {
        let Self { plan, network, worker, actor, clients, drain_began_at, .. } = self;
        assert_eq!(
            (worker.connections_count(), worker.in_flight(), actor.waiting_count()),
            (0, 0, 0),
            "something is left"
        );
        worker.finish(Duration::ZERO).expect("a simulation ends at once");
        let mut tally = actor.tally;
        for (count, (happening, _)) in tally.happenings.iter_mut().zip(Happening::ALL) {
            *count = network.count(*happening).into();
        }
        for client in &clients {
            let Some(peer) = client.peer else { continue };
            let Some(connection) = network.connection(peer) else { continue };
            let calls: Vec<_> = actor.calls.iter().filter(|call| call.connection == connection).cloned().collect();
            network.with_history(peer, |out, read, history| {
                let own = client.own();
                let stalls = tally.happenings[Happening::AcceptStalled as usize] > 0;
                let facts = Facts { plan: &plan, own, out, read, history, calls: &calls, drain_began_at, stalls };
                judge::judge(&facts, &mut tally);
            });
        }
        Report { hash: network.hash(), tally }
    }
}
