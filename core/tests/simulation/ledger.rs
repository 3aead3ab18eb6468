//! What happened in a run, as the application and as the broker saw it, and whether it may happen.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::{self, Write as _},
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use murano_messaging::{Broker, Error, ErrorKind, broker::Observed};
use tokio::time::Instant;

/// What became of a publish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Confirmed,
    Failed(ErrorKind),
}

/// Where a publish went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    Queue,
    /// A queue that refuses all but its first message.
    Full,
    /// No queue.
    Nowhere,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Confirmed => f.write_str("confirmed"),
            Self::Failed(kind) => write!(f, "{kind:?}"),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Queue => "a queue",
            Self::Full => "the full queue",
            Self::Nowhere => "a name without a queue",
        })
    }
}

#[derive(Debug)]
struct Published {
    target: Target,
    began: Instant,
    outcome: Option<Outcome>,
    /// It failed, and the broker certainly has no copy.
    refused: bool,
    /// How often a connection ended while its outcome was open.
    ends: u32,
    copies: Vec<u64>,
    received: u32,
}

#[derive(Debug, Default)]
struct Copy {
    id: String,
    queue: String,
    /// It went with its queue.
    lost: bool,
    deliveries: u32,
    acked: bool,
}

#[derive(Default)]
struct Book {
    published: BTreeMap<String, Published>,
    copies: BTreeMap<u64, Copy>,
    acked_by_app: BTreeSet<String>,
    last_seen: BTreeMap<String, u64>,
    trace: Vec<String>,
    violations: Vec<String>,
    logins_refused: usize,
    /// When the clock jumped, and how far.
    jumps: Vec<(Instant, Duration)>,
    /// When a queue was lost.
    forgotten: Vec<Instant>,
}

/// Shared by everything in a run.
#[derive(Clone)]
pub struct Ledger {
    book: Arc<Mutex<Book>>,
    began: Instant,
    /// No operation may take longer.
    longest: Duration,
    /// Whether first deliveries must keep the order of their publisher.
    ordered: bool,
    /// Whether nothing goes wrong, so that nothing may fail for want of time.
    faultless: bool,
}

impl Ledger {
    pub fn new(longest: Duration, ordered: bool, faultless: bool) -> Self {
        Self { book: Arc::default(), began: Instant::now(), longest, ordered, faultless }
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap()
    }

    /// Follows what the broker does.
    pub fn watch(&self, broker: &Broker) {
        let ledger = self.clone();
        broker.observe(move |observed| ledger.observed(observed));
    }

    pub fn note(&self, text: &str) {
        let at = self.began.elapsed();
        self.book().trace.push(format!("{at:?} {text}"));
    }

    /// A reconnect failed because the login was refused.
    pub fn login_refused(&self) {
        self.book().logins_refused += 1;
    }

    /// How many reconnects failed because the login was refused.
    pub fn refused_in_recovery(&self) -> usize {
        self.book().logins_refused
    }

    /// The clock jumps.
    pub fn jumps(&self, far: Duration) {
        self.book().jumps.push((Instant::now(), far));
    }

    /// The broker has lost a queue with what was in it.
    pub fn forgets(&self, queue: &str) {
        let mut book = self.book();
        book.forgotten.push(Instant::now());
        for copy in book.copies.values_mut().filter(|copy| copy.queue == queue && !copy.acked) {
            copy.lost = true;
        }
    }

    /// How many confirmed messages went with their queues before anybody got them.
    pub fn forgotten(&self) -> usize {
        let book = self.book();
        let confirmed = |published: &&Published| {
            published.outcome == Some(Outcome::Confirmed)
                && published.received == 0
                && published.target == Target::Queue
        };
        book.published.values().filter(confirmed).count()
    }

    /// The longest that something may take which began then.
    fn longest(&self, book: &Book, began: Instant) -> Duration {
        let jumped: Duration = book.jumps.iter().filter(|(at, _)| *at >= began).map(|(_, far)| *far).sum();
        self.longest + jumped
    }

    fn violation(book: &mut Book, text: String) {
        book.trace.push(format!("VIOLATION {text}"));
        book.violations.push(text);
    }

    pub fn fail(&self, text: String) {
        Self::violation(&mut self.book(), text);
    }

    // ---- the application's side ------------------------------------------------------------------------------

    pub fn publish_begins(&self, id: &str, target: Target) {
        let published = Published {
            target,
            began: Instant::now(),
            outcome: None,
            refused: false,
            ends: 0,
            copies: Vec::new(),
            received: 0,
        };
        self.book().published.insert(id.to_owned(), published);
    }

    pub fn publish_ends(&self, id: &str, result: &Result<(), Error>) {
        let outcome =
            result.as_ref().map_or_else(|error| Outcome::Failed(error.kind()), |()| Outcome::Confirmed);
        let refused = result.as_ref().is_err_and(|error| !error.outcome_unknown());
        self.note(&format!("{id} {outcome:?}{}", if refused { ", for certain" } else { "" }));
        let mut book = self.book();
        let mut wrong = String::new();
        let began = book.published.get(id).map_or_else(Instant::now, |published| published.began);
        let longest = self.longest(&book, began);
        let lost_a_queue = !book.forgotten.is_empty();
        if let Some(published) = book.published.get_mut(id) {
            let took = published.began.elapsed();
            if took > longest {
                let _ = write!(wrong, "the publish of {id} took {took:?}, longer than its deadline; ");
            }
            if published.outcome.replace(outcome).is_some() {
                let _ = write!(wrong, "the publish of {id} ended twice; ");
            }
            let target = published.target;
            let stored = !published.copies.is_empty();
            published.refused = refused;
            if refused && stored {
                let _ = write!(wrong, "{id} failed for certain and the broker has it; ");
            }
            // A client that leaves early has errors of all kinds.
            let leaves = id.starts_with('l');
            let expected = match outcome {
                Outcome::Confirmed => target != Target::Nowhere && stored,
                // A queue that was lost is missing until somebody has declared it again.
                Outcome::Failed(ErrorKind::Unroutable) => {
                    target == Target::Nowhere || (target == Target::Queue && lost_a_queue)
                }
                Outcome::Failed(ErrorKind::Nacked) => target == Target::Full,
                Outcome::Failed(ErrorKind::Timeout | ErrorKind::Blocked) => !self.faultless,
                // Its owner has done that.
                Outcome::Failed(ErrorKind::Cancelled) => true,
                Outcome::Failed(_) => leaves,
            };
            if !expected {
                let stored = if stored { "stored it" } else { "did not store it" };
                let _ = write!(
                    wrong,
                    "the publish of {id} to {target} ended as {outcome}, and the broker {stored}; "
                );
            }
        }
        if !wrong.is_empty() {
            Self::violation(&mut book, wrong);
        }
    }

    /// A connection is over: what is unconfirmed now may be sent again.
    pub fn connection_ended(&self, number: u64) {
        self.note(&format!("connection {number} is over"));
        for published in self.book().published.values_mut() {
            if published.outcome.is_none() {
                published.ends += 1;
            }
        }
    }

    /// A message reaches the application.
    pub fn received(&self, id: &str, redelivered: bool) {
        self.note(&format!("received {id} {}", if redelivered { "again" } else { "" }));
        let mut book = self.book();
        let mut wrong = String::new();
        let Some(published) = book.published.get_mut(id) else {
            return Self::violation(&mut book, format!("{id} was received, but never published"));
        };
        published.received += 1;
        // Of a single copy, only the first delivery has no flag.
        if published.received > 1 && published.copies.len() == 1 && !redelivered {
            let _ = write!(wrong, "{id} was received twice, the second time without the redelivered flag; ");
        }
        let first = published.received == 1;
        let (publisher, sequence) = id.split_once('-').unwrap();
        let sequence: u64 = sequence.parse().unwrap();
        if first && self.ordered {
            let last = book.last_seen.insert(publisher.to_owned(), sequence);
            if last.is_some_and(|last| last > sequence) {
                let _ = write!(
                    wrong,
                    "{id} was received for the first time after {publisher}-{}; ",
                    last.unwrap_or(0)
                );
            }
        }
        if !wrong.is_empty() {
            Self::violation(&mut book, wrong);
        }
    }

    /// The application acks it.
    pub fn acks(&self, id: &str) {
        self.book().acked_by_app.insert(id.to_owned());
    }

    /// An operation that is not a publish took so long.
    pub fn took(&self, what: &str, duration: Duration) {
        let longest = {
            let book = self.book();
            self.longest(&book, Instant::now().checked_sub(duration).unwrap_or(self.began))
        };
        if duration > longest {
            self.fail(format!("{what} took {duration:?}, longer than its deadline"));
        }
    }

    // ---- the broker's side -----------------------------------------------------------------------------------

    fn observed(&self, observed: Observed<'_>) {
        self.note(&format!("broker: {observed:?}"));
        let mut book = self.book();
        let mut wrong = String::new();
        match observed {
            Observed::Enqueued { message_id, copy, queue } => {
                let (id, queue) = (message_id.to_owned(), queue.to_owned());
                book.copies.insert(copy, Copy { id, queue, ..Copy::default() });
                if let Some(published) = book.published.get_mut(message_id) {
                    published.copies.push(copy);
                    if published.refused {
                        let _ = write!(wrong, "{message_id} is stored after it had failed for certain; ");
                    }
                    let (copies, ends) = (published.copies.len(), published.ends);
                    if copies as u32 > 1 + ends {
                        let _ = write!(
                            wrong,
                            "the broker stored {message_id} {copies} times, although only {ends} connections ended while it was unconfirmed; "
                        );
                    }
                }
            }
            Observed::Delivered { copy, redelivered, .. } => {
                let copy = book.copies.entry(copy).or_default();
                if copy.acked {
                    let _ = write!(wrong, "the broker delivered {} after its ack; ", copy.id);
                }
                if redelivered != (copy.deliveries > 0) {
                    let _ = write!(
                        wrong,
                        "delivery {} of {} had the redelivered flag {redelivered}; ",
                        copy.deliveries + 1,
                        copy.id
                    );
                }
                copy.deliveries += 1;
            }
            Observed::Acked { copy } => {
                let copy = book.copies.entry(copy).or_default();
                copy.acked = true;
                let id = copy.id.clone();
                if !book.acked_by_app.contains(&id) {
                    let _ = write!(wrong, "{id} was acked to the broker, but not by the application; ");
                }
            }
            _ => {}
        }
        if !wrong.is_empty() {
            Self::violation(&mut book, wrong);
        }
    }

    // ---- the end ---------------------------------------------------------------------------------------------

    /// Whether every publish has its outcome.
    pub fn is_settled(&self) -> bool {
        self.book().published.values().all(|published| published.outcome.is_some())
    }

    /// Checks what can only be known at the end; gives out trace and violations.
    pub fn close(&self) -> (Vec<String>, Vec<String>) {
        let mut book = self.book();
        let mut wrong = Vec::new();
        for (id, published) in &book.published {
            let confirmed = published.outcome == Some(Outcome::Confirmed);
            let lost =
                published.copies.iter().any(|copy| book.copies.get(copy).is_some_and(|copy| copy.lost));
            if confirmed && published.target == Target::Queue && published.received == 0 && !lost {
                wrong.push(format!("{id} was confirmed, but never received"));
            }
            if published.outcome.is_none() {
                wrong.push(format!("the publish of {id} never ended"));
            }
        }
        for text in wrong {
            Self::violation(&mut book, text);
        }
        (std::mem::take(&mut book.trace), std::mem::take(&mut book.violations))
    }

    /// How many messages were stored more than once.
    pub fn duplicates(&self) -> usize {
        self.book().published.values().filter(|published| published.copies.len() > 1).count()
    }

    /// How many publishes ended so.
    pub fn count(&self, outcome: Outcome) -> usize {
        self.book().published.values().filter(|published| published.outcome == Some(outcome)).count()
    }

    /// How many deliveries were repeats.
    pub fn redeliveries(&self) -> usize {
        self.book().copies.values().map(|copy| copy.deliveries.saturating_sub(1) as usize).sum()
    }
}
