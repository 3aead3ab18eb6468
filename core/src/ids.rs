//! Message ids and consumer tags: unique, cheap, and the same again for the same seed.

use std::sync::atomic::{AtomicU64, Ordering};

/// Numbers under a random prefix.
#[derive(Debug)]
pub(crate) struct Ids {
    prefix: String,
    next: AtomicU64,
}

impl Ids {
    pub fn new(seed: Option<u64>) -> Self {
        let mut rng = seed.map_or_else(fastrand::Rng::new, fastrand::Rng::with_seed);
        Self { prefix: format!("{:032x}", rng.u128(..)), next: AtomicU64::new(1) }
    }

    /// A message id: 128 random bits per client and a counter, 41 characters or more.
    pub fn message(&self) -> String {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let mut id = String::with_capacity(self.prefix.len() + 17);
        id.push_str(&self.prefix);
        id.push('-');
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        // By hand: formatting would cost more than the rest of a publish.
        let digits = (64 - number.leading_zeros()).div_ceil(4).max(8);
        for place in (0..digits).rev() {
            id.push(char::from(DIGITS[(number >> (4 * place)) as usize & 0xf]));
        }
        id
    }

    pub fn consumer_tag(&self) -> String {
        format!("mm-{}-{}", &self.prefix[..12], self.next.fetch_add(1, Ordering::Relaxed))
    }
}
