//! What a worker's thread runs right now, published for the watchdog (`turboapi/watching/watchdog.py`), which reads it from a thread
//! of its own. No clock, no Python and no decision here: two plain stores a request.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering, fence};

use pyo3::prelude::*;
use turboapi_core::request::Request;
use turboapi_core::router::RouteId;

/// Bytes of method and path that are kept of a request that the app's own ASGI call answers.
const SUBJECT_BYTES_MAX: usize = 120;

/// The low bits of a word say what runs, the others count: two looks at the same word saw the same run of it.
const KIND_BITS: u32 = 24;
const LOOP: u64 = 0;
const NO_ROUTE: u64 = 1;
const FIRST_ROUTE: u64 = 2;

/// One worker's cell. It is written by its worker only, and stands on cache lines of its own (two, as they are fetched in
/// pairs), so that the reader of one worker's never slows another.
#[repr(align(128))]
#[derive(Debug, Default)]
struct Cell {
    /// 0 while nothing of Python's runs.
    word: AtomicU64,
    /// `GET /path` of a request, ended by a zero if it is shorter.
    subject: [AtomicU64; SUBJECT_BYTES_MAX / 8],
}

/// The writer's end. One for each worker, on its thread.
#[derive(Debug, Default)]
pub struct Publisher {
    cell: Arc<Cell>,
    count: u64,
}

impl Publisher {
    /// The reader's end.
    pub fn activity(&self) -> Activity {
        Activity(Arc::clone(&self.cell))
    }

    /// From here on a request of this route is with its handler.
    pub fn enter_route(&mut self, route: RouteId) {
        let kind = FIRST_ROUTE + u64::from(route.0);
        self.enter(if kind >> KIND_BITS == 0 { kind } else { NO_ROUTE });
    }

    /// From here on a request is with the app that no route was found for.
    pub fn enter_without_route(&mut self) {
        self.enter(NO_ROUTE);
    }

    /// From here on the asyncio loop runs what it has to.
    pub fn enter_loop(&mut self) {
        self.enter(LOOP);
    }

    /// Nothing of Python's runs any more.
    pub fn leave(&self) {
        self.cell.word.store(0, Ordering::Relaxed);
    }

    /// Keeps method and path of a request that may have no route of ours to be named by.
    pub fn describe(&self, request: &Request<'_>) {
        let bytes = request.head_bytes;
        let (method, path) = (request.head.method.name(bytes), request.head.path.of(bytes));
        // Pairs with the fence in `subject`: a reader of a byte of this sees the word of this request, or a later one.
        fence(Ordering::Release);
        let mut text = method.iter().chain(b" ").chain(path).copied();
        for word in &self.cell.subject {
            word.store(u64::from_le_bytes(std::array::from_fn(|_| text.next().unwrap_or(0))), Ordering::Relaxed);
        }
    }

    fn enter(&mut self, kind: u64) {
        self.count += 1;
        self.cell.word.store(self.count << KIND_BITS | kind, Ordering::Relaxed);
    }
}

/// The watchdog's look at one worker. From any thread.
#[pyclass(frozen, module = "turboapi._core")]
#[derive(Debug)]
pub struct Activity(Arc<Cell>);

#[pymethods]
impl Activity {
    /// What runs: 0 for nothing, else a number that stands for this one call.
    fn read(&self) -> u64 {
        self.0.word.load(Ordering::Relaxed)
    }

    /// The index of the route that a number of `read` stands for; -1 for a request without one, -2 for the event loop.
    #[staticmethod]
    fn route(number: u64) -> i64 {
        (number & ((1 << KIND_BITS) - 1)) as i64 - FIRST_ROUTE as i64
    }

    /// Method and path of the request that a number of `read` stands for, cut to 120 bytes, if it runs still and was left to
    /// the app's own ASGI call. The peer chose it.
    fn subject(&self, number: u64) -> Option<Vec<u8>> {
        let words: Vec<_> = self.0.subject.iter().map(|word| word.load(Ordering::Relaxed).to_le_bytes()).collect();
        fence(Ordering::Acquire);
        let text: Vec<u8> = words.concat().into_iter().take_while(|&byte| byte != 0).collect();
        (self.read() == number && !text.is_empty()).then_some(text)
    }
}
