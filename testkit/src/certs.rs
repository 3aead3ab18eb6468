//! Certificates made on the spot: an authority, a server certificate, a client certificate.

use std::{
    fs,
    path::{Path, PathBuf},
};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
};

/// PEM files in a folder.
#[derive(Clone, Debug)]
pub struct Certs {
    /// The authority's certificate.
    pub ca: PathBuf,
    /// The server's certificate, for `localhost`, `127.0.0.1` and `::1`.
    pub server: PathBuf,
    /// The server's key.
    pub server_key: PathBuf,
    /// A client certificate of the same authority, for the user `guest`.
    pub client: PathBuf,
    /// The client's key.
    pub client_key: PathBuf,
}

impl Certs {
    /// Makes certificates in `folder`.
    pub fn generate(folder: &Path) -> Result<Self, Box<dyn std::error::Error>> {
        let mut authority = CertificateParams::new(Vec::new())?;
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        authority.distinguished_name.push(DnType::CommonName, "Test authority");
        let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate()?)?;

        let names = ["localhost", "127.0.0.1", "::1"].map(String::from);
        let mut server = CertificateParams::new(names)?;
        server.distinguished_name.push(DnType::CommonName, "localhost");
        server.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let server_key = KeyPair::generate()?;
        let server = server.signed_by(&server_key, &authority)?;

        let mut client = CertificateParams::new(Vec::new())?;
        client.distinguished_name.push(DnType::CommonName, "guest");
        client.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let client_key = KeyPair::generate()?;
        let client = client.signed_by(&client_key, &authority)?;

        let certs = Self {
            ca: folder.join("ca.pem"),
            server: folder.join("server.pem"),
            server_key: folder.join("server.key"),
            client: folder.join("client.pem"),
            client_key: folder.join("client.key"),
        };
        fs::write(&certs.ca, authority.pem())?;
        fs::write(&certs.server, server.pem())?;
        fs::write(&certs.server_key, server_key.serialize_pem())?;
        fs::write(&certs.client, client.pem())?;
        fs::write(&certs.client_key, client_key.serialize_pem())?;
        Ok(certs)
    }
}
