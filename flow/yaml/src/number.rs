//! Numbers as Go reads and prints them.

/// `strconv.FormatFloat(f, 'g', -1, 64)`, as go-yaml and `fmt.Sprint` print a float: with an exponent below 1e-4 and from 1e6
/// on (`1e+06`, `1.2345675e+06`, `123456.5`, `1e-05`); `.inf`, `-.inf` and `.nan` as YAML has them.
pub fn go_float(f: f64) -> String {
    if f.is_nan() {
        return ".nan".to_owned();
    }
    if f.is_infinite() {
        return if f > 0.0 { ".inf" } else { "-.inf" }.to_owned();
    }
    shortest(f, |exponent| !(-4..6).contains(&exponent), true)
}

/// As Go's `encoding/json` prints a float: exponents below -6 and from 21 on.
pub(crate) fn json_float(f: f64) -> String {
    let size = f.abs();
    let exponent = size != 0.0 && !(1e-6..1e21).contains(&size);
    shortest(f, |_| exponent, false)
}

/// The shortest digits that read back as `f`, with an exponent where `scientific(exponent)` says so.
fn shortest(f: f64, scientific: impl Fn(i32) -> bool, two: bool) -> String {
    let text = format!("{f:e}");
    // Rust prints `1.5e-7`; the digits are the shortest too.
    let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if scientific(exponent) {
        let sign = if exponent < 0 { '-' } else { '+' };
        let size = exponent.abs();
        return if two { format!("{mantissa}e{sign}{size:02}") } else { format!("{mantissa}e{sign}{size}") };
    }
    format!("{f}")
}

/// `strconv.ParseInt(text, 0, 64)` and `ParseUint` after it: base by prefix, no underscores. Signed, then unsigned.
pub(crate) fn go_int(text: &str) -> Option<Result<i64, u64>> {
    let (negative, digits) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    let (base, digits) = match digits.as_bytes() {
        [b'0', b'x' | b'X', ..] => (16, &digits[2..]),
        [b'0', b'o' | b'O', ..] => (8, &digits[2..]),
        [b'0', b'b' | b'B', ..] => (2, &digits[2..]),
        [b'0', _, ..] => (8, &digits[1..]),
        _ => (10, digits),
    };
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_alphanumeric()) {
        return None;
    }
    let size = u64::from_str_radix(digits, base).ok()?;
    if negative {
        return match i64::try_from(size) {
            Ok(n) => Some(Ok(-n)),
            Err(_) if size == 1 << 63 => Some(Ok(i64::MIN)),
            Err(_) => None,
        };
    }
    match i64::try_from(size) {
        Ok(n) => Some(Ok(n)),
        // ParseUint takes no sign.
        Err(_) if text.starts_with('+') => None,
        Err(_) => Some(Err(size)),
    }
}

/// `[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?`
fn float_shape(text: &str) -> bool {
    let bytes = text.as_bytes();
    let digits = |from: usize| bytes[from..].iter().take_while(|b| b.is_ascii_digit()).count();
    let mut at = usize::from(matches!(bytes.first(), Some(b'-' | b'+')));
    let whole = digits(at);
    at += whole;
    if bytes.get(at) == Some(&b'.') {
        let fraction = digits(at + 1);
        if whole == 0 && fraction == 0 {
            return false;
        }
        at += 1 + fraction;
    } else if whole == 0 {
        return false;
    }
    if matches!(bytes.get(at), Some(b'e' | b'E')) {
        at += 1;
        at += usize::from(matches!(bytes.get(at), Some(b'-' | b'+')));
        let exponent = digits(at);
        if exponent == 0 {
            return false;
        }
        at += exponent;
    }
    at == bytes.len()
}

/// A decimal float; nothing when it is none or too large, as with `strconv.ParseFloat`.
pub(crate) fn decimal(text: &str) -> Option<f64> {
    if !float_shape(text) {
        return None;
    }
    text.parse::<f64>().ok().filter(|f| f.is_finite())
}

/// A float in single precision, as `strconv.FormatFloat(f, 'g', -1, 32)` prints it.
pub(crate) fn go_float32(f: f64) -> String {
    let short = format!("{:e}", f as f32);
    go_float(short.parse::<f64>().unwrap_or(f))
}
