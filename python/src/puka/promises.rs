//! The table of promises, and how they come to their results.
//!
//! The file is long because promises and their table, whose one lock guards them all, are read together.

use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::Poll,
};

use murano_messaging::{Client, Confirmation, Consumer, Delivery, Error, Events, ServerInfo};
use pyo3::prelude::*;
use tokio::sync::watch;

use super::{
    frames::{Delivered, Given},
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
pub type Watching = Pin<Box<dyn Future<Output = (Option<Error>, Events)> + Send>>;

/// What a promise waits for.
pub enum Work {
    Nothing,
    Publish(Confirmation),
    Operation(Operation),
    Consume(Arc<Vec<Consumer>>),
    /// The end of the connection.
    Watch(Watching),
}

/// The consumers of a promise, once they have started. It is closed when they will never start, or are over.
pub type Started = watch::Receiver<Option<Arc<Vec<Consumer>>>>;

pub struct Promise {
    pub work: Work,
    /// Of a promise that consumes: who waits for its consumers to start.
    pub started: Option<watch::Sender<Option<Arc<Vec<Consumer>>>>>,
    pub callback: Option<Py<PyAny>>,
    pub results: VecDeque<Given>,
    /// No more results will come.
    pub over: bool,
    pub no_ack: bool,
    /// Deliveries that the application has, by the number it settles them by.
    held: HashMap<u64, Delivery>,
    pub last_tag: u64,
    /// The most that the application may hold; 0 for what the broker sends. The broker's limit is that of one queue, and
    /// does not count what came before a `basic_qos`.
    pub limit: usize,
}

impl Promise {
    pub fn new(work: Work, callback: Option<Py<PyAny>>) -> Self {
        Self {
            work,
            started: None,
            callback,
            results: VecDeque::new(),
            over: false,
            no_ack: false,
            held: HashMap::new(),
            last_tag: 0,
            limit: 0,
        }
    }

    /// The last result.
    pub fn finish(&mut self, given: Given) {
        self.end();
        self.results.push_back(given);
    }

    /// No more results will come than those that are here.
    pub fn end(&mut self) {
        self.keep_forgotten();
        self.over = true;
        self.work = Work::Nothing;
        self.started = None;
    }

    /// The broker has forgotten what it has sent without acks: what has come is the application's, or lost.
    fn keep_forgotten(&mut self) {
        if let Work::Consume(consumers) = &self.work
            && self.no_ack
        {
            let consumers = consumers.clone();
            for consumer in consumers.iter() {
                while let Poll::Ready(Some(Ok(core))) = consumer.try_recv() {
                    self.deliver(core, consumers.len());
                }
            }
        }
    }

    /// A delivery of one of `consumers` consumers.
    pub fn deliver(&mut self, core: Delivery, consumers: usize) {
        // The tags of several consumers are those of several channels.
        self.last_tag = if consumers == 1 { core.delivery_tag() } else { self.last_tag + 1 };
        self.results.push_back(Given::Delivery(Box::new(Delivered { core, tag: self.last_tag })));
    }

    /// How many results could be handed out now.
    fn ready(&self) -> usize {
        let undelivered = match &self.work {
            Work::Consume(consumers) => consumers.iter().map(Consumer::undelivered).sum(),
            _ => 0,
        };
        self.results.len() + undelivered
    }

    /// Whether the broker has given this tag, as far as one can know.
    fn may_be_known(&self, tag: u64) -> bool {
        let undelivered = self.ready() - self.results.len();
        (1..=self.last_tag + undelivered as u64).contains(&tag)
    }

    /// Whether the application holds all it may.
    pub fn is_full(&self) -> bool {
        self.limit > 0 && self.held.len() >= self.limit
    }

    pub fn is_spent(&self) -> bool {
        self.over && self.results.is_empty() && self.held.is_empty()
    }
}

/// The promise of the end of the connection; the application's begin at 1.
pub const WATCH: u64 = 0;

pub struct Table {
    pub promises: HashMap<u64, Promise>,
    pub ready: BTreeSet<u64>,
    next: u64,
    /// The promise of `connect()`, which is that of `close()` too.
    pub connection: u64,
    pub client: Option<Arc<Client>>,
    /// What the broker said of itself, also after the end of the connection.
    pub server: Option<Arc<ServerInfo>>,
    pub closing: bool,
    /// The connection was lost, and somebody else's event loop does not know yet.
    pub lost: bool,
    /// Dropped without the lock: what their callbacks hold may call back into this table.
    pub garbage: Vec<Promise>,
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
            server: None,
            closing: false,
            lost: false,
            garbage: Vec::new(),
        };
        Self { table: Mutex::new(table), signals: Arc::default() }
    }

    pub fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The client, while there is a connection.
    pub fn client(&self) -> Option<Arc<Client>> {
        self.table().client.clone()
    }

    /// What the broker said of itself, once there was a connection.
    pub fn server(&self) -> Option<Arc<ServerInfo>> {
        self.table().server.clone()
    }

    pub fn add(&self, work: Work, callback: Option<Py<PyAny>>) -> u64 {
        self.insert(Promise::new(work, callback))
    }

    /// A promise that has its result.
    pub fn add_finished(&self, given: Given, callback: Option<Py<PyAny>>) -> u64 {
        let mut promise = Promise::new(Work::Nothing, callback);
        promise.finish(given);
        self.insert(promise)
    }

    pub fn insert(&self, promise: Promise) -> u64 {
        let mut table = self.table();
        let number = table.next;
        table.next += 1;
        if promise.over {
            table.ready.insert(number);
        }
        table.promises.insert(number, promise);
        self.advance(&mut table, number);
        self.tell(&table, number);
        number
    }

    /// The promise of a connection that is being made.
    pub fn connect(&self, work: Operation, callback: Option<Py<PyAny>>) -> u64 {
        let number = self.add(Work::Operation(work), callback);
        let mut table = self.table();
        table.connection = number;
        table.closing = false;
        table.lost = false;
        self.show(&table);
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
            self.tell(&table, number);
        }
        drop(table);
        drop(dropped);
        closing
    }

    /// The consumers of a promise, to be changed or cancelled; `None` for a promise that does not consume, or not any
    /// more.
    pub fn consumers(&self, number: u64) -> Option<Started> {
        Some(self.table().promises.get(&number)?.started.as_ref()?.subscribe())
    }

    /// How many results of a promise could be handed out.
    pub fn results(&self, number: u64) -> usize {
        self.table().promises.get(&number).map_or(0, Promise::ready)
    }

    /// The number of the next promise.
    pub fn next_number(&self) -> u64 {
        self.table().next
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

    // ---- results -----------------------------------------------------------------------------------------------

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
            self.tell(&table, number);
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
        method: u16,
        how: impl FnOnce(&Delivery) -> Result<(), Error>,
    ) -> Result<(), Unsettled> {
        let mut table = self.table();
        let promise = table.promises.get_mut(&number).ok_or(Unsettled::UnknownPromise)?;
        if promise.no_ack {
            return Err(Unsettled::NoAck);
        }
        let Some(delivery) = promise.held.remove(&tag) else {
            if promise.over || promise.may_be_known(tag) {
                return Err(Unsettled::Settled);
            }
            // As RabbitMQ, which closes the channel: what was not settled goes back to its queue.
            promise.finish(Given::UnknownTag { tag, method });
            let unsettled = std::mem::take(&mut promise.held);
            table.ready.insert(number);
            self.tell(&table, number);
            drop(table);
            drop(unsettled);
            return Ok(());
        };
        let settled = how(&delivery).map_err(Unsettled::Failed);
        if promise.limit > 0 {
            self.advance(&mut table, number);
            self.tell(&table, number);
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

    /// The promises that have results, and how many.
    pub fn all_ready(&self) -> Vec<(u64, usize)> {
        let table = self.table();
        let results = |number: &u64| table.promises.get(number).map_or(0, Promise::ready);
        table.ready.iter().map(|number| (*number, results(number))).collect()
    }

    /// Whether any of these promises will have a result, as far as one can know.
    pub fn any_waits(&self, numbers: &[u64]) -> bool {
        let table = self.table();
        numbers.iter().any(|number| {
            table.promises.get(number).is_some_and(|promise| !promise.over || !promise.results.is_empty())
        })
    }

    /// Whether there is nothing to wait for any more. Somebody else's event loop asks and is told with this; the
    /// descriptor has no need to.
    pub fn tell_end(&self) -> bool {
        let over = !self.is_alive();
        if over {
            let mut table = self.table();
            table.lost = false;
            self.show(&table);
        }
        over
    }

    /// Whether any promise may still have a result, or there is a connection that the application can use.
    pub fn is_alive(&self) -> bool {
        let table = self.table();
        table.client.is_some()
            || !table.ready.is_empty()
            || table.promises.values().any(|promise| !promise.over)
    }
}
