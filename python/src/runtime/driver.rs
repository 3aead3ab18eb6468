//! Who drives the runtime: a thread of its own, or, for a while, the one thread that waits.
//!
//! A blocking publish costs little but its two changes of thread: the engine's thread is woken by the confirm, and wakes
//! the caller. So when all that happens is that one thread waits, again and again and never long, the engine's thread steps
//! aside, and the caller drives the runtime in its waits. The thread comes back
//!
//! * when nobody has waited for a moment ([`PAUSE`]): the caller does something else;
//! * when a wait is long ([`LONG`]): its thread has signals to look at;
//! * when a second thread has short waits too: one thread that drives for all costs the fewest hand-overs;
//! * when something was asked that nobody waits for ([`Driver::call_back`]).
//!
//! Whatever the callers do, the runtime is without a driver for no longer than two pauses. On a busy machine either thread
//! may be kept from running for longer than a pause at any time: that alone must not cost much, so a thread that has driven
//! for a while need not show again that its waits are short.

#[cfg(target_os = "linux")]
use std::sync::atomic::AtomicI32;
use std::{
    cell::Cell,
    future::poll_fn,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    task::{Poll, Wake, Waker},
    thread::{self, Thread},
    time::{Duration, Instant},
};

use tokio::{
    runtime::{Builder, Handle, Runtime},
    sync::Notify,
};

/// After so many short waits in a row the caller drives.
const SHORT_WAITS: u32 = 32;

/// After so many, if the caller had driven in [`A_WHILE`] of waits when the thread came back.
const SHORT_WAITS_AGAIN: u32 = 2;
const A_WHILE: u32 = 8;

/// So long a caller drives in one wait.
const LONG: Duration = Duration::from_millis(50);

/// A wait is short if it has ended so soon after the one before; and so long the engine's thread sleeps between its looks
/// at what the callers do.
const PAUSE: Duration = Duration::from_millis(2);

/// Short waits in a row, of one thread with nothing else going on.
static IN_A_ROW: AtomicU32 = AtomicU32::new(0);
/// The engine's thread has stepped aside.
static ASIDE: AtomicBool = AtomicBool::new(false);

/// What was asked since the engine's thread last napped, and nobody waits for.
static UNATTENDED: AtomicU32 = AtomicU32::new(0);

/// After so much of it the engine's thread takes a nap before it sleeps: more is likely to come, and goes out with it. Each
/// time that thread is woken costs as much as a publish, and each write to the socket several times that.
const BURST: u32 = 8;
const NAP: Duration = Duration::from_micros(100);

/// Something was asked that nobody waits for now. Whether [`Driver::call_back`] must follow.
pub fn is_missed() -> bool {
    UNATTENDED.fetch_add(1, Ordering::Relaxed);
    IN_A_ROW.store(0, Ordering::Relaxed);
    ASIDE.load(Ordering::Relaxed)
}

/// Something is waited for, though by no thread of its own. Whether [`Driver::call_back`] must follow.
pub fn is_awaited() -> bool {
    UNATTENDED.store(0, Ordering::Relaxed);
    IN_A_ROW.store(0, Ordering::Relaxed);
    ASIDE.load(Ordering::Relaxed)
}

thread_local! {
    static IS_ENGINE: Cell<bool> = const { Cell::new(false) };
}

/// Called by the runtime when it has nothing to do.
fn nap() {
    if UNATTENDED.load(Ordering::Relaxed) >= BURST && IS_ENGINE.get() {
        UNATTENDED.store(0, Ordering::Relaxed);
        thread::sleep(NAP);
    }
}

/// Where a thread waits: parked, or driving.
pub struct Seat {
    thread: Thread,
    woken: AtomicBool,
    /// Ends its driving.
    driving: Mutex<Option<Waker>>,
}

impl Seat {
    pub fn new() -> Arc<Self> {
        Arc::new(Self { thread: thread::current(), woken: AtomicBool::new(false), driving: Mutex::default() })
    }

    fn driving(&self) -> MutexGuard<'_, Option<Waker>> {
        self.driving.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Wake for Seat {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.woken.store(true, Ordering::Release);
        let driving = self.driving().take();
        match driving {
            Some(waker) => waker.wake(),
            None => self.thread.unpark(),
        }
    }
}

pub struct Driver {
    runtime: Runtime,
    step_aside: Notify,
    thread: OnceLock<thread::JoinHandle<()>>,
    /// The kernel's number of the thread.
    #[cfg(target_os = "linux")]
    task: AtomicI32,
    state: Mutex<State>,
}

struct State {
    /// Waits that are not long yet.
    waiting: u32,
    /// Who drives.
    seat: Option<Arc<Seat>>,
    /// Waits in which the caller drove; and those of them since the engine's thread stepped aside last.
    driven: u64,
    driven_since: u32,
    /// Short waits in a row after which the caller drives.
    needed: u32,
    /// When the last wait began that its caller drives.
    began: Instant,
    /// Waits that have ended, and when the last one did.
    ended: u64,
    last: Instant,
}

impl Driver {
    pub fn start() -> std::io::Result<Arc<Self>> {
        // A forked child begins with what its parent did last.
        IN_A_ROW.store(0, Ordering::Relaxed);
        ASIDE.store(false, Ordering::Relaxed);
        let driver = Arc::new(Self {
            runtime: Builder::new_current_thread().enable_all().on_thread_park(nap).build()?,
            step_aside: Notify::new(),
            thread: OnceLock::new(),
            #[cfg(target_os = "linux")]
            task: AtomicI32::new(0),
            state: Mutex::new(State {
                waiting: 0,
                seat: None,
                driven: 0,
                driven_since: 0,
                needed: SHORT_WAITS,
                began: Instant::now(),
                ended: 0,
                last: Instant::now(),
            }),
        });
        let its = driver.clone();
        let thread = thread::Builder::new().name("murano-messaging".into()).spawn(move || its.run())?;
        // Nobody else sets it.
        let _ = driver.thread.set(thread);
        Ok(driver)
    }

    pub fn handle(&self) -> Handle {
        self.runtime.handle().clone()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The engine's thread.
    fn run(&self) {
        IS_ENGINE.set(true);
        #[cfg(target_os = "linux")]
        self.task.store(this_task(), Ordering::Relaxed);
        loop {
            self.runtime.block_on(self.step_aside.notified());
            while self.stays_aside() {}
        }
    }

    /// Sleeps for a pause, or until somebody has it come back. Whether it has nothing to do afterwards either.
    fn stays_aside(&self) -> bool {
        let (before, began) = {
            let state = self.state();
            (state.ended, state.began)
        };
        let until = Instant::now() + PAUSE;
        while ASIDE.load(Ordering::Relaxed) {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            // It may return at once, for an earlier call to come back.
            thread::park_timeout(left);
        }
        let mut state = self.state();
        let is_driven = state.seat.is_some() && state.began.elapsed() < LONG;
        if state.ended == before && state.began == began && !is_driven {
            Self::take_over(&mut state);
        }
        ASIDE.load(Ordering::Relaxed)
    }

    /// Whether the engine's thread is there. It never ends by itself.
    pub fn has_thread(&self) -> bool {
        #[cfg(target_os = "linux")]
        if !is_alive(self.task.load(Ordering::Relaxed)) {
            return false;
        }
        self.thread.get().is_none_or(|thread| !thread.is_finished())
    }

    /// How many waits the callers have driven the runtime in.
    pub fn driven(&self) -> u64 {
        self.state().driven
    }

    /// Has the engine's thread drive again.
    pub fn call_back(&self) {
        self.come_back(&mut self.state());
    }

    fn come_back(&self, state: &mut State) {
        if Self::take_over(state)
            && let Some(thread) = self.thread.get()
        {
            thread.thread().unpark();
        }
    }

    /// As [`Self::come_back`], by the engine's thread itself: unparked, it would not sleep when it steps aside again.
    fn take_over(state: &mut State) -> bool {
        IN_A_ROW.store(0, Ordering::Relaxed);
        let was_aside = ASIDE.swap(false, Ordering::Relaxed);
        if was_aside {
            let for_a_while = state.driven_since >= A_WHILE;
            state.needed = if for_a_while { SHORT_WAITS_AGAIN } else { SHORT_WAITS };
            // It looks again at what it waits for, and parks.
            if let Some(seat) = &state.seat {
                seat.wake_by_ref();
            }
        }
        was_aside
    }

    /// A wait of `seat` begins. Whether it drives meanwhile.
    fn begin(&self, seat: &Arc<Seat>) -> bool {
        UNATTENDED.store(0, Ordering::Relaxed);
        let mut state = self.state();
        state.waiting += 1;
        if state.waiting > 1 {
            self.come_back(&mut state);
            return false;
        }
        if !ASIDE.load(Ordering::Relaxed) {
            if IN_A_ROW.load(Ordering::Relaxed) < state.needed {
                return false;
            }
            state.driven_since = 0;
            ASIDE.store(true, Ordering::Relaxed);
            self.step_aside.notify_one();
        }
        state.seat = Some(seat.clone());
        state.began = Instant::now();
        true
    }

    fn end(&self, drove: bool) {
        let now = Instant::now();
        let mut state = self.state();
        state.waiting -= 1;
        if drove {
            state.seat = None;
            state.driven += 1;
            state.driven_since = state.driven_since.saturating_add(1);
        }
        state.ended += 1;
        if state.waiting == 0 && now - state.last < PAUSE {
            IN_A_ROW.fetch_add(1, Ordering::Relaxed);
        } else {
            IN_A_ROW.store(0, Ordering::Relaxed);
        }
        state.last = now;
    }

    /// Waits until `seat` is woken; it may return before, at the latest after `longest` unless it drives. A wait that turns
    /// out to be `long` counts for nothing any more: who sleeps needs no thread to be woken by.
    pub fn wait(&self, seat: &Arc<Seat>, longest: Duration, long: &mut bool) {
        if *long {
            thread::park_timeout(longest);
            return;
        }
        let drives = self.begin(seat);
        let _end = End { driver: self, drives };
        if drives {
            self.runtime.block_on(poll_fn(|cx| {
                if seat.woken.swap(false, Ordering::Acquire) {
                    return Poll::Ready(());
                }
                *seat.driving() = Some(cx.waker().clone());
                // One that came between the two looks has only unparked the thread.
                if seat.woken.swap(false, Ordering::Acquire) { Poll::Ready(()) } else { Poll::Pending }
            }));
            seat.driving().take();
        } else {
            thread::park_timeout(longest.min(PAUSE));
            *long = !seat.woken.swap(false, Ordering::Acquire);
        }
    }
}

/// The end of a wait, also of one that panics.
struct End<'a> {
    driver: &'a Driver,
    drives: bool,
}

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.driver.end(self.drives);
    }
}

/// The kernel's number of this thread; 0 if it is not known.
#[cfg(target_os = "linux")]
#[allow(unsafe_code)]
fn this_task() -> i32 {
    // SAFETY: it takes no arguments and always succeeds. (By its number: older C libraries have no function for it.)
    unsafe { libc::syscall(libc::SYS_gettid) }.try_into().unwrap_or(0)
}

/// Whether this process has a thread of this number; also if the number is not known.
#[cfg(target_os = "linux")]
#[allow(unsafe_code)]
fn is_alive(task: i32) -> bool {
    // SAFETY: signal 0 is only a question.
    task == 0 || unsafe { libc::syscall(libc::SYS_tgkill, std::process::id(), task, 0) } == 0
}
