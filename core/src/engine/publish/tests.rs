//! The promises of publishing, over any order of events: a publish gets exactly one result, in its own name, and whoever
//! waits for it is woken; the bounds hold; publishes go out in order; nothing is sent again that has its result; and an
//! outcome is known only where the broker has no copy.
//!
//! The file is long because the random test has its model of the broker here, and the single cases follow it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
    time::Duration,
};

use proptest::prelude::*;
use tokio::time::Instant;

use super::{Blame, Outgoing, Window};
use crate::{
    Error, ErrorKind, Result,
    error::Reply,
    message::{Message, Returned},
};

const MAX_MESSAGES: usize = 6;
const MAX_BYTES: usize = 150;
const FRAME_MAX: u32 = 64;

#[derive(Clone, Debug)]
enum Event {
    Publish { size: usize, exchange: u8, key: u8, deadline: Option<u64>, large_header: bool },
    Pump { limit: usize },
    Confirm { pick: usize, multiple: bool, nack: bool },
    Return { pick: usize },
    Lose { pick: usize, blame: Option<bool>, republish: bool },
    Refuse { pick: usize, text: Text },
    Open,
    Cancel { pick: usize },
    Watch { pick: usize },
    Drop { pick: usize },
    Tick { seconds: u64 },
    Block(bool),
    Flow(bool),
    Close,
}

/// What the broker says when it closes the channel over a publish.
#[derive(Clone, Copy, Debug)]
enum Text {
    Exchange,
    Topic,
    Nothing,
    OtherMethod,
}

fn event() -> impl Strategy<Value = Event> {
    let pick = 0..8usize;
    let text =
        prop_oneof![Just(Text::Exchange), Just(Text::Topic), Just(Text::Nothing), Just(Text::OtherMethod)];
    prop_oneof![
        8 => (8..90usize, 0..3u8, 0..2u8, prop::option::of(1..6u64), prop::bool::weighted(0.05)).prop_map(
            |(size, exchange, key, deadline, large_header)| Event::Publish { size, exchange, key, deadline, large_header }
        ),
        6 => (1..300usize).prop_map(|limit| Event::Pump { limit }),
        4 => (pick.clone(), any::<bool>(), prop::bool::weighted(0.3))
            .prop_map(|(pick, multiple, nack)| Event::Confirm { pick, multiple, nack }),
        1 => pick.clone().prop_map(|pick| Event::Return { pick }),
        2 => (pick.clone(), any::<Option<bool>>(), prop::bool::weighted(0.8))
            .prop_map(|(pick, blame, republish)| Event::Lose { pick, blame, republish }),
        2 => (pick.clone(), text).prop_map(|(pick, text)| Event::Refuse { pick, text }),
        4 => Just(Event::Open),
        1 => pick.clone().prop_map(|pick| Event::Cancel { pick }),
        2 => pick.clone().prop_map(|pick| Event::Watch { pick }),
        1 => pick.prop_map(|pick| Event::Drop { pick }),
        1 => (1..4u64).prop_map(|seconds| Event::Tick { seconds }),
        1 => any::<bool>().prop_map(Event::Block),
        1 => any::<bool>().prop_map(Event::Flow),
        1 => prop::bool::weighted(0.1).prop_map(|close| if close { Event::Close } else { Event::Open }),
    ]
}

#[derive(Default)]
struct Flag(AtomicBool);

impl Flag {
    fn waker(self: &Arc<Self>) -> Waker {
        self.clone().into()
    }

    fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    fn take(&self) -> bool {
        self.0.swap(false, Ordering::Relaxed)
    }
}

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A publish that waits for its admission.
struct Waiting {
    number: u64,
    out: Option<Outgoing>,
    ticket: Option<u64>,
    deadline: Option<Instant>,
    woken: Arc<Flag>,
}

/// A publish whose result is to be had.
struct Owned {
    number: u64,
    index: u32,
    watched: Option<Arc<Flag>>,
}

/// A copy that the broker got on the channel in use.
#[derive(Clone)]
struct Copy {
    number: u64,
    answered: bool,
}

/// A window, its callers and its broker.
struct World {
    window: Window,
    now: Instant,
    next: u64,
    messages: BTreeMap<u64, Outgoing>,
    waiting: Vec<Waiting>,
    owned: Vec<Owned>,
    /// What the broker got on this channel, by delivery tag from 1 on.
    copies: Vec<Copy>,
    /// Body bytes that are still to come.
    body_left: usize,
    taken: BTreeSet<u64>,
    resolved: BTreeSet<u64>,
    results: BTreeMap<u64, Result<()>>,
    closed: bool,
}

impl World {
    fn new() -> Self {
        let mut window = Window::new(MAX_MESSAGES, MAX_BYTES, true);
        window.serve();
        Self {
            window,
            now: Instant::now(),
            next: 1,
            messages: BTreeMap::new(),
            waiting: Vec::new(),
            owned: Vec::new(),
            copies: Vec::new(),
            body_left: 0,
            taken: BTreeSet::new(),
            resolved: BTreeSet::new(),
            results: BTreeMap::new(),
            closed: false,
        }
    }

    fn happen(&mut self, event: &Event) {
        match event {
            Event::Publish { size, exchange, key, deadline, large_header } => {
                let number = self.next;
                self.next += 1;
                let mut message = Message::new(vec![b'x'; *size]).message_id(number.to_string());
                if *large_header {
                    message = message.reply_to("x".repeat(FRAME_MAX as usize));
                }
                let out = Outgoing {
                    exchange: format!("e{exchange}").into(),
                    routing_key: format!("k{key}").into(),
                    message,
                    mandatory: true,
                };
                self.messages.insert(number, out.clone());
                let deadline = deadline.map(|seconds| self.now + Duration::from_secs(seconds));
                let woken = Arc::<Flag>::default();
                woken.0.store(true, Ordering::Relaxed);
                self.waiting.push(Waiting { number, out: Some(out), ticket: None, deadline, woken });
            }
            Event::Pump { limit } => self.pump(*limit),
            Event::Confirm { pick, multiple, nack } => {
                if let Some(place) = self.unanswered(*pick) {
                    let first = if *multiple { 0 } else { place };
                    for copy in &mut self.copies[first..=place] {
                        if !copy.answered && !nack {
                            self.taken.insert(copy.number);
                        }
                        copy.answered = true;
                    }
                    self.window.confirm(place as u64 + 1, *multiple, *nack).unwrap();
                }
            }
            Event::Return { pick } => {
                if let Some(place) = self.unanswered(*pick) {
                    self.copies[place].answered = true;
                    let out = &self.messages[&self.copies[place].number];
                    let returned = Returned {
                        reply_code: 312,
                        reply_text: "NO_ROUTE".into(),
                        exchange: out.exchange.to_string(),
                        routing_key: out.routing_key.to_string(),
                        message: out.message.clone(),
                    };
                    self.window.returned(returned, None);
                    self.window.confirm(place as u64 + 1, false, false).unwrap();
                }
            }
            Event::Lose { pick, blame, republish } => {
                let only = self.copies.iter().filter(|copy| !copy.answered).count() == 1;
                let blame = match blame {
                    None => Blame::None,
                    Some(true) if only => Blame::TheOnlyOne,
                    Some(_) => Blame::OneOfThem,
                };
                let refused = if blame == Blame::None { None } else { self.unanswered(*pick) };
                self.lose(refused);
                let error = Error::new(ErrorKind::ConnectionLost, "lost");
                self.window.disconnect(*republish, &error, blame);
            }
            Event::Refuse { pick, text } => {
                let Some(place) = self.unanswered(*pick) else { return };
                if self.window.channel().is_none() {
                    return;
                }
                let out = &self.messages[&self.copies[place].number];
                let (code, text, method_id) = match text {
                    Text::Exchange => {
                        (404, format!("NOT_FOUND - no exchange '{}' in vhost '/'", out.exchange), 40)
                    }
                    Text::Topic => (
                        403,
                        format!(
                            "ACCESS_REFUSED - access to topic '{}' in exchange '{}' in vhost '/' refused for user 'u'",
                            out.routing_key, out.exchange
                        ),
                        40,
                    ),
                    Text::Nothing => (406, "PRECONDITION_FAILED - user_id property set to 'x'".into(), 40),
                    Text::OtherMethod => (404, "NOT_FOUND - no queue 'q' in vhost '/'".into(), 20),
                };
                self.lose(if method_id == 40 { Some(place) } else { None });
                let reply = Reply { code, text, class_id: 60, method_id };
                self.window.channel_refused(&Error::from_reply("publish", reply));
            }
            Event::Open => {
                if self.window.channel().is_none() && !self.closed {
                    self.window.open(1);
                    self.copies.clear();
                    self.body_left = 0;
                }
            }
            Event::Cancel { pick } => {
                if let Some(owned) = pick_of(&self.owned, *pick) {
                    self.window.give_up(owned.index, Error::new(ErrorKind::Cancelled, "cancelled"));
                }
            }
            Event::Watch { pick } => {
                let count = self.owned.len().max(1);
                if let Some(owned) = self.owned.get_mut(pick % count) {
                    let flag = Arc::<Flag>::default();
                    match self.window.poll_result(&mut Context::from_waker(&flag.waker()), owned.index) {
                        Poll::Pending => owned.watched = Some(flag),
                        Poll::Ready(result) => {
                            let number = self.owned.remove(pick % count).number;
                            self.report(number, result);
                        }
                    }
                }
            }
            Event::Drop { pick } => {
                if !self.owned.is_empty() {
                    let owned = self.owned.remove(pick % self.owned.len());
                    self.window.detach(owned.index);
                }
            }
            Event::Tick { seconds } => {
                self.now += Duration::from_secs(*seconds);
                let due = self.window.next_deadline();
                self.window.expire(self.now);
                if due.is_none_or(|due| due > self.now) {
                    let late =
                        self.waiting.iter().any(|w| w.deadline.is_some_and(|deadline| deadline <= self.now));
                    assert!(!late, "the engine was not told of a deadline");
                }
            }
            Event::Block(blocked) => self.window.set_blocked(*blocked),
            Event::Flow(active) => self.window.set_flow(*active),
            Event::Close => self.close(),
        }
    }

    fn close(&mut self) {
        self.lose(None);
        self.window.close(&Error::new(ErrorKind::Closed, "closed"));
        self.closed = true;
    }

    /// One of the copies that were not answered.
    fn unanswered(&self, pick: usize) -> Option<usize> {
        let places: Vec<usize> =
            (0..self.copies.len()).filter(|place| !self.copies[*place].answered).collect();
        pick_of(&places, pick).copied()
    }

    /// The channel is over. The broker has taken all it got, or all before the one it refused.
    fn lose(&mut self, refused: Option<usize>) {
        let seen = refused.unwrap_or(self.copies.len());
        for copy in self.copies[..seen].iter().filter(|copy| !copy.answered) {
            self.taken.insert(copy.number);
        }
        self.copies.clear();
        self.body_left = 0;
    }

    /// Reads what the window encodes, as a broker does.
    fn pump(&mut self, limit: usize) {
        let mut buffer = Vec::new();
        let had_work = self.window.has_work();
        self.window.pump(&mut buffer, limit, FRAME_MAX);
        assert!(buffer.is_empty() || had_work);
        let mut rest = &buffer[..];
        while let Some((head, tail)) = rest.split_at_checked(7) {
            let size = u32::from_be_bytes(head[3..7].try_into().unwrap()) as usize;
            let payload = &tail[..size];
            match head[0] {
                1 => assert_eq!(self.body_left, 0, "a method in the middle of a content"),
                2 => {
                    let body = u64::from_be_bytes(payload[4..12].try_into().unwrap());
                    // Behind the flags and the delivery mode comes the message id.
                    let length = usize::from(payload[15]);
                    let number = std::str::from_utf8(&payload[16..16 + length]).unwrap().parse().unwrap();
                    self.body_left = self.messages[&number].message.body.len();
                    assert_eq!(body, self.body_left as u64);
                    self.arrives(number);
                }
                kind => {
                    assert_eq!(kind, 3);
                    self.body_left -= size;
                }
            }
            rest = &tail[size + 1..];
        }
    }

    fn arrives(&mut self, number: u64) {
        assert!(!self.resolved.contains(&number), "{number} is sent although it has its result");
        if let Some(last) = self.copies.last() {
            assert!(last.number < number, "{number} is sent after {}", last.number);
        }
        self.copies.push(Copy { number, answered: false });
    }

    fn report(&mut self, number: u64, result: Result<()>) {
        if let Err(error) = &result
            && error.kind() == ErrorKind::Unroutable
        {
            let returned = error.returned().unwrap();
            let own = &self.messages[&number].message;
            assert_eq!(
                returned.message.properties.message_id(),
                own.properties.message_id(),
                "another's message"
            );
        }
        assert!(self.results.insert(number, result).is_none(), "{number} has two results");
    }

    /// Wakes whom the window wakes, and lets those run that were woken.
    fn settle(&mut self) {
        loop {
            self.window.take_wakers().into_iter().for_each(Waker::wake);
            // The last first: the window must keep the order.
            let Some(place) = self.waiting.iter().rposition(|waiting| waiting.woken.take()) else { break };
            let Waiting { number, out, ticket, deadline, woken } = &mut self.waiting[place];
            let waker = woken.waker();
            let mut context = Context::from_waker(&waker);
            match self.window.poll_admit(&mut context, out, *deadline, ticket) {
                Poll::Pending => {}
                Poll::Ready(result) => {
                    let number = *number;
                    self.waiting.remove(place);
                    match result {
                        Ok(index) => self.owned.push(Owned { number, index, watched: None }),
                        Err(error) => {
                            self.resolved.insert(number);
                            self.report(number, Err(error));
                        }
                    }
                }
            }
        }
        for owned in &self.owned {
            if self.window.has_result(owned.index) {
                self.resolved.insert(owned.number);
                assert!(
                    owned.watched.as_ref().is_none_or(|flag| flag.is_set()),
                    "{} was not woken",
                    owned.number
                );
            }
        }
        let (messages, bytes) = self.window.in_flight();
        assert!(
            messages <= MAX_MESSAGES && (bytes <= MAX_BYTES || messages == 1),
            "{messages} with {bytes} bytes"
        );
        if let Some(first) = self.waiting.first() {
            let size = first.out.as_ref().unwrap().message.body.len();
            assert!(!self.window.admission.has_room(size), "{} waits though there is room", first.number);
        }
    }

    /// Ends everything and checks the results.
    fn end(mut self) {
        if !self.closed {
            self.close();
        }
        self.settle();
        assert!(self.waiting.is_empty(), "{} still waits", self.waiting[0].number);
        for owned in std::mem::take(&mut self.owned) {
            match self.window.poll_result(&mut Context::from_waker(Waker::noop()), owned.index) {
                Poll::Ready(result) => self.report(owned.number, result),
                Poll::Pending => panic!("{} has no result", owned.number),
            }
        }
        assert_eq!((self.window.in_flight(), self.window.slots.in_use()), ((0, 0), 0));
        for (number, result) in &self.results {
            match result {
                Ok(()) => {
                    assert!(self.taken.contains(number), "{number} is confirmed and the broker has no copy");
                }
                Err(error) => assert!(
                    error.outcome_unknown() || !self.taken.contains(number),
                    "{number} failed for certain and the broker has a copy: {error}"
                ),
            }
        }
    }
}

fn pick_of<T>(items: &[T], pick: usize) -> Option<&T> {
    items.get(pick % items.len().max(1))
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn publishes_keep_their_promises(events in prop::collection::vec(event(), 1..120)) {
        let mut world = World::new();
        for event in &events {
            world.happen(event);
            world.settle();
        }
        world.end();
    }
}

// ---- single promises, by name --------------------------------------------------------------------------------

/// A window with an open channel, and its publishes.
struct Sent {
    window: Window,
    indexes: Vec<u32>,
}

impl Sent {
    /// Publishes to these routes, which are all on the wire.
    fn new(routes: &[(&str, &str)]) -> Self {
        let mut window = Window::new(1_000, 1 << 20, true);
        window.serve();
        window.open(1);
        let mut sent = Self { window, indexes: Vec::new() };
        for (exchange, key) in routes {
            sent.publish(exchange, key);
        }
        sent.pump();
        sent
    }

    fn publish(&mut self, exchange: &str, key: &str) -> usize {
        self.publish_until(exchange, key, None)
    }

    fn publish_until(&mut self, exchange: &str, key: &str, deadline: Option<Instant>) -> usize {
        let out = Outgoing {
            exchange: exchange.into(),
            routing_key: key.into(),
            message: Message::text(self.indexes.len().to_string()),
            mandatory: true,
        };
        let mut context = Context::from_waker(Waker::noop());
        let Poll::Ready(Ok(index)) =
            self.window.poll_admit(&mut context, &mut Some(out), deadline, &mut None)
        else {
            panic!("there is room");
        };
        self.indexes.push(index);
        self.indexes.len() - 1
    }

    fn pump(&mut self) -> usize {
        let before = self.window.on_wire();
        self.window.pump(&mut Vec::new(), usize::MAX, 4_096);
        self.window.on_wire() - before
    }

    fn refused(&mut self, code: u16, text: &str) {
        let reply = Reply { code, text: text.into(), class_id: 60, method_id: 40 };
        self.window.channel_refused(&Error::from_reply("publish", reply));
    }

    fn result(&mut self, place: usize) -> Option<Result<()>> {
        match self.window.poll_result(&mut Context::from_waker(Waker::noop()), self.indexes[place]) {
            Poll::Ready(result) => Some(result),
            Poll::Pending => None,
        }
    }

    fn error(&mut self, place: usize) -> (ErrorKind, bool) {
        let error = self.result(place).expect("a result").expect_err("an error");
        (error.kind(), error.outcome_unknown())
    }
}

const NO_EXCHANGE: &str = "NOT_FOUND - no exchange 'x' in vhost '/'";
const FORBIDDEN: &str =
    "ACCESS_REFUSED - access to topic 'no' in exchange 'x' in vhost '/' refused for user 'u'";

fn lost() -> Error {
    Error::new(ErrorKind::ConnectionLost, "lost")
}

#[test]
fn one_forbidden_routing_key_fails_alone_and_for_certain() {
    let mut sent = Sent::new(&[("x", "a"), ("x", "no"), ("x", "b"), ("y", "no")]);
    sent.refused(403, FORBIDDEN);
    assert_eq!(sent.error(1), (ErrorKind::AccessRefused, false));
    sent.window.open(2);
    assert_eq!(sent.pump(), 3, "the others are sent again, in one go");
    sent.window.confirm(3, true, false).unwrap();
    for place in [0, 2, 3] {
        assert!(sent.result(place).unwrap().is_ok());
    }
}

/// Deleted under them: some may have been taken before.
#[test]
fn an_exchange_that_is_gone_leaves_the_outcome_of_several_unknown() {
    let mut sent = Sent::new(&[("x", "a"), ("y", "a"), ("x", "b")]);
    sent.refused(404, NO_EXCHANGE);
    assert_eq!(sent.error(0), (ErrorKind::NotFound, true));
    assert_eq!(sent.error(2), (ErrorKind::NotFound, true));
    assert!(sent.result(1).is_none(), "it is sent again");
}

#[test]
fn an_exchange_that_is_missing_for_one_fails_it_for_certain() {
    let mut sent = Sent::new(&[("y", "a"), ("x", "a"), ("y", "b")]);
    sent.refused(404, NO_EXCHANGE);
    assert_eq!(sent.error(1), (ErrorKind::NotFound, false));
}

/// The one that was given up may be the one that was refused.
#[test]
fn a_publish_beside_one_that_was_given_up_is_not_certainly_the_refused_one() {
    let mut sent = Sent::new(&[("x", "a"), ("x", "b")]);
    let index = sent.indexes[0];
    sent.window.give_up(index, Error::new(ErrorKind::Cancelled, "cancelled"));
    sent.refused(404, NO_EXCHANGE);
    assert_eq!(sent.error(1), (ErrorKind::NotFound, true));
    assert_eq!(sent.error(0), (ErrorKind::Cancelled, true));
}

/// Its first copy may have been taken before the connection was lost.
#[test]
fn a_refusal_of_the_second_copy_leaves_the_outcome_unknown() {
    for nacked in [true, false] {
        let mut sent = Sent::new(&[("x", "a")]);
        sent.window.disconnect(true, &lost(), Blame::None);
        sent.window.open(1);
        assert_eq!(sent.pump(), 1);
        if nacked {
            sent.window.confirm(1, false, true).unwrap();
            assert_eq!(sent.error(0), (ErrorKind::Nacked, true));
        } else {
            sent.refused(404, NO_EXCHANGE);
            assert_eq!(sent.error(0), (ErrorKind::NotFound, true));
        }
    }
}

#[test]
fn a_failure_of_the_broker_itself_leaves_the_outcome_unknown() {
    let mut sent = Sent::new(&[("x", "a")]);
    sent.refused(506, "RESOURCE_ERROR - stream coordinator unavailable");
    assert_eq!(sent.error(0), (ErrorKind::Refused, true));
}

#[test]
fn publishes_are_not_to_blame_for_another_method_on_their_channel() {
    let mut sent = Sent::new(&[("", "q")]);
    let reply = Reply { code: 404, text: "NOT_FOUND - no queue 'q'".into(), class_id: 60, method_id: 20 };
    sent.window.channel_refused(&Error::from_reply("consume", reply));
    assert!(sent.result(0).is_none());
    sent.window.open(1);
    assert_eq!(sent.pump(), 1, "it is sent again");
}

#[test]
fn a_refusal_that_names_nothing_is_found_by_sending_one_at_a_time() {
    let mut sent = Sent::new(&[("x", "a"), ("x", "b"), ("x", "c")]);
    sent.refused(406, "PRECONDITION_FAILED - user_id property set to 'x'");
    sent.window.open(1);
    assert_eq!(sent.pump(), 1);
    sent.window.confirm(1, false, false).unwrap();
    assert_eq!(sent.pump(), 1);
    sent.refused(406, "PRECONDITION_FAILED - user_id property set to 'x'");
    assert_eq!(sent.error(1), (ErrorKind::PreconditionFailed, true));
    sent.window.open(1);
    assert_eq!(sent.pump(), 1);
    sent.window.confirm(1, false, false).unwrap();
    assert!(sent.result(0).unwrap().is_ok() && sent.result(2).unwrap().is_ok());
}

#[test]
fn what_was_sent_once_has_an_unknown_outcome_however_it_ends() {
    let now = Instant::now();
    let end = |end: fn(&mut Sent)| {
        let mut sent = Sent::new(&[]);
        let deadline = Some(now + Duration::from_secs(1));
        sent.publish_until("", "q", deadline);
        sent.pump();
        let queued = sent.publish_until("", "q", deadline);
        sent.window.set_blocked(true);
        sent.window.disconnect(true, &lost(), Blame::None);
        end(&mut sent);
        (sent.error(0), sent.error(queued))
    };
    for (ended, kind) in [
        (end(|sent| sent.window.expire(Instant::now() + Duration::from_secs(5))), ErrorKind::Timeout),
        (end(|sent| sent.window.close(&crate::engine::closed())), ErrorKind::Closed),
        (end(|sent| sent.window.close(&lost())), ErrorKind::ConnectionLost),
        (
            end(|sent| {
                for index in sent.indexes.clone() {
                    sent.window.give_up(index, Error::new(ErrorKind::Cancelled, "cancelled"));
                }
            }),
            ErrorKind::Cancelled,
        ),
    ] {
        assert_eq!(ended, ((kind, true), (kind, false)));
    }
}

#[test]
fn a_deadline_without_a_connection_says_why_there_is_none() {
    let mut sent = Sent::new(&[]);
    sent.window.disconnect(true, &lost(), Blame::None);
    sent.publish_until("", "q", Some(Instant::now()));
    sent.window.connect_failed(&Error::new(ErrorKind::Authentication, "login as 'guest' was refused"));
    sent.window.expire(Instant::now() + Duration::from_secs(1));
    let error = sent.result(0).unwrap().unwrap_err();
    assert!(error.to_string().contains("login as 'guest' was refused"), "{error}");
    let source = std::error::Error::source(&error).and_then(|source| source.downcast_ref::<Error>()).unwrap();
    assert_eq!((error.kind(), source.kind()), (ErrorKind::Timeout, ErrorKind::Authentication));
}

#[test]
fn a_stopped_channel_finishes_its_content_and_begins_no_other() {
    let mut sent = Sent::new(&[]);
    let out = Outgoing {
        exchange: "".into(),
        routing_key: "q".into(),
        message: Message::new(vec![0; 10_000]),
        mandatory: true,
    };
    let mut context = Context::from_waker(Waker::noop());
    assert!(sent.window.poll_admit(&mut context, &mut Some(out), None, &mut None).is_ready());
    sent.publish("", "q");
    let mut buffer = Vec::new();
    sent.window.pump(&mut buffer, 1, 4_096);
    sent.window.set_flow(false);
    assert!(sent.window.has_work(), "the rest of the content");
    sent.window.pump(&mut buffer, usize::MAX, 4_096);
    assert_eq!((sent.window.on_wire(), sent.window.has_work()), (1, false));
    sent.window.set_flow(true);
    assert_eq!(sent.pump(), 1);
}

/// The engine asks at each turn; an alarm has no slots to look at.
#[test]
fn publishes_without_a_deadline_set_no_alarm() {
    let mut sent = Sent::new(&[("", "q"), ("", "q")]);
    assert_eq!(sent.window.next_deadline(), None);
    let deadline = Instant::now() + Duration::from_secs(5);
    sent.publish_until("", "q", Some(deadline));
    assert!(sent.window.alarm.is_unheard());
    assert_eq!(sent.window.next_deadline(), Some(deadline));
    sent.publish_until("", "q", Some(deadline + Duration::from_secs(1)));
    assert!(!sent.window.alarm.is_unheard(), "the engine looks before that anyway");
}
