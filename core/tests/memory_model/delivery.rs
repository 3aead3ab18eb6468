//! A delivery, as far as its queue looks at it.

#[derive(Debug, Default)]
pub struct Delivery {
    pub handed_out: bool,
}

impl Delivery {
    pub fn footprint(&self) -> usize {
        1
    }
}
