//! How promises come to their results.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use murano_messaging::{Consumer, Delivery, Error, ErrorKind, Event, Events};
use pyo3::prelude::*;

use super::{
    frames::{Delivered, Frame, Given},
    promises::{Done, Promise, Promises, Table, WATCH, Watching, Work},
};

impl Promises {
    /// Looks at the promises that were woken.
    pub fn drain(&self) {
        loop {
            // Taken under the lock: another thread that finds nothing woken finds what came of it in the table.
            let mut table = self.table();
            let woken = self.signals.take();
            if woken.is_empty() {
                return;
            }
            for number in &woken {
                self.advance(&mut table, *number);
            }
            self.show(&table);
            let garbage = std::mem::take(&mut table.garbage);
            drop(table);
            drop(garbage);
        }
    }

    pub fn show(&self, table: &Table) {
        self.signals.set_ready(table.lost || !table.ready.is_empty());
    }

    /// As [`Self::show`], after this promise was advanced although no signal has asked for it: who waits in another
    /// thread has not been woken for what came of that.
    pub fn tell(&self, table: &Table, number: u64) {
        self.show(table);
        if table.ready.contains(&number) {
            self.signals.wake_all();
        }
    }

    pub fn advance(&self, table: &mut Table, number: u64) {
        let Some(promise) = table.promises.get_mut(&number) else { return };
        match &mut promise.work {
            Work::Nothing => {}
            Work::Publish(confirmation) => {
                // It is mostly there: a waker is only made where it is not.
                let mut confirmation = Pin::new(confirmation);
                let noop = &mut Context::from_waker(Waker::noop());
                let polled = match confirmation.as_mut().poll(noop) {
                    Poll::Pending => {
                        let waker = self.signals.waker(number);
                        confirmation.poll(&mut Context::from_waker(&waker))
                    }
                    ready @ Poll::Ready(_) => ready,
                };
                if let Poll::Ready(result) = polled {
                    promise.finish(match result {
                        Ok(()) => Given::Empty(Frame::Bare),
                        Err(error) => Given::Failed(error),
                    });
                    table.ready.insert(number);
                }
            }
            Work::Operation(operation) => {
                let waker = self.signals.waker(number);
                if let Poll::Ready(result) = operation.as_mut().poll(&mut Context::from_waker(&waker)) {
                    promise.work = Work::Nothing;
                    self.done(table, number, result);
                }
            }
            Work::Consume(consumers) => {
                let consumers = consumers.clone();
                self.refill(table, number, &consumers);
            }
            Work::Watch(watching) => {
                let waker = self.signals.waker(number);
                if let Poll::Ready((reason, _)) = watching.as_mut().poll(&mut Context::from_waker(&waker)) {
                    promise.work = Work::Nothing;
                    if reason.is_some() || !table.closing {
                        table.lost = true;
                        self.shut_down(table, &reason.unwrap_or_else(closed));
                    }
                }
            }
        }
    }

    fn done(&self, table: &mut Table, number: u64, result: Result<Done, Error>) {
        let Some(promise) = table.promises.get_mut(&number) else { return };
        match result {
            Ok(Done::Given(given)) => promise.finish(given),
            Ok(Done::Got(None)) => promise.finish(Given::GetEmpty),
            Ok(Done::Got(Some(core))) => {
                promise
                    .finish(Given::Delivery(Box::new(Delivered { tag: core.delivery_tag(), core: *core })));
            }
            Ok(Done::Connected(client)) => {
                promise.results.push_back(Given::Connected(client.server()));
                table.server = client.server();
                let client = Arc::new(*client);
                Python::attach(|py| crate::exit::remember(py, &client));
                let watching = watch(client.events());
                table.client = Some(client);
                table.promises.insert(WATCH, Promise::new(Work::Watch(watching), None));
                self.advance(table, WATCH);
            }
            Ok(Done::Consuming(consumers)) => {
                let consumers = Arc::new(consumers);
                promise.work = Work::Consume(consumers.clone());
                if let Some(started) = &promise.started {
                    started.send_replace(Some(consumers.clone()));
                }
                self.refill(table, number, &consumers);
                return;
            }
            Ok(Done::Cancelled { target, tag }) => {
                promise.finish(Given::Cancelled(tag));
                table.cancelled(target);
            }
            Ok(Done::Limited { target, limit }) => {
                promise.finish(Given::Empty(Frame::QosOk));
                if let Some(promise) = table.promises.get_mut(&target) {
                    promise.limit = limit;
                }
                self.advance(table, target);
            }
            Ok(Done::Closed) => {
                promise.results.push_back(Given::Empty(Frame::ConnectionCloseOk));
                table.ready.insert(number);
                self.shut_down(table, &closed());
            }
            Err(error) if number == table.connection && table.client.is_some() => {
                // Closing failed: there is no connection any more.
                promise.results.push_back(Given::Failed(error.clone()));
                table.ready.insert(number);
                self.shut_down(table, &error);
            }
            Err(error) => promise.finish(Given::Failed(error)),
        }
        table.ready.insert(number);
    }

    /// Has the next delivery of a consuming promise at hand, if there is one.
    pub fn refill(&self, table: &mut Table, number: u64, consumers: &[Consumer]) {
        let Some(promise) = table.promises.get_mut(&number) else { return };
        if !promise.results.is_empty() || promise.is_full() {
            return;
        }
        // Each in its turn: one that always has something must not keep the others waiting.
        let first = promise.last_tag as usize % consumers.len().max(1);
        let in_turn = || consumers[first..].iter().chain(&consumers[..first]);
        let mut polled = in_turn().find_map(|core| if_ready(core, core.try_recv()));
        if polled.is_none() {
            let waker = self.signals.waker(number);
            let mut context = Context::from_waker(&waker);
            polled = in_turn().find_map(|core| if_ready(core, core.poll_next_delivery(&mut context)));
        }
        let Some((consumer, next)) = polled else { return };
        match next {
            Some(Ok(core)) => promise.deliver(core, consumers.len()),
            Some(Err(error)) if error.kind() == ErrorKind::ConsumerCancelled => {
                promise.finish(Given::Cancelled(consumer.tag().to_string()));
            }
            Some(Err(error)) => promise.finish(Given::Failed(error)),
            // Cancelled by the application, which is told by the promise of the cancel; or closed.
            None => return,
        }
        table.ready.insert(number);
    }

    /// The connection is gone: whoever still waits gets `error`.
    fn shut_down(&self, table: &mut Table, error: &Error) {
        let waiting: Vec<u64> =
            table.promises.iter().filter(|(_, promise)| !promise.over).map(|(number, _)| *number).collect();
        table.client = None;
        for number in waiting {
            if number == WATCH {
                table.promises.remove(&WATCH);
                continue;
            }
            // What it waited for may have come before the end.
            let is_publish =
                matches!(table.promises.get(&number), Some(Promise { work: Work::Publish(_), .. }));
            if is_publish {
                self.advance(table, number);
            }
            let Some(promise) = table.promises.get_mut(&number).filter(|promise| !promise.over) else {
                continue;
            };
            promise.finish(Given::Failed(error.clone()));
            table.ready.insert(number);
        }
    }
}

impl Table {
    /// The consumers of this promise are cancelled: what was not handed out goes back to its queue, unless it came without
    /// acks.
    fn cancelled(&mut self, number: u64) {
        let Some(promise) = self.promises.get_mut(&number).filter(|promise| !promise.over) else {
            return;
        };
        if !promise.no_ack {
            for given in promise.results.drain(..) {
                if let Given::Delivery(delivered) = given {
                    // The connection may be gone, and then it went back by itself.
                    let _ = delivered.core.requeue();
                }
            }
        }
        promise.end();
        if promise.results.is_empty() {
            self.ready.remove(&number);
        } else {
            self.ready.insert(number);
        }
        if promise.is_spent() {
            self.garbage.extend(self.promises.remove(&number));
        }
    }
}

type Next = Option<Result<Delivery, Error>>;

fn if_ready(consumer: &Consumer, polled: Poll<Next>) -> Option<(&Consumer, Next)> {
    match polled {
        Poll::Ready(next) => Some((consumer, next)),
        Poll::Pending => None,
    }
}

fn closed() -> Error {
    Error::new(ErrorKind::Closed, "the connection was closed")
}

fn watch(mut events: Events) -> Watching {
    Box::pin(async move {
        loop {
            match events.next().await {
                Some(Event::Closed { reason, .. }) => return (reason, events),
                Some(_) => {}
                None => return (None, events),
            }
        }
    })
}
