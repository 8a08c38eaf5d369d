//! `HEALTHCHECK` to Docker's configuration of it.

use crate::{
    Result,
    config::HealthConfig,
    diagnostic::Source,
    dockerfile::{Command, Flag},
};

pub fn none() -> HealthConfig {
    HealthConfig { test: vec!["NONE".into()], ..HealthConfig::default() }
}

pub fn check(source: &Source, flags: &[Flag], command: &Command) -> Result<HealthConfig> {
    let test = match command {
        Command::Exec(words) => std::iter::once("CMD".to_owned()).chain(words.iter().cloned()).collect(),
        // It means the image's own shell, which its configuration names.
        Command::Shell(text) => vec!["CMD-SHELL".into(), text.value.clone()],
    };
    let mut config = HealthConfig { test, ..HealthConfig::default() };
    for flag in flags {
        let value = flag.value.as_ref().map(|value| value.value.as_str()).unwrap_or_default();
        let wrong = |reason: &str, hint: &str| source.diagnostic(flag.span(), reason).hint(hint);
        if *flag.name == "retries" {
            let retries = value.parse::<u32>();
            config.retries =
                i64::from(retries.map_err(|_| wrong("--retries takes a number", "for example --retries=3"))?);
            continue;
        }
        let hint = "write a number with its unit: 500ms, 30s, 1m30s";
        let nanoseconds = duration(value).ok_or_else(|| wrong(&format!("`{value}` is no duration"), hint))?;
        if nanoseconds != 0 && nanoseconds < 1_000_000 {
            return Err(wrong("is shorter than a millisecond", hint).into());
        }
        match flag.name.as_str() {
            "interval" => config.interval = nanoseconds,
            "timeout" => config.timeout = nanoseconds,
            "start-period" => config.start_period = nanoseconds,
            _ => config.start_interval = nanoseconds,
        }
    }
    Ok(config)
}

/// Go's durations, not negative, in nanoseconds.
pub fn duration(text: &str) -> Option<i64> {
    if text == "0" {
        return Some(0);
    }
    let mut rest = text;
    let mut total = 0f64;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').filter(|at| *at > 0)?;
        let number: f64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let end = rest.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(rest.len());
        total += number
            * match &rest[..end] {
                "ns" => 1.0,
                "us" | "µs" => 1e3,
                "ms" => 1e6,
                "s" => 1e9,
                "m" => 60e9,
                "h" => 3600e9,
                _ => return None,
            };
        rest = &rest[end..];
    }
    (!text.is_empty() && total < 9e18).then_some(total.round() as i64)
}

#[cfg(test)]
mod tests {
    #[test]
    fn reads_go_durations() {
        for (text, expected) in [
            ("30s", Some(30_000_000_000)),
            ("1m30s", Some(90_000_000_000)),
            ("1.5s", Some(1_500_000_000)),
            ("500ms", Some(500_000_000)),
            ("0", Some(0)),
            ("30", None),
            ("", None),
            ("-1s", None),
            ("s", None),
            ("1d", None),
            ("9999999999h", None),
        ] {
            assert_eq!(super::duration(text), expected, "{text}");
        }
    }
}
