//! A client and a server that knows the protocol: it answers what it is asked, delivers, confirms and returns, and spoils
//! some of that; or it sends frames without rhyme or reason. What it does, the bytes decide.

use super::{
    Rng, case, converse,
    server::{Behaviour, Lair},
};

pub fn run(bytes: &[u8]) {
    let Some((first, rest)) = bytes.split_first() else { return };
    let behaviour = match first % 6 {
        0 => Behaviour::Frames,
        1 => Behaviour::Spoilt(0),
        2 => Behaviour::Spoilt(3),
        3 => Behaviour::Spoilt(10),
        4 => Behaviour::Spoilt(30),
        _ => Behaviour::Spoilt(100),
    };
    let mut rng = Rng::of(rest);
    converse(case::run(Lair::new(behaviour, rng.fork()), rng));
}
