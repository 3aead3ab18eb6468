//! A walk over an encoded field table (AMQP 0-9-1 section 4.2.5.5) that neither recurses nor allocates.
//!
//! `amq-protocol` parses nested tables by recursion, and any publisher may nest them as deep as a frame allows,
//! so every table passes through here before that parser sees it.

use amq_protocol::types::{AMQPValue, ShortString};

/// How deep tables and arrays may nest; the outermost table counts as one.
pub(crate) const MAX_DEPTH: usize = 32;

/// A table that is fit to be parsed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Checked {
    /// Encoded, its length prefix included.
    pub length: usize,
    /// Bytes of memory, at most, that it takes once it is parsed, beside those of its strings.
    pub memory: usize,
}

/// What a value takes with its key, in an array that has grown to twice its need or among others in a map.
const VALUE_MEMORY: usize = 4 * size_of::<AMQPValue>();

/// A map is allocated in nodes of eleven entries.
const TABLE_MEMORY: usize = 11 * (size_of::<AMQPValue>() + size_of::<ShortString>());

/// Checks the table at the start of `bytes` (its length prefix included).
pub(crate) fn table(bytes: &[u8]) -> Result<Checked, &'static str> {
    let (mut at, end) = nested(bytes, 0, bytes.len())?;
    let mut checked = Checked { length: end, memory: TABLE_MEMORY };
    // What is open around the current position: where it ends, and whether its entries have keys.
    let mut open = [(0usize, false); MAX_DEPTH];
    open[0] = (end, true);
    let mut depth = 1;
    while depth > 0 {
        let (end, has_keys) = open[depth - 1];
        if at == end {
            depth -= 1;
            continue;
        }
        if has_keys {
            let key = usize::from(bytes[at]);
            at += 1 + key;
            if at >= end {
                return Err("a table key passes the end of its table");
            }
        }
        let kind = bytes[at];
        at += 1;
        checked.memory += if kind == b'F' { VALUE_MEMORY + TABLE_MEMORY } else { VALUE_MEMORY };
        let fixed = match kind {
            b't' | b'b' | b'B' => 1,
            b's' | b'U' | b'u' => 2,
            b'I' | b'i' | b'f' => 4,
            b'D' => 5,
            b'l' | b'L' | b'd' | b'T' => 8,
            b'V' => 0,
            b'S' | b'x' => {
                let (_, value_end) = nested(bytes, at, end)?;
                at = value_end;
                continue;
            }
            b'F' | b'A' => {
                if depth == MAX_DEPTH {
                    return Err("tables nest deeper than 32 levels");
                }
                let (start, value_end) = nested(bytes, at, end)?;
                open[depth] = (value_end, kind == b'F');
                depth += 1;
                at = start;
                continue;
            }
            _ => return Err("a field has an unknown type"),
        };
        at += fixed;
        if at > end {
            return Err("a field passes the end of its table");
        }
    }
    Ok(checked)
}

/// Start and end of the length-prefixed bytes at `at`, which must end by `end`.
fn nested(bytes: &[u8], at: usize, end: usize) -> Result<(usize, usize), &'static str> {
    let start = at + 4;
    if start > end {
        return Err("a length passes the end of its frame");
    }
    let length = u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]) as usize;
    if length > end - start {
        return Err("a length passes the end of its frame");
    }
    Ok((start, start + length))
}

/// Checks the table inside a method payload (class and method ids included), for the methods that carry one.
pub(crate) fn method(payload: &[u8]) -> Result<(), &'static str> {
    let (class, method) = match payload {
        [a, b, c, d, ..] => (u16::from_be_bytes([*a, *b]), u16::from_be_bytes([*c, *d])),
        _ => return Err("a method frame is shorter than its ids"),
    };
    // Fixed bytes, short strings, then fixed bytes that precede the table.
    let (fixed, strings, then) = match (class, method) {
        (10, 10) => (2, 0, 0),
        (10, 11) => (0, 0, 0),
        (40, 10) | (60, 20) => (2, 2, 1),
        (40, 30 | 40) | (50, 20) => (2, 3, 1),
        (50, 10) => (2, 1, 1),
        (50, 50) => (2, 3, 0),
        _ => return Ok(()),
    };
    let mut at = 4 + fixed;
    for _ in 0..strings {
        let length = *payload.get(at).ok_or("a method ends inside its fields")?;
        at += 1 + usize::from(length);
    }
    at += then;
    let rest = payload.get(at..).ok_or("a method ends inside its fields")?;
    table(rest).map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrap(kind: u8, inner: &[u8], key: bool) -> Vec<u8> {
        let mut out = if key { vec![1, b'k', kind] } else { vec![kind] };
        out.extend((inner.len() as u32).to_be_bytes());
        out.extend(inner);
        out
    }

    fn nested_tables(levels: usize) -> Vec<u8> {
        let mut content = Vec::new();
        for _ in 1..levels {
            content = wrap(b'F', &content, true);
        }
        let mut out = (content.len() as u32).to_be_bytes().to_vec();
        out.extend(content);
        out
    }

    #[test]
    fn depth_is_bounded() {
        assert_eq!(table(&nested_tables(32)).map(|table| table.length), Ok(nested_tables(32).len()));
        assert!(table(&nested_tables(33)).is_err());
        assert!(table(&nested_tables(5000)).is_err());
    }

    #[test]
    fn arrays_count_as_levels() {
        let mut content = Vec::new();
        for _ in 0..40 {
            content = wrap(b'A', &content, false);
        }
        let content = wrap(b'A', &content, true);
        let mut bytes = (content.len() as u32).to_be_bytes().to_vec();
        bytes.extend(content);
        assert!(table(&bytes).is_err());
    }

    #[test]
    fn truncations_and_lies_are_refused_without_panic() {
        let good = {
            let mut content = vec![1, b'a', b'S', 0, 0, 0, 2, b'h', b'i', 1, b'b', b't', 1];
            content.extend(wrap(b'A', &[b'I', 0, 0, 0, 1, b'V'], true));
            let mut bytes = (content.len() as u32).to_be_bytes().to_vec();
            bytes.extend(content);
            bytes
        };
        assert_eq!(table(&good).map(|table| table.length), Ok(good.len()));
        for cut in 0..good.len() {
            assert!(table(&good[..cut]).is_err(), "cut at {cut}");
        }
        for at in 0..good.len() {
            for value in [0, 1, 127, 255] {
                let mut bad = good.clone();
                bad[at] = value;
                let _ = table(&bad);
            }
        }
    }
}
