//! Signatures of plans: RSA, PKCS#1 v1.5 (RFC 8017 section 8.2) with SHA-256, over the name of the queue and the text of
//! the body, as bytes in the header `signature`.
//!
//! The name is part of it so that a plan for one host is not taken by another.

use std::fmt;

use ring::{
    rand::SystemRandom,
    signature::{KeyPair, RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_SHA256, RsaKeyPair, UnparsedPublicKey},
};
use tokio_rustls::rustls::pki_types::{PrivateKeyDer, SubjectPublicKeyInfoDer, pem::PemObject};

use crate::{Delivery, Error, Message, Result, Value};

const HEADER: &str = "signature";

/// Signs plans.
pub struct SigningKey(RsaKeyPair);

/// Verifies what a [`SigningKey`] signed.
#[derive(Clone)]
pub struct VerifyingKey {
    /// An `RSAPublicKey` of PKCS#1.
    der: Vec<u8>,
}

/// Why a message is not to be trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SignatureError {
    /// It is not signed.
    Missing,
    /// It was signed with another key, for another queue, or was changed.
    Wrong,
}

impl fmt::Display for SignatureError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Missing => "the message is not signed",
            Self::Wrong => {
                "the signature is wrong: another key, another queue, or the message was changed on its way"
            }
        })
    }
}

impl std::error::Error for SignatureError {}

fn signed_bytes(queue: &str, body: &[u8]) -> Vec<u8> {
    [queue.as_bytes(), body].concat()
}

impl SigningKey {
    /// A private key of 2048 to 4096 bits in PEM: PKCS#8 (`PRIVATE KEY`) or PKCS#1 (`RSA PRIVATE KEY`).
    ///
    /// [`ErrorKind::InvalidArgument`](crate::ErrorKind::InvalidArgument) if it is anything else.
    pub fn from_pem(pem: impl AsRef<[u8]>) -> Result<Self> {
        let key = PrivateKeyDer::from_pem_slice(pem.as_ref())
            .map_err(|_| Error::invalid("the signing key is not a private key in PEM"))?;
        let pair = match &key {
            PrivateKeyDer::Pkcs8(der) => RsaKeyPair::from_pkcs8(der.secret_pkcs8_der()),
            PrivateKeyDer::Pkcs1(der) => RsaKeyPair::from_der(der.secret_pkcs1_der()),
            _ => return Err(Error::invalid("the signing key is not an RSA key")),
        };
        pair.map(Self)
            .map_err(|rejected| Error::invalid(format!("the signing key cannot be used: {rejected}")))
    }

    /// The key that verifies.
    pub fn verifying_key(&self) -> VerifyingKey {
        VerifyingKey { der: self.0.public_key().as_ref().to_vec() }
    }

    /// The signature of a body that goes to `queue`.
    pub fn sign(&self, queue: &str, body: &[u8]) -> Result<Vec<u8>> {
        let mut signature = vec![0; self.0.public().modulus_len()];
        self.0
            .sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), &signed_bytes(queue, body), &mut signature)
            .map_err(|_| Error::invalid("the signing key cannot sign"))?;
        Ok(signature)
    }

    /// `message` with its signature for `queue`; its body must not be changed afterwards.
    pub fn signed(&self, queue: &str, message: Message) -> Result<Message> {
        let signature = self.sign(queue, message.body())?;
        Ok(message.header(HEADER, signature))
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey({} bits)", self.0.public().modulus_len() * 8)
    }
}

impl VerifyingKey {
    /// A public key of 2048 to 8192 bits in PEM: `RSA PUBLIC KEY` (PKCS#1), as Murano's engine gives it to its agents, or
    /// `PUBLIC KEY` (RFC 5280's `SubjectPublicKeyInfo`). Lines may be indented.
    ///
    /// [`ErrorKind::InvalidArgument`](crate::ErrorKind::InvalidArgument) if it is anything else.
    pub fn from_pem(pem: impl AsRef<[u8]>) -> Result<Self> {
        let invalid = || Error::invalid("the verifying key is not a public key in PEM");
        let text = std::str::from_utf8(pem.as_ref()).map_err(|_| invalid())?;
        // The reader does not know the label of PKCS#1. Which of the two it is, the content says.
        let text: String = text
            .lines()
            .flat_map(|line| [line.trim(), "\n"])
            .collect::<String>()
            .replace("RSA PUBLIC KEY", "PUBLIC KEY");
        let der = SubjectPublicKeyInfoDer::from_pem_slice(text.as_bytes()).map_err(|_| invalid())?;
        let key = [&*der, rsa_public_key(&der).unwrap_or_default()]
            .into_iter()
            .find_map(|key| Some((key, bits(key)?)));
        match key {
            Some((key, 2048..=8192)) => Ok(Self { der: key.to_vec() }),
            Some((_, bits)) => {
                Err(Error::invalid(format!("the verifying key has {bits} bits: use one of 2048 to 8192")))
            }
            None => Err(Error::invalid("the verifying key is not an RSA key")),
        }
    }

    /// Whether `signature` is that of `body` for `queue`.
    pub fn verify(&self, queue: &str, body: &[u8], signature: &[u8]) -> Result<(), SignatureError> {
        UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, &self.der)
            .verify(&signed_bytes(queue, body), signature)
            .map_err(|_| SignatureError::Wrong)
    }

    /// Whether a plan that came from `queue` is signed for it.
    pub fn verify_delivery(&self, queue: &str, delivery: &Delivery) -> Result<(), SignatureError> {
        match super::header(delivery, HEADER) {
            Some(Value::LongString(signature)) => self.verify(queue, delivery.body(), signature.as_bytes()),
            Some(Value::ByteArray(signature)) => self.verify(queue, delivery.body(), signature.as_slice()),
            Some(Value::Void) | None => Err(SignatureError::Missing),
            Some(_) => Err(SignatureError::Wrong),
        }
    }
}

impl fmt::Debug for VerifyingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("VerifyingKey")
    }
}

/// Takes the `RSAPublicKey` out of a `SubjectPublicKeyInfo`; `None` if another kind of key is in it.
fn rsa_public_key(info: &[u8]) -> Option<&[u8]> {
    /// `SEQUENCE { OBJECT IDENTIFIER rsaEncryption, NULL }`, without its own tag and length.
    const RSA_ENCRYPTION: [u8; 13] =
        [0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01, 0x05, 0x00];
    let (inside, rest) = element(0x30, info)?;
    let (algorithm, inside) = element(0x30, inside)?;
    let (bits, behind) = element(0x03, inside)?;
    if algorithm != RSA_ENCRYPTION || !rest.is_empty() || !behind.is_empty() {
        return None;
    }
    // How many bits of the last byte are unused: none, in a key.
    bits.strip_prefix(&[0])
}

/// How many bits the modulus of an `RSAPublicKey` has, a sequence of two integers; `None` if it is something else.
fn bits(key: &[u8]) -> Option<usize> {
    let (inside, rest) = element(0x30, key)?;
    let (modulus, inside) = element(0x02, inside)?;
    let (_exponent, behind) = element(0x02, inside)?;
    if !rest.is_empty() || !behind.is_empty() {
        return None;
    }
    // A first byte of 0 says that the number is positive.
    let modulus = modulus.strip_prefix(&[0]).unwrap_or(modulus);
    Some(modulus.len() * 8 - modulus.first()?.leading_zeros() as usize)
}

/// The content of the DER element with this tag that `bytes` begin with, and what is behind it.
fn element(tag: u8, bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let rest = bytes.strip_prefix(&[tag])?;
    let (&first, rest) = rest.split_first()?;
    let (length, rest) = match first {
        0..=0x7f => (usize::from(first), rest),
        0x81 | 0x82 => {
            let (digits, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
            (digits.iter().fold(0, |length, digit| length << 8 | usize::from(*digit)), rest)
        }
        _ => return None,
    };
    rest.split_at_checked(length)
}
