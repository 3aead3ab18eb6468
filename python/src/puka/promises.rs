//! The table of promises, and how they come to their results.

use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

use murano_messaging::{Client, Confirmation, Consumer, Delivery, Error, ErrorKind, Event, Events};
use pyo3::prelude::*;

use super::{
    frames::{Delivered, Frame, Given},
    signals::Signals,
};

/// What an operation comes to.
pub enum Done {
    Given(Given),
    Connected(Box<Client>),
    Closed,
    Consuming(Vec<Consumer>),
    /// The consumers of another promise were cancelled; the tag of the last.
    Cancelled {
        target: u64,
        tag: String,
    },
    Got(Option<Box<Delivery>>),
    /// The consumers of another promise have another prefetch.
    Limited {
        target: u64,
        limit: usize,
    },
}

pub type Operation = Pin<Box<dyn Future<Output = Result<Done, Error>> + Send>>;
type Watching = Pin<Box<dyn Future<Output = (Option<Error>, Events)> + Send>>;

/// What a promise waits for.
pub enum Work {
    Nothing,
    Publish(Confirmation),
    Operation(Operation),
    Consume(Arc<Vec<Consumer>>),
    /// The end of the connection.
    Watch(Watching),
}

pub struct Promise {
    pub work: Work,
    pub callback: Option<Py<PyAny>>,
    results: VecDeque<Given>,
    /// No more results will come.
    over: bool,
    no_ack: bool,
    /// Deliveries that the application has, by the number it settles them by.
    held: HashMap<u64, Delivery>,
    last_tag: u64,
    /// The most that the application may hold, since `basic_qos` has changed it; 0 for what the broker sends.
    limit: usize,
}

impl Promise {
    fn new(work: Work, callback: Option<Py<PyAny>>) -> Self {
        Self {
            work,
            callback,
            results: VecDeque::new(),
            over: false,
            no_ack: false,
            held: HashMap::new(),
            last_tag: 0,
            limit: 0,
        }
    }

    /// A result that the application gets, and whether it is the last.
    fn finish(&mut self, given: Given) {
        self.results.push_back(given);
        self.over = true;
        self.work = Work::Nothing;
    }

    /// Whether the application holds all it may. What it held before a `basic_qos` the broker does not count.
    fn is_full(&self) -> bool {
        self.limit > 0 && self.held.len() >= self.limit
    }

    fn is_spent(&self) -> bool {
        self.over && self.results.is_empty() && self.held.is_empty()
    }
}

/// The promise of the end of the connection; the application's begin at 1.
const WATCH: u64 = 0;

pub struct Table {
    promises: HashMap<u64, Promise>,
    ready: BTreeSet<u64>,
    next: u64,
    /// The promise of `connect()`, which is that of `close()` too.
    connection: u64,
    client: Option<Arc<Client>>,
    closing: bool,
    /// Dropped without the lock: what their callbacks hold may call back into this table.
    garbage: Vec<Promise>,
}

/// Why something cannot be settled.
pub enum Unsettled {
    UnknownPromise,
    NoAck,
    Settled,
    Failed(Error),
}

/// What is handed out of a promise.
pub struct HandedOut {
    pub given: Given,
    pub callback: Option<Py<PyAny>>,
}

/// The promises of one client.
pub struct Promises {
    table: Mutex<Table>,
    pub signals: Arc<Signals>,
}

impl Promises {
    pub fn new() -> Self {
        let table = Table {
            promises: HashMap::new(),
            ready: BTreeSet::new(),
            next: 1,
            connection: WATCH,
            client: None,
            closing: false,
            garbage: Vec::new(),
        };
        Self { table: Mutex::new(table), signals: Arc::default() }
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The client, while there is a connection.
    pub fn client(&self) -> Option<Arc<Client>> {
        self.table().client.clone()
    }

    pub fn add(&self, work: Work, callback: Option<Py<PyAny>>) -> u64 {
        self.add_consuming(work, false, callback)
    }

    /// A promise whose deliveries are, or are not, to be settled.
    pub fn add_consuming(&self, work: Work, no_ack: bool, callback: Option<Py<PyAny>>) -> u64 {
        let mut table = self.table();
        let number = table.next;
        table.next += 1;
        let promise = Promise { no_ack, ..Promise::new(work, callback) };
        table.promises.insert(number, promise);
        self.advance(&mut table, number);
        self.show(&table);
        number
    }

    /// The promise of a connection that is being made.
    pub fn connect(&self, work: Operation, callback: Option<Py<PyAny>>) -> u64 {
        let number = self.add(Work::Operation(work), callback);
        let mut table = self.table();
        table.connection = number;
        table.closing = false;
        number
    }

    /// Has the promise of the connection wait for its end. `None` when there is no connection.
    pub fn close(&self, work: Operation, callback: Option<Py<PyAny>>) -> Option<u64> {
        let mut dropped = None;
        let mut table = self.table();
        table.closing = true;
        let number = table.connection;
        let closing = table.promises.get_mut(&number).filter(|promise| !promise.over).map(|promise| {
            promise.work = Work::Operation(work);
            dropped = std::mem::replace(&mut promise.callback, callback);
            number
        });
        if closing.is_some() {
            self.advance(&mut table, number);
            self.show(&table);
        }
        drop(table);
        drop(dropped);
        closing
    }

    /// The consumers of a promise, to be changed or cancelled; `None` for another promise.
    pub fn consumers(&self, number: u64) -> Option<Arc<Vec<Consumer>>> {
        match &self.table().promises.get(&number)?.work {
            Work::Consume(consumers) => Some(consumers.clone()),
            _ => None,
        }
    }

    /// The number of the next promise.
    pub fn next_number(&self) -> u64 {
        self.table().next
    }

    /// Gives up a consumer that has not started; `false` if there is none of this number.
    pub fn give_up(&self, number: u64) -> bool {
        let mut table = self.table();
        let Some(promise) = table.promises.get_mut(&number).filter(|promise| !promise.over) else {
            return false;
        };
        promise.over = true;
        promise.work = Work::Nothing;
        let spent = promise.is_spent().then(|| table.promises.remove(&number));
        drop(table);
        drop(spent);
        true
    }

    pub fn set_callback(&self, number: u64, callback: Option<Py<PyAny>>) -> bool {
        let mut table = self.table();
        let Some(promise) = table.promises.get_mut(&number) else { return false };
        let before = std::mem::replace(&mut promise.callback, callback);
        // What it holds may call back into this table.
        drop(table);
        drop(before);
        true
    }

    /// Callbacks, for the garbage collector. `None` while the table is in use.
    pub fn for_callbacks(&self, mut visit: impl FnMut(&Py<PyAny>)) {
        if let Ok(table) = self.table.try_lock() {
            table.promises.values().filter_map(|promise| promise.callback.as_ref()).for_each(&mut visit);
        }
    }

    pub fn clear_callbacks(&self) {
        let callbacks: Vec<_> =
            self.table().promises.values_mut().filter_map(|promise| promise.callback.take()).collect();
        drop(callbacks);
    }

    // ---- results ---------------------------------------------------------------------------------------------

    /// Looks at the promises that were woken.
    pub fn drain(&self) {
        loop {
            let woken = self.signals.take();
            let mut table = self.table();
            for number in &woken {
                self.advance(&mut table, *number);
            }
            self.show(&table);
            let garbage = std::mem::take(&mut table.garbage);
            drop(table);
            drop(garbage);
            if woken.is_empty() {
                return;
            }
        }
    }

    fn show(&self, table: &Table) {
        self.signals.set_ready(!table.ready.is_empty());
    }

    fn advance(&self, table: &mut Table, number: u64) {
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
    fn refill(&self, table: &mut Table, number: u64, consumers: &[Consumer]) {
        let Some(promise) = table.promises.get_mut(&number) else { return };
        if !promise.results.is_empty() || promise.is_full() {
            return;
        }
        // Each in its turn: one that always has something must not keep the others waiting.
        let first = promise.last_tag as usize % consumers.len().max(1);
        let in_turn = || consumers[first..].iter().chain(&consumers[..first]);
        let mut polled = in_turn().map(Consumer::try_next).find(Poll::is_ready);
        if polled.is_none() {
            let waker = self.signals.waker(number);
            let mut context = Context::from_waker(&waker);
            polled = in_turn().map(|core| core.poll_next_delivery(&mut context)).find(Poll::is_ready);
        }
        let Some(Poll::Ready(next)) = polled else { return };
        match next {
            Some(Ok(core)) => {
                // The tags of several consumers are those of several channels.
                promise.last_tag =
                    if consumers.len() == 1 { core.delivery_tag() } else { promise.last_tag + 1 };
                let tag = promise.last_tag;
                promise.results.push_back(Given::Delivery(Box::new(Delivered { core, tag })));
            }
            Some(Err(error)) if error.kind() == ErrorKind::ConsumerCancelled => {
                let tag = consumers.last().map(|core| core.tag().to_string()).unwrap_or_default();
                promise.finish(Given::Cancelled(tag));
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

    /// Takes the next result out of a promise.
    pub fn hand_out(&self, number: u64) -> Option<HandedOut> {
        let mut table = self.table();
        let promise = table.promises.get_mut(&number)?;
        let given = promise.results.pop_front()?;
        let callback = promise.callback.as_ref().map(|callback| Python::attach(|py| callback.clone_ref(py)));
        let consumers = match &promise.work {
            Work::Consume(consumers) if promise.limit == 0 => Some(consumers.clone()),
            _ => None,
        };
        if let Some(consumers) = consumers {
            self.refill(&mut table, number, &consumers);
        }
        if table.promises.get(&number).is_none_or(|promise| promise.results.is_empty()) {
            table.ready.remove(&number);
            self.show(&table);
        }
        Some(HandedOut { given, callback })
    }

    /// Keeps what must be settled of a result that is with the application now, and drops the promise if that was all.
    pub fn handed_out(&self, number: u64, given: Given) {
        let mut table = self.table();
        if let Some(promise) = table.promises.get_mut(&number)
            && let Given::Delivery(delivered) = given
            && !promise.no_ack
        {
            let Delivered { mut core, tag } = *delivered;
            drop(core.take_body());
            promise.held.insert(tag, core);
        }
        if table.promises.get(&number).is_some_and(|promise| promise.limit > 0) {
            self.advance(&mut table, number);
            self.show(&table);
        }
    }

    /// Drops a promise that has nothing more to give.
    pub fn release(&self, number: u64) {
        let mut table = self.table();
        let spent = table.promises.get(&number).is_some_and(Promise::is_spent);
        let promise = spent.then(|| table.promises.remove(&number));
        // What its callback holds may call back into this table.
        drop(table);
        drop(promise);
    }

    pub fn settle(
        &self,
        number: u64,
        tag: u64,
        how: impl FnOnce(&Delivery) -> Result<(), Error>,
    ) -> Result<(), Unsettled> {
        let mut table = self.table();
        let promise = table.promises.get_mut(&number).ok_or(Unsettled::UnknownPromise)?;
        if promise.no_ack {
            return Err(Unsettled::NoAck);
        }
        let delivery = promise.held.remove(&tag).ok_or(Unsettled::Settled)?;
        let settled = how(&delivery).map_err(Unsettled::Failed);
        if promise.limit > 0 {
            self.advance(&mut table, number);
            self.show(&table);
        }
        let spent = table.promises.get(&number).is_some_and(Promise::is_spent);
        let spent = spent.then(|| table.promises.remove(&number));
        drop(table);
        drop(spent);
        settled
    }

    // ---- waiting ---------------------------------------------------------------------------------------------

    /// The first of these promises that has a result.
    pub fn first_ready(&self, numbers: &[u64]) -> Option<u64> {
        let table = self.table();
        numbers.iter().copied().find(|number| table.ready.contains(number))
    }

    pub fn any_ready(&self) -> bool {
        !self.table().ready.is_empty()
    }

    pub fn all_ready(&self) -> Vec<u64> {
        self.table().ready.iter().copied().collect()
    }

    /// Whether any of these promises will have a result, as far as one can know.
    pub fn any_waits(&self, numbers: &[u64]) -> bool {
        let table = self.table();
        numbers.iter().any(|number| {
            table.promises.get(number).is_some_and(|promise| !promise.over || !promise.results.is_empty())
        })
    }

    /// Whether any promise may still have a result, or there is a connection that the application can use.
    pub fn is_alive(&self) -> bool {
        let table = self.table();
        table.client.is_some()
            || !table.ready.is_empty()
            || table.promises.values().any(|promise| !promise.over)
    }
}

impl Table {
    /// The consumers of this promise are cancelled: what was not handed out goes back to its queue.
    fn cancelled(&mut self, number: u64) {
        let Some(promise) = self.promises.get_mut(&number) else { return };
        for given in promise.results.drain(..) {
            if let Given::Delivery(delivered) = given
                && !promise.no_ack
            {
                // The connection may be gone, and then it went back by itself.
                let _ = delivered.core.requeue();
            }
        }
        promise.over = true;
        promise.work = Work::Nothing;
        let spent = promise.is_spent();
        self.ready.remove(&number);
        if spent {
            self.garbage.extend(self.promises.remove(&number));
        }
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
