//! The parts of the engine and of the Python package whose safety is a matter of the order of memory accesses, in every order
//! that the memory model allows, up to a number of preemptions: `make loom`.
//!
//! The parts are compiled here from their own files, over loom's atomics and locks and over stubs of what they only pass on.

#![cfg(engine_model)]

mod delivery;
mod engine;
mod publish;
mod wait;

use std::{
    pin::pin,
    sync::Arc as StdArc,
    task::{Context, Waker},
};

use loom::{
    future::block_on,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use engine::{
    delivery_queue::{ConsumerRequest, DeliveryQueue},
    outbox::Outbox,
    publish::{Publishing, SendBy},
    read_budget::ReadBudget,
    undelivered::Undelivered,
    waker::EngineWaker,
};

/// What the engine's modules import.
pub use murano_messaging::{Error, Result};

/// Checks a model, and says how many orders that took.
fn check(model: impl Fn() + Sync + Send + 'static) {
    let orders = StdArc::new(std::sync::atomic::AtomicUsize::new(0));
    let mut builder = loom::model::Builder::new();
    // Three are enough for every known fault of this kind; without a bound the larger models take hours.
    builder.preemption_bound = builder.preemption_bound.or(Some(3));
    builder.check({
        let orders = orders.clone();
        move || {
            orders.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            model();
        }
    });
    let name = std::thread::current().name().unwrap_or_default().to_owned();
    println!("{name}: {} orders", orders.load(std::sync::atomic::Ordering::Relaxed));
}

fn is_woken(waker: &EngineWaker) -> bool {
    pin!(waker.woken()).poll(&mut Context::from_waker(Waker::noop())).is_ready()
}

/// The engine stops reading and is woken by nobody: it would sleep for ever.
#[test]
fn a_hand_out_wakes_an_engine_that_stopped_reading() {
    check(|| {
        let budget = Arc::new(ReadBudget::new(1));
        budget.arrived(1);
        let application = thread::spawn({
            let budget = budget.clone();
            move || budget.handed_out(1)
        });
        let pauses = budget.must_pause();
        let woken = application.join().unwrap();
        assert!(woken || !pauses, "the engine sleeps with room in its budget");
    });
}

/// What a caller did before it woke the engine is seen by the look that follows.
#[test]
fn a_wake_up_is_never_lost() {
    check(|| {
        let waker = Arc::new(EngineWaker::default());
        let work = Arc::new(AtomicUsize::new(0));
        let caller = thread::spawn({
            let (waker, work) = (waker.clone(), work.clone());
            move || {
                for _ in 0..2 {
                    work.fetch_add(1, Ordering::Relaxed);
                    waker.wake();
                }
            }
        });
        // The engine's loop: sleep, rearm, look. Without a wake-up for work that it has not seen it would sleep for ever.
        while work.load(Ordering::Relaxed) < 2 {
            block_on(waker.woken());
            waker.rearm();
        }
        caller.join().unwrap();
    });
}

/// The engine's turn: it looks at what callers left, and writes until nothing is left or the socket takes no more.
fn turn(outbox: &Outbox, publishing: &Publishing) {
    outbox.waker().rearm();
    let mut writer = outbox.lock_writer();
    loop {
        publishing.pump(&mut writer.buffer, 4096);
        if writer.is_idle() {
            return;
        }
        writer.flush();
    }
}

/// Callers publish while the engine takes its turn. Each either writes what it has queued, finds that somebody else does, or
/// wakes the engine: nothing stays behind. `takes`: the socket takes what callers write.
fn hand_over(callers: usize, takes: bool) {
    check(move || {
        let outbox = Outbox::new();
        outbox.lock_writer().takes = takes;
        let publishing = Publishing::new(10, 1000, outbox.clone());
        let callers: Vec<_> = (0..callers)
            .map(|_| {
                let publishing = publishing.clone();
                thread::spawn(move || {
                    let admit = publishing.admit(publish::Outgoing, None, SendBy::Caller, || Ok(()));
                    assert!(pin!(admit).poll(&mut Context::from_waker(Waker::noop())).is_ready());
                })
            })
            .collect();
        let published = callers.len();
        turn(&outbox, &publishing);
        for caller in callers {
            caller.join().unwrap();
        }
        while outbox.lock_writer().written < published {
            assert!(is_woken(outbox.waker()), "a publish is queued, and nobody writes it");
            turn(&outbox, &publishing);
        }
    });
}

#[test]
fn what_a_caller_queues_is_written_by_it_or_by_the_engine() {
    hand_over(1, true);
}

#[test]
fn what_two_callers_queue_is_written_by_one_of_them_or_by_the_engine() {
    hand_over(2, true);
}

#[test]
fn what_the_socket_does_not_take_from_a_caller_the_engine_writes() {
    hand_over(1, false);
}

/// Publishes until its turn has come, and leaves the window as at a confirm.
fn publish_and_leave(publishing: &StdArc<Publishing>) {
    let admitted = block_on(publishing.admit(publish::Outgoing, None, SendBy::Nobody, || Ok(())));
    assert!(admitted.is_ok());
    publishing.with(publish::Window::leave);
}

/// A window with one place, and three that want it: each gets it.
#[test]
fn whoever_waits_for_the_window_is_admitted() {
    check(|| {
        let publishing = Publishing::new(1, 1000, Outbox::new());
        let others: Vec<_> = (0..2)
            .map(|_| {
                let publishing = publishing.clone();
                thread::spawn(move || publish_and_leave(&publishing))
            })
            .collect();
        publish_and_leave(&publishing);
        for other in others {
            other.join().unwrap();
        }
    });
}

/// One of those that wait gives up, maybe just when it was its turn: the next is woken all the same.
#[test]
fn who_gives_up_its_wait_for_the_window_passes_the_turn_on() {
    check(|| {
        let publishing = Publishing::new(1, 1000, Outbox::new());
        let first = block_on(publishing.admit(publish::Outgoing, None, SendBy::Nobody, || Ok(())));
        assert!(first.is_ok());
        let impatient = thread::spawn({
            let publishing = publishing.clone();
            move || {
                let mut admit =
                    Box::pin(publishing.admit(publish::Outgoing, None, SendBy::Nobody, || Ok(())));
                if admit.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready() {
                    publishing.with(publish::Window::leave);
                }
                drop(admit);
            }
        });
        let patient = thread::spawn({
            let publishing = publishing.clone();
            move || publish_and_leave(&publishing)
        });
        publishing.with(publish::Window::leave);
        impatient.join().unwrap();
        patient.join().unwrap();
    });
}

fn request() -> ConsumerRequest {
    ConsumerRequest {
        queue: "q".into(),
        tag: "t".into(),
        prefetch: 1,
        no_ack: false,
        exclusive: false,
        arguments: murano_messaging::FieldTable::default(),
        resume: false,
        on_drop: murano_messaging::OnDrop::Keep,
        stream: false,
    }
}

/// The engine delivers, stops reading at the bound, and goes on when there is room; the consumer waits for each delivery.
#[test]
fn a_consumer_gets_all_from_an_engine_that_pauses_at_the_bound() {
    const DELIVERIES: usize = 2;
    check(|| {
        let waker = StdArc::new(EngineWaker::default());
        let budget = StdArc::new(Undelivered::new(1, waker.clone()));
        let queue = DeliveryQueue::new(1, budget.clone(), request(), None);
        let consumer = thread::spawn({
            let queue = queue.clone();
            move || {
                for _ in 0..DELIVERIES {
                    assert!(matches!(block_on(queue.wait()), Some(Ok(_))));
                }
            }
        });
        for _ in 0..DELIVERIES {
            // A turn of the engine: mail, then a read, unless it holds all it may.
            waker.rearm();
            while budget.is_used_up() {
                block_on(waker.woken());
                waker.rearm();
            }
            queue.push(delivery::Delivery::default());
            queue.wake();
        }
        consumer.join().unwrap();
        assert_eq!(budget.bytes(), 0);
    });
}

/// The Python package's queue: the loop sleeps until its descriptor is readable, and every number reaches it.
#[test]
fn a_loop_hears_of_everything_that_became_ready() {
    check(|| {
        let queue = Arc::new(wait::ready::Queue::new(wait::descriptor::Descriptor::default()));
        let threads: Vec<_> = (0..2)
            .map(|number| {
                let queue = queue.clone();
                thread::spawn(move || queue.push(number))
            })
            .collect();
        let mut ready = Vec::new();
        while ready.len() < 2 {
            queue.descriptor().wait_until_readable();
            ready.extend(queue.take());
        }
        ready.sort_unstable();
        assert_eq!(ready, [0, 1]);
        for thread in threads {
            thread.join().unwrap();
        }
    });
}
