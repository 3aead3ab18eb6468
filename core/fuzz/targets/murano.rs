//! Murano's documents, and the keys and signatures on them. The first byte says which; what is read as a document is the same
//! when it is written and read again, and no signature of a fuzzer's is right.

use murano_messaging::murano::{ExecutionPlan, ExecutionResult, SigningKey, VerifyingKey};

/// A public key whose private half is nowhere.
const KEY: &str = include_str!("murano_key.pem");

pub fn run(bytes: &[u8]) {
    let Some((first, rest)) = bytes.split_first() else { return };
    match first % 5 {
        0 => {
            if let Ok(plan) = serde_json::from_slice::<ExecutionPlan>(rest) {
                let written = serde_json::to_vec(&plan).expect("a plan is JSON");
                assert_eq!(
                    serde_json::from_slice::<ExecutionPlan>(&written).expect("it is read again"),
                    plan
                );
                // Its id may be too long for a property: an error, not a panic.
                let _ = plan.message();
            }
        }
        1 => {
            if let Ok(result) = serde_json::from_slice::<ExecutionResult>(rest) {
                let written = serde_json::to_vec(&result).expect("a result is JSON");
                assert_eq!(
                    serde_json::from_slice::<ExecutionResult>(&written).expect("it is read again"),
                    result
                );
                let _ = (result.is_success(), result.message());
            }
        }
        2 => {
            let signed = SigningKey::from_pem(rest).and_then(|key| key.sign("q", b"body"));
            if let Ok(signature) = signed {
                assert!(signature.len() >= 256);
            }
        }
        3 => {
            if let Ok(key) = VerifyingKey::from_pem(rest) {
                // A key of a fuzzer's may take anything; it must not panic.
                let _ = key.verify("q", b"body", rest);
            }
        }
        _ => {
            let key = VerifyingKey::from_pem(KEY).expect("the key is one");
            let (queue, signature) = rest.split_at(rest.len() / 2);
            assert!(key.verify(&String::from_utf8_lossy(queue), b"body", signature).is_err());
        }
    }
}
