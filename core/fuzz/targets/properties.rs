//! A content header: properties without a defect are those that `amq-protocol` reads, and are the same when they are
//! written and read again; a defect keeps the bytes.

use amq_protocol::protocol::basic::parse_properties;
use murano_messaging::fuzzing;

pub fn run(bytes: &[u8]) {
    let bytes = &bytes[..bytes.len().min(4096)];
    let Ok(header) = fuzzing::header(bytes) else {
        assert!(bytes.len() < 14, "the fixed fields are there");
        return;
    };
    let list = &bytes[12..];
    let theirs = parse_properties(list).ok().filter(|(rest, _)| rest.is_empty());
    match (&header.defect, theirs) {
        (None, Some((_, properties))) => {
            assert_eq!(format!("{:?}", header.properties), format!("{properties:?}"));
            let written = fuzzing::write_header(&header.properties, header.body_size);
            let again = fuzzing::header(&written).expect("what is written is read");
            assert_eq!(again.defect, None);
            assert_eq!(format!("{:?}", header.properties), format!("{:?}", again.properties));
            assert_eq!(header.body_size, again.body_size);
        }
        (None, None) => panic!("amq-protocol refuses {list:?}"),
        (Some(defect), theirs) => {
            assert_eq!(defect.raw, list);
            assert!(theirs.is_none() || defect.reason.contains("nest deeper"), "{}", defect.reason);
        }
    }
}
