//! Paths below `/v2`. Names may have many parts, also such as `blobs`, so a path is read from its end.

use http::Method;
use records::Digest;

use super::{super::ManifestRef, Action};
use crate::{Error, Kind, Result, reference::check_repository};

#[derive(Debug, PartialEq, Eq)]
pub enum Endpoint {
    Base,
    Catalog,
    Tags { repository: String },
    Referrers { repository: String, digest: Digest },
    Manifest { repository: String, reference: ManifestRef },
    Blob { repository: String, digest: Digest },
    Uploads { repository: String },
    Upload { repository: String, id: String },
}

impl Endpoint {
    pub fn repository(&self) -> Option<&str> {
        match self {
            Self::Base | Self::Catalog => None,
            Self::Tags { repository }
            | Self::Referrers { repository, .. }
            | Self::Manifest { repository, .. }
            | Self::Blob { repository, .. }
            | Self::Uploads { repository }
            | Self::Upload { repository, .. } => Some(repository),
        }
    }

    /// The same of another repository.
    pub fn in_repository(self, name: &str) -> Self {
        let repository = name.to_owned();
        match self {
            Self::Base | Self::Catalog => self,
            Self::Tags { .. } => Self::Tags { repository },
            Self::Referrers { digest, .. } => Self::Referrers { repository, digest },
            Self::Manifest { reference, .. } => Self::Manifest { repository, reference },
            Self::Blob { digest, .. } => Self::Blob { repository, digest },
            Self::Uploads { .. } => Self::Uploads { repository },
            Self::Upload { id, .. } => Self::Upload { repository, id },
        }
    }

    pub fn action(&self, method: &Method) -> Action {
        match self {
            Self::Base => Action::Ping,
            Self::Catalog => Action::Catalog,
            Self::Uploads { .. } | Self::Upload { .. } => Action::Push,
            _ if method == Method::DELETE => Action::Delete,
            _ if method == Method::GET || method == Method::HEAD => Action::Pull,
            _ => Action::Push,
        }
    }
}

/// Reads a path, given without `/v2`.
pub fn parse(path: &str) -> Result<Endpoint> {
    let path = decode(path);
    let path = path.strip_prefix('/').unwrap_or(&path);
    match path {
        "" => return Ok(Endpoint::Base),
        "_catalog" => return Ok(Endpoint::Catalog),
        _ => {}
    }
    let unknown = || {
        Error::new(
            Kind::NameUnknown,
            "there is nothing at this path; the OCI distribution specification says which there are",
        )
    };
    if let Some(name) = path.strip_suffix("/blobs/uploads/").or_else(|| path.strip_suffix("/blobs/uploads")) {
        return Ok(Endpoint::Uploads { repository: name_of(name)? });
    }
    let (front, last) = path.rsplit_once('/').ok_or_else(unknown)?;
    if let Some(name) = front.strip_suffix("/tags").filter(|_| last == "list") {
        return Ok(Endpoint::Tags { repository: name_of(name)? });
    }
    if let Some(name) = front.strip_suffix("/blobs/uploads") {
        return Ok(Endpoint::Upload { repository: name_of(name)?, id: last.to_owned() });
    }
    let (name, kind) = front.rsplit_once('/').ok_or_else(unknown)?;
    match kind {
        "manifests" => Ok(Endpoint::Manifest { repository: name_of(name)?, reference: last.parse()? }),
        "blobs" => Ok(Endpoint::Blob { repository: name_of(name)?, digest: digest(last)? }),
        "referrers" => Ok(Endpoint::Referrers { repository: name_of(name)?, digest: digest(last)? }),
        _ => Err(unknown()),
    }
}

pub fn digest(text: &str) -> Result<Digest> {
    text.parse().map_err(|e: records::digest::InvalidDigest| Error::new(Kind::DigestInvalid, e.to_string()).caused(e))
}

fn name_of(text: &str) -> Result<String> {
    check_repository(text)?;
    Ok(text.to_owned())
}

/// Undoes percent-encoding; what is no encoding stays as it is, and what is not UTF-8 cannot be a name or digest anyway.
pub fn decode(text: &str) -> String {
    if !text.contains('%') {
        return text.to_owned();
    }
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let hex = bytes.get(at + 1..at + 3).and_then(|hex| std::str::from_utf8(hex).ok());
        match hex.filter(|_| bytes[at] == b'%').and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) => {
                out.push(byte);
                at += 3;
            }
            None => {
                out.push(bytes[at]);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn name(path: &str) -> String {
        format!("{:?}", parse(path).map_err(|error| error.kind))
    }

    #[test]
    fn reads_paths_from_the_end() {
        let hex = "a".repeat(64);
        assert_eq!(parse("/").unwrap(), Endpoint::Base);
        assert_eq!(parse("").unwrap(), Endpoint::Base);
        assert_eq!(parse("/_catalog").unwrap(), Endpoint::Catalog);
        assert_eq!(parse("/a/b/tags/list").unwrap(), Endpoint::Tags { repository: "a/b".into() });
        for path in ["/a/blobs/uploads/", "/a/blobs/uploads"] {
            assert_eq!(parse(path).unwrap(), Endpoint::Uploads { repository: "a".into() });
        }
        assert_eq!(
            parse("/a/manifests/b/manifests/v1").unwrap(),
            Endpoint::Manifest { repository: "a/manifests/b".into(), reference: ManifestRef::Tag("v1".into()) }
        );
        let digest: Digest = format!("sha256:{hex}").parse().unwrap();
        assert_eq!(
            parse(&format!("/a/blobs/sha256%3A{hex}")).unwrap(),
            Endpoint::Blob { repository: "a".into(), digest: digest.clone() }
        );
        assert_eq!(
            parse(&format!("/a/referrers/{digest}")).unwrap(),
            Endpoint::Referrers { repository: "a".into(), digest }
        );
        assert_eq!(parse("/a/blobs/uploads/x").unwrap(), Endpoint::Upload { repository: "a".into(), id: "x".into() });
    }

    #[test]
    fn refuses_what_is_no_endpoint() {
        assert_eq!(name("/A/tags/list"), "Err(NameInvalid)");
        assert_eq!(name("/../x/tags/list"), "Err(NameInvalid)");
        assert_eq!(name("/a/manifests/.x"), "Err(TagInvalid)");
        assert_eq!(name("/a/manifests/sha256:12"), "Err(DigestInvalid)");
        assert_eq!(name("/a/blobs/latest"), "Err(DigestInvalid)");
        assert_eq!(name("/a/b"), "Err(NameUnknown)");
        assert_eq!(name("/a"), "Err(NameUnknown)");
        assert_eq!(name("/a/other/b"), "Err(NameUnknown)");
    }

    proptest! {
        #[test]
        fn never_panics(path in ".{0,200}") {
            let _ = parse(&path);
        }
    }
}
