//! A stream of frames. It must be read the same at any split; and what is read is what `amq-protocol` reads, but for:
//!
//! * frames over the bounds, and tables that nest deeper than 32 levels, which are refused before it sees them;
//! * exchanges, routing keys, tags and reply texts that are not UTF-8, and content headers with a defect, which it refuses
//!   and we keep;
//! * a heartbeat with a payload or on a channel, which is a violation here.

use amq_protocol::frame::parsing::parse_frame;
use murano_messaging::fuzzing::{self, FrameKind};

pub fn run(bytes: &[u8]) {
    let Some((first, bytes)) = bytes.split_first() else { return };
    // Below `frame_max`, so that `amq-protocol`'s recursion fits into the stack whatever the tables.
    let bytes = &bytes[..bytes.len().min(4096)];
    let whole = fuzzing::frames(bytes, bytes.len());
    let split = usize::from(*first) * bytes.len() / 255;
    assert_eq!(whole, fuzzing::frames(bytes, split), "split at {split}");
    let mut rest = bytes;
    for ours in &whole.frames {
        let (frame, behind) = rest.split_at(ours.length);
        rest = behind;
        match (&ours.kind, parse_frame(frame)) {
            (_, Ok((left, theirs))) => {
                assert!(left.is_empty(), "{} bytes are left of {frame:?}", left.len());
                let theirs = fuzzing::describe(&theirs);
                assert!(
                    ours.text == theirs || matches!(ours.kind, FrameKind::Defect),
                    "ours {}, theirs {theirs}",
                    ours.text
                );
            }
            (FrameKind::NotUtf8 | FrameKind::Defect, Err(_)) => {}
            (kind, Err(error)) => panic!("{kind:?} {} is refused: {error:?}", ours.text),
        }
    }
    if whole.violation.is_some()
        && let Ok((_, theirs)) = parse_frame(rest)
    {
        assert!(fuzzing::is_refused_on_purpose(rest), "{theirs:?} is refused: {:?}", whole.violation);
    }
}
