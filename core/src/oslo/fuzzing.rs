//! What a peer's message goes through, for `core/fuzz`.

use super::{
    Compression, body,
    message::{Reply, Request},
};
use crate::Delivery;

/// Reads a message in all the ways there are; what was read must be the same when it is written and read again.
pub(crate) fn read_and_write_again(delivery: &Delivery, limit: u64) {
    // What is no JSON is read for who waits for an answer; what is, alike.
    let guessed = body::decode_leniently(delivery, limit);
    let Ok(fields) = body::decode(delivery, limit) else { return };
    assert_eq!(guessed.as_ref(), Some(&fields));
    for compression in [None, Some(Compression::Gzip)] {
        let message = body::encode(&fields, true, compression).expect("what was read can be written");
        let headers = message.properties().headers().clone().unwrap_or_default();
        let again = body::decode(&crate::fuzzing::delivery(headers, message.body()), u64::MAX - 1);
        assert_eq!(again.expect("what was written is read"), fields);
    }
    // Whatever comes of it: not every message is a request or a reply.
    let _ = Request::from_fields(fields.clone());
    if let Ok((reply, msg_id, _)) = Reply::from_fields(fields) {
        let said = format!("{reply:?}");
        let again = match reply {
            Reply::Heartbeat => Reply::heartbeat(&msg_id),
            Reply::Done(outcome) => Reply::done(outcome, &msg_id),
            Reply::Unreadable(_) => return,
        };
        let (again, id, _) = Reply::from_fields(again).expect("a reply is one");
        assert_eq!((format!("{again:?}"), id), (said, msg_id));
    }
}
