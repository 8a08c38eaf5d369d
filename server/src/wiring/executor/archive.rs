//! Archives that `ADD` unpacks: tar, plain or compressed with gzip, bzip2, xz or zstd, told by what is in them and not by their names.

use std::{
    fs::File,
    io::{self, BufReader, Read, Seek, SeekFrom},
    path::Path,
};

use image::layer::{ApplyOptions, Whiteouts, apply};

/// The most that one archive may hold.
const MOST_ENTRIES: u64 = 1_000_000;
const MOST_BYTES: u64 = 32 << 30;

/// Where `ustar` stands in the header of a tar.
const MAGIC: std::ops::Range<usize> = 257..262;

enum Packing {
    Plain,
    Bzip2,
    Xz,
}

/// Whether `ADD` unpacks the file.
pub fn is_archive(path: &Path) -> io::Result<bool> {
    let mut file = File::open(path)?;
    let packing = packing(&mut file)?;
    let mut start = [0; 512];
    // What cannot be decompressed is no archive: it is copied as it is.
    let read = match open(file, &packing).and_then(|mut reader| fill(&mut reader, &mut start)) {
        Ok(read) => read,
        Err(_) => return Ok(false),
    };
    Ok(read == start.len() && (&start[MAGIC] == b"ustar" || old(&start)))
}

/// A tar from before POSIX has no magic; its checksum tells.
fn old(header: &[u8; 512]) -> bool {
    let text: Vec<u8> = header[148..156].iter().copied().filter(u8::is_ascii_digit).collect();
    let Some(expected) = std::str::from_utf8(&text).ok().and_then(|text| u32::from_str_radix(text, 8).ok()) else {
        return false;
    };
    let sum: u32 =
        header.iter().enumerate().map(|(at, b)| if (148..156).contains(&at) { 32 } else { u32::from(*b) }).sum();
    header[0] != 0 && sum == expected
}

fn fill(reader: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match reader.read(&mut buffer[filled..])? {
            0 => break,
            read => filled += read,
        }
    }
    Ok(filled)
}

fn packing(file: &mut File) -> io::Result<Packing> {
    let mut magic = [0; 6];
    let read = fill(file, &mut magic)?;
    file.seek(SeekFrom::Start(0))?;
    Ok(match &magic[..read] {
        [b'B', b'Z', b'h', ..] => Packing::Bzip2,
        [0xfd, b'7', b'z', b'X', b'Z', 0] => Packing::Xz,
        _ => Packing::Plain,
    })
}

/// The tar in it; gzip and zstd are told apart further on.
fn open(file: File, packing: &Packing) -> io::Result<Box<dyn Read>> {
    let file = BufReader::with_capacity(256 << 10, file);
    let reader: Box<dyn Read> = match packing {
        Packing::Plain => Box::new(file),
        Packing::Bzip2 => Box::new(bzip2::bufread::MultiBzDecoder::new(file)),
        Packing::Xz => Box::new(liblzma::bufread::XzDecoder::new_multi_decoder(file)),
    };
    Ok(Box::new(image::layer::Reader::new(reader)?))
}

/// Unpacks into a directory that is there, as whoever this is.
pub fn unpack_files(path: &Path, target: &Path) -> Result<(), String> {
    unpack_as(path, target, false)
}

fn unpack_as(path: &Path, target: &Path, owners: bool) -> Result<(), String> {
    let mut file = File::open(path).map_err(|e| e.to_string())?;
    let packing = packing(&mut file).map_err(|e| e.to_string())?;
    let reader = open(file, &packing).map_err(|e| e.to_string())?;
    let options = ApplyOptions {
        whiteouts: Whiteouts::Plain,
        max_entries: MOST_ENTRIES,
        max_bytes: MOST_BYTES,
        owners,
        ..ApplyOptions::default()
    };
    apply(reader, target, &options).map(drop).map_err(|error| crate::wiring::load::unreadable(&error))
}

/// Unpacks into a directory that is there. Everything belongs to `owner` where one is named, else to whom the archive says.
pub fn unpack(path: &Path, target: &Path, owner: Option<(u32, u32)>) -> Result<(), String> {
    let Some((uid, gid)) = owner else { return unpack_as(path, target, true) };
    // Only what the archive brings gets the owner: it is unpacked beside the target first.
    let beside = tempfile::tempdir().map_err(|e| e.to_string())?;
    unpack_as(path, beside.path(), false)?;
    let copy = graph::Copy {
        sources: vec!["/".into()],
        target: "/".into(),
        chown: Some(format!("{uid}:{gid}")),
        ..graph::Copy::default()
    };
    super::copy::copy(&copy, beside.path(), target)
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn archives_are_told_by_their_content_and_unpacked() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        std::fs::create_dir(at("in")).unwrap();
        std::fs::write(at("in/file"), "content").unwrap();
        std::fs::write(at("text.tar"), "this is no archive, whatever it is called").unwrap();
        assert!(!is_archive(&at("text.tar")).unwrap());
        for (flag, name) in [("", "a"), ("z", "b"), ("j", "c"), ("J", "d")] {
            let made =
                Command::new("tar").arg(format!("c{flag}f")).arg(at(name)).arg("-C").arg(at("in")).arg(".").status();
            match made {
                Ok(status) if status.success() => {}
                other => {
                    eprintln!("SKIPPED: tar -c{flag} cannot be run: {other:?}");
                    continue;
                }
            }
            assert!(is_archive(&at(name)).unwrap(), "{name}");
            let out = tempfile::tempdir().unwrap();
            unpack(&at(name), out.path(), None).unwrap();
            assert_eq!(std::fs::read(out.path().join("file")).unwrap(), b"content");
        }
    }

    #[test]
    fn an_archive_that_climbs_out_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("evil.tar");
        let mut header = tar::Header::new_ustar();
        header.set_size(1);
        header.set_mode(0o644);
        header.as_old_mut().name[..9].copy_from_slice(b"../../out");
        header.set_cksum();
        let mut bytes = header.as_bytes().to_vec();
        bytes.push(b'x');
        bytes.resize(2048, 0);
        std::fs::write(&path, bytes).unwrap();
        let into = directory.path().join("a/b");
        std::fs::create_dir_all(&into).unwrap();
        assert!(unpack(&path, &into, None).is_err());
        assert!(!directory.path().join("out").exists());
    }
}
