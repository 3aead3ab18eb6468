//! PEM as it comes: in memory or in a file, with what editors and other systems leave in it.

use std::path::PathBuf;

use tokio_rustls::rustls::pki_types::{CertificateDer, pem::PemObject};
use zeroize::Zeroizing;

use crate::{Error, Result};

/// PEM text, given or in a file.
#[derive(Clone)]
pub(super) enum Pem {
    Bytes(Zeroizing<Vec<u8>>),
    File(PathBuf),
}

impl Pem {
    /// The text, without the mark that some editors put before it.
    pub fn read(&self, what: &str) -> Result<Zeroizing<Vec<u8>>> {
        let mut text = match self {
            Self::Bytes(bytes) => bytes.clone(),
            Self::File(path) => std::fs::read(path).map(Zeroizing::new).map_err(|error| {
                Error::invalid(format!("the {what} {} cannot be read: {error}", path.display()))
                    .with_source(error)
            })?,
        };
        if text.starts_with(b"\xef\xbb\xbf") {
            text.drain(..3);
        }
        check_encoding(&text, what)?;
        Ok(text)
    }
}

/// Says what a file is that is no text.
fn check_encoding(text: &[u8], what: &str) -> Result<()> {
    if text.starts_with(b"\xff\xfe") || text.starts_with(b"\xfe\xff") {
        return Err(Error::invalid(format!("the {what} is UTF-16: save it as ASCII or UTF-8")));
    }
    // An ASN.1 SEQUENCE with a length of two octets: every certificate and key is larger than 255 bytes or begins 0x30 0x81.
    if matches!(text, [0x30, 0x81 | 0x82, ..]) {
        return Err(Error::invalid(format!(
            "the {what} is binary (DER or PKCS#12), not PEM: convert it with 'openssl x509 -inform DER', 'openssl pkey -inform \
             DER' or 'openssl pkcs12 -nodes'"
        )));
    }
    Ok(())
}

/// What sections a PEM text has, for an error: only their names, which are no secret.
pub(super) fn sections(pem: &[u8]) -> String {
    let text = String::from_utf8_lossy(pem);
    let mut found: Vec<&str> = text
        .lines()
        .filter_map(|line| line.trim().strip_prefix("-----BEGIN ")?.strip_suffix("-----"))
        .filter(|label| {
            label.len() <= 40
                && label.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == ' ')
        })
        .collect();
    found.dedup();
    found.truncate(5);
    if found.is_empty() { "no section at all".into() } else { found.join(", ") }
}

pub(super) fn certificates(pem: &[u8], what: &str) -> Result<Vec<CertificateDer<'static>>> {
    let found: Vec<_> = CertificateDer::pem_slice_iter(pem).collect::<Result<_, _>>().map_err(|error| {
        Error::invalid(format!("the {what} is damaged: a section of it is not PEM")).with_source(error)
    })?;
    if found.is_empty() {
        return Err(Error::invalid(format!(
            "the {what} has no certificate in PEM form (-----BEGIN CERTIFICATE-----); it has {}",
            sections(pem)
        )));
    }
    Ok(found)
}
