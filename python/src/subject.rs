//! Functions as one worker knows them: whose calls are measured, what their standing is, and a call that is made elsewhere.

use std::collections::HashMap;
use std::sync::Arc;

use pyo3::prelude::*;
use pyo3::types::{PyTuple, PyWeakrefMethods, PyWeakrefReference};
use turboapi_core::standing::Standing;

/// Whose calls are measured, and what the log calls it.
pub struct Subject {
    /// Where it runs.
    pub standing: Arc<Standing>,
    /// Method and path of a route, or the name of a function.
    pub label: String,
}

/// A call that is made elsewhere.
pub struct Deferred {
    /// Whose standing it counts for.
    pub subject: Arc<Subject>,
    /// What is called.
    pub callable: Py<PyAny>,
    /// Its arguments.
    pub arguments: Vec<Py<PyAny>>,
    /// Their names, as it is called by keyword; None: there are none.
    pub names: Option<Py<PyTuple>>,
    /// Whether it is one of those of which only so many run at once. The end of a dependency is not: those that hold what it
    /// gives back would wait for it.
    pub is_limited: bool,
}

/// Where each function of one worker runs: two routes of the same function know of each other, and a table that is read anew
/// forgets nothing. INVARIANT: at most [`STANDINGS_MIN`] more than twice the functions that live, as a background task may be a new
/// one for each request.
#[derive(Default)]
pub struct Standings {
    known: HashMap<Function, (Py<PyWeakrefReference>, Arc<Standing>)>,
    /// As many that lived when those that did not were last let go.
    living_count: usize,
}

/// Its address, what its route has decided, and in what its calls are seen.
type Function = (usize, Option<bool>, Role);

/// As what a function is called: it may wait as one and not as another.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// By itself.
    Whole,
    /// An endpoint, with its dependencies around it.
    Composed,
    /// The part of a generator after its `yield`.
    End,
}

/// So many are kept without a look at whether they live.
const STANDINGS_MIN: usize = 64;

impl Standings {
    /// That of a function. `blocking`: what its route has decided. One that takes no weak reference has a fresh one each time.
    pub fn of(&mut self, function: &Bound<'_, PyAny>, blocking: Option<bool>, role: Role) -> Arc<Standing> {
        let (py, key) = (function.py(), (function.as_ptr() as usize, blocking, role));
        // Another one may have come to stand at its address.
        if let Some((known, standing)) = self.known.get(&key)
            && known.bind(py).upgrade().is_some_and(|known| known.is(function))
        {
            return Arc::clone(standing);
        }
        let standing = Arc::new(Standing::new(blocking));
        if let Ok(known) = PyWeakrefReference::new(function) {
            if self.known.len() >= 2 * self.living_count + STANDINGS_MIN {
                self.known.retain(|_, (known, _)| known.bind(py).upgrade().is_some());
                self.living_count = self.known.len();
            }
            self.known.insert(key, (known.unbind(), Arc::clone(&standing)));
        }
        standing
    }
}
