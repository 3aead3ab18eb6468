//! Messages: a body, its properties, and how it is to be delivered.

/// The message properties of AMQP 0-9-1 (section 1.8.1), as lapin has them.
pub type Properties = amq_protocol::protocol::BasicProperties;

/// A mandatory message that the broker could not route (`basic.return`).
#[derive(Clone, Debug)]
pub struct Returned {}
