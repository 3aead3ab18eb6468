//! A number for each process: a fork changes it, whoever forked and however.
//!
//! The hooks of the interpreter (`os.register_at_fork`) do not see the forks of a C program with Python inside, as uWSGI
//! is; those of the C library do not see the bare system call. The kernel sees all of them: the number is in a page that a
//! child finds zeroed (`MADV_WIPEONFORK`, Linux 4.14), which costs a load per look where `getpid` would be a system call.
//! Where there is no such page, the hook of the C library zeroes the number.

use std::sync::{
    OnceLock,
    atomic::{AtomicU32, Ordering},
};

/// The number of this process; 0 until it is first asked for.
static CURRENT: OnceLock<&'static AtomicU32> = OnceLock::new();

/// No process has had a number above it, neither this one nor one that led to it.
static LAST: AtomicU32 = AtomicU32::new(0);

/// A number that differs between a process and its forked children.
pub fn generation() -> u32 {
    let current = CURRENT.get_or_init(zeroed_by_forks);
    match current.load(Ordering::Relaxed) {
        0 => begin(current),
        known => known,
    }
}

#[cold]
fn begin(current: &AtomicU32) -> u32 {
    // Threads may come here together, and another of them may fork meanwhile: what is taken from `LAST` is nobody else's.
    let next = LAST.fetch_add(1, Ordering::Relaxed) + 1;
    match current.compare_exchange(0, next, Ordering::Relaxed, Ordering::Relaxed) {
        Ok(_) => next,
        Err(known) => known,
    }
}

/// From here on, what this process has made counts as inherited.
pub fn renounce() {
    if let Some(current) = CURRENT.get() {
        current.store(0, Ordering::Relaxed);
    }
}

fn zeroed_by_forks() -> &'static AtomicU32 {
    static OUR_OWN: AtomicU32 = AtomicU32::new(0);
    #[cfg(unix)]
    zero_in_children();
    #[cfg(target_os = "linux")]
    if let Some(number) = wiped_by_forks() {
        return number;
    }
    &OUR_OWN
}

#[cfg(target_os = "linux")]
#[allow(unsafe_code)]
fn wiped_by_forks() -> Option<&'static AtomicU32> {
    // The kernel rounds it up to a page.
    const SIZE: usize = size_of::<AtomicU32>();
    // SAFETY: a new mapping that nobody else knows and that is never unmapped, aligned to a page and full of zeros, which
    // are a valid `AtomicU32`. The kernel writes to it in forked children only, before they run.
    unsafe {
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        let page = libc::mmap(
            std::ptr::null_mut(),
            SIZE,
            protection,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
            -1,
            0,
        );
        if page == libc::MAP_FAILED || libc::madvise(page, SIZE, libc::MADV_WIPEONFORK) != 0 {
            return None;
        }
        Some(&*page.cast::<AtomicU32>())
    }
}

#[cfg(unix)]
#[allow(unsafe_code)]
fn zero_in_children() {
    extern "C" fn in_child() {
        renounce();
    }
    // SAFETY: the hook only stores a number. It can fail for lack of memory, and then the page is what remains.
    unsafe { libc::pthread_atfork(None, None, Some(in_child)) };
}
