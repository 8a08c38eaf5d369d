//! Dates: Go's layouts, durations, and the methods of `time.Time`.

use jiff::{SignedDuration, Timestamp, Zoned, civil, tz::TimeZone};

use super::{Fail, Family, Function, Outcome, cast, fixed, string};
use crate::{
    number::{parse_float, parse_int},
    render::Session,
    value::{IntKind, Object, Param, Signature, Value},
};

use Param::{Any, Int, Str};

pub const TABLE: &[Function] = &[
    fixed("now", &[], |s, _| Ok(time(s.options.now.to_zoned(s.options.zone.clone())))),
    fixed("date", &[Str, Any], |s, v| formatted(s, &string(v, 0), &v[1], "Local")),
    fixed("date_in_zone", &[Str, Any, Str], |s, v| formatted(s, &string(v, 0), &v[1], &string(v, 2))),
    fixed("dateInZone", &[Str, Any, Str], |s, v| formatted(s, &string(v, 0), &v[1], &string(v, 2))),
    fixed("htmlDate", &[Any], |s, v| formatted(s, "2006-01-02", &v[0], "Local")),
    fixed("htmlDateInZone", &[Any, Str], |s, v| formatted(s, "2006-01-02", &v[0], &string(v, 1))),
    fixed("date_modify", &[Str, Param::Time], |_, v| Ok(modified(v).unwrap_or_else(|_| v[1].clone()))),
    fixed("dateModify", &[Str, Param::Time], |_, v| Ok(modified(v).unwrap_or_else(|_| v[1].clone()))),
    fixed("must_date_modify", &[Str, Param::Time], |_, v| Ok(modified(v)?)),
    fixed("mustDateModify", &[Str, Param::Time], |_, v| Ok(modified(v)?)),
    fixed("toDate", &[Str, Str], |s, v| {
        let zone = s.options.zone.clone();
        Ok(layout::parse(&string(v, 0), &string(v, 1), &zone).map_or_else(|_| time(zero()), time))
    }),
    fixed("mustToDate", &[Str, Str], |s, v| {
        let zone = s.options.zone.clone();
        Ok(time(layout::parse(&string(v, 0), &string(v, 1), &zone)?))
    }),
    fixed("unixEpoch", &[Param::Time], |_, v| Ok(Value::str(of(&v[0]).timestamp().as_second().to_string()))),
    fixed("ago", &[Any], |s, v| {
        let then = moment(s, &v[0]).timestamp();
        let nanos = s.options.now.as_nanosecond() - then.as_nanosecond();
        let seconds = (nanos + if nanos < 0 { -500_000_000 } else { 500_000_000 }) / 1_000_000_000;
        Ok(Value::str(duration_text(clamp(seconds * 1_000_000_000))))
    }),
    fixed("duration", &[Any], |_, v| {
        let seconds = match &v[0] {
            Value::Str(text) => match parse_int(&text.to_str(), 10) {
                Ok(n) | Err(crate::number::Wrong::Range(n)) => n,
                Err(crate::number::Wrong::Syntax) => 0,
            },
            Value::Int(IntKind::Int64, n) => *n,
            _ => 0,
        };
        Ok(Value::str(duration_text(seconds.wrapping_mul(1_000_000_000))))
    }),
    fixed("durationRound", &[Any], |s, v| {
        let nanos = match &v[0] {
            Value::Str(text) => parse_duration(&text.to_str()).unwrap_or(0),
            Value::Int(IntKind::Int64, n) => *n,
            Value::Object(object) if object.type_name() == "time.Time" => {
                clamp(s.options.now.as_nanosecond() - of(&v[0]).timestamp().as_nanosecond())
            }
            _ => 0,
        };
        let size = nanos.unsigned_abs();
        const SECOND: u64 = 1_000_000_000;
        const HOUR: u64 = 3600 * SECOND;
        let units = [
            (HOUR * 24 * 365, "y"),
            (HOUR * 24 * 30, "mo"),
            (HOUR * 24, "d"),
            (HOUR, "h"),
            (60 * SECOND, "m"),
            (SECOND, "s"),
        ];
        let text =
            units.into_iter().find(|(unit, _)| size > *unit).map(|(unit, name)| format!("{}{name}", size / unit));
        Ok(Value::str(text.unwrap_or_else(|| "0s".to_owned())))
    }),
    fixed("mustToDuration", &[Any], |_, v| Ok(Value::Int(IntKind::Duration, as_duration(&v[0])?))).of(Family::Helm4),
    fixed("durationSeconds", &[Any], |_, v| Ok(Value::Float(nanos(v) / 1e9))).of(Family::Helm4),
    fixed("durationMilliseconds", &[Any], |_, v| Ok(Value::int64(nanos(v) as i64 / 1_000_000))).of(Family::Helm4),
    fixed("durationMicroseconds", &[Any], |_, v| Ok(Value::int64(nanos(v) as i64 / 1_000))).of(Family::Helm4),
    fixed("durationNanoseconds", &[Any], |_, v| Ok(Value::int64(as_duration(&v[0]).unwrap_or(0)))).of(Family::Helm4),
    fixed("durationMinutes", &[Any], |_, v| Ok(Value::Float(nanos(v) / 60e9))).of(Family::Helm4),
    fixed("durationHours", &[Any], |_, v| Ok(Value::Float(nanos(v) / 3600e9))).of(Family::Helm4),
    fixed("durationDays", &[Any], |_, v| Ok(Value::Float(nanos(v) / 3600e9 / 24.0))).of(Family::Helm4),
    fixed("durationWeeks", &[Any], |_, v| Ok(Value::Float(nanos(v) / 3600e9 / 24.0 / 7.0))).of(Family::Helm4),
    fixed("durationRoundTo", &[Any, Any], |_, v| to_multiple(v, true)).of(Family::Helm4),
    fixed("durationTruncateTo", &[Any, Any], |_, v| to_multiple(v, false)).of(Family::Helm4),
];

use super::super::layout;

fn nanos(v: &[Value]) -> f64 {
    as_duration(&v[0]).unwrap_or(0) as f64
}

fn clamp(nanos: i128) -> i64 {
    i64::try_from(nanos).unwrap_or(if nanos < 0 { i64::MIN } else { i64::MAX })
}

fn to_multiple(v: &[Value], round: bool) -> Outcome {
    let duration = |n| Ok(Value::Int(IntKind::Duration, n));
    let (Ok(d), unit) = (as_duration(&v[0]), as_duration(&v[1])) else {
        return duration(0);
    };
    let Some(unit) = unit.ok().filter(|unit| *unit > 0) else {
        return duration(d);
    };
    duration(if round { rounded(d, unit) } else { d - d % unit })
}

/// `time.Duration.Round`: half away from zero.
fn rounded(d: i64, unit: i64) -> i64 {
    if unit <= 0 {
        return d;
    }
    let (d, unit) = (i128::from(d), i128::from(unit));
    let rest = d.abs() % unit;
    let size = if rest * 2 < unit { d.abs() - rest } else { d.abs() + unit - rest };
    clamp(if d < 0 { -size } else { size })
}

fn as_duration(value: &Value) -> Result<i64, String> {
    let overflow = |shown: String| format!("duration seconds overflow: {shown}");
    let seconds = |f: f64| {
        if f.is_nan() || f.is_infinite() {
            return Err(format!("invalid duration seconds: {}", crate::printf::plain(&Value::Float(f))));
        }
        if f.abs() > i64::MAX as f64 / 1e9 {
            return Err(overflow(crate::printf::plain(&Value::Float(f))));
        }
        Ok((f * 1e9) as i64)
    };
    match value {
        Value::Int(IntKind::Duration, n) => Ok(*n),
        Value::Int(_, n) => n.checked_mul(1_000_000_000).ok_or_else(|| overflow(n.to_string())),
        Value::Uint(_, n) => {
            i64::try_from(*n).ok().and_then(|n| n.checked_mul(1_000_000_000)).ok_or_else(|| overflow(n.to_string()))
        }
        Value::Float(f) => seconds(*f),
        Value::Str(text) => {
            let shown = text.to_str();
            let text = shown.trim();
            if text.is_empty() {
                return Err("empty duration".to_owned());
            }
            if let Ok(n) = parse_duration(text) {
                return Ok(n);
            }
            match parse_float(text) {
                Some(f) => seconds(f),
                None => Err(format!("could not parse duration {}", crate::quote::quote_str(&shown))),
            }
        }
        Value::Nil => Err("invalid duration".to_owned()),
        other => Err(format!("unsupported duration type {}", other.type_name())),
    }
}

/// A `time.Time`.
pub struct Time(pub Zoned);

fn time(zoned: Zoned) -> Value {
    Value::object(Time(zoned))
}

/// Go's zero time.
fn zero() -> Zoned {
    civil::date(1, 1, 1).to_zoned(TimeZone::UTC).unwrap_or_default()
}

fn of(value: &Value) -> Zoned {
    match value {
        Value::Object(object) => object.as_any().downcast_ref::<Time>().map_or_else(zero, |time| time.0.clone()),
        _ => zero(),
    }
}

fn zone(s: &Session<'_>, name: &str) -> TimeZone {
    match name {
        "Local" => s.options.zone.clone(),
        "" | "UTC" => TimeZone::UTC,
        name => TimeZone::get(name).unwrap_or(TimeZone::UTC),
    }
}

/// A time, or seconds since 1970; anything else is now.
fn moment(s: &Session<'_>, value: &Value) -> Zoned {
    match value {
        Value::Object(object) if object.type_name() == "time.Time" => of(value),
        Value::Int(IntKind::Int | IntKind::Int64 | IntKind::Int32, n) => {
            Timestamp::from_second(*n).unwrap_or(Timestamp::UNIX_EPOCH).to_zoned(TimeZone::UTC)
        }
        _ => s.options.now.to_zoned(s.options.zone.clone()),
    }
}

fn formatted(s: &mut Session<'_>, layout: &str, value: &Value, zone_name: &str) -> Outcome {
    let zone = zone(s, zone_name);
    Ok(Value::str(layout::format(layout, &moment(s, value).with_time_zone(zone))))
}

fn plus(time: &Zoned, nanos: i64) -> Zoned {
    time.checked_add(SignedDuration::from_nanos(nanos)).unwrap_or_else(|_| time.clone())
}

fn modified(v: &[Value]) -> Result<Value, String> {
    let nanos = parse_duration(&string(v, 0))?;
    Ok(time(plus(&of(&v[1]), nanos)))
}

/// `time.ParseDuration`.
pub fn parse_duration(text: &str) -> Result<i64, String> {
    let quoted = || crate::quote::quote_str(text);
    let invalid = || format!("time: invalid duration {}", quoted());
    let (negative, mut rest) = match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    };
    if rest == "0" {
        return Ok(0);
    }
    if rest.is_empty() {
        return Err(invalid());
    }
    let mut total = 0i128;
    while !rest.is_empty() {
        let digits = |text: &str| text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let whole = digits(rest);
        let mut number = rest[..whole].to_owned();
        rest = &rest[whole..];
        let mut places = 0;
        if let Some(after) = rest.strip_prefix('.') {
            places = digits(after);
            number.push_str(&after[..places]);
            rest = &after[places..];
        }
        if number.is_empty() || number.len() > 30 {
            return Err(invalid());
        }
        let unit = rest.len() - rest.trim_start_matches(|c: char| c != '.' && !c.is_ascii_digit()).len();
        let name = &rest[..unit];
        if name.is_empty() {
            return Err(format!("time: missing unit in duration {}", quoted()));
        }
        let scale: i128 = match name {
            "ns" => 1,
            "us" | "µs" | "μs" => 1_000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" => 60_000_000_000,
            "h" => 3_600_000_000_000,
            other => {
                let other = crate::quote::quote_str(other);
                return Err(format!("time: unknown unit {other} in duration {}", quoted()));
            }
        };
        let number: i128 = number.parse().map_err(|_| invalid())?;
        let value = number.checked_mul(scale).ok_or_else(invalid)? / 10i128.pow(places as u32);
        total += value;
        rest = &rest[unit..];
        if total > 1 << 63 {
            return Err(invalid());
        }
    }
    i64::try_from(if negative { -total } else { total }).map_err(|_| invalid())
}

/// `time.Duration.String`.
pub fn duration_text(nanos: i64) -> String {
    let sign = if nanos < 0 { "-" } else { "" };
    let size = nanos.unsigned_abs();
    let fraction = |value: u64, places: usize| {
        let text = format!("{value:0places$}");
        let text = text.trim_end_matches('0');
        if text.is_empty() { String::new() } else { format!(".{text}") }
    };
    let body = match size {
        0 => "0s".to_owned(),
        n if n < 1_000 => format!("{n}ns"),
        n if n < 1_000_000 => format!("{}{}µs", n / 1_000, fraction(n % 1_000, 3)),
        n if n < 1_000_000_000 => format!("{}{}ms", n / 1_000_000, fraction(n % 1_000_000, 6)),
        n => {
            let (seconds, rest) = (n / 1_000_000_000, fraction(n % 1_000_000_000, 9));
            match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
                (0, 0, s) => format!("{s}{rest}s"),
                (0, m, s) => format!("{m}m{s}{rest}s"),
                (h, m, s) => format!("{h}h{m}m{s}{rest}s"),
            }
        }
    };
    format!("{sign}{body}")
}

/// How the integer types that print as words do.
pub fn named(kind: IntKind, n: i64) -> String {
    let name = |names: &[&str], at: i64| usize::try_from(at).ok().and_then(|at| names.get(at).map(|s| (*s).to_owned()));
    match kind {
        IntKind::Duration => duration_text(n),
        IntKind::Month => name(&layout::MONTHS, n - 1).unwrap_or_else(|| format!("%!Month({n})")),
        IntKind::Weekday => name(&layout::DAYS, n).unwrap_or_else(|| format!("%!Weekday({n})")),
        _ => n.to_string(),
    }
}

/// The methods of the integer types that have some.
pub fn method(value: &Value, name: &str) -> Option<Signature> {
    match (value, name) {
        (Value::Int(IntKind::Duration | IntKind::Month | IntKind::Weekday, _), "String")
        | (
            Value::Int(IntKind::Duration, _),
            "Seconds" | "Minutes" | "Hours" | "Milliseconds" | "Microseconds" | "Nanoseconds" | "Abs",
        ) => Some(Signature::new(&[])),
        (Value::Int(IntKind::Duration, _), "Round" | "Truncate") => Some(Signature::new(&[Any])),
        _ => None,
    }
}

/// Calls one of them.
pub fn call(value: &Value, name: &str, args: &[Value]) -> Outcome {
    let Value::Int(kind, n) = value else {
        return Err(Fail::Message(format!("no method {name}")));
    };
    let unit = args.first().map_or(0, |v| if let Value::Int(_, n) = v { *n } else { 0 });
    Ok(match name {
        "Seconds" => Value::Float(*n as f64 / 1e9),
        "Minutes" => Value::Float(*n as f64 / 60e9),
        "Hours" => Value::Float(*n as f64 / 3600e9),
        "Milliseconds" => Value::int64(n / 1_000_000),
        "Microseconds" => Value::int64(n / 1_000),
        "Nanoseconds" => Value::int64(*n),
        "Abs" => Value::Int(*kind, n.saturating_abs()),
        "Round" => Value::Int(*kind, rounded(*n, unit)),
        "Truncate" if unit > 0 => Value::Int(*kind, n - n % unit),
        "Truncate" => value.clone(),
        _ => Value::str(named(*kind, *n)),
    })
}

impl Object for Time {
    fn type_name(&self) -> &str {
        "time.Time"
    }

    fn method(&self, name: &str) -> Option<Signature> {
        match name {
            "Unix" | "UnixNano" | "UnixMilli" | "UnixMicro" | "Year" | "Month" | "Day" | "Hour" | "Minute"
            | "Second" | "Nanosecond" | "Weekday" | "YearDay" | "String" | "UTC" | "Local" | "IsZero" => {
                Some(Signature::new(&[]))
            }
            "Format" => Some(Signature::new(&[Str])),
            "AddDate" => Some(Signature::new(&[Int, Int, Int])),
            "Add" | "Truncate" | "Round" => Some(Signature::new(&[Any])),
            "Sub" | "After" | "Before" | "Equal" | "Compare" => Some(Signature::new(&[Param::Time])),
            _ => None,
        }
    }

    fn call(&self, name: &str, args: &[Value]) -> Result<Value, String> {
        let t = &self.0;
        let other = || of(args.first().unwrap_or(&Value::Nil)).timestamp();
        let number = |at: usize| super::int(args, at);
        let unit = || {
            cast::int64(&args.first().map_or(Value::Nil, |v| match v {
                Value::Int(_, n) => Value::int64(*n),
                _ => Value::Nil,
            }))
        };
        Ok(match name {
            "Unix" => Value::int64(t.timestamp().as_second()),
            "UnixMilli" => Value::int64(t.timestamp().as_millisecond()),
            "UnixMicro" => Value::int64(t.timestamp().as_microsecond()),
            "UnixNano" => Value::int64(t.timestamp().as_nanosecond() as i64),
            "Year" => Value::int(t.year().into()),
            "Month" => Value::Int(IntKind::Month, t.month().into()),
            "Day" => Value::int(t.day().into()),
            "Hour" => Value::int(t.hour().into()),
            "Minute" => Value::int(t.minute().into()),
            "Second" => Value::int(t.second().into()),
            "Nanosecond" => Value::int(t.subsec_nanosecond().into()),
            "Weekday" => Value::Int(IntKind::Weekday, t.weekday().to_sunday_zero_offset().into()),
            "YearDay" => Value::int(t.day_of_year().into()),
            "IsZero" => Value::Bool(t.timestamp() == zero().timestamp()),
            "UTC" => time(t.with_time_zone(TimeZone::UTC)),
            "Local" => time(t.clone()),
            "Format" => Value::str(layout::format(&string(args, 0), t)),
            "AddDate" => {
                let span = jiff::Span::new()
                    .try_years(number(0))
                    .and_then(|s| s.try_months(number(1)))
                    .map_err(|e| e.to_string())?;
                // Go lets the days of a short month run over into the next.
                let first =
                    t.datetime().with().day(1).build().and_then(|d| d.checked_add(span)).map_err(|e| e.to_string())?;
                let days = number(2).saturating_add(i64::from(t.day()) - 1);
                let moved = jiff::Span::new().try_days(days).and_then(|days| first.checked_add(days));
                time(moved.and_then(|d| d.to_zoned(t.time_zone().clone())).map_err(|e| e.to_string())?)
            }
            "Add" => time(plus(t, unit())),
            "Truncate" | "Round" => time(t.clone()),
            "Sub" => Value::Int(IntKind::Duration, clamp(t.timestamp().as_nanosecond() - other().as_nanosecond())),
            "After" => Value::Bool(t.timestamp() > other()),
            "Before" => Value::Bool(t.timestamp() < other()),
            "Equal" => Value::Bool(t.timestamp() == other()),
            "Compare" => Value::int(t.timestamp().cmp(&other()) as i64),
            _ => Value::str(layout::format("2006-01-02 15:04:05.999999999 -0700 MST", t)),
        })
    }

    fn string(&self) -> Option<String> {
        Some(layout::format("2006-01-02 15:04:05.999999999 -0700 MST", &self.0))
    }

    fn data(&self) -> Value {
        Value::str(layout::format("2006-01-02T15:04:05.999999999Z07:00", &self.0))
    }

    fn as_any(&self) -> &dyn std::any::Any {
        self
    }
}
