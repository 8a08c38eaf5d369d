//! Packed charts: a gzipped tar, read whole into memory under bounds.

use std::io::Read;

use bytes::Bytes;

use crate::{Error, File, load::Limits};

/// The files of a packed chart, their names relative to the chart's own directory, in the archive's order.
pub fn unpack(archive: &[u8], limits: &Limits) -> Result<Vec<File>, Error> {
    if !archive.starts_with(&[0x1f, 0x8b]) {
        return Err(Error::Archive("gzip: invalid header".to_owned()));
    }
    let too_large =
        || Error::Archive(format!("decompressed chart is larger than the maximum file size {}", limits.chart));
    let mut remaining = limits.chart;
    // Headers cost too: what is unpacked in all may not pass the bound by more than the headers of that many files.
    let unpacked = flate2::read::MultiGzDecoder::new(archive).take(limits.chart.saturating_mul(2));
    let mut reader = tar::Archive::new(unpacked);
    let mut files = Vec::new();
    for entry in reader.entries().map_err(unreadable)? {
        let mut entry = entry.map_err(unreadable)?;
        let kind = entry.header().entry_type();
        let raw = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        if kind.is_dir() || raw.ends_with('/') || kind.is_pax_global_extensions() || kind.is_pax_local_extensions() {
            continue;
        }
        let name = inside(&raw)?;
        let size = entry.size();
        if size > remaining {
            return Err(too_large());
        }
        if size > limits.file {
            return Err(Error::Archive(format!(
                "decompressed chart file {raw:?} is larger than the maximum file size {}",
                limits.file
            )));
        }
        let mut data = Vec::new();
        entry.by_ref().take(remaining).read_to_end(&mut data).map_err(unreadable)?;
        remaining -= data.len() as u64;
        if (data.len() as u64) < size || remaining == 0 {
            return Err(too_large());
        }
        files.push(File { name, data: without_mark(data) });
        if files.len() > limits.files {
            return Err(Error::Archive(format!("the chart has more than {} files", limits.files)));
        }
    }
    if files.is_empty() {
        return Err(Error::Archive("no files in chart archive".to_owned()));
    }
    Ok(files)
}

/// A file's content without the byte order mark.
pub(crate) fn without_mark(data: Vec<u8>) -> Bytes {
    let data = Bytes::from(data);
    if data.starts_with(b"\xef\xbb\xbf") { data.slice(3..) } else { data }
}

/// The name within the chart of an entry, which must lie in the archive's one directory.
fn inside(raw: &str) -> Result<String, Error> {
    let delimiter = if raw.contains('\\') { '\\' } else { '/' };
    let (top, rest) = raw.split_once(delimiter).unwrap_or((raw, ""));
    let rest = rest.replace(delimiter, "/");
    if rest.starts_with('/') {
        return Err(Error::Archive("chart illegally contains absolute paths".to_owned()));
    }
    let clean = template::clean_path(&rest);
    if clean == "." {
        return Err(Error::Archive(format!("chart illegally contains content outside the base directory: {raw:?}")));
    }
    if clean.starts_with("..") {
        return Err(Error::Archive("chart illegally references parent directory".to_owned()));
    }
    let bytes = clean.as_bytes();
    if bytes.len() > 2 && bytes[0].is_ascii_alphabetic() && &bytes[1..3] == b":/" {
        return Err(Error::Archive("chart contains illegally named files".to_owned()));
    }
    if top == "Chart.yaml" {
        return Err(Error::Archive("chart yaml not in base directory".to_owned()));
    }
    Ok(clean)
}

fn unreadable(error: std::io::Error) -> Error {
    let text = match error.kind() {
        std::io::ErrorKind::UnexpectedEof => "unexpected EOF".to_owned(),
        _ => error.to_string(),
    };
    Error::Archive(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        assert_eq!(inside("web/templates/a.yaml").unwrap(), "templates/a.yaml");
        assert_eq!(inside("web\\templates\\a.yaml").unwrap(), "templates/a.yaml");
        assert_eq!(inside("web/./x/../y").unwrap(), "y");
        for bad in ["Chart.yaml", "web", "web/..", "web/../../etc/passwd", "web//etc/passwd", "web/c:/x"] {
            assert!(inside(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn not_an_archive() {
        assert!(unpack(b"hello", &Limits::default()).is_err());
        assert!(unpack(&[0x1f, 0x8b, 8, 0, 0, 0], &Limits::default()).is_err());
    }
}
