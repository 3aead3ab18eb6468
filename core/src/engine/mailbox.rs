//! Queues from the handles to the engine.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::waker::EngineWaker;
use crate::Error;

/// A queue that many fill and the engine empties.
pub(crate) struct Mailbox<T> {
    inbox: Mutex<Inbox<T>>,
    waker: Arc<EngineWaker>,
}

struct Inbox<T> {
    mail: Vec<T>,
    closed: Option<Error>,
}

impl<T> Mailbox<T> {
    pub fn new(waker: Arc<EngineWaker>) -> Self {
        Self { inbox: Mutex::new(Inbox { mail: Vec::new(), closed: None }), waker }
    }

    fn lock_inbox(&self) -> MutexGuard<'_, Inbox<T>> {
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues an item and wakes the engine; the reason when the engine is gone. The item is dropped then, without the
    /// lock: its drop may send something else.
    pub fn send(&self, item: T) -> Result<(), Error> {
        let mut inbox = self.lock_inbox();
        if let Some(error) = &inbox.closed {
            let error = error.clone();
            drop(inbox);
            return Err(error);
        }
        inbox.mail.push(item);
        drop(inbox);
        self.waker.wake();
        Ok(())
    }

    /// All that was sent, in order.
    pub fn take(&self) -> Vec<T> {
        std::mem::take(&mut self.lock_inbox().mail)
    }

    /// Refuses from now on, with `error`; what waits is given back. The first error stays.
    pub fn close(&self, error: &Error) -> Vec<T> {
        let mut inbox = self.lock_inbox();
        inbox.closed.get_or_insert_with(|| error.clone());
        std::mem::take(&mut inbox.mail)
    }

    /// Why it was closed, once it was.
    pub fn why_closed(&self) -> Option<Error> {
        self.lock_inbox().closed.clone()
    }

    pub fn is_closed(&self) -> bool {
        self.lock_inbox().closed.is_some()
    }
}

#[cfg(test)]
mod tests {
    use std::{
        future::Future,
        pin::pin,
        task::{Context, Waker},
    };

    use super::*;
    use crate::ErrorKind;

    fn is_woken(waker: &EngineWaker) -> bool {
        pin!(waker.woken()).poll(&mut Context::from_waker(Waker::noop())).is_ready()
    }

    #[test]
    fn mail_comes_in_order_and_wakes_once_until_it_is_looked_at() {
        let waker = Arc::new(EngineWaker::default());
        let mailbox = Mailbox::new(waker.clone());
        assert!(!is_woken(&waker));
        mailbox.send(1).unwrap();
        mailbox.send(2).unwrap();
        assert!(is_woken(&waker));
        assert!(!is_woken(&waker));
        waker.rearm();
        assert_eq!(mailbox.take(), [1, 2]);
        assert!(mailbox.take().is_empty());
        mailbox.send(3).unwrap();
        assert!(is_woken(&waker));
        assert_eq!(mailbox.take(), [3]);
    }

    #[test]
    fn a_wake_up_before_the_wait_is_kept() {
        let waker = EngineWaker::default();
        waker.rearm();
        waker.wake();
        assert!(is_woken(&waker));
    }

    #[test]
    fn a_closed_mailbox_gives_back_what_waits_and_keeps_its_first_reason() {
        let mailbox = Mailbox::new(Arc::default());
        mailbox.send(1).unwrap();
        assert_eq!(mailbox.close(&Error::new(ErrorKind::ConnectionLost, "first")), [1]);
        assert!(mailbox.close(&Error::new(ErrorKind::Closed, "second")).is_empty());
        assert!(mailbox.is_closed());
        assert_eq!(mailbox.send(2).unwrap_err().kind(), ErrorKind::ConnectionLost);
        assert_eq!(mailbox.why_closed().unwrap().kind(), ErrorKind::ConnectionLost);
        assert!(mailbox.take().is_empty());
    }

    /// An item whose drop takes the lock of the same mailbox.
    struct Echo(Arc<Mailbox<Echo>>);

    impl Drop for Echo {
        fn drop(&mut self) {
            assert!(self.0.is_closed());
        }
    }

    #[test]
    fn a_refused_item_is_dropped_without_the_lock() {
        let mailbox = Arc::new(Mailbox::new(Arc::default()));
        drop(mailbox.close(&Error::new(ErrorKind::Closed, "closed")));
        mailbox.send(Echo(mailbox.clone())).unwrap_err();
    }
}
