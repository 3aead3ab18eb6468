//! A way to what is private, for `core/fuzz` alone.

use crate::wire::frame::FrameReader;

/// Reads frames until the bytes end or are at fault.
pub fn decode(bytes: &[u8]) {
    let mut frames = FrameReader::new(128 * 1024);
    frames.buffer().extend_from_slice(bytes);
    while let Ok(Some(frame)) = frames.next() {
        std::hint::black_box(&frame);
    }
}
