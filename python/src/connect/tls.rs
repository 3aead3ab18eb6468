//! The arguments about TLS.

use murano_messaging::{Options, TlsOptions};
use pyo3::{prelude::*, types::PyString};

use crate::{
    arguments::{flag, path, text, unexpected, utf8},
    errors, value,
};

/// What is said of TLS.
#[derive(Default)]
pub struct Tls {
    /// The first of these arguments that was given.
    given: Option<String>,
    wanted: Option<bool>,
    ca: Option<Pem>,
    certificate: Option<Pem>,
    key: Option<Pem>,
    changes: Vec<Box<dyn FnOnce(TlsOptions) -> TlsOptions>>,
}

enum Pem {
    File(String),
    Bytes(Vec<u8>),
}

/// The two ways to give one thing exclude each other.
fn give(slot: &mut Option<Pem>, what: &str, pem: Pem) -> PyResult<()> {
    match slot.replace(pem) {
        None => Ok(()),
        Some(_) => Err(errors::invalid(format!("{what}_file and {what}_pem are both given: leave out one"))),
    }
}

impl Tls {
    fn change(&mut self, change: impl FnOnce(TlsOptions) -> TlsOptions + 'static) {
        self.changes.push(Box::new(change));
    }

    /// `options` with what was given.
    pub fn apply(self, options: Options, from_uri: bool) -> PyResult<Options> {
        if self.wanted == Some(false) && (self.given.is_some() || options.tls_options().is_some()) {
            return Err(errors::invalid(
                "tls=False goes with an amqp:// URI and no other argument about TLS",
            ));
        }
        let Some(given) = self.given else { return Ok(options) };
        let base = match (options.tls_options(), from_uri, self.wanted) {
            (Some(tls), ..) => tls.clone(),
            (None, true, None) => {
                return Err(errors::invalid(format!(
                    "{given} is about TLS: use it with amqps://, or with tls=True"
                )));
            }
            _ => TlsOptions::new(),
        };
        let tls = self.changes.into_iter().fold(base, |tls, change| change(tls));
        let tls = match self.ca {
            None => tls,
            Some(Pem::File(path)) => tls.ca_file(path),
            Some(Pem::Bytes(bytes)) => tls.ca_pem(bytes),
        };
        let tls = match (self.certificate, self.key) {
            (None, None) => tls,
            (Some(Pem::File(certificate)), Some(Pem::File(key))) => tls.identity_files(certificate, key),
            (Some(Pem::Bytes(certificate)), Some(Pem::Bytes(key))) => tls.identity_pem(certificate, key),
            _ => {
                return Err(errors::invalid(
                    "a client certificate needs both cert_file and key_file, or both cert_pem and key_pem",
                ));
            }
        };
        Ok(options.tls(tls))
    }
}

fn pem(what: &str, given: &Bound<'_, PyAny>) -> PyResult<Vec<u8>> {
    if let Ok(text) = given.cast::<PyString>() {
        return Ok(utf8(what, text)?.into_bytes());
    }
    match value::bytes_like(given)? {
        Some(bytes) => Ok(bytes),
        None => Err(errors::wrong_type(what, "PEM as bytes or str", given)),
    }
}

/// Takes an argument about TLS.
pub fn take(tls: &mut Tls, key: &str, given: &Bound<'_, PyAny>) -> PyResult<()> {
    match key {
        "tls" => tls.wanted = Some(flag(key, given)?),
        "ca_file" => give(&mut tls.ca, "ca", Pem::File(path(key, given)?))?,
        "ca_pem" => give(&mut tls.ca, "ca", Pem::Bytes(pem(key, given)?))?,
        "cert_file" => give(&mut tls.certificate, "cert", Pem::File(path(key, given)?))?,
        "cert_pem" => give(&mut tls.certificate, "cert", Pem::Bytes(pem(key, given)?))?,
        "key_file" => give(&mut tls.key, "key", Pem::File(path(key, given)?))?,
        "key_password" => {
            let password = text(key, given)?;
            tls.change(move |tls| tls.key_password(password));
        }
        "key_pem" => give(&mut tls.key, "key", Pem::Bytes(pem(key, given)?))?,
        "insecure" => {
            let insecure = flag(key, given)?;
            tls.change(move |tls| tls.insecure(insecure));
        }
        "server_name" => {
            let name = text(key, given)?;
            tls.change(|tls| tls.server_name(name));
        }
        "sni" => {
            if !flag(key, given)? {
                tls.change(TlsOptions::disable_sni);
            }
        }
        "verify_hostname" => {
            let verify = flag(key, given)?;
            tls.change(move |tls| tls.verify_hostname(verify));
        }
        "system_roots" => {
            let trust = flag(key, given)?;
            tls.change(move |tls| tls.system_roots(trust));
        }
        "pinned" => {
            let pinned = flag(key, given)?;
            tls.change(move |tls| tls.pinned(pinned));
        }
        _ => {
            return Err(unexpected("connect", key));
        }
    }
    if key != "tls" || tls.wanted == Some(true) {
        tls.given.get_or_insert_with(|| key.to_owned());
    }
    Ok(())
}
