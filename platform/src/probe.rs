//! Which backend serves: asked for by name or not, tried out once in the parent, and opened by each worker. Nothing is
//! logged here: [`Choice::reason`] is for the caller's one INFO line. No state is kept, and no thread started.

use std::fmt;
use std::io;
#[cfg(target_os = "linux")]
use std::io::Write;
#[cfg(target_os = "linux")]
use std::os::unix::net::UnixStream;
#[cfg(target_os = "linux")]
use std::time::{Duration, Instant};

#[cfg(target_os = "macos")]
use crate::kqueue::Kqueue;
#[cfg(all(target_os = "linux", feature = "tokio-uring"))]
use crate::tokio_uring::TokioUring;
#[cfg(target_os = "linux")]
use crate::{ConnectionId, Event, Wait, epoll::Epoll, monoio::Monoio, uring::Uring};
use crate::{IoConfig, Platform};

/// The environment variable by which operators know the choice; `python/turboapi/config.py` reads it.
const VARIABLE: &str = "TURBOAPI_IO";

/// What `auto` takes on Linux when the kernel lets it; where it does not, epoll. The benches decide (benches/README.md).
/// At a fixed answer, one core, K requests ready at once (`examples/turn_cost`, the fastest tenth), µs a request:
/// K = 1: uring 5.8, epoll 5.6, monoio 7.6; K = 8: 3.8, 4.7, 4.7; K = 64: 3.6, 4.7, 4.4; K = 512: 3.9, 5.8 to 6.4, 4.7 to 5.8.
#[cfg(target_os = "linux")]
const LINUX_DEFAULT: Backend = Backend::Uring;

/// How long the kernel may take to answer the probe. It takes microseconds; an emulation that drops it never does.
#[cfg(target_os = "linux")]
const PROBE_TIME: Duration = Duration::from_secs(1);

/// A way to the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    /// The raw ring, Linux 6.1 and later.
    Uring,
    /// io_uring through monoio, Linux 5.6 and later.
    Monoio,
    /// io_uring through tokio-uring, Linux 5.6 and later, in builds with the cargo feature of this name. Never chosen by
    /// itself: it is there to compare the others with.
    TokioUring,
    /// Linux.
    Epoll,
    /// macOS.
    Kqueue,
}

impl Backend {
    const ALL: [Self; 5] = [Self::Uring, Self::Monoio, Self::TokioUring, Self::Epoll, Self::Kqueue];

    /// As `TURBOAPI_IO` and the log spell it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Uring => "uring",
            Self::Monoio => "monoio",
            Self::TokioUring => "tokio-uring",
            Self::Epoll => "epoll",
            Self::Kqueue => "kqueue",
        }
    }
}

/// What the operator wants.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Requested {
    /// The best that the machine lets us have.
    #[default]
    Auto,
    /// This one or none.
    Only(Backend),
}

/// The operator asked for something that cannot be had. Printed as one line.
#[derive(Debug)]
pub enum BackendError {
    /// No backend has this name.
    Unknown {
        /// What was given.
        seen: String,
    },
    /// This build, or this operating system, does not have it.
    NotBuilt {
        /// Which.
        backend: Backend,
    },
    /// The machine refuses it.
    Refused {
        /// Which.
        backend: Backend,
        /// What the kernel said.
        error: io::Error,
    },
}

impl fmt::Display for BackendError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown { seen } => {
                write!(formatter, "{VARIABLE} is {seen:?}, allowed are auto")?;
                Backend::ALL.iter().try_for_each(|backend| write!(formatter, ", {}", backend.name()))
            }
            Self::NotBuilt { backend } => {
                let allowed = match (cfg!(target_os = "linux"), cfg!(feature = "tokio-uring")) {
                    (true, true) => "auto, uring, monoio, tokio-uring and epoll",
                    (true, false) => "auto, uring, monoio and epoll",
                    (false, _) => "auto and kqueue",
                };
                write!(
                    formatter,
                    "{VARIABLE} is {:?}, which this build does not have; it has {allowed}",
                    backend.name()
                )?;
                if *backend == Backend::TokioUring && cfg!(target_os = "linux") {
                    write!(formatter, "; build it with the cargo feature {:?} to have it", backend.name())?;
                }
                Ok(())
            }
            Self::Refused { backend, error } => {
                let name = backend.name();
                write!(
                    formatter,
                    "{VARIABLE} is {name:?}, which this machine refuses: {}; use auto or epoll",
                    why(error)
                )
            }
        }
    }
}

impl std::error::Error for BackendError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Refused { error, .. } => Some(error),
            _ => None,
        }
    }
}

impl Requested {
    /// Reads a name; an empty one is `auto`.
    pub fn parse(seen: &str) -> Result<Self, BackendError> {
        if seen.is_empty() || seen == "auto" {
            return Ok(Self::Auto);
        }
        let known = Backend::ALL.into_iter().find(|backend| backend.name() == seen);
        known.map(Self::Only).ok_or_else(|| BackendError::Unknown { seen: seen.to_owned() })
    }
}

/// The backend that the workers are to open.
#[derive(Clone, Debug)]
pub struct Choice {
    /// Which.
    pub backend: Backend,
    /// Why, for the log: “io_uring answered the probe”.
    pub reason: String,
    /// Whether the operator asked for this one. A worker that cannot open it then fails, instead of taking epoll.
    pub is_forced: bool,
}

/// Decides once, in the parent, before any worker starts.
pub fn choose(requested: Requested) -> Result<Choice, BackendError> {
    match requested {
        Requested::Auto => automatic(),
        Requested::Only(backend) => {
            probe(backend)?;
            Ok(Choice { backend, reason: format!("{VARIABLE} asks for it"), is_forced: true })
        }
    }
}

cfg_if::cfg_if! {
    if #[cfg(target_os = "linux")] {
        #[expect(clippy::unnecessary_wraps, reason = "it can fail on other systems")]
        fn automatic() -> Result<Choice, BackendError> {
            if LINUX_DEFAULT == Backend::Epoll {
                return Ok(Choice { backend: Backend::Epoll, reason: "it is the default".to_owned(), is_forced: false });
            }
            let probed = if LINUX_DEFAULT == Backend::Uring { probe_uring() } else { probe_monoio() };
            let (backend, reason) = match probed {
                Ok(()) => (LINUX_DEFAULT, "io_uring answered the probe".to_owned()),
                Err(error) => (Backend::Epoll, format!("io_uring cannot be used: {}", why(&error))),
            };
            Ok(Choice { backend, reason, is_forced: false })
        }

        fn probe(backend: Backend) -> Result<(), BackendError> {
            match backend {
                Backend::Epoll => Ok(()),
                Backend::Uring => probe_uring().map_err(|error| BackendError::Refused { backend, error }),
                Backend::Monoio => probe_monoio().map_err(|error| BackendError::Refused { backend, error }),
                #[cfg(feature = "tokio-uring")]
                Backend::TokioUring => probe_tokio_uring().map_err(|error| BackendError::Refused { backend, error }),
                _ => Err(BackendError::NotBuilt { backend }),
            }
        }
    } else {
        #[expect(clippy::unnecessary_wraps, reason = "it can fail on other systems")]
        fn automatic() -> Result<Choice, BackendError> {
            let reason = "it is what this system has".to_owned();
            Ok(Choice { backend: Backend::Kqueue, reason, is_forced: false })
        }

        fn probe(backend: Backend) -> Result<(), BackendError> {
            if backend == Backend::Kqueue { Ok(()) } else { Err(BackendError::NotBuilt { backend }) }
        }
    }
}

/// Whether monoio's ring can be had; see [`reads`].
///
/// # Errors
/// What the kernel said, or `TimedOut` when it said nothing.
#[cfg(target_os = "linux")]
pub fn probe_monoio() -> io::Result<()> {
    reads::<Monoio>()
}

/// Whether tokio-uring's ring can be had; see [`reads`].
///
/// # Errors
/// What the kernel said, or `TimedOut` when it said nothing.
#[cfg(all(target_os = "linux", feature = "tokio-uring"))]
pub fn probe_tokio_uring() -> io::Result<()> {
    reads::<TokioUring>()
}

/// Whether the raw ring can be had: all of its flags, a ring of buffers, and a multishot receive; see [`reads`].
///
/// # Errors
/// What the kernel said, `EINVAL` before Linux 6.1, or `TimedOut` when it said nothing.
#[cfg(target_os = "linux")]
pub fn probe_uring() -> io::Result<()> {
    reads::<Uring>()
}

/// Has a real ring read from a real socket: an emulation may know the calls and not do them.
#[cfg(target_os = "linux")]
fn reads<P: Platform>() -> io::Result<()> {
    let (ours, mut theirs) = UnixStream::pair()?;
    let mut platform = P::open(&IoConfig { receive_buffer_bytes: 64, receive_buffers: 1, ..IoConfig::default() })?;
    platform.adopt(ConnectionId::new(0, 0), ours.into())?;
    theirs.write_all(b"?")?;
    let (deadline, mut events) = (Instant::now() + PROBE_TIME, Vec::new());
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        platform.turn(Wait::For(left), &mut events)?;
        for event in events.drain(..) {
            if let Event::Data { buffer, .. } = event {
                platform.rx_release(buffer);
                return platform.finish(deadline);
            }
        }
        if left.is_zero() {
            return Err(io::Error::new(io::ErrorKind::TimedOut, "the ring gave no answer within 1 s"));
        }
    }
}

/// An error with its likely cause, for who must do something.
fn why(error: &io::Error) -> String {
    let cause = match error.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => {
            "; likely a container's seccomp profile, or the sysctl kernel.io_uring_disabled"
        }
        Some(libc::ENOSYS) => "; likely a kernel before 5.6, or a sandbox without it",
        Some(libc::EINVAL) => "; likely a kernel before 6.1",
        Some(libc::ENOMEM) => "; likely the limit of locked memory (ulimit -l)",
        Some(libc::EMFILE | libc::ENFILE) => "; likely the limit of open files (ulimit -n)",
        _ => "",
    };
    format!("{error}{cause}")
}

/// What a worker does with its platform, written once for all backends: the compiler makes one of each.
pub trait Start {
    /// What comes of it.
    type Output;

    /// Runs on the backend that could be opened. `fallback` says why it is not the chosen one, for one WARNING line.
    fn start<P: Platform>(self, platform: P, fallback: Option<String>) -> Self::Output;
}

impl Choice {
    /// Opens the backend on this thread and starts the worker on it. A backend that was not asked for by name and cannot be
    /// opened, for want of descriptors or memory, gives way to epoll.
    ///
    /// # Errors
    /// What the kernel said.
    pub fn start<S: Start>(&self, config: &IoConfig, worker: S) -> io::Result<S::Output> {
        cfg_if::cfg_if! {
            if #[cfg(target_os = "linux")] {
                let error = match self.backend {
                    Backend::Uring => match Uring::open(config) {
                        Ok(platform) => return Ok(worker.start(platform, None)),
                        Err(error) => error,
                    },
                    Backend::Monoio => match Monoio::open(config) {
                        Ok(platform) => return Ok(worker.start(platform, None)),
                        Err(error) => error,
                    },
                    #[cfg(feature = "tokio-uring")]
                    Backend::TokioUring => match TokioUring::open(config) {
                        Ok(platform) => return Ok(worker.start(platform, None)),
                        Err(error) => error,
                    },
                    _ => return Ok(worker.start(Epoll::open(config)?, None)),
                };
                if self.is_forced {
                    return Err(error);
                }
                let fallback = format!("{} cannot be opened: {}", self.backend.name(), why(&error));
                Ok(worker.start(Epoll::open(config)?, Some(fallback)))
            } else {
                Ok(worker.start(Kqueue::open(config)?, None))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Backend, Requested, choose};

    #[test]
    fn names() {
        let check = |seen: &str, expected| assert_eq!(Requested::parse(seen).ok(), expected, "{seen:?}");
        check("", Some(Requested::Auto));
        check("auto", Some(Requested::Auto));
        check("epoll", Some(Requested::Only(Backend::Epoll)));
        check("tokio-uring", Some(Requested::Only(Backend::TokioUring)));
        check("Epoll", None);
        check("script", None);
        let message = Requested::parse("iocp").expect_err("it is no backend").to_string();
        assert_eq!(message, r#"TURBOAPI_IO is "iocp", allowed are auto, uring, monoio, tokio-uring, epoll, kqueue"#);
    }

    #[test]
    fn auto_always_finds_one() {
        let choice = choose(Requested::Auto).expect("there is always one");
        assert!(!choice.is_forced && !choice.reason.is_empty());
        let kqueue = choose(Requested::Only(Backend::Kqueue));
        assert_eq!(kqueue.is_ok(), cfg!(target_os = "macos"), "{kqueue:?}");
    }

    #[test]
    #[cfg(all(target_os = "linux", not(feature = "tokio-uring")))]
    fn what_a_feature_would_bring_is_named() {
        let error = choose(Requested::Only(Backend::TokioUring)).expect_err("this build does not have it");
        let message = "TURBOAPI_IO is \"tokio-uring\", which this build does not have; it has auto, uring, monoio and epoll; \
            build it with the cargo feature \"tokio-uring\" to have it";
        assert_eq!(error.to_string(), message);
    }

    #[test]
    #[cfg(all(target_os = "linux", feature = "tokio-uring"))]
    fn tokio_uring_is_had_by_name_where_its_ring_is() {
        match choose(Requested::Only(Backend::TokioUring)) {
            Ok(choice) => assert!(choice.is_forced && choice.backend == Backend::TokioUring),
            Err(error) => assert!(super::probe_tokio_uring().is_err(), "{error}"),
        }
        assert_ne!(choose(Requested::Auto).expect("there is always one").backend, Backend::TokioUring);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_worker_that_cannot_open_its_ring_takes_epoll() {
        use super::{Choice, Start};
        use crate::{IoConfig, Platform};
        struct Name;
        impl Start for Name {
            type Output = (&'static str, bool);
            fn start<P: Platform>(self, _platform: P, fallback: Option<String>) -> Self::Output {
                (P::NAME, fallback.is_some())
            }
        }
        // No kernel makes a ring so large, be it of requests or of buffers.
        let large = IoConfig { ring_entries: 1 << 24, ..IoConfig::default() };
        let many = IoConfig { receive_buffers: 1 << 16, receive_buffer_bytes: 1, ..IoConfig::default() };
        let mut choice = Choice { backend: Backend::Epoll, reason: String::new(), is_forced: false };
        let mut cases = vec![(Backend::Monoio, large), (Backend::Uring, many)];
        if cfg!(feature = "tokio-uring") {
            cases.push((Backend::TokioUring, large));
        }
        for (backend, config) in cases {
            (choice.backend, choice.is_forced) = (backend, false);
            assert_eq!(choice.start(&config, Name).expect("epoll is there"), ("epoll", true));
            choice.is_forced = true;
            assert!(choice.start(&config, Name).is_err());
        }
        let config = large;
        choice.backend = Backend::Epoll;
        assert_eq!(choice.start(&config, Name).expect("epoll is there"), ("epoll", false));
    }
}
