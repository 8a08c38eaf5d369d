//! Base64, base32 and hexadecimal as Go writes and reads them.

pub fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    bytes.iter().flat_map(|b| [DIGITS[usize::from(b >> 4)] as char, DIGITS[usize::from(b & 15)] as char]).collect()
}

const ALPHABET64: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
const ALPHABET32: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";

/// Standard base64 with padding.
pub fn base64(bytes: &[u8]) -> String {
    encode(bytes, ALPHABET64, 6, 4)
}

/// Standard base32 with padding.
pub fn base32(bytes: &[u8]) -> String {
    encode(bytes, ALPHABET32, 5, 8)
}

fn encode(bytes: &[u8], alphabet: &[u8], bits: u32, block: usize) -> String {
    let mut out = String::with_capacity(bytes.len() * 8 / 5 + block);
    let (mut buffer, mut held) = (0u32, 0u32);
    for byte in bytes {
        buffer = buffer << 8 | u32::from(*byte);
        held += 8;
        while held >= bits {
            held -= bits;
            out.push(alphabet[(buffer >> held) as usize & ((1 << bits) - 1)] as char);
        }
        buffer &= (1 << held) - 1;
    }
    if held > 0 {
        out.push(alphabet[(buffer << (bits - held)) as usize & ((1 << bits) - 1)] as char);
    }
    while !out.len().is_multiple_of(block) {
        out.push('=');
    }
    out
}

/// Reads base64; line ends are skipped, as Go does. The error is Go's text.
pub fn from_base64(text: &[u8]) -> Result<Vec<u8>, String> {
    let wrong = |at: usize| format!("illegal base64 data at input byte {at}");
    let mut out = Vec::with_capacity(text.len() * 3 / 4);
    let mut at = 0;
    // One quantum of four characters at a time.
    while at < text.len() {
        let mut group = [0u8; 4];
        let mut filled = 0;
        let mut padding = 0;
        while filled < 4 {
            let Some(&c) = text.get(at) else {
                if filled == 0 {
                    return Ok(out);
                }
                return Err(wrong(at - filled));
            };
            at += 1;
            if c == b'\n' || c == b'\r' {
                continue;
            }
            if let Some(value) = ALPHABET64.iter().position(|a| *a == c) {
                group[filled] = value as u8;
                filled += 1;
                continue;
            }
            if c != b'=' || filled < 2 {
                return Err(wrong(at - 1));
            }
            if filled == 2 {
                while matches!(text.get(at), Some(b'\n' | b'\r')) {
                    at += 1;
                }
                match text.get(at) {
                    None => return Err(wrong(text.len())),
                    Some(b'=') => at += 1,
                    Some(_) => return Err(wrong(at - 1)),
                }
            }
            padding = 4 - filled;
            while matches!(text.get(at), Some(b'\n' | b'\r')) {
                at += 1;
            }
            if at < text.len() {
                return Err(wrong(at));
            }
            break;
        }
        let n = u32::from(group[0]) << 18 | u32::from(group[1]) << 12 | u32::from(group[2]) << 6 | u32::from(group[3]);
        out.extend_from_slice(&n.to_be_bytes()[1..4 - padding]);
    }
    Ok(out)
}

/// Reads base32; line ends are skipped. The error is Go's text.
pub fn from_base32(text: &[u8]) -> Result<Vec<u8>, String> {
    let clean: Vec<u8> = text.iter().copied().filter(|b| *b != b'\n' && *b != b'\r').collect();
    let wrong = |at: usize| format!("illegal base32 data at input byte {at}");
    let mut out = Vec::with_capacity(clean.len() * 5 / 8);
    for (index, block) in clean.chunks(8).enumerate() {
        let start = index * 8;
        let digits = block.iter().position(|c| *c == b'=').unwrap_or(block.len());
        let mut n = 0u64;
        for (i, c) in block[..digits].iter().enumerate() {
            let value = ALPHABET32.iter().position(|a| a == c).ok_or_else(|| wrong(start + i))?;
            n = n << 5 | value as u64;
        }
        if block.len() < 8 {
            return Err(wrong(start));
        }
        if let Some(other) = block[digits..].iter().position(|c| *c != b'=') {
            return Err(wrong(start + digits + other - 1));
        }
        let size = match digits {
            8 => 5,
            7 => 4,
            5 => 3,
            4 => 2,
            2 => 1,
            other => return Err(wrong(start + other)),
        };
        if digits < 8 && start + 8 < clean.len() {
            return Err(wrong(start + 8));
        }
        let n = n << (5 * (8 - digits));
        out.extend_from_slice(&n.to_be_bytes()[3..3 + size]);
    }
    Ok(out)
}

/// PEM with lines of 64 characters.
pub fn pem(label: &str, der: &[u8]) -> String {
    let body = base64(der);
    let mut out = format!("-----BEGIN {label}-----\n");
    for line in body.as_bytes().chunks(64) {
        out.push_str(&String::from_utf8_lossy(line));
        out.push('\n');
    }
    out.push_str(&format!("-----END {label}-----\n"));
    out
}

/// The first PEM block of a text: its label and its content.
pub fn from_pem(text: &str) -> Option<(String, Vec<u8>)> {
    let begin = text.find("-----BEGIN ")? + "-----BEGIN ".len();
    let rest = &text[begin..];
    let label = &rest[..rest.find("-----")?];
    let body = &rest[label.len() + 5..];
    let body = &body[..body.find(&format!("-----END {label}-----"))?];
    let clean: Vec<u8> = body.bytes().filter(|b| !b.is_ascii_whitespace()).collect();
    Some((label.to_owned(), from_base64(&clean).ok()?))
}
