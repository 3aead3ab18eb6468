//! Private keys in PEM, with a password or without.

use tokio_rustls::rustls::pki_types::{PrivateKeyDer, pem::PemObject};

use super::pem::sections;
use crate::{Error, Result};

const ENCRYPTED: (&str, &str) =
    ("-----BEGIN ENCRYPTED PRIVATE KEY-----", "-----END ENCRYPTED PRIVATE KEY-----");

/// The key in a PEM text. One that is encrypted (PKCS#8 with PBES2: PBKDF2 or scrypt, and AES) needs the password.
pub(super) fn private_key(pem: &[u8], password: Option<&str>, what: &str) -> Result<PrivateKeyDer<'static>> {
    if let Some(encrypted) = encrypted(pem) {
        let Some(password) = password else {
            return Err(Error::invalid(format!("the {what} is encrypted: give its password (key_password)")));
        };
        return decrypt(encrypted, password, what);
    }
    if pem.windows(20).any(|window| window == b"Proc-Type: 4,ENCRYPT") {
        return Err(Error::invalid(format!(
            "the {what} is encrypted in OpenSSL's old way: convert it with 'openssl pkcs8 -topk8 -v2 aes-256-cbc'"
        )));
    }
    PrivateKeyDer::from_pem_slice(pem).map_err(|_| {
        Error::invalid(format!(
            "the {what} has no private key in PEM form (PKCS#8, PKCS#1 or SEC1); it has {}",
            sections(pem)
        ))
    })
}

/// The section of an encrypted key, if there is one. What is around it need not be UTF-8: OpenSSL writes there what a PKCS#12
/// file calls the key.
fn encrypted(pem: &[u8]) -> Option<&str> {
    let find =
        |from: &[u8], text: &str| from.windows(text.len()).position(|window| window == text.as_bytes());
    let begin = find(pem, ENCRYPTED.0)?;
    let end = begin + find(&pem[begin..], ENCRYPTED.1)? + ENCRYPTED.1.len();
    std::str::from_utf8(&pem[begin..end]).ok()
}

#[cfg(feature = "encrypted-keys")]
fn decrypt(section: &str, password: &str, what: &str) -> Result<PrivateKeyDer<'static>> {
    use pkcs8::{EncryptedPrivateKeyInfoRef, SecretDocument};
    use tokio_rustls::rustls::pki_types::PrivatePkcs8KeyDer;

    let unreadable =
        |why: String| Error::invalid(format!("the {what} is encrypted and cannot be read: {why}"));
    let (_, document) = SecretDocument::from_pem(section).map_err(|error| unreadable(error.to_string()))?;
    let encrypted = EncryptedPrivateKeyInfoRef::try_from(document.as_bytes()).map_err(|error| {
        // Ciphers that it does not know among others.
        unreadable(format!(
            "{error}; it must be of PBES2 with AES: convert it with 'openssl pkcs8 -topk8 -v2 aes-256-cbc'"
        ))
    })?;
    let key = encrypted.decrypt(password).map_err(|_| {
        unreadable(
            "the password is not the right one, or it is not encrypted with AES ('openssl pkcs8 -topk8 -v2 aes-256-cbc')"
                .to_owned(),
        )
    })?;
    Ok(PrivatePkcs8KeyDer::from(key.as_bytes().to_vec()).into())
}

#[cfg(not(feature = "encrypted-keys"))]
fn decrypt(_: &str, _: &str, what: &str) -> Result<PrivateKeyDer<'static>> {
    Err(Error::invalid(format!(
        "the {what} is encrypted, and this build cannot decrypt it: enable the cargo feature 'encrypted-keys'"
    )))
}

#[cfg(all(test, feature = "encrypted-keys"))]
mod tests {
    use super::private_key;
    use crate::ErrorKind;

    macro_rules! key {
        ($name:literal) => {
            include_bytes!(concat!("../../tests/tls_handshake/keys/", $name))
        };
    }

    #[test]
    fn a_key_is_decrypted_with_its_password() {
        let plain = private_key(key!("plain-p256.pem"), None, "client key").unwrap();
        for encrypted in [&key!("encrypted-p256.pem")[..], key!("encrypted-p256-scrypt.pem")] {
            let key = private_key(encrypted, Some("open-sesame"), "client key").unwrap();
            assert_eq!(key.secret_der(), plain.secret_der());
        }
        // A password that is not needed is not asked for.
        private_key(key!("plain-p256.pem"), Some("x"), "client key").unwrap();
    }

    #[test]
    fn what_cannot_be_decrypted_says_what_to_do() {
        for (encrypted, password, told) in [
            (&key!("encrypted-p256.pem")[..], None, "key_password"),
            (key!("encrypted-p256.pem"), Some("wrong"), "the password is not the right one"),
            (key!("encrypted-p256-3des.pem"), Some("open-sesame"), "openssl pkcs8 -topk8 -v2 aes-256-cbc"),
            (key!("encrypted-p256-openssl.pem"), Some("open-sesame"), "openssl pkcs8 -topk8 -v2 aes-256-cbc"),
            (b"nothing", None, "no private key in PEM form"),
        ] {
            let error = private_key(encrypted, password, "client key").unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidArgument);
            assert!(error.to_string().contains(told), "{error}");
            assert!(password.is_none_or(|password| !error.to_string().contains(password)), "{error}");
        }
    }
}
