//! Bytes to frames and back (AMQP 0-9-1 section 4.2), with every bound checked before anything is allocated.
//!
//! | module | what it is |
//! |---|---|
//! | [`frame`] | one frame off the buffer, and the bounds on it |
//! | [`encode`] | frames into a buffer |
//! | [`properties`] | content headers, and what is saved of one that cannot be parsed |
//! | [`handshake`] | from a byte stream to an open connection |
//! | [`stream`] | TCP, TLS, or whatever carries a connection |
//! | [`guard`] | the bound on nested tables, checked before the parser recurses |

pub(crate) mod encode;
pub(crate) mod frame;
pub(crate) mod guard;
pub(crate) mod handshake;
pub(crate) mod properties;
pub(crate) mod stream;

use amq_protocol::protocol::AMQPClass;

/// Class and method id of a method.
pub(crate) fn ids(method: &AMQPClass) -> (u16, u16) {
    (method.get_amqp_class_id(), method.get_amqp_method_id())
}
