//! A field table: what the guard lets through, the parser reads to the same end, and what the parser reads, the guard lets
//! through, unless it nests too deep. What is read is the same when it is written and read again.

use amq_protocol::types::{AMQPValue, FieldTable, parsing::parse_field_table};
use murano_messaging::fuzzing;

pub fn run(bytes: &[u8]) {
    // So that the parser's recursion fits into the stack.
    let bytes = &bytes[..bytes.len().min(4096)];
    match (fuzzing::table(bytes), parse_field_table(bytes)) {
        (Ok((length, memory)), Ok((rest, table))) => {
            assert_eq!(length, bytes.len() - rest.len());
            assert!(memory >= size(&table), "{memory} bytes of memory for {}", size(&table));
            let written = fuzzing::write_table(&table);
            let (rest, again) = parse_field_table(written.as_slice()).expect("what is written is read");
            assert!(rest.is_empty());
            // NaN is not equal to itself.
            assert_eq!(format!("{table:?}"), format!("{again:?}"));
            assert_eq!(fuzzing::table(&written).map(|(length, _)| length), Ok(written.len()));
        }
        (Err(reason), Ok(_)) => assert!(reason.contains("nest deeper"), "{reason}"),
        // Keys that are not UTF-8.
        (Ok(_) | Err(_), Err(_)) => {}
    }
}

/// Bytes that the entries of a table take, without their strings and without room to grow.
fn size(table: &FieldTable) -> usize {
    table.inner().values().map(size_of_value).sum()
}

fn size_of_value(value: &AMQPValue) -> usize {
    let inside = match value {
        AMQPValue::FieldTable(table) => size(table),
        AMQPValue::FieldArray(array) => array.as_slice().iter().map(size_of_value).sum(),
        _ => 0,
    };
    size_of::<AMQPValue>() + inside
}
