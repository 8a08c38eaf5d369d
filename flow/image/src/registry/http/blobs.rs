//! `/v2/<name>/blobs/<digest>`

use axum::{body::Body, response::Response};
use http::{Method, StatusCode, header};
use records::Digest;
use tokio::io::AsyncReadExt;
use tokio_util::io::ReaderStream;

use super::{Call, Server, answer, answer::set, wire};
use crate::{
    Error, Kind, Result,
    registry::{
        blobs::{CHUNK, unknown},
        events,
    },
};

impl Server {
    pub(super) async fn get_blob(&self, repository: &str, digest: &Digest, call: &Call) -> Result<Response> {
        let mut coming = None;
        if call.method != Method::HEAD {
            coming = self.fetch_blob(repository, digest).await?;
            self.admit_blob(repository, digest, call).await?;
        }
        let file = match self.registry.blobs().path(digest).filter(|_| call.method == Method::GET && coming.is_none()) {
            Some(path) if self.registry.holds(repository, digest).await? => wire::open(path, digest).await?,
            _ => None,
        };
        let size = match (&coming, &file) {
            (Some(coming), _) => Some(coming.size()),
            (None, Some(file)) => Some(file.size),
            (None, None) => self.registry.blob_size(repository, digest).await?,
        };
        let size = size.ok_or_else(|| unknown(repository, digest))?;
        if call.method == Method::HEAD {
            self.renew(repository, digest, call).await?;
        }
        let whole = Wanted { first: 0, length: size };
        let range = call.headers.get(header::RANGE).and_then(|value| value.to_str().ok());
        let (status, wanted) = match range.map(|range| Wanted::parse(range, size)) {
            _ if unmodified(call, digest) => (StatusCode::NOT_MODIFIED, whole),
            Some(Range::Part(part)) => (StatusCode::PARTIAL_CONTENT, part),
            Some(Range::Outside) => {
                let error = Error::new(Kind::RangeInvalid, format!("blob {digest} has {size} bytes: no such range"));
                let mut response = answer::failure(&error);
                set(&mut response, header::CONTENT_RANGE, &format!("bytes */{size}"));
                return Ok(response);
            }
            Some(Range::Ignore) | None => (StatusCode::OK, whole),
        };
        let body = if call.method == Method::HEAD || status == StatusCode::NOT_MODIFIED || wanted.length == 0 {
            Body::empty()
        } else {
            match (coming, file) {
                (Some(coming), _) => Body::from_stream(coming.read(wanted.first, wanted.length)),
                (None, Some(file)) => file.body(wanted.first, wanted.length, call.direct),
                (None, None) => {
                    let content = self.registry.blobs().read(digest, wanted.first, Some(wanted.length)).await?;
                    // Never more than was announced, whatever the store gives.
                    Body::from_stream(ReaderStream::with_capacity(content.take(wanted.length), CHUNK))
                }
            }
        };
        let mut response = Response::new(body);
        *response.status_mut() = status;
        set(&mut response, answer::DIGEST, digest.as_str());
        set(&mut response, header::ETAG, &format!("\"{digest}\""));
        set(&mut response, header::ACCEPT_RANGES, "bytes");
        set(&mut response, header::CACHE_CONTROL, "max-age=31536000");
        if status != StatusCode::NOT_MODIFIED {
            set(&mut response, header::CONTENT_TYPE, "application/octet-stream");
            set(&mut response, header::CONTENT_LENGTH, &wanted.length.to_string());
        }
        if status == StatusCode::PARTIAL_CONTENT {
            let last = wanted.first + wanted.length - 1;
            set(&mut response, header::CONTENT_RANGE, &format!("bytes {}-{last}/{size}", wanted.first));
        }
        Ok(response)
    }

    pub(super) async fn delete_blob(&self, repository: &str, digest: &Digest, call: &Call) -> Result<Response> {
        self.check_blob_deletion(repository, digest).await?;
        self.registry.delete_blob(repository, digest).await?;
        self.note(events::Action::Delete, repository, None, Some(digest), None, call).await?;
        Ok(answer::empty(StatusCode::ACCEPTED))
    }
}

/// Whether the client has it already.
pub fn unmodified(call: &Call, digest: &Digest) -> bool {
    let tags = call.headers.get_all(header::IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    tags.flat_map(|value| value.split(',')).any(|tag| {
        let tag = tag.trim();
        let tag = tag.strip_prefix("W/").unwrap_or(tag);
        tag == "*" || tag.trim_matches('"') == digest.as_str()
    })
}

/// A part of a blob; never empty when it is a part.
#[derive(Debug, PartialEq, Eq, Clone, Copy)]
struct Wanted {
    first: u64,
    length: u64,
}

#[derive(Debug, PartialEq, Eq)]
enum Range {
    Part(Wanted),
    /// No byte of the blob lies in it.
    Outside,
    /// Not a single byte range: the whole blob is a right answer (RFC 9110, section 14.2).
    Ignore,
}

impl Wanted {
    fn parse(header: &str, size: u64) -> Range {
        let Some((first, last)) = header.trim().strip_prefix("bytes=").and_then(|range| range.split_once('-')) else {
            return Range::Ignore;
        };
        let (first, last) = (first.trim(), last.trim());
        let number =
            |text: &str| text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse::<u64>().unwrap_or(u64::MAX));
        match (first, last) {
            ("", "") => Range::Ignore,
            ("", suffix) => match number(suffix) {
                Some(0) => Range::Outside,
                Some(_) if size == 0 => Range::Outside,
                Some(length) => {
                    let length = length.min(size);
                    Range::Part(Self { first: size - length, length })
                }
                None => Range::Ignore,
            },
            (first, "") => match number(first) {
                Some(first) if first < size => Range::Part(Self { first, length: size - first }),
                Some(_) => Range::Outside,
                None => Range::Ignore,
            },
            (first, last) => match (number(first), number(last)) {
                // Not a range at all; clients expect to be told rather than to get the whole.
                (Some(first), Some(last)) if first > last => Range::Outside,
                (Some(first), Some(_)) if first >= size => Range::Outside,
                (Some(first), Some(last)) => Range::Part(Self { first, length: last.min(size - 1) - first + 1 }),
                _ => Range::Ignore,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reads_single_ranges() {
        let part = |first, length| Range::Part(Wanted { first, length });
        assert_eq!(Wanted::parse("bytes=0-4", 10), part(0, 5));
        assert_eq!(Wanted::parse("bytes=5-", 10), part(5, 5));
        assert_eq!(Wanted::parse("bytes=-3", 10), part(7, 3));
        assert_eq!(Wanted::parse("bytes=-30", 10), part(0, 10));
        assert_eq!(Wanted::parse("bytes=8-99999999999999999999999", 10), part(8, 2));
        for outside in ["bytes=10-", "bytes=10-12", "bytes=-0", "bytes=4-2"] {
            assert_eq!(Wanted::parse(outside, 10), Range::Outside, "{outside}");
        }
        for ignored in ["lines=1-2", "bytes=0-1,3-4", "bytes=a-b", "bytes=-", "bytes"] {
            assert_eq!(Wanted::parse(ignored, 10), Range::Ignore, "{ignored}");
        }
        assert_eq!(Wanted::parse("bytes=0-0", 0), Range::Outside);
        assert_eq!(Wanted::parse("bytes=-1", 0), Range::Outside);
    }

    proptest! {
        #[test]
        fn a_part_lies_within(header in "bytes=[0-9]{0,21}-[0-9]{0,21}", size in 0u64..100) {
            if let Range::Part(part) = Wanted::parse(&header, size) {
                prop_assert!(part.length > 0 && part.first + part.length <= size);
            }
        }
    }
}
