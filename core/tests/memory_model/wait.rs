//! The queue of what became ready in the Python package, from its own file, over a descriptor that loom knows.

#[path = "../../../python/src/wait/ready.rs"]
pub mod ready;

pub mod sync {
    pub use loom::sync::{Mutex, MutexGuard};
}

pub mod descriptor {
    use loom::sync::{Condvar, Mutex};

    #[derive(Default)]
    pub struct Descriptor {
        readable: Mutex<bool>,
        changed: Changed,
    }

    struct Changed(Condvar);

    impl Default for Changed {
        fn default() -> Self {
            Self(Condvar::new())
        }
    }

    impl Descriptor {
        pub fn set(&self) {
            *self.readable.lock().unwrap() = true;
            self.changed.0.notify_one();
        }

        pub fn clear(&self) {
            *self.readable.lock().unwrap() = false;
        }

        /// What an event loop does.
        pub fn wait_until_readable(&self) {
            let mut readable = self.readable.lock().unwrap();
            while !*readable {
                readable = self.changed.0.wait(readable).unwrap();
            }
        }
    }
}
