//! TLS for the embedded broker: its certificate, and whether clients must have one.

use std::{fmt, path::PathBuf, sync::Arc};

use tokio_rustls::rustls::{
    RootCertStore, ServerConfig, crypto::ring, server::WebPkiClientVerifier, sign::SingleCertAndKey,
};
use zeroize::Zeroizing;

use super::{Pem, certificates, certified, private_key, unfit};
use crate::{Error, Result};

/// The server's side of TLS, 1.2 or 1.3.
#[derive(Clone)]
pub struct ServerTls {
    chain: Pem,
    key: Pem,
    client_ca: Option<Pem>,
}

impl fmt::Debug for ServerTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerTls").finish_non_exhaustive()
    }
}

impl ServerTls {
    /// The server's certificate chain and key (PEM: PKCS#8, PKCS#1 or SEC1), in memory.
    pub fn pem(chain: impl Into<Vec<u8>>, key: impl Into<Vec<u8>>) -> Self {
        let (chain, key) = (Zeroizing::new(chain.into()), Zeroizing::new(key.into()));
        Self { chain: Pem::Bytes(chain), key: Pem::Bytes(key), client_ca: None }
    }

    /// The server's certificate chain and key in files.
    pub fn files(chain: impl Into<PathBuf>, key: impl Into<PathBuf>) -> Self {
        Self { chain: Pem::File(chain.into()), key: Pem::File(key.into()), client_ca: None }
    }

    /// Clients must have a certificate of one of these authorities (PEM).
    pub fn client_ca_pem(mut self, pem: impl Into<Vec<u8>>) -> Self {
        self.client_ca = Some(Pem::Bytes(Zeroizing::new(pem.into())));
        self
    }

    /// The same, from a file.
    pub fn client_ca_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.client_ca = Some(Pem::File(path.into()));
        self
    }

    pub(crate) fn server_config(&self) -> Result<Arc<ServerConfig>> {
        let provider = Arc::new(ring::default_provider());
        let builder = ServerConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .map_err(|error| Error::invalid(format!("TLS cannot be set up: {error}")))?;
        let builder = match &self.client_ca {
            None => builder.with_no_client_auth(),
            Some(ca) => {
                let mut roots = RootCertStore::empty();
                roots.add_parsable_certificates(certificates(&ca.read("client CA file")?, "client CA file")?);
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
                    .build()
                    .map_err(|error| Error::invalid(format!("the client CA cannot be used: {error}")))?;
                builder.with_client_cert_verifier(verifier)
            }
        };
        let chain = certificates(&self.chain.read("server certificate")?, "server certificate")?;
        let key = private_key(&self.key.read("server key")?, None, "server key")?;
        let shown = certified(chain, key).map_err(|error| unfit("server", error))?;
        Ok(Arc::new(builder.with_cert_resolver(Arc::new(SingleCertAndKey::from(shown)))))
    }
}
