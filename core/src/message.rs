//! Messages: a body, its properties, and how it is to be delivered.

/// A mandatory message that the broker could not route (`basic.return`).
#[derive(Clone, Debug)]
pub struct Returned {}
