//! Every state × every event, also those that no broker should send.

use std::time::Duration;

use tokio::time::Instant;

use super::{
    machine::{Action, Awaited, Event, Machine, OnWire, Outcome, Reason, State, Terms},
    prefetch::Change,
};
use crate::{Error, ErrorKind, error::Reply};

type M = Machine<&'static str>;

const STATES: [&str; 10] = [
    "Idle",
    "New",
    "Starting",
    "Running",
    "Replacing",
    "Replaced",
    "Replacing+end",
    "Cancelling",
    "Backoff",
    "Ended",
];

const EVENTS: [&str; 15] = [
    "opened another",
    "consume-ok",
    "cancel-ok",
    "refused",
    "locked",
    "broke",
    "internal error",
    "channel closed",
    "cancelled",
    "replacement cancelled",
    "lost",
    "set prefetch",
    "cancel",
    "fail",
    "closed",
];

const FAILURES: [&str; 7] =
    ["refused", "locked", "broke", "internal error", "channel closed", "cancelled", "replacement cancelled"];

const PREFETCH: [&str; 4] = ["set prefetch", "consume-ok", "cancel-ok", "cancel"];

fn terms() -> Terms {
    Terms {
        no_ack: false,
        resume: false,
        stream: false,
        requests: false,
        change: Change::Overlap,
        patience: Duration::from_secs(3),
        longest_delay: Duration::from_secs(5),
    }
}

fn error(code: u16) -> Error {
    Error::from_reply("x", Reply { code, text: "t".into(), class_id: 0, method_id: 0 })
}

/// An event of the consumer on channel 1.
fn event(name: &str, now: Instant) -> Event<&'static str> {
    match name {
        "opened" => Event::Opened(1),
        "opened another" => Event::Opened(2),
        "consume-ok" => Event::ConsumeOk(1),
        "cancel-ok" => Event::CancelOk(1),
        "refused" => Event::Refused(error(404)),
        "locked" => Event::Refused(error(405)),
        "broke" => Event::Broke(error(540)),
        "internal error" => Event::Broke(error(541)),
        "channel closed" => Event::ChannelClosed(1, error(406)),
        "cancelled" => Event::CancelledByBroker(1, 0, Error::new(ErrorKind::ConsumerCancelled, "c")),
        "replacement cancelled" => {
            Event::CancelledByBroker(1, 1, Error::new(ErrorKind::ConsumerCancelled, "c"))
        }
        "lost" => Event::Lost,
        "set prefetch" => Event::SetPrefetch(9, "P"),
        "cancel" => Event::Cancel("C", now),
        "fail" => Event::Fail(Error::protocol("f"), now),
        "closed" => Event::Closed(Error::new(ErrorKind::Closed, "x"), None),
        _ => panic!("{name}"),
    }
}

/// A machine in a state, by way of events.
fn machine(state: &str, terms: Terms, now: Instant) -> M {
    let path: &[&str] = match state {
        "New" => &[],
        "Starting" => &["opened", "consume-ok", "lost", "opened"],
        "Idle" => &["opened", "consume-ok", "lost"],
        "Running" => &["opened", "consume-ok"],
        "Replacing" => &["opened", "consume-ok", "set prefetch"],
        "Replaced" => &["opened", "consume-ok", "set prefetch", "consume-ok"],
        "Replacing+end" => &["opened", "consume-ok", "set prefetch", "cancel"],
        "Cancelling" => &["opened", "consume-ok", "cancel"],
        "Backoff" => &["opened", "consume-ok", "lost", "locked"],
        "Ended" => &["opened", "consume-ok", "cancel", "cancel-ok"],
        _ => panic!("{state}"),
    };
    let mut machine = Machine::new(terms, 5, "S");
    for name in path {
        machine.on(event(name, now), now);
    }
    machine
}

fn on_wire(on: OnWire) -> String {
    format!("{}.{}/{}", on.channel, on.generation, on.prefetch)
}

fn reason(reason: Option<&Reason>) -> String {
    reason.map_or("none".into(), |Reason(error)| format!("{:?}", error.kind()))
}

fn state(machine: &M) -> String {
    match &machine.state {
        State::Idle => "Idle".into(),
        State::Starting(on) => format!("Starting {}", on_wire(*on)),
        State::Running(on) => format!("Running {}", on_wire(*on)),
        State::Replacing { old, new, consume, cancel, ending } => {
            let consume = match consume {
                Awaited::NotSent => "later",
                Awaited::Sent => "consume",
                Awaited::Answered => "",
            };
            let cancel = if *cancel { "cancel" } else { "" };
            let end = if ending.is_some() { "end" } else { "" };
            let words = [consume, cancel, end].join(" ");
            let words = words.split_whitespace().collect::<Vec<_>>().join("+");
            format!("Replacing {} by {} {words}", on_wire(*old), on_wire(*new))
        }
        State::Cancelling { on, .. } => format!("Cancelling {}", on_wire(*on)),
        State::Backoff => "Backoff".into(),
        State::Ended => "Ended".into(),
    }
}

fn action(action: &Action<&'static str>) -> String {
    match action {
        Action::Consume { on, qos } => {
            format!("consume {}{}", on_wire(*on), if *qos { "" } else { " no qos" })
        }
        Action::Cancel(on) => format!("cancel {}", on_wire(*on)),
        Action::ReturnArrivals(channel) => format!("return {channel}"),
        Action::CloseChannel(channel) => format!("close {channel}"),
        Action::Drain(channel) => format!("drain {channel}"),
        Action::PutBack => "put back".into(),
        Action::DropUndelivered => "drop".into(),
        Action::OpenRequests(channel) => format!("requests {channel}"),
        Action::Restart => "restart".into(),
        Action::RetryIn(delay) => format!("retry in {delay:?}"),
        Action::TellCancelled { resumes } => {
            format!("tell cancelled{}", if *resumes { ", resumes" } else { "" })
        }
        Action::TellResumed => "tell resumed".into(),
        Action::NotRestored(why) => format!("not restored {}", reason(Some(why))),
        Action::Settled { restored } => if *restored { "restored" } else { "settled" }.into(),
        Action::Answer(reply, Outcome::Done) => format!("{reply}: ok"),
        Action::Answer(reply, Outcome::Refused(why)) => format!("{reply}: refused {}", reason(Some(why))),
        Action::Answer(reply, Outcome::Ended(why)) => format!("{reply}: ended {}", reason(why.as_ref())),
        Action::End(why) => format!("end {}", reason(why.as_ref())),
    }
}

fn step(state_name: &str, event_name: &str, terms: Terms) -> String {
    let now = Instant::now();
    let mut machine = machine(state_name, terms, now);
    let actions = machine.on(event(event_name, now), now);
    let ends = actions.iter().filter(|action| matches!(action, Action::End(_))).count();
    assert_eq!(
        ends,
        usize::from(state(&machine) == "Ended" && state_name != "Ended"),
        "{state_name}, {event_name}"
    );
    if state(&machine) == "Ended" {
        assert_eq!(
            machine.waiting().count(),
            0,
            "{state_name}, {event_name}: somebody waits for an ended consumer"
        );
    }
    let actions: Vec<String> = actions.iter().map(action).collect();
    format!("{state_name} | {event_name} | {} | {}", state(&machine), actions.join("; "))
}

fn table(states: &[&str], events: &[&str], terms: Terms) -> String {
    let rows = states.iter().flat_map(|state| events.iter().map(|event| step(state, event, terms)));
    rows.map(|row| row.trim_end().to_owned() + "\n").collect()
}

#[test]
fn every_state_and_every_event() {
    let resumes = Terms { resume: true, ..terms() };
    let stream = Terms { stream: true, change: Change::FromOffset, ..terms() };
    let sections = [
        ("a consumer", table(&STATES, &EVENTS, terms())),
        ("one that resumes", table(&STATES, &FAILURES, resumes)),
        ("one of a stream", table(&STATES, &PREFETCH, stream)),
        ("an exclusive one", table(&STATES, &PREFETCH, Terms { change: Change::Gap, ..terms() })),
        (
            "one that cannot be replaced",
            table(&STATES, &PREFETCH, Terms { change: Change::Never("n"), ..terms() }),
        ),
        ("one without acks", table(&STATES, &PREFETCH, Terms { no_ack: true, ..terms() })),
        (
            "one of direct replies",
            table(&STATES, &FAILURES, Terms { requests: true, no_ack: true, ..terms() }),
        ),
    ];
    let actual = sections.iter().fold(String::new(), |text, (of, rows)| text + "# " + of + "\n" + rows);
    let expected = include_str!("machine_table.txt");
    for (actual, expected) in actual.lines().zip(expected.lines()) {
        assert_eq!(actual, expected);
    }
    assert_eq!(actual.lines().count(), expected.lines().count(), "{actual}");
}

fn run(terms: Terms, now: Instant, events: &[&str]) -> (M, Vec<String>) {
    let mut machine = Machine::new(terms, 5, "S");
    let actions: Vec<_> = events.iter().flat_map(|name| machine.on(event(name, now), now)).collect();
    let actions = actions.iter().map(action).collect();
    (machine, actions)
}

#[test]
fn a_resumed_consumer_was_said_to_be_cancelled_and_one_that_was_locked_was_not() {
    let resumes = Terms { resume: true, ..terms() };
    let now = Instant::now();
    let told = |events: &[&str]| {
        let (_, actions) = run(resumes, now, events);
        actions.into_iter().filter(|action| action.starts_with("tell")).collect::<Vec<_>>()
    };
    assert_eq!(told(&["opened", "consume-ok", "lost", "locked", "opened", "consume-ok"]), [""; 0]);
    let cancelled = ["opened", "consume-ok", "cancelled", "opened", "lost", "opened", "consume-ok"];
    assert_eq!(told(&cancelled), ["tell cancelled, resumes", "tell resumed"]);
    let refused = ["opened", "consume-ok", "lost", "refused", "refused", "opened", "consume-ok"];
    assert_eq!(told(&refused), ["tell cancelled, resumes", "tell resumed"]);
}

#[test]
fn the_delay_doubles_up_to_the_longest() {
    let (mut machine, _) =
        run(Terms { resume: true, ..terms() }, Instant::now(), &["opened", "consume-ok", "lost"]);
    let mut delays = Vec::new();
    for _ in 0..9 {
        for action in machine.on(Event::Refused(error(404)), Instant::now()) {
            if let Action::RetryIn(delay) = action {
                delays.push(delay.as_millis());
            }
        }
    }
    assert_eq!(delays, [50, 100, 200, 400, 800, 1600, 3200, 5000, 5000]);
}

#[test]
fn a_lock_is_waited_for_as_long_as_patience_lasts() {
    let now = Instant::now();
    let (mut machine, _) = run(terms(), now, &["opened", "consume-ok", "lost", "locked"]);
    machine.on(Event::Refused(error(403)), now + Duration::from_millis(2_999));
    assert_eq!(state(&machine), "Backoff");
    machine.on(Event::Refused(error(405)), now + Duration::from_secs(3));
    assert_eq!(state(&machine), "Ended");
}

#[test]
fn an_internal_error_is_tried_once_more() {
    let (machine, _) = run(
        terms(),
        Instant::now(),
        &["opened", "consume-ok", "lost", "opened", "internal error", "lost", "opened", "internal error"],
    );
    assert_eq!(state(&machine), "Ended");
}

#[test]
fn an_answer_on_a_channel_that_was_left_changes_nothing() {
    let now = Instant::now();
    for name in STATES {
        let mut machine = machine(name, terms(), now);
        let before = state(&machine);
        for late in [
            Event::ConsumeOk(3),
            Event::CancelOk(3),
            Event::ChannelClosed(3, error(406)),
            Event::CancelledByBroker(3, 0, error(404)),
        ] {
            assert_eq!(machine.on(late, now), []);
        }
        assert_eq!(state(&machine), before);
    }
}
