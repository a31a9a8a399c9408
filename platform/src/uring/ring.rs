//! The two queues of one ring: requests go out here, completions come back. What a completion means is not known here.
//!
//! Requests gather until [`Ring::enter`], which submits all of them and waits in the same system call.

#![expect(
    unsafe_code,
    reason = "a request lends descriptors and memory to the kernel; each block says what keeps them"
)]

use std::collections::VecDeque;
use std::io;
use std::os::fd::RawFd;
use std::ptr;

use io_uring::types::{CancelBuilder, Fd, SubmitArgs, Timespec};
use io_uring::{EnterFlags, IoUring, Submitter, cqueue, opcode, squeue};

use crate::{IoConfig, Wait};

/// The only group of receive buffers.
pub(super) const GROUP: u16 = 0;

/// Completions that the ring holds; what is over that, the kernel keeps and hands out later, at a price. Each connection
/// that is busy in a turn has two: its bytes and its send. 64 KiB of memory.
const COMPLETIONS_MIN: u32 = 4096;

/// What a request was for; the top byte of its user data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Receive,
    Send,
    /// Of a listener: its backlog has something.
    Accept,
    Watch,
    Wake,
    /// Of a receive: told only when it failed, as all cancels.
    CancelReceive,
    CancelSend,
    CancelAccept,
    CancelOther,
}

impl Kind {
    const ALL: [Self; 9] = [
        Self::Receive,
        Self::Send,
        Self::Accept,
        Self::Watch,
        Self::Wake,
        Self::CancelReceive,
        Self::CancelSend,
        Self::CancelAccept,
        Self::CancelOther,
    ];
    const SHIFT: u32 = 56;

    /// User data of this kind for 56 bits of identity.
    pub(super) const fn of(self, identity: u64) -> u64 {
        (self as u64) << Self::SHIFT | identity
    }

    /// Whether it ends another request. Such a one lends nothing to the kernel, so nobody need wait for it.
    const fn is_cancel(self) -> bool {
        self as u8 >= Self::CancelReceive as u8
    }

    /// The kind that cancels this one.
    const fn cancel(self) -> Self {
        match self {
            Self::Receive => Self::CancelReceive,
            Self::Send => Self::CancelSend,
            Self::Accept => Self::CancelAccept,
            _ => Self::CancelOther,
        }
    }
}

/// What became of a request, or of a part of one.
#[derive(Clone, Copy, Debug)]
pub(super) struct Completion {
    user_data: u64,
    /// A count or a descriptor, or a negative `errno`.
    pub(super) result: i32,
    flags: u32,
}

impl Completion {
    pub(super) fn kind(self) -> Kind {
        let index = (self.user_data >> Kind::SHIFT) as usize;
        *Kind::ALL.get(index).unwrap_or(&Kind::CancelOther)
    }

    /// The 56 bits that the request was made with.
    pub(super) const fn identity(self) -> u64 {
        self.user_data & ((1 << Kind::SHIFT) - 1)
    }

    /// Whether the request goes on. Without it, it has ended, whatever the result.
    pub(super) fn goes_on(self) -> bool {
        cqueue::more(self.flags)
    }

    /// The receive buffer that it hands over. The last one of a request may have one too, even with an error.
    pub(super) fn buffer(self) -> Option<u16> {
        cqueue::buffer_select(self.flags)
    }

    pub(super) fn error(self) -> io::Error {
        io::Error::from_raw_os_error(-self.result)
    }
}

/// One ring.
pub(super) struct Ring {
    queues: IoUring,
    /// Requests that the full submission queue had no place for, in order.
    backlog: VecDeque<squeue::Entry>,
    /// INVARIANT: requests, other than cancels, that are in the backlog, the queue or the kernel. At zero the kernel
    /// touches no memory of ours.
    in_flight: usize,
}

impl Ring {
    /// A ring with the best flags that this kernel knows.
    ///
    /// # Errors
    /// `EINVAL` before Linux 6.1; `EPERM` or `ENOSYS` where it is forbidden.
    pub(super) fn open(config: &IoConfig) -> io::Result<Self> {
        let mut builder = IoUring::builder();
        builder
            // Only this thread submits, so the kernel needs no lock; and it does its part of the work in our calls, not
            // in the middle of whatever else we do. Linux 6.1.
            .setup_single_issuer()
            .setup_defer_taskrun()
            // A bit in shared memory says when there is such work: a poll needs no system call to find out.
            .setup_taskrun_flag()
            // One bad request does not hold up those behind it.
            .setup_submit_all()
            .setup_clamp()
            .setup_cqsize(COMPLETIONS_MIN.max(config.ring_entries.saturating_mul(8)))
            // A forked child that touched the ring would corrupt it.
            .dontfork();
        let entries = config.ring_entries.max(8);
        // Linux 6.6 can leave out the array between us and the queue.
        let queues = match builder.clone().setup_no_sqarray().build(entries) {
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => builder.build(entries)?,
            other => other?,
        };
        Ok(Self { queues, backlog: VecDeque::new(), in_flight: 0 })
    }

    pub(super) fn submitter(&self) -> Submitter<'_> {
        self.queues.submitter()
    }

    /// Receives into the buffers of [`GROUP`], again and again.
    pub(super) fn receive(&mut self, descriptor: RawFd, user_data: u64) {
        self.push_without_memory(opcode::RecvMulti::new(Fd(descriptor), GROUP).build().user_data(user_data));
    }

    /// Receives into one buffer of [`GROUP`].
    pub(super) fn receive_once(&mut self, descriptor: RawFd, bytes_max: u32, user_data: u64) {
        let receive = opcode::Recv::new(Fd(descriptor), ptr::null_mut(), bytes_max).buf_group(GROUP).build();
        self.push_without_memory(receive.flags(squeue::Flags::BUFFER_SELECT).user_data(user_data));
    }

    /// Tells when a descriptor is readable: once, or (`on_each_edge`) at once and each time that something new arrives.
    pub(super) fn poll(&mut self, descriptor: RawFd, on_each_edge: bool, user_data: u64) {
        let poll = opcode::PollAdd::new(Fd(descriptor), libc::POLLIN as u32).multi(on_each_edge);
        self.push_without_memory(poll.build().user_data(user_data));
    }

    /// Ends a request, which still has its own last completion. The cancel has one only when it found nothing to end.
    pub(super) fn cancel(&mut self, kind: Kind, identity: u64) {
        let cancel = opcode::AsyncCancel::new(kind.of(identity)).build().flags(squeue::Flags::SKIP_SUCCESS);
        self.push_without_memory(cancel.user_data(kind.cancel().of(identity)));
    }

    /// Ends all requests.
    pub(super) fn cancel_all(&mut self) {
        let cancel = opcode::AsyncCancel2::new(CancelBuilder::any()).build();
        self.push_without_memory(cancel.user_data(Kind::CancelOther.of(0)));
    }

    /// For requests that name descriptors and registered buffers only.
    fn push_without_memory(&mut self, entry: squeue::Entry) {
        // SAFETY: nothing in the entry points to memory. A descriptor that was closed too early is an error, not a fault;
        // the registered buffers outlive the ring's last request (see `Uring`).
        unsafe { self.push(entry) }
    }

    /// Puts a request in line.
    ///
    /// # Safety
    /// What the entry points to must stay valid until its last completion was taken.
    pub(super) unsafe fn push(&mut self, entry: squeue::Entry) {
        let is_cancel = entry.get_user_data() >> Kind::SHIFT >= Kind::CancelReceive as u64;
        self.in_flight += usize::from(!is_cancel);
        // SAFETY: as the caller promises.
        if !self.backlog.is_empty() || unsafe { self.queues.submission().push(&entry) }.is_err() {
            self.backlog.push_back(entry);
        }
    }

    /// Gives the queue what the backlog has, emptying the queue into the kernel as often as that takes.
    fn refill(&mut self) -> io::Result<()> {
        while let Some(entry) = self.backlog.front() {
            // SAFETY: who pushed the entry promised that its memory stays.
            let is_full = unsafe { self.queues.submission().push(entry) }.is_err();
            if !is_full {
                self.backlog.pop_front();
            } else if self.submit()? == 0 {
                // The kernel takes nothing now, for want of memory. The next turn tries again.
                break;
            }
        }
        Ok(())
    }

    /// Has the kernel start what is in line, and reaps nothing.
    fn submit(&mut self) -> io::Result<usize> {
        let queued = self.queues.submission().len() as u32;
        // SAFETY: no argument is given, so none is read; the entries' memory is their pushers' promise.
        let result = unsafe { self.queues.submitter().enter::<libc::sigset_t>(queued, 0, 0, None) };
        unless_transient(result)
    }

    /// As [`Self::submit`], all of it, and not at all when there is nothing.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        self.refill()?;
        if !self.queues.submission().is_empty() {
            self.submit()?;
        }
        Ok(())
    }

    /// Submits what is in line and lets the kernel finish what it can; waits as told if nothing has completed. At most one
    /// system call, unless the queue is too small; none for a poll that finds nothing to do.
    pub(super) fn enter(&mut self, wait: Wait) -> io::Result<()> {
        if !self.backlog.is_empty() {
            self.refill()?;
        }
        let queue = self.queues.submission();
        let (queued, has_work) = (queue.len() as u32, queue.taskrun() || queue.cq_overflow());
        drop(queue);
        let is_poll = wait == Wait::Poll || !self.backlog.is_empty() || !self.queues.completion().is_empty();
        if is_poll && queued == 0 && !has_work {
            return Ok(());
        }
        let submitter = self.queues.submitter();
        let flags = EnterFlags::GETEVENTS;
        let result = match wait {
            Wait::For(time) if !is_poll => {
                let time = Timespec::new().sec(time.as_secs().min(i32::MAX as u64)).nsec(time.subsec_nanos());
                let arguments = SubmitArgs::new().timespec(&time);
                // SAFETY: with EXT_ARG the argument is this structure, which lives through the call, and so does its time.
                unsafe { submitter.enter(queued, 1, (flags | EnterFlags::EXT_ARG).bits(), Some(&arguments)) }
            }
            // SAFETY: no argument is given, so none is read.
            _ => unsafe { submitter.enter::<libc::sigset_t>(queued, u32::from(!is_poll), flags.bits(), None) },
        };
        unless_transient(result).map(drop)
    }

    /// Whether another [`Self::enter`] would bring more at once.
    pub(super) fn has_work(&mut self) -> bool {
        let queue = self.queues.submission();
        queue.taskrun() || queue.cq_overflow()
    }

    /// Moves all completions that are there.
    pub(super) fn take_completions(&mut self, into: &mut Vec<Completion>) {
        for entry in self.queues.completion() {
            let completion = Completion { user_data: entry.user_data(), result: entry.result(), flags: entry.flags() };
            let is_over = !completion.goes_on() && !completion.kind().is_cancel();
            debug_assert!(!is_over || self.in_flight > 0, "{completion:?} ends what was never asked for");
            self.in_flight -= usize::from(is_over);
            into.push(completion);
        }
    }

    /// Forgets what was never given to the kernel.
    pub(super) fn drop_backlog(&mut self) {
        let kept =
            self.backlog.iter().filter(|entry| entry.get_user_data() >> Kind::SHIFT < Kind::CancelReceive as u64);
        self.in_flight -= kept.count();
        self.backlog.clear();
    }

    /// Requests that the kernel has not finished.
    pub(super) fn in_flight(&self) -> usize {
        self.in_flight
    }
}

/// An end of a wait that is no failure counts as nothing submitted.
fn unless_transient(result: io::Result<usize>) -> io::Result<usize> {
    match result {
        // A signal; the time is over; no memory for a request, or too many completions wait to be taken.
        Err(error) if matches!(error.raw_os_error(), Some(libc::EINTR | libc::ETIME | libc::EAGAIN | libc::EBUSY)) => {
            Ok(0)
        }
        other => other,
    }
}
