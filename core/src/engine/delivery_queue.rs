//! The deliveries of one consumer between the engine and the application.

use std::{
    collections::{BTreeMap, VecDeque},
    future::Future,
    pin::Pin,
    sync::{Arc, PoisonError},
    task::{Context, Poll, Waker},
};

use amq_protocol::types::FieldTable;

use super::{
    acks::OnDrop,
    publish::Publishing,
    sync::{Mutex, MutexGuard},
    undelivered::Undelivered,
};
use crate::{Error, Result, delivery::Delivery};

/// How a consumer was asked for. Recovery starts it again with the same, except for the prefetch and the offset of a
/// stream: those may have changed since, and its machine has them.
#[derive(Clone, Debug)]
pub(crate) struct ConsumerRequest {
    pub queue: String,
    pub tag: Arc<str>,
    pub prefetch: u16,
    pub no_ack: bool,
    pub exclusive: bool,
    pub arguments: FieldTable,
    /// A consumer that the broker cancelled starts again when its queue is back.
    pub resume: bool,
    pub on_drop: OnDrop,
    /// A stream was asked for; others are known from their declaration.
    pub stream: bool,
}

#[derive(Default)]
struct State {
    deliveries: VecDeque<Delivery>,
    /// By the number of the wait, so that one that is given up can take itself off.
    wakers: BTreeMap<u64, Waker>,
    last_wait: u64,
    /// How it ended; with the reason, if that was not its owner's wish.
    end: Option<Option<Error>>,
    /// The reason was handed out.
    told: bool,
    delivered: u64,
    /// Nobody can ask for deliveries any more.
    abandoned: bool,
}

pub(crate) struct DeliveryQueue {
    pub id: u64,
    pub request: ConsumerRequest,
    budget: Arc<Undelivered>,
    state: Mutex<State>,
    /// The name of the queue; a server-named one has another after a reconnect.
    queue: Mutex<String>,
    /// For a consumer of `amq.rabbitmq.reply-to`: the publishes whose answers it gets go through its channel (RabbitMQ,
    /// direct reply-to).
    pub requests: Option<Arc<Publishing>>,
}

impl DeliveryQueue {
    pub fn new(
        id: u64,
        budget: Arc<Undelivered>,
        request: ConsumerRequest,
        requests: Option<Arc<Publishing>>,
    ) -> Arc<Self> {
        let queue = Mutex::new(request.queue.clone());
        Arc::new(Self { id, request, budget, state: Mutex::default(), queue, requests })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn queue(&self) -> String {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub fn is_of(&self, queue: &str) -> bool {
        *self.queue.lock().unwrap_or_else(PoisonError::into_inner) == queue
    }

    pub fn rename_queue(&self, queue: &str) {
        queue.clone_into(&mut self.queue.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// The consumer tag and the queue, for events.
    pub fn names(&self) -> (String, String) {
        (self.request.tag.to_string(), self.queue())
    }

    /// Queues a delivery; [`Self::wake`] follows once for a batch.
    pub fn push(&self, delivery: Delivery) {
        let mut state = self.lock();
        if !state.abandoned {
            self.budget.arrived(delivery.footprint());
            state.deliveries.push_back(delivery);
        }
    }

    /// Drops what is queued and what is still to come.
    pub fn abandon(&self) {
        self.lock().abandoned = true;
        drop(self.take_undelivered());
    }

    pub fn wake(&self) {
        let wakers = std::mem::take(&mut self.lock().wakers);
        wakers.into_values().for_each(Waker::wake);
    }

    /// The next delivery; `None` when the consumer was ended by its owner; an error, once, when it ended otherwise.
    ///
    /// The polls are those of one wait: the last one's waker is woken. [`Self::wait`] is for several at a time.
    pub fn poll_next(&self, cx: &mut Context<'_>) -> Poll<Option<Result<Delivery>>> {
        self.poll_as(&mut Some(POLLED), cx)
    }

    /// A wait of its own for the next delivery.
    pub fn wait(&self) -> Wait<'_> {
        Wait { incoming: self, number: None }
    }

    /// Polls for the wait `number`, which gets one when it first has to wait.
    fn poll_as(&self, number: &mut Option<u64>, cx: &mut Context<'_>) -> Poll<Option<Result<Delivery>>> {
        let mut state = self.lock();
        let popped = Self::pop(&mut state);
        if popped.is_pending() {
            let number = *number.get_or_insert_with(|| {
                state.last_wait += 1;
                state.last_wait
            });
            state.wakers.insert(number, cx.waker().clone());
        }
        // The budget wakes the engine, which is done without the lock.
        drop(state);
        if popped.is_pending() {
            self.budget.somebody_waits();
        } else {
            self.account(&popped);
        }
        popped
    }

    /// As [`Self::poll_next`], without a wake-up to come.
    pub fn try_recv(&self) -> Poll<Option<Result<Delivery>>> {
        let popped = Self::pop(&mut self.lock());
        self.account(&popped);
        popped
    }

    fn pop(state: &mut State) -> Poll<Option<Result<Delivery>>> {
        if let Some(delivery) = state.deliveries.front_mut() {
            // Where it lies: it has hundreds of bytes, and each move of it is a copy.
            delivery.handed_out = true;
            state.delivered += 1;
            return Poll::Ready(state.deliveries.pop_front().map(Ok));
        }
        match &state.end {
            None => Poll::Pending,
            Some(Some(reason)) if !std::mem::replace(&mut state.told, true) => {
                Poll::Ready(Some(Err(reason.clone())))
            }
            Some(_) => Poll::Ready(None),
        }
    }

    fn account(&self, popped: &Poll<Option<Result<Delivery>>>) {
        if let Poll::Ready(Some(Ok(delivery))) = popped {
            self.budget.handed_out(delivery.footprint());
        }
    }

    /// No more deliveries will come: `None`, or the reason.
    pub fn end(&self, reason: Option<Error>) {
        self.lock().end.get_or_insert(reason);
        self.wake();
    }

    pub fn has_ended(&self) -> bool {
        self.lock().end.is_some()
    }

    /// The reason of an end that was not its owner's wish.
    pub fn failure(&self) -> Option<Error> {
        self.lock().end.clone().flatten()
    }

    /// Takes back what was never handed out.
    pub fn take_undelivered(&self) -> VecDeque<Delivery> {
        let deliveries = std::mem::take(&mut self.lock().deliveries);
        self.budget.handed_out(deliveries.iter().map(Delivery::footprint).sum());
        deliveries
    }

    /// Whether somebody waits for a delivery, and there is none.
    pub fn is_awaited(&self) -> bool {
        let state = self.lock();
        state.deliveries.is_empty() && !state.wakers.is_empty()
    }

    /// Deliveries that wait to be handed to the application.
    pub fn undelivered(&self) -> usize {
        self.lock().deliveries.len()
    }

    /// Deliveries handed to the application so far.
    pub fn delivered(&self) -> u64 {
        self.lock().delivered
    }
}

/// The wait that [`DeliveryQueue::poll_next`] polls for.
const POLLED: u64 = 0;

/// One wait for the next delivery.
pub(crate) struct Wait<'a> {
    incoming: &'a DeliveryQueue,
    number: Option<u64>,
}

impl Future for Wait<'_> {
    type Output = Option<Result<Delivery>>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let incoming = self.incoming;
        incoming.poll_as(&mut self.number, cx)
    }
}

impl Drop for Wait<'_> {
    fn drop(&mut self) {
        if let Some(number) = self.number {
            self.incoming.lock().wakers.remove(&number);
        }
    }
}

impl Drop for DeliveryQueue {
    /// What the application never asked for does not count any more.
    fn drop(&mut self) {
        drop(self.take_undelivered());
    }
}

#[cfg(all(test, not(engine_model)))]
mod tests {
    use std::{
        pin::pin,
        sync::atomic::{AtomicUsize, Ordering},
        task::Wake,
    };

    use super::*;

    fn incoming() -> Arc<DeliveryQueue> {
        let request = ConsumerRequest {
            queue: "q".into(),
            tag: "t".into(),
            prefetch: 1,
            no_ack: false,
            exclusive: false,
            arguments: FieldTable::default(),
            resume: false,
            on_drop: OnDrop::Keep,
            stream: false,
        };
        DeliveryQueue::new(1, super::super::link::Link::new(1).budget.clone(), request, None)
    }

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn waits_that_are_given_up_leave_nothing_behind() {
        let incoming = incoming();
        let (kept, given_up) = (Arc::new(Count::default()), Arc::new(Count::default()));
        let mut wait = pin!(incoming.wait());
        assert!(wait.as_mut().poll(&mut Context::from_waker(&kept.clone().into())).is_pending());
        for _ in 0..1_000 {
            let mut wait = pin!(incoming.wait());
            for _ in 0..2 {
                assert!(wait.as_mut().poll(&mut Context::from_waker(&given_up.clone().into())).is_pending());
            }
            assert_eq!(incoming.lock().wakers.len(), 2);
        }
        assert_eq!(incoming.lock().wakers.len(), 1);
        incoming.wake();
        assert_eq!((kept.0.load(Ordering::Relaxed), given_up.0.load(Ordering::Relaxed)), (1, 0));
    }

    #[test]
    fn polls_with_many_wakers_keep_the_last() {
        let incoming = incoming();
        let wakers: Vec<_> = (0..1_000).map(|_| Arc::new(Count::default())).collect();
        for waker in &wakers {
            assert!(incoming.poll_next(&mut Context::from_waker(&waker.clone().into())).is_pending());
        }
        incoming.wake();
        let woken: Vec<_> = wakers.iter().map(|waker| waker.0.load(Ordering::Relaxed)).collect();
        assert_eq!((woken.iter().sum::<usize>(), woken.last()), (1, Some(&1)));
    }
}
