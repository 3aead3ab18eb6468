//! Versions of interfaces: `major.minor`, with an optional revision.

/// The version of an endpoint, or of a request, that names none.
pub(super) const DEFAULT: &str = "1.0";

/// Whether an implementation of one version answers a request for another: the same major, and at most its minor (and
/// revision). `None` when one of the two is not a version.
pub(super) fn is_compatible(implemented: &str, wanted: &str) -> Option<bool> {
    let implemented = parse(implemented)?;
    let wanted = parse(wanted)?;
    Some(implemented.0 == wanted.0 && (wanted.1, wanted.2) <= (implemented.1, implemented.2))
}

fn parse(version: &str) -> Option<(u32, u32, u32)> {
    let mut parts = version.split('.').map(|part| part.trim().parse::<u32>().ok());
    let major = parts.next()??;
    let minor = parts.next()??;
    let revision = parts.next().unwrap_or(Some(0))?;
    Some((major, minor, revision))
}

#[cfg(test)]
mod tests {
    use super::is_compatible;

    #[test]
    fn the_major_is_equal_and_the_minor_at_most_the_same() {
        for (implemented, wanted, expected) in [
            ("1.0", "1.0", Some(true)),
            ("1.3", "1.2", Some(true)),
            ("1.3", "1.3.1", Some(false)),
            ("1.3.2", "1.3.1", Some(true)),
            ("1.2", "1.3", Some(false)),
            ("2.0", "1.0", Some(false)),
            ("1.10", "1.9", Some(true)),
            ("1", "1.0", None),
            ("1.0", "one", None),
        ] {
            assert_eq!(is_compatible(implemented, wanted), expected, "{implemented} {wanted}");
        }
    }
}
