//! How answers look in a terminal.

use std::io::IsTerminal;

use comfy_table::{ContentArrangement, Table, presets};
use records::Timestamp;
use serde::Serialize;

use crate::fault::{Class, Fault, Result};

/// A table with a heading, in plain columns.
pub fn table<const N: usize>(heading: [&str; N], rows: impl IntoIterator<Item = [String; N]>) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled).set_header(heading);
    for row in rows {
        table.add_row(row);
    }
    table.lines().map(|line| line.trim().to_owned() + "\n").collect()
}

/// Pretty JSON on standard output.
pub fn json(value: &impl Serialize) -> Result<()> {
    let text = serde_json::to_string_pretty(value).map_err(|e| Fault::from_error(Class::Internal, &e))?;
    println!("{text}");
    Ok(())
}

/// How long ago, in the largest unit that fits: `3m`.
pub fn ago(then: Timestamp, now: Timestamp) -> String {
    duration(now.duration_since(then).as_secs().max(0))
}

/// Seconds for people: `42s`, `3m`, `5h`, `2d`.
pub fn duration(seconds: i64) -> String {
    match seconds {
        ..60 => format!("{seconds}s"),
        60..3600 => format!("{}m", seconds / 60),
        3600..86_400 => format!("{}h", seconds / 3600),
        _ => format!("{}d", seconds / 86_400),
    }
}

/// How long something took, for people: `0.21s`, `12.4s`, `3m 05s`.
pub fn exact(since: Timestamp, at: Timestamp) -> String {
    let took = at.duration_since(since).as_secs_f64().max(0.0);
    match took {
        ..10.0 => format!("{took:.2}s"),
        ..60.0 => format!("{took:.1}s"),
        ..3600.0 => format!("{}m {:02}s", took as u64 / 60, took as u64 % 60),
        _ => format!("{}h {:02}m", took as u64 / 3600, took as u64 % 3600 / 60),
    }
}

/// Colours a word by what it means, on a terminal only.
pub fn state(word: &str) -> String {
    let code = match word {
        "passed" | "complete" | "admitted" => 32,
        "failed" | "refused" | "cancelled" => 31,
        "running" | "progressing" | "queued" | "pending" => 33,
        _ => return word.to_owned(),
    };
    if std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none() {
        format!("\u{1b}[{code}m{word}\u{1b}[0m")
    } else {
        word.to_owned()
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn what_took_short_is_told_exactly() {
        let told = |ms: i64| {
            let at = records::Timestamp::from_millisecond(ms).unwrap();
            super::exact(records::Timestamp::UNIX_EPOCH, at)
        };
        assert_eq!([210, 12_400, 185_000, 7_260_000].map(told), ["0.21s", "12.4s", "3m 05s", "2h 01m"]);
    }

    #[test]
    fn durations_are_in_the_largest_unit_that_fits() {
        let all = [0, 59, 60, 3599, 3600, 86_400].map(super::duration);
        assert_eq!(all, ["0s", "59s", "1m", "59m", "1h", "1d"]);
    }
}
