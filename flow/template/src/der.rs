//! DER, as far as keys and certificates need it.

/// A tagged value.
pub fn tlv(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut out = vec![tag];
    let length = content.len();
    if length < 128 {
        out.push(length as u8);
    } else {
        let bytes = length.to_be_bytes();
        let skip = bytes.iter().take_while(|b| **b == 0).count();
        out.push(0x80 | (bytes.len() - skip) as u8);
        out.extend_from_slice(&bytes[skip..]);
    }
    out.extend_from_slice(content);
    out
}

pub fn seq(parts: &[Vec<u8>]) -> Vec<u8> {
    tlv(0x30, &parts.concat())
}

/// A whole number that is not negative, big-endian.
pub fn uint(bytes: &[u8]) -> Vec<u8> {
    let skip = bytes.iter().take_while(|b| **b == 0).count();
    let mut content = bytes[skip..].to_vec();
    if content.first().is_none_or(|b| *b >= 0x80) {
        content.insert(0, 0);
    }
    tlv(2, &content)
}

pub fn oid(parts: &[u64]) -> Vec<u8> {
    let mut content = vec![(parts[0] * 40 + parts[1]) as u8];
    for part in &parts[2..] {
        let mut digits = vec![(part & 0x7f) as u8];
        let mut rest = part >> 7;
        while rest > 0 {
            digits.push((rest & 0x7f) as u8 | 0x80);
            rest >>= 7;
        }
        content.extend(digits.iter().rev());
    }
    tlv(6, &content)
}

/// A bit string of whole bytes.
pub fn bits(bytes: &[u8]) -> Vec<u8> {
    tlv(3, &[&[0], bytes].concat())
}

/// Tag, content, the whole of it, what follows.
type Parts<'b> = (u8, &'b [u8], &'b [u8], &'b [u8]);

/// Tag, content, the whole of it.
pub type Item<'b> = (u8, &'b [u8], &'b [u8]);

/// One value off the front: its tag, its content, the whole of it, the rest.
pub fn read(bytes: &[u8]) -> Option<Parts<'_>> {
    let (tag, first) = (*bytes.first()?, *bytes.get(1)?);
    let (length, head) = if first < 0x80 {
        (usize::from(first), 2)
    } else {
        let count = usize::from(first & 0x7f);
        if count == 0 || count > 4 {
            return None;
        }
        let length = bytes.get(2..2 + count)?.iter().fold(0usize, |n, b| n << 8 | usize::from(*b));
        (length, 2 + count)
    };
    let end = head.checked_add(length)?;
    Some((tag, bytes.get(head..end)?, bytes.get(..end)?, bytes.get(end..)?))
}

/// The values in a row.
pub fn all(mut bytes: &[u8]) -> Option<Vec<Item<'_>>> {
    let mut out = Vec::new();
    while !bytes.is_empty() {
        let (tag, content, whole, rest) = read(bytes)?;
        out.push((tag, content, whole));
        bytes = rest;
    }
    Some(out)
}
