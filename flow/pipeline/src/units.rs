//! Durations and sizes as people write them.

use std::time::Duration;

/// `20s`, `5m`, `1h30m`, `500ms`.
pub(crate) fn duration(text: &str) -> Option<Duration> {
    let mut rest = text.trim();
    let mut total = Duration::ZERO;
    let mut last = u64::MAX;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let number: u64 = rest[..digits].parse().ok()?;
        let unit = &rest[digits..];
        let end = unit.find(|c: char| c.is_ascii_digit()).unwrap_or(unit.len());
        let millis = match unit[..end].trim() {
            "ms" => 1,
            "s" => 1000,
            "m" | "min" => 60_000,
            "h" => 3_600_000,
            _ => return None,
        };
        // Larger units first: `5s1h` is a slip.
        if millis >= last {
            return None;
        }
        last = millis;
        total = total.checked_add(Duration::from_millis(number.checked_mul(millis)?))?;
        rest = &unit[end..];
    }
    Some(total)
}

/// `512Mi`, `2Gi`, `100M`, `1048576`: bytes, with the suffixes of Kubernetes.
pub(crate) fn size(text: &str) -> Option<u64> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let number: u64 = text[..digits].parse().ok()?;
    let factor: u64 = match text[digits..].trim() {
        "" | "B" => 1,
        "k" | "K" | "kB" | "KB" => 1000,
        "M" | "MB" => 1_000_000,
        "G" | "GB" => 1_000_000_000,
        "Ki" | "KiB" => 1 << 10,
        "Mi" | "MiB" => 1 << 20,
        "Gi" | "GiB" => 1 << 30,
        _ => return None,
    };
    number.checked_mul(factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        let ms = |n| Some(Duration::from_millis(n));
        for (text, expected) in [
            ("20s", ms(20_000)),
            ("5m", ms(300_000)),
            ("1h30m", ms(5_400_000)),
            ("500ms", ms(500)),
            ("5", None),
            ("", None),
            ("s", None),
            ("5 parsecs", None),
            ("5s1h", None),
            ("-5s", None),
            ("99999999999999999999s", None),
        ] {
            assert_eq!(duration(text), expected, "{text}");
        }
    }

    #[test]
    fn sizes() {
        for (text, expected) in [
            ("512Mi", Some(512 << 20)),
            ("2 GiB", Some(2 << 30)),
            ("1k", Some(1000)),
            ("7", Some(7)),
            ("Mi", None),
            ("1.5Gi", None),
            ("99999999999Gi", None),
        ] {
            assert_eq!(size(text), expected, "{text}");
        }
    }
}
