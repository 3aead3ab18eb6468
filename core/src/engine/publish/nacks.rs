//! The channel that gets nothing but nacks. RabbitMQ keeps what it knows of a quorum queue per channel, and a channel that
//! was opened between the death of a leader and the election of the next never learns of it: publishing moves to a new one.

use std::time::Duration;

use tokio::time::Instant;

/// The number of nacks, and the time they take, without an ack between them.
const PATIENCE: (u32, Duration) = (3, Duration::from_secs(1));

pub(super) struct NackWatch {
    /// The channel is there for publishes alone, so that it can be replaced.
    replaceable: bool,
    /// The first nack since the last ack, and the number of nacks.
    streak: Option<(Instant, u32)>,
    /// Nothing more goes out on this channel until it is replaced, or an ack shows that it is sound.
    worn_out: bool,
}

impl NackWatch {
    pub fn new(replaceable: bool) -> Self {
        Self { replaceable, streak: None, worn_out: false }
    }

    /// Another channel is in use.
    pub fn reset(&mut self) {
        self.streak = None;
        self.worn_out = false;
    }

    pub fn on_ack(&mut self) {
        self.reset();
    }

    pub fn on_nack(&mut self, now: Instant) {
        if !self.replaceable {
            return;
        }
        let (since, count) = self.streak.get_or_insert((now, 0));
        *count += 1;
        self.worn_out |= *count >= PATIENCE.0 && now - *since >= PATIENCE.1;
    }

    pub fn is_worn_out(&self) -> bool {
        self.worn_out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_nacks_within_a_second_are_a_full_queue_and_over_a_second_a_worn_out_channel() {
        let start = Instant::now();
        let at = |millis| start + Duration::from_millis(millis);
        let mut watch = NackWatch::new(true);
        for millis in [0, 500, 999] {
            watch.on_nack(at(millis));
            assert!(!watch.is_worn_out());
        }
        watch.on_nack(at(1_000));
        assert!(watch.is_worn_out());
        watch.on_ack();
        assert!(!watch.is_worn_out(), "an ack shows that the channel is sound");
        watch.on_nack(at(1_001));
        watch.on_nack(at(2_500));
        assert!(!watch.is_worn_out(), "two are too few");
    }

    #[test]
    fn a_channel_with_other_users_is_never_worn_out() {
        let mut watch = NackWatch::new(false);
        for seconds in 0..10 {
            watch.on_nack(Instant::now() + Duration::from_secs(seconds));
        }
        assert!(!watch.is_worn_out());
    }
}
