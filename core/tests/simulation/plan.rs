//! What a seed means.

use std::time::Duration;

use crate::faulty::Cut;

#[derive(Clone, Debug)]
pub enum Fault {
    /// An open connection breaks after this many more bytes.
    Cut { pick: usize, cut: Cut },
    /// The next connection breaks after this many bytes.
    CutNext(Cut),
    /// Nothing passes for a while.
    Stall(Duration),
    /// The broker neither reads nor writes for a while.
    Freeze(Duration),
    /// The broker is gone for a while and comes back with what is durable.
    Restart(Duration),
    /// The operator closes all connections.
    CloseAll,
    /// All connections end without a word.
    DropAll,
    /// An alarm for a while.
    Block(Duration),
    /// Logins are refused for a while.
    RefuseLogins(Duration),
    /// All connections end, and some time into their recovery logins are refused for a while.
    LoseThenRefuse { after: Duration, lasting: Duration },
    /// Confirms are held back for a while, as by a quorum queue.
    HoldConfirms(Duration),
    /// The password changes and connections end over it; the application learns the new one after a while.
    Expire { learned_after: Duration },
    /// The machine sleeps: the clock is later by this at once.
    Jump(Duration),
    /// The broker is gone for a while and comes back without one of the durable queues.
    Forget { pick: usize, gone: Duration },
}

/// An address that accepts connections, and then:
#[derive(Clone, Copy, Debug)]
pub enum BadAddress {
    /// says nothing.
    Silent,
    /// ends them.
    Closing,
}

#[derive(Clone, Debug)]
pub struct Plan {
    pub publishers: u64,
    pub messages: u64,
    pub consumers: usize,
    pub queues: usize,
    pub window: usize,
    pub prefetch: u16,
    pub heartbeat: Duration,
    pub operation_timeout: Duration,
    pub separate: bool,
    /// Every second publisher has a client of its own.
    pub second_client: bool,
    /// Bytes that pass a stream at once, at most; 0 for all there is.
    pub chop: usize,
    /// Bytes of a body, at most.
    pub body: usize,
    /// Bytes pass only every so often; zero for at once.
    pub lag: Duration,
    /// A publisher rests this long at most, now and then.
    pub pause: Duration,
    /// Whether some operations end the connection.
    pub ending: bool,
    /// Whether one message ends every connection that it is delivered on.
    pub poison: bool,
    /// The addresses of the broker's name that come before the good one.
    pub bad_addresses: Vec<BadAddress>,
    pub faults: Vec<(Duration, Fault)>,
}

impl Plan {
    pub fn new(rng: &mut fastrand::Rng) -> Self {
        let mut faults = Vec::new();
        let mut at = Duration::ZERO;
        for _ in 0..rng.usize(0..8) {
            at += Duration::from_millis(rng.u64(0..900));
            faults.push((at, fault(rng)));
        }
        Self {
            publishers: rng.u64(1..=3),
            messages: rng.u64(10..=100),
            consumers: rng.usize(1..=3),
            queues: rng.usize(1..=2),
            window: *pick(rng, &[1, 3, 20, 1000]),
            prefetch: *pick(rng, &[1, 5, 100]),
            heartbeat: Duration::from_secs(rng.u64(1..=4)),
            operation_timeout: Duration::from_secs(rng.u64(2..=20)),
            separate: rng.bool(),
            second_client: rng.bool(),
            chop: *pick(rng, &[0, 0, 1, 7, 100, 4000]),
            body: *pick(rng, &[0, 50, 50, 5000]),
            lag: Duration::from_millis(*pick(rng, &[0, 0, 10, 50, 200])),
            pause: Duration::from_millis(*pick(rng, &[20, 100, 400])),
            poison: rng.u32(0..5) == 0,
            ending: !faults.is_empty() && rng.u32(0..3) == 0,
            bad_addresses: pick(
                rng,
                &[
                    &[][..],
                    &[],
                    &[BadAddress::Closing],
                    &[BadAddress::Silent],
                    &[BadAddress::Closing, BadAddress::Silent],
                ],
            )
            .to_vec(),
            faults,
        }
    }

    /// Nothing goes wrong, and nothing takes time but the way.
    pub fn is_faultless(&self) -> bool {
        self.faults.is_empty() && self.bad_addresses.is_empty() && !self.poison
    }

    /// One consumer of one queue sees the messages of each publisher in their order.
    pub fn is_ordered(&self) -> bool {
        self.consumers == 1 && self.queues == 1
    }
}

fn fault(rng: &mut fastrand::Rng) -> Fault {
    let a_while = Duration::from_millis(rng.u64(1..6000));
    match rng.u32(0..20) {
        0..=3 => Fault::Cut { pick: rng.usize(0..4), cut: cut(rng, 3000) },
        4 | 5 => Fault::CutNext(cut(rng, 700)),
        6 => Fault::Stall(a_while),
        7 => Fault::Freeze(a_while),
        8 | 9 => Fault::Restart(a_while / 3),
        10 => Fault::CloseAll,
        11 => Fault::DropAll,
        12 => Fault::Block(a_while),
        13 => Fault::RefuseLogins(a_while),
        14 | 15 => Fault::HoldConfirms(a_while),
        16 => Fault::Expire { learned_after: a_while / 2 },
        17 => Fault::Jump(Duration::from_secs(rng.u64(1..300))),
        18 => Fault::Forget { pick: rng.usize(0..4), gone: a_while / 3 },
        _ => Fault::LoseThenRefuse { after: Duration::from_millis(rng.u64(0..300)), lasting: a_while },
    }
}

fn cut(rng: &mut fastrand::Rng, most: u64) -> Cut {
    let bytes = rng.u64(0..most);
    if rng.bool() { Cut::Reading(bytes) } else { Cut::Writing(bytes) }
}

fn pick<'a, T>(rng: &mut fastrand::Rng, choices: &'a [T]) -> &'a T {
    &choices[rng.usize(0..choices.len())]
}
