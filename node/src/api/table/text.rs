//! Values as people read them.

use jiff::Timestamp;
use serde_json::Value;

/// A span of time in the two largest units that matter, as `kubectl` writes it: `45s`, `5m30s`, `3h`, `2d4h`, `90d`, `2y`.
pub fn span(seconds: i64) -> String {
    let s = seconds;
    let (m, h, d) = (s / 60, s / 3600, s / 86_400);
    let two = |large: i64, large_unit: &str, small: i64, small_unit: &str| match small {
        0 => format!("{large}{large_unit}"),
        small => format!("{large}{large_unit}{small}{small_unit}"),
    };
    match s {
        ..-1 => "<invalid>".into(),
        -1..=0 => "0s".into(),
        1..120 => format!("{s}s"),
        120..600 => two(m, "m", s % 60, "s"),
        600..10_800 => format!("{m}m"),
        10_800..28_800 => two(h, "h", m % 60, "m"),
        28_800..172_800 => format!("{h}h"),
        172_800..691_200 => two(d, "d", h % 24, "h"),
        691_200..63_072_000 => format!("{d}d"),
        63_072_000..252_288_000 => two(d / 365, "y", d % 365, "d"),
        _ => format!("{}y", d / 365),
    }
}

/// How long ago a time was; `<unknown>` when there is none.
pub fn since(time: &Value, now: Timestamp) -> String {
    match time.as_str().and_then(|text| text.parse::<Timestamp>().ok()) {
        Some(time) => span(now.duration_since(time).as_secs()),
        None => "<unknown>".into(),
    }
}

/// How long ago an object was created.
pub fn age(object: &Value, now: Timestamp) -> Value {
    since(&object["metadata"]["creationTimestamp"], now).into()
}

/// `a=b,c=d`, or `<none>`.
pub fn labels(map: &Value) -> Value {
    let mut pairs: Vec<String> = map
        .as_object()
        .into_iter()
        .flatten()
        .map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default()))
        .collect();
    pairs.sort();
    joined(&pairs)
}

/// Texts with commas between them, or `<none>`.
pub fn joined(texts: &[String]) -> Value {
    if texts.is_empty() { "<none>".into() } else { texts.join(",").into() }
}

/// A text, or `<none>` when it is missing or empty.
pub fn or_none(value: &Value) -> Value {
    match value.as_str() {
        Some(text) if !text.is_empty() => text.into(),
        _ => "<none>".into(),
    }
}

/// A field of each container in a pod's spec.
pub fn containers(spec: &Value, field: &str) -> Value {
    let containers = spec["containers"].as_array().into_iter().flatten();
    let texts: Vec<String> = containers.filter_map(|c| c[field].as_str()).map(str::to_owned).collect();
    texts.join(",").into()
}

/// A selector object in the text form.
pub fn selector(selector: &Value) -> Value {
    let parsed = crate::objects::LabelSelector::from_object(selector).map(|s| s.to_string()).unwrap_or_default();
    if parsed.is_empty() { "<none>".into() } else { parsed.into() }
}

pub fn integer(value: &Value) -> Value {
    value.as_i64().unwrap_or_default().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans() {
        for (seconds, text) in [
            (-5, "<invalid>"),
            (0, "0s"),
            (119, "119s"),
            (120, "2m"),
            (330, "5m30s"),
            (3600, "60m"),
            (3 * 3600, "3h"),
            (5 * 3600 + 60, "5h1m"),
            (30 * 3600, "30h"),
            (50 * 3600, "2d2h"),
            (30 * 86_400, "30d"),
            (800 * 86_400, "2y70d"),
        ] {
            assert_eq!(span(seconds), text);
        }
    }
}
