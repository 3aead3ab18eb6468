//! An oslo.messaging envelope, compressed or not: read as a request, a reply and a notification. The first byte says how it
//! is compressed. What is read is the same when it is written and read again, and no body decodes to more than the bound.

use murano_messaging::fuzzing;

/// Bytes that a compressed body may decode to.
const LIMIT: u64 = 64 * 1024;

pub fn run(bytes: &[u8]) {
    let Some((first, body)) = bytes.split_first() else { return };
    let compression = [None, Some("application/x-gzip"), Some("application/x-bz2"), Some("nothing known")];
    fuzzing::oslo(compression[usize::from(*first) % 4], body, LIMIT);
}
