//! Copies of files in which holes stay holes: a file of ten gigabytes with nothing in it costs nothing.

use std::{
    fs::File,
    io::{self, Seek, SeekFrom, Write},
};

use image::holes::{self, Part};

/// Copies all of `source`, which is at its beginning, into the empty `target`. `data` is told what was read, `hole` how many zeros stand
/// between. Gives the number of bytes.
pub fn copy(
    source: &mut File,
    mut target: &File,
    mut data: impl FnMut(&[u8]),
    mut hole: impl FnMut(u64),
) -> io::Result<u64> {
    let mut buffer = vec![0; 128 << 10];
    let mut ends_in_hole = false;
    let length = holes::read(source, &mut buffer, |part| {
        ends_in_hole = matches!(part, Part::Hole(_));
        match part {
            Part::Data(bytes) => {
                data(bytes);
                target.write_all(bytes)
            }
            Part::Hole(zeros) => {
                hole(zeros);
                let zeros = i64::try_from(zeros).map_err(io::Error::other)?;
                target.seek(SeekFrom::Current(zeros)).map(drop)
            }
        }
    })?;
    if ends_in_hole {
        target.set_len(length)?;
    }
    Ok(length)
}
