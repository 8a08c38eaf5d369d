//! Go's layouts of dates: `2006-01-02T15:04:05Z07:00`.

use jiff::{Zoned, civil, tz::TimeZone};

pub(crate) const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
pub(crate) const DAYS: [&str; 7] = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];

#[derive(Clone, Copy, PartialEq)]
enum Piece {
    LongMonth,
    Month,
    ZeroMonth,
    NumMonth,
    LongDay,
    Day,
    ZeroDate,
    SpaceDate,
    NumDate,
    ZeroYearDay,
    SpaceYearDay,
    Hour,
    ZeroHour12,
    Hour12,
    ZeroMinute,
    Minute,
    ZeroSecond,
    Second,
    Year,
    ShortYear,
    PM,
    Pm,
    Zone,
    /// `Z` for UTC; colons; seconds; just hours.
    Offset {
        z: bool,
        colon: bool,
        seconds: bool,
        short: bool,
    },
    /// So many digits; trailing zeros are left out (`.999`) or not (`.000`); after a comma.
    Fraction {
        digits: usize,
        trim: bool,
        comma: bool,
    },
}

/// The next piece of a layout: the text before it, the piece, the rest.
fn next(layout: &str) -> Option<(&str, Piece, &str)> {
    use Piece::*;
    let bytes = layout.as_bytes();
    const NAMES: &[(&str, Piece)] = &[
        ("January", LongMonth),
        ("Jan", Month),
        ("Monday", LongDay),
        ("Mon", Day),
        ("MST", Zone),
        ("002", ZeroYearDay),
        ("01", ZeroMonth),
        ("02", ZeroDate),
        ("03", ZeroHour12),
        ("04", ZeroMinute),
        ("05", ZeroSecond),
        ("06", ShortYear),
        ("15", Hour),
        ("1", NumMonth),
        ("2006", Year),
        ("2", NumDate),
        ("__2", SpaceYearDay),
        ("_2", SpaceDate),
        ("3", Hour12),
        ("4", Minute),
        ("5", Second),
        ("PM", PM),
        ("pm", Pm),
        ("-070000", Offset { z: false, colon: false, seconds: true, short: false }),
        ("-07:00:00", Offset { z: false, colon: true, seconds: true, short: false }),
        ("-0700", Offset { z: false, colon: false, seconds: false, short: false }),
        ("-07:00", Offset { z: false, colon: true, seconds: false, short: false }),
        ("-07", Offset { z: false, colon: false, seconds: false, short: true }),
        ("Z070000", Offset { z: true, colon: false, seconds: true, short: false }),
        ("Z07:00:00", Offset { z: true, colon: true, seconds: true, short: false }),
        ("Z0700", Offset { z: true, colon: false, seconds: false, short: false }),
        ("Z07:00", Offset { z: true, colon: true, seconds: false, short: false }),
        ("Z07", Offset { z: true, colon: false, seconds: false, short: true }),
    ];
    for at in 0..bytes.len() {
        if !layout.is_char_boundary(at) {
            continue;
        }
        let rest = &layout[at..];
        if let Some(after) = rest.strip_prefix("_2006") {
            return Some((&layout[..at + 1], Year, after));
        }
        if let Some((name, piece)) = NAMES.iter().find(|(name, _)| rest.starts_with(name)) {
            let followed = rest.as_bytes().get(3).is_some_and(u8::is_ascii_lowercase);
            if !(matches!(*name, "Jan" | "Mon") && followed) {
                return Some((&layout[..at], *piece, &rest[name.len()..]));
            }
        }
        if let [mark @ (b'.' | b','), digit @ (b'0' | b'9'), ..] = rest.as_bytes() {
            let digits = rest.as_bytes()[1..].iter().take_while(|b| *b == digit).count();
            if !rest.as_bytes().get(1 + digits).is_some_and(u8::is_ascii_digit) {
                let piece = Fraction { digits, trim: *digit == b'9', comma: *mark == b',' };
                return Some((&layout[..at], piece, &rest[1 + digits..]));
            }
        }
    }
    None
}

/// Writes a time.
pub fn format(layout: &str, t: &Zoned) -> String {
    use Piece::*;
    let mut out = String::with_capacity(layout.len() + 10);
    let mut rest = layout;
    let hour12 = match t.hour() % 12 {
        0 => 12,
        h => h,
    };
    while let Some((before, piece, after)) = next(rest) {
        out.push_str(before);
        rest = after;
        let month = MONTHS[(t.month() - 1) as usize];
        let day = DAYS[t.weekday().to_sunday_zero_offset() as usize];
        match piece {
            LongMonth => out.push_str(month),
            Month => out.push_str(&month[..3]),
            ZeroMonth => out.push_str(&format!("{:02}", t.month())),
            NumMonth => out.push_str(&t.month().to_string()),
            LongDay => out.push_str(day),
            Day => out.push_str(&day[..3]),
            ZeroDate => out.push_str(&format!("{:02}", t.day())),
            SpaceDate => out.push_str(&format!("{:2}", t.day())),
            NumDate => out.push_str(&t.day().to_string()),
            ZeroYearDay => out.push_str(&format!("{:03}", t.day_of_year())),
            SpaceYearDay => out.push_str(&format!("{:3}", t.day_of_year())),
            Hour => out.push_str(&format!("{:02}", t.hour())),
            ZeroHour12 => out.push_str(&format!("{hour12:02}")),
            Hour12 => out.push_str(&hour12.to_string()),
            ZeroMinute => out.push_str(&format!("{:02}", t.minute())),
            Minute => out.push_str(&t.minute().to_string()),
            ZeroSecond => out.push_str(&format!("{:02}", t.second())),
            Second => out.push_str(&t.second().to_string()),
            Year => out.push_str(&format!("{:04}", t.year())),
            ShortYear => out.push_str(&format!("{:02}", t.year().rem_euclid(100))),
            PM => out.push_str(if t.hour() < 12 { "AM" } else { "PM" }),
            Pm => out.push_str(if t.hour() < 12 { "am" } else { "pm" }),
            Zone => out.push_str(&zone_name(t)),
            Offset { z: true, .. } if t.offset().seconds() == 0 => out.push('Z'),
            Offset { colon, seconds, short, .. } => {
                let offset = t.offset().seconds();
                let size = offset.unsigned_abs();
                let mark = if colon { ":" } else { "" };
                out.push(if offset < 0 { '-' } else { '+' });
                out.push_str(&format!("{:02}", size / 3600));
                if !short {
                    out.push_str(&format!("{mark}{:02}", size / 60 % 60));
                }
                if seconds {
                    out.push_str(&format!("{mark}{:02}", size % 60));
                }
            }
            Fraction { digits, trim, comma } => {
                let text = format!("{:09}", t.subsec_nanosecond());
                let text = &text[..digits.min(9)];
                let text = if trim { text.trim_end_matches('0') } else { text };
                if !text.is_empty() {
                    out.push(if comma { ',' } else { '.' });
                    out.push_str(text);
                }
            }
        }
    }
    out + rest
}

/// The abbreviation; a zone without a name is `+0200`.
fn zone_name(t: &Zoned) -> String {
    if t.time_zone().iana_name().is_none() && t.time_zone() != &TimeZone::UTC {
        let offset = t.offset().seconds();
        let size = offset.unsigned_abs();
        let sign = if offset < 0 { '-' } else { '+' };
        return format!("{sign}{:02}{:02}", size / 3600, size / 60 % 60);
    }
    t.time_zone().to_offset_info(t.timestamp()).abbreviation().to_owned()
}

/// Reads a time; what the layout does not name is that of the year 0 or 1, as in Go.
pub fn parse(layout: &str, text: &str, zone: &TimeZone) -> Result<Zoned, String> {
    use Piece::*;
    let quote = crate::quote::quote_str;
    let (mut rest, mut value) = (layout, text);
    let fail = |value: &str, piece: &str, message: &str| {
        let what = if message.is_empty() {
            format!("cannot parse {} as {}", quote(value), quote(piece))
        } else {
            message.to_owned()
        };
        if message.is_empty() {
            format!("parsing time {} as {}: {what}", quote(text), quote(layout))
        } else {
            format!("parsing time {}{what}", quote(text))
        }
    };
    let (mut year, mut month, mut day, mut yearday) = (0i64, 0i64, 0i64, 0i64);
    let (mut hour, mut minute, mut second, mut nanos) = (0i64, 0i64, 0i64, 0i64);
    let mut pm = None;
    let mut offset: Option<i32> = None;
    let mut utc = false;
    while let Some((before, piece, after)) = next(rest) {
        let name = &rest[before.len()..rest.len() - after.len()];
        value = skip(value, before).map_err(|v| fail(v, before, ""))?;
        rest = after;
        let bad = || fail(value, name, "");
        let held = value;
        let digits = |least: usize, most: usize| -> Result<i64, String> {
            let value_digits = held.bytes().take(most).take_while(u8::is_ascii_digit).count();
            if value_digits < least {
                return Err(fail(held, name, ""));
            }
            Ok(value_digits as i64)
        };
        let mut take = |least: usize, most: usize| -> Result<i64, String> {
            let count = digits(least, most)? as usize;
            let number = held[..count].parse().map_err(|_| fail(held, name, ""))?;
            value = &held[count..];
            Ok(number)
        };
        let range = |what: &str| format!(": {what} out of range");
        match piece {
            Year => year = take(4, 4)?,
            ShortYear => {
                let n = take(2, 2)?;
                year = if n >= 69 { 1900 + n } else { 2000 + n };
            }
            ZeroMonth => month = take(2, 2)?,
            NumMonth => month = take(1, 2)?,
            LongMonth | Month => {
                let names = MONTHS.iter().map(|m| if piece == LongMonth { m } else { &m[..3] });
                let hit = names.enumerate().find(|(_, n)| {
                    held.len() >= n.len() && held.is_char_boundary(n.len()) && held[..n.len()].eq_ignore_ascii_case(n)
                });
                let (at, n) = hit.ok_or_else(bad)?;
                month = at as i64 + 1;
                value = &held[n.len()..];
            }
            LongDay | Day => {
                let names = DAYS.iter().map(|m| if piece == LongDay { m } else { &m[..3] });
                let mut names = names.filter(|n| {
                    held.len() >= n.len() && held.is_char_boundary(n.len()) && held[..n.len()].eq_ignore_ascii_case(n)
                });
                let n = names.next().ok_or_else(bad)?;
                value = &held[n.len()..];
            }
            ZeroDate => day = take(2, 2)?,
            NumDate => day = take(1, 2)?,
            SpaceDate => {
                let trimmed = held.strip_prefix(' ').unwrap_or(held);
                let count = trimmed.bytes().take(2).take_while(u8::is_ascii_digit).count();
                day = trimmed[..count].parse().map_err(|_| bad())?;
                value = &trimmed[count..];
            }
            ZeroYearDay => yearday = take(3, 3)?,
            SpaceYearDay => {
                let trimmed = held.trim_start_matches(' ');
                let count = trimmed.bytes().take(3).take_while(u8::is_ascii_digit).count();
                yearday = trimmed[..count].parse().map_err(|_| bad())?;
                value = &trimmed[count..];
            }
            Hour => {
                hour = take(2, 2)?;
                if hour > 23 {
                    return Err(fail("", "", &range("hour")));
                }
            }
            ZeroHour12 | Hour12 => {
                hour = if piece == Hour12 { take(1, 2)? } else { take(2, 2)? };
                if hour > 12 {
                    return Err(fail("", "", &range("hour")));
                }
            }
            ZeroMinute | Minute => {
                minute = if piece == Minute { take(1, 2)? } else { take(2, 2)? };
                if minute > 59 {
                    return Err(fail("", "", &range("minute")));
                }
            }
            ZeroSecond | Second => {
                second = if piece == Second { take(1, 2)? } else { take(2, 2)? };
                if second > 59 {
                    return Err(fail("", "", &range("second")));
                }
                // A fraction may follow though the layout has none.
                let fraction = matches!(next(after), Some(("", Fraction { .. }, _)));
                if !fraction && value.starts_with(['.', ',']) && value[1..].starts_with(|c: char| c.is_ascii_digit()) {
                    let count = value[1..].bytes().take_while(u8::is_ascii_digit).count();
                    nanos = fraction_nanos(&value[1..1 + count]);
                    value = &value[1 + count..];
                }
            }
            PM | Pm => {
                let half = held.get(..2).ok_or_else(bad)?;
                pm = match (half, piece) {
                    ("PM", PM) | ("pm", Pm) => Some(true),
                    ("AM", PM) | ("am", Pm) => Some(false),
                    _ => return Err(bad()),
                };
                value = &held[2..];
            }
            Zone => {
                if let Some(after) = held.strip_prefix("UTC") {
                    utc = true;
                    value = after;
                } else {
                    let count = held.bytes().take_while(u8::is_ascii_uppercase).count();
                    if !(3..=5).contains(&count) {
                        return Err(bad());
                    }
                    utc |= &held[..count] == "GMT";
                    // Go makes up a zone of offset 0 for an abbreviation that it does not know here.
                    offset = offset.or(Some(0));
                    value = &held[count..];
                }
            }
            Offset { z: true, .. } if held.starts_with('Z') => {
                utc = true;
                value = &held[1..];
            }
            Offset { colon, seconds, short, .. } => {
                let shape = match (short, seconds, colon) {
                    (true, ..) => "+00",
                    (_, false, false) => "+0000",
                    (_, false, true) => "+00:00",
                    (_, true, false) => "+000000",
                    (_, true, true) => "+00:00:00",
                };
                let given = held.get(..shape.len()).ok_or_else(bad)?;
                let fits = given.bytes().zip(shape.bytes()).all(|(g, s)| match s {
                    b'0' => g.is_ascii_digit(),
                    b'+' => g == b'+' || g == b'-',
                    s => g == s,
                });
                if !fits {
                    return Err(bad());
                }
                let numbers: String = given[1..].replace(':', "");
                let part = |at: usize| numbers.get(at..at + 2).and_then(|n| n.parse::<i32>().ok()).unwrap_or(0);
                let size = part(0) * 3600 + part(2) * 60 + part(4);
                offset = Some(if given.starts_with('-') { -size } else { size });
                value = &held[shape.len()..];
            }
            Fraction { digits, trim, .. } => {
                if held.starts_with(['.', ',']) {
                    let count = held[1..].bytes().take_while(u8::is_ascii_digit).count();
                    if !trim && count != digits {
                        return Err(bad());
                    }
                    nanos = fraction_nanos(&held[1..1 + count]);
                    value = &held[1 + count..];
                } else if !trim {
                    return Err(bad());
                }
            }
        }
    }
    value = skip(value, rest).map_err(|v| fail(v, rest, ""))?;
    if !value.is_empty() {
        return Err(fail("", "", &format!(": extra text: {}", quote(value))));
    }
    match pm {
        Some(true) if hour < 12 => hour += 12,
        Some(false) if hour == 12 => hour = 0,
        _ => {}
    }
    let date = if yearday > 0 {
        civil::Date::new(year as i16, 1, 1).and_then(|d| d.checked_add(jiff::Span::new().days(yearday - 1)))
    } else {
        let month = if month == 0 { 1 } else { month };
        if month > 12 {
            return Err(fail("", "", ": month out of range"));
        }
        civil::Date::new(year as i16, month as i8, day.max(1) as i8)
    };
    let date = date.map_err(|_| fail("", "", ": day out of range"))?;
    let moment = date.at(hour as i8, minute as i8, second as i8, nanos as i32);
    let zone = match offset {
        _ if utc => TimeZone::UTC,
        Some(0) => TimeZone::UTC,
        Some(seconds) => jiff::tz::Offset::from_seconds(seconds).map_err(|e| e.to_string())?.to_time_zone(),
        None => zone.clone(),
    };
    moment.to_zoned(zone).map_err(|e| e.to_string())
}

fn fraction_nanos(digits: &str) -> i64 {
    let digits = &digits[..digits.len().min(9)];
    format!("{digits:0<9}").parse().unwrap_or(0)
}

/// Takes the text between pieces off; one space stands for any number.
fn skip<'v>(mut value: &'v str, prefix: &str) -> Result<&'v str, &'v str> {
    let mut prefix = prefix;
    while let Some(c) = prefix.chars().next() {
        if c == ' ' {
            if !value.is_empty() && !value.starts_with(' ') {
                return Err(value);
            }
            prefix = prefix.trim_start_matches(' ');
            value = value.trim_start_matches(' ');
            continue;
        }
        value = value.strip_prefix(c).ok_or(value)?;
        prefix = &prefix[c.len_utf8()..];
    }
    Ok(value)
}
