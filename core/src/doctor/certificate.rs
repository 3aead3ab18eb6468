//! What a certificate says.

use std::{
    fmt,
    net::{Ipv4Addr, Ipv6Addr},
};

use serde::Serialize;
use x509_parser::{
    extensions::GeneralName,
    prelude::{FromDer, X509Certificate},
    public_key::PublicKey,
    time::ASN1Time,
    x509::SubjectPublicKeyInfo,
};

#[derive(Clone, Debug, Serialize)]
pub(super) struct Certificate {
    subject: String,
    issuer: String,
    /// The names and addresses that it is for (subjectAltName).
    names: Vec<String>,
    /// Dates, UTC.
    not_before: String,
    not_after: String,
    /// Negative when it has expired.
    pub days_left: i64,
    key: String,
    authority: bool,
    self_signed: bool,
}

/// Reads a certificate in DER; `None` if it is none.
pub(super) fn read(der: &[u8]) -> Option<Certificate> {
    let (_, parsed) = X509Certificate::from_der(der).ok()?;
    let validity = parsed.validity();
    let left = validity.not_after.timestamp() - ASN1Time::now().timestamp();
    let names = parsed.subject_alternative_name().ok().flatten();
    let names = names.map(|extension| extension.value.general_names.iter().filter_map(name).collect());
    Some(Certificate {
        subject: parsed.subject().to_string(),
        issuer: parsed.issuer().to_string(),
        names: names.unwrap_or_default(),
        not_before: date(&validity.not_before),
        not_after: date(&validity.not_after),
        days_left: left.div_euclid(86400),
        key: key(parsed.public_key()),
        authority: parsed.is_ca(),
        self_signed: parsed.subject() == parsed.issuer(),
    })
}

fn date(time: &ASN1Time) -> String {
    time.to_datetime().date().to_string()
}

fn name(name: &GeneralName<'_>) -> Option<String> {
    match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        GeneralName::IPAddress(octets) => match octets.len() {
            4 => <[u8; 4]>::try_from(*octets).ok().map(|octets| Ipv4Addr::from(octets).to_string()),
            16 => <[u8; 16]>::try_from(*octets).ok().map(|octets| Ipv6Addr::from(octets).to_string()),
            _ => None,
        },
        GeneralName::URI(uri) => Some((*uri).to_owned()),
        _ => None,
    }
}

fn key(info: &SubjectPublicKeyInfo<'_>) -> String {
    let algorithm = info.algorithm.algorithm.to_id_string();
    match (algorithm.as_str(), info.parsed()) {
        ("1.3.101.112", _) => "Ed25519".to_owned(),
        ("1.3.101.113", _) => "Ed448".to_owned(),
        (_, Ok(PublicKey::RSA(rsa))) => format!("RSA {}", rsa.key_size()),
        (_, Ok(PublicKey::EC(point))) => format!("P-{}", point.key_size()),
        _ => format!("algorithm {algorithm}"),
    }
}

impl fmt::Display for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let or_none = |text: &str| if text.is_empty() { "(no name)".to_owned() } else { text.to_owned() };
        write!(f, "{}", or_none(&self.subject))?;
        match (self.names.as_slice(), self.authority) {
            ([], true) => {}
            ([], false) => write!(f, ", without subjectAltName")?,
            (names, _) => write!(f, " for {}", names.join(", "))?,
        }
        if self.authority {
            write!(f, ", a CA")?;
        }
        if self.self_signed {
            write!(f, ", self-signed")?;
        } else {
            write!(f, ", issued by {}", or_none(&self.issuer))?;
        }
        write!(f, ", {}, {} to {}, ", self.key, self.not_before, self.not_after)?;
        match self.days_left {
            left if left < 0 => write!(f, "EXPIRED {} days ago", -left),
            left => write!(f, "{left} days left"),
        }
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair, date_time_ymd};

    use super::read;

    #[test]
    fn a_certificate_says_who_it_is_for_and_until_when() {
        let mut params = CertificateParams::new(["rabbit-1.test".into(), "10.0.0.1".into()]).unwrap();
        params.not_before = date_time_ymd(2020, 1, 2);
        params.not_after = date_time_ymd(2021, 3, 4);
        let certificate = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        let found = read(certificate.der()).unwrap();
        assert_eq!(found.names, ["rabbit-1.test", "10.0.0.1"]);
        assert_eq!((found.not_before.as_str(), found.not_after.as_str()), ("2020-01-02", "2021-03-04"));
        assert!(found.days_left < 0 && found.self_signed && !found.authority, "{found:?}");
        assert_eq!(found.key, "P-256");
        assert!(found.to_string().contains("EXPIRED"), "{found}");
        assert!(read(b"nothing").is_none());
    }
}
