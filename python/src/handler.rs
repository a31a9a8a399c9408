//! HOT PATH: a request becomes a call of a Python function, and what that returns an answer.
//!
//! `native` is the path of a request that a plan covers; everything else goes to the app's own ASGI call (`hand_to_app`), and so does
//! a plan that the app has middleware around (`hand_to_leaf`).
//! Nothing here waits: a coroutine that suspends is left to `coroutine.rs`, a function that waits to a thread (`job.rs`).

use std::sync::Arc;
use std::time::Duration;

use pyo3::intern;
use pyo3::prelude::*;
use turboapi_core::answer::Answer;
use turboapi_core::handler::{BodyUse, Ended, Handler, Outcome};
use turboapi_core::layers::{Entered, Whole};
use turboapi_core::request::{Request, RequestId};
use turboapi_core::router::Match;

use crate::after::After;
use crate::coroutine::{Call, Completion, context_of};
use crate::handling::PythonHandler;
use crate::hooks::Hook;
use crate::invalid::Unfit;
use crate::job::Waiter;
use crate::leaf::{Matched, Parts};
use crate::mailbox::Ticket;
use crate::notices::Notice;
use crate::plan::{Further, Plan};
use crate::reply::{Reply, Within, bound_scratch};
use crate::request::Retained;
use crate::stage::{self, Stage};

/// The handler while this thread is attached to the interpreter.
pub struct Attached<'a, 'py> {
    /// Shows that it is.
    pub py: Python<'py>,
    /// The handler.
    pub handler: &'a mut PythonHandler,
}

impl Handler for Attached<'_, '_> {
    fn call(&mut self, request: &Request<'_>, answer: &mut Answer<'_>) -> Outcome {
        self.handler.called_at = None;
        match request.matched {
            Match::Found(route) => self.handler.publisher.enter_route(route),
            _ => self.handler.publisher.enter_without_route(),
        }
        let outcome = self.run(request, answer);
        self.handler.publisher.leave();
        outcome
    }

    fn took_long(&mut self) -> bool {
        self.handler.called_at.is_some_and(|called_at| called_at.elapsed() > LONG)
    }

    /// A plan with a body parameter needs all of it; everything else takes what it likes of it, or nothing.
    fn body_use(&mut self, matched: Match) -> BodyUse {
        let route = match matched {
            Match::Found(route) => self.handler.routes.get(route.0 as usize),
            Match::NotFound | Match::MethodNotAllowed(_) | Match::Redirect { .. } | Match::Ask => None,
        };
        BodyUse {
            is_wanted_whole: route.and_then(|route| route.plan.as_ref()).is_some_and(|plan| plan.wants_whole_body()),
            bytes_max: route.and_then(|route| route.body_bytes_max),
        }
    }

    fn body(&mut self, id: RequestId, part: &[u8], is_complete: bool) {
        self.handler.outstanding.mailbox().add_body(id, part, is_complete);
        self.handler.notices.push(id, Notice::Readable);
    }

    fn writable(&mut self, id: RequestId) {
        self.handler.notices.push(id, Notice::Writable);
    }

    fn ended(&mut self, id: RequestId, how: Ended) {
        self.handler.notices.push(id, Notice::Ended(how));
    }
}

impl<'py> Attached<'_, 'py> {
    fn run(&mut self, request: &Request<'_>, answer: &mut Answer<'_>) -> Outcome {
        if let Some(layers) = self.handler.layers.clone() {
            if !self.handler.hooks.is_unchanged(self.py) {
                return self.hand_to_app(request, answer);
            }
            match layers.enter(self.py, request) {
                Entered::Through(around) => self.handler.around = Some(around),
                Entered::Answered(Whole { status, headers, body }) => {
                    return self.give(Reply::Whole { status, headers, body }, None, request, answer);
                }
                Entered::Unsure => return self.hand_to_app(request, answer),
            }
        }
        match request.matched {
            Match::Found(route) => match self.handler.routes.get(route.0 as usize).and_then(|route| route.plan.clone())
            {
                Some(plan) => self.native(&plan, request, answer),
                None => self.hand_to_app(request, answer),
            },
            Match::NotFound if self.handler.hooks.answers_unmatched && self.handler.hooks.is_unchanged(self.py) => {
                self.not_found(request, answer)
            }
            Match::NotFound | Match::MethodNotAllowed(_) | Match::Redirect { .. } | Match::Ask => {
                self.hand_to_app(request, answer)
            }
        }
    }

    fn not_found(&mut self, request: &Request<'_>, answer: &mut Answer<'_>) -> Outcome {
        let Attached { py, handler } = self;
        handler.scratch.clear();
        handler.scratch.extend_from_slice(b"{\"detail\":\"Not Found\"}");
        let reply = Reply::json(404, handler.around.as_ref(), &handler.types, *py, &handler.scratch);
        self.give(reply, None, request, answer)
    }

    /// A route with a plan.
    fn native(&mut self, plan: &Arc<Plan>, request: &Request<'_>, answer: &mut Answer<'_>) -> Outcome {
        if !self.handler.hooks.is_unchanged(self.py) {
            return self.hand_to_app(request, answer);
        }
        if plan.is_for_leaf() {
            return self.hand_to_leaf(plan, request, answer);
        }
        if let Err(unfit) = plan.fill(self.py, request, &mut self.handler.arguments) {
            return self.unfit(plan, &unfit, request, answer);
        }
        // Also a function that is called here and now: the response that it returns may stream, or leave a background task.
        if self.is_overloaded() {
            return self.overloaded(answer);
        }
        let mut begun = Begun::default();
        match self.begin(plan, request, &mut begun).transpose() {
            Some(result) => self.answer_with(plan, result, &begun, request, answer),
            None => match begun.stage.and_then(|stage| stage.get().leave_call()) {
                Some((reply, json)) => {
                    self.handler.scratch = json;
                    self.give(reply, None, request, answer)
                }
                None => Outcome::Later,
            },
        }
    }

    /// Arguments are missing or wrong. No code of the app's has run: its own call may have whatever is not certain.
    #[cold]
    fn unfit(&mut self, plan: &Plan, unfit: &Unfit, request: &Request<'_>, answer: &mut Answer<'_>) -> Outcome {
        let Attached { py, handler } = self;
        let (around, scratch) = (handler.around.as_ref(), &mut handler.scratch);
        let reply = Reply::unfit((plan, around), &handler.types, *py, unfit, scratch);
        match reply {
            Some(reply) => self.give(reply, None, request, answer),
            None => self.hand_to_app(request, answer),
        }
    }

    /// Calls the function where its standing says. None: it ends later.
    fn begin(
        &mut self,
        plan: &Arc<Plan>,
        request: &Request<'_>,
        begun: &mut Begun<'py>,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        begun.further = plan.make_further(self.py)?;
        begun.further.push_to(&mut self.handler.arguments);
        if plan.is_staged {
            let stage = Bound::new(self.py, self.stage(plan, request, &begun.further))?;
            self.handler.arguments.push(stage.clone().into_any());
            begun.stage = Some(stage);
        }
        if plan.is_coroutine {
            self.start_coroutine(plan, request, begun)
        } else if plan.subject.standing.is_on_worker() {
            self.call_inline(plan).map(Some)
        } else {
            self.start_in_thread(plan, request, begun).map(|()| None)
        }
    }

    /// The core counts requests that somebody waits for. A peer that asks and goes leaves a handler behind, so those are
    /// counted too.
    fn is_overloaded(&self) -> bool {
        self.handler.outstanding.mailbox().open_count() >= self.handler.open_max
    }

    #[cold]
    fn overloaded(&mut self, answer: &mut Answer<'_>) -> Outcome {
        self.handler.arguments.clear(self.py);
        self.handler.overloads_count += 1;
        let done = answer.overloaded();
        debug_assert!(done.is_ok(), "nothing was answered before");
        Outcome::Answered
    }

    /// A `def` function, here and now: without a running loop, in a context of its own.
    fn call_inline(&mut self, plan: &Plan) -> PyResult<Bound<'py, PyAny>> {
        self.handler.asyncio.hide(self.py)?;
        let clock = self.handler.start_clock();
        let (py, handler) = (self.py, &mut *self.handler);
        let call = || handler.arguments.call(plan.endpoint.bind(py), plan.names(py));
        handler.calls.inline(py, &plan.subject, clock, call)
    }

    /// A `def` function in a thread.
    fn start_in_thread(&mut self, plan: &Arc<Plan>, request: &Request<'_>, begun: &Begun<'py>) -> PyResult<()> {
        let py = self.py;
        self.handler.asyncio.show(py)?;
        let done = Py::new(py, self.completion(plan, request, begun))?;
        let waiter = Waiter::Request(done.clone_ref(py));
        let call = plan.deferred(py, &mut self.handler.arguments);
        match self.handler.calls.in_thread(py, call, waiter) {
            Ok(job) => {
                self.handler.outstanding.suspend(request.id, job.into_any().unbind(), done);
                Ok(())
            }
            Err(error) => {
                // No thread will ever have it.
                done.get().close();
                Err(error)
            }
        }
    }

    /// An `async def` function: its first step at once. None if it suspended.
    fn start_coroutine(
        &mut self,
        plan: &Arc<Plan>,
        request: &Request<'_>,
        begun: &mut Begun<'py>,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        let py = self.py;
        self.handler.asyncio.show(py)?;
        self.handler.start_clock();
        let coroutine = self.handler.arguments.call(plan.endpoint.bind(py), plan.names(py))?;
        let task = begun.task.insert(self.handler.asyncio.start_task(&coroutine)?).clone();
        if task.call_method0(intern!(py, "done"))?.is_truthy()? {
            let result = task.call_method0(intern!(py, "result"));
            let Some(stage) = &begun.stage else { return result.map(Some) };
            return stage.get().end(py, result, context_of(Some(&task)))?.map_or(Ok(None), Err);
        }
        let done = Bound::new(py, self.completion(plan, request, begun))?;
        task.call_method1(intern!(py, "add_done_callback"), (&done,))?;
        self.handler.outstanding.suspend(request.id, task.unbind(), done.unbind());
        Ok(None)
    }

    fn stage(&mut self, plan: &Arc<Plan>, request: &Request<'_>, further: &Further<'py>) -> Stage {
        let handler = &self.handler;
        Stage::new(stage::Parts {
            plan: Arc::clone(plan),
            around: handler.around.clone(),
            types: Arc::clone(&handler.types),
            hooks: Arc::clone(&handler.hooks),
            exchanges: Arc::clone(&handler.outstanding.exchanges),
            afterwards: Arc::clone(&handler.outstanding.afterwards),
            running: handler.asyncio.running(),
            request: Arc::new(Retained::new(request)),
            injected: further.response.as_ref().map(|injected| injected.clone().unbind()),
            tasks: further.tasks.as_ref().map(|tasks| tasks.clone().unbind()),
        })
    }

    fn completion(&mut self, plan: &Arc<Plan>, request: &Request<'_>, begun: &Begun<'py>) -> Completion {
        let around = self.handler.around.take();
        let handler = &self.handler;
        let known = begun.stage.as_ref().map(|stage| Arc::clone(stage.get().request()));
        Completion::new(Call {
            plan: Arc::clone(plan),
            around,
            types: Arc::clone(&handler.types),
            hooks: Arc::clone(&handler.hooks),
            outstanding: Arc::clone(&handler.outstanding),
            ticket: Ticket::new(handler.outstanding.mailbox()),
            request: known.unwrap_or_else(|| Arc::new(Retained::new(request))),
            injected: begun.further.response.as_ref().map(|injected| injected.clone().unbind()),
            tasks: begun.further.tasks.as_ref().map(|tasks| tasks.clone().unbind()),
            ended: None,
            stage: begun.stage.as_ref().map(|stage| stage.clone().unbind()),
        })
    }

    fn answer_with(
        &mut self,
        plan: &Plan,
        result: PyResult<Bound<'py, PyAny>>,
        begun: &Begun<'py>,
        request: &Request<'_>,
        answer: &mut Answer<'_>,
    ) -> Outcome {
        let Attached { py, handler } = self;
        let (types, hooks, scratch) = (&handler.types, &handler.hooks, &mut handler.scratch);
        let (around, result) = ((plan, handler.around.as_ref()), (result, Within::of(begun.task.as_ref())));
        let (reply, background) = Reply::new(around, types, hooks, *py, result, &begun.further, scratch);
        let outcome = self.give(reply, begun.task.as_ref(), request, answer);
        if background.is_some() {
            let (outstanding, context) = (&self.handler.outstanding, context_of(begun.task.as_ref()));
            let (request, ticket) = (Arc::new(Retained::new(request)), Ticket::new(outstanding.mailbox()));
            outstanding.afterwards.add(After { request, background, end: None, context, ticket });
        }
        outcome
    }

    fn give(
        &mut self,
        reply: Reply,
        task: Option<&Bound<'py, PyAny>>,
        request: &Request<'_>,
        answer: &mut Answer<'_>,
    ) -> Outcome {
        let handler = &mut self.handler;
        let sent = match reply {
            Reply::Json { status } => answer.json(status, &handler.scratch),
            Reply::Whole { status, headers, body } => answer.whole_shared(status, &headers, body),
            Reply::Object(hook, object) => {
                bound_scratch(&mut handler.scratch);
                // What failed before the call, for want of memory, has left them.
                handler.arguments.clear(self.py);
                return self.later_by(hook, request, Some((object, context_of(task))));
            }
        };
        bound_scratch(&mut handler.scratch);
        debug_assert!(sent.is_ok(), "`Reply` has compared the lengths, and nothing was answered before");
        Outcome::Answered
    }

    /// What no plan covers: the app's own ASGI call.
    fn hand_to_app(&mut self, request: &Request<'_>, answer: &mut Answer<'_>) -> Outcome {
        if self.is_overloaded() {
            return self.overloaded(answer);
        }
        self.handler.publisher.describe(request);
        self.later_by(Hook::App, request, None)
    }

    /// A plan whose request passes through more than its plan: the app's middleware, or a `Request` object.
    fn hand_to_leaf(&mut self, plan: &Arc<Plan>, request: &Request<'_>, answer: &mut Answer<'_>) -> Outcome {
        if self.is_overloaded() {
            return self.overloaded(answer);
        }
        let (py, handler) = (self.py, &mut self.handler);
        handler.publisher.describe(request);
        handler.start_clock();
        let retained = Arc::new(Retained::new(request));
        let started = handler.asyncio.show(py).and_then(|()| {
            let parts = Parts {
                plan: Arc::clone(plan),
                types: Arc::clone(&handler.types),
                calls: Arc::clone(&handler.calls),
                running: handler.asyncio.running(),
                request: Arc::clone(&retained),
                params: request.params.retained(),
            };
            let matched = Py::new(py, Matched::new(parts))?.into_any();
            let stack = handler.hooks.of(Hook::Stack);
            handler.outstanding.exchanges.begin(py, retained, stack, Some((matched, None)), None)
        });
        outcome_of(py, started)
    }

    /// Hands the request to one of the hooks, which answers through an exchange.
    fn later_by(
        &mut self,
        hook: Hook,
        request: &Request<'_>,
        argument: Option<(Py<PyAny>, Option<Py<PyAny>>)>,
    ) -> Outcome {
        let py = self.py;
        self.handler.start_clock();
        let hooks = Arc::clone(&self.handler.hooks);
        let started = self.handler.asyncio.show(py).and_then(|()| {
            let retained = Arc::new(Retained::new(request));
            self.handler.outstanding.exchanges.begin(py, retained, hooks.of(hook), argument, None)
        });
        outcome_of(py, started)
    }
}

/// What a call of a function has made that its answer needs.
#[derive(Default)]
struct Begun<'py> {
    /// Of an `async def`.
    task: Option<Bound<'py, PyAny>>,
    /// Arguments by which the function may say more of its answer.
    further: Further<'py>,
    /// By what it sends its answer itself.
    stage: Option<Bound<'py, Stage>>,
}

fn outcome_of(py: Python<'_>, started: PyResult<()>) -> Outcome {
    match started {
        Ok(()) => Outcome::Later,
        Err(error) => {
            // Our own Python failed, not the app's, whose errors the hook logs. The worker answers with a 500.
            error.write_unraisable(py, None);
            Outcome::Answered
        }
    }
}

/// A call that took longer gives the turn to other connections.
const LONG: Duration = Duration::from_micros(500);
