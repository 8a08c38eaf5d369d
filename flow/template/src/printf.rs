//! Go's `fmt`: `Sprint`, `Sprintln` and `Sprintf` with every verb and flag.

use crate::{
    number::format_float,
    quote::{quote, quote_rune},
    value::{IntKind, Text, Value},
};

/// Values in values are printed so deep, and so many bytes, at most; what is beyond is cut off.
const MOST_DEPTH: usize = 200;
const MOST_BYTES: usize = 128 << 20;

/// `fmt.Sprint`: a space between two operands that are both no strings.
pub fn sprint(values: &[Value]) -> Text {
    if let [Value::Str(text)] = values {
        return text.clone();
    }
    let mut printer = Printer::default();
    for (i, value) in values.iter().enumerate() {
        let is_string = |v: &Value| matches!(v, Value::Str(_));
        if i > 0 && !is_string(value) && !is_string(&values[i - 1]) {
            printer.out.push(b' ');
        }
        printer.flags = Flags::default();
        printer.value(value, 'v', 0);
    }
    printer.out.into()
}

/// `fmt.Sprintln`: a space between all operands, and a line end.
pub fn sprintln(values: &[Value]) -> Text {
    let mut printer = Printer::default();
    for (i, value) in values.iter().enumerate() {
        if i > 0 {
            printer.out.push(b' ');
        }
        printer.value(value, 'v', 0);
    }
    printer.out.push(b'\n');
    printer.out.into()
}

/// `fmt.Sprint` of one value, as text.
pub fn plain(value: &Value) -> String {
    sprint(std::slice::from_ref(value)).to_str().into_owned()
}

#[derive(Clone, Copy, Default)]
struct Flags {
    width: Option<usize>,
    precision: Option<usize>,
    minus: bool,
    plus: bool,
    sharp: bool,
    space: bool,
    zero: bool,
    /// `%+v` and `%#v`.
    plus_v: bool,
    sharp_v: bool,
}

impl Flags {
    fn are_none(&self) -> bool {
        let Self { width, precision, minus, plus, sharp, space, zero, plus_v, sharp_v } = *self;
        width.is_none() && precision.is_none() && !(minus || plus || sharp || space || zero || plus_v || sharp_v)
    }
}

#[derive(Default)]
struct Printer {
    out: Vec<u8>,
    flags: Flags,
}

/// Width and precision beyond this are refused, as in Go.
const TOO_LARGE: usize = 1_000_000;

/// `fmt.Sprintf`.
pub fn sprintf(format: &[u8], args: &[Value]) -> Text {
    let mut p = Printer::default();
    let mut arg = 0usize;
    let mut reordered = false;
    let mut at = 0;
    let end = format.len();
    while at < end {
        if p.out.len() > MOST_BYTES {
            break;
        }
        let literal = format[at..].iter().position(|b| *b == b'%').map_or(end, |n| at + n);
        p.out.extend_from_slice(&format[at..literal]);
        at = literal;
        if at >= end {
            break;
        }
        at += 1;
        p.flags = Flags::default();
        while at < end {
            match format[at] {
                b'#' => p.flags.sharp = true,
                b'0' => p.flags.zero = true,
                b'+' => p.flags.plus = true,
                b'-' => p.flags.minus = true,
                b' ' => p.flags.space = true,
                _ => break,
            }
            at += 1;
        }
        let mut good = true;
        let mut after_index;
        (arg, after_index, at) = argument_number(format, at, arg, args.len(), &mut reordered, &mut good);
        if at < end && format[at] == b'*' {
            at += 1;
            match star(args, &mut arg) {
                Some(width) => {
                    p.flags.width = Some(width.unsigned_abs() as usize);
                    if width < 0 {
                        p.flags.minus = true;
                        p.flags.zero = false;
                    }
                }
                None => p.out.extend_from_slice(b"%!(BADWIDTH)"),
            }
            after_index = false;
        } else {
            let (number, next) = digits(format, at);
            p.flags.width = number;
            at = next;
            if after_index && p.flags.width.is_some() {
                good = false;
            }
        }
        if at < end && format[at] == b'.' {
            at += 1;
            if after_index {
                good = false;
            }
            (arg, after_index, at) = argument_number(format, at, arg, args.len(), &mut reordered, &mut good);
            if at < end && format[at] == b'*' {
                at += 1;
                match star(args, &mut arg) {
                    Some(precision) if precision >= 0 => p.flags.precision = Some(precision as usize),
                    Some(_) => p.out.extend_from_slice(b"%!(BADPREC)"),
                    None => p.out.extend_from_slice(b"%!(BADPREC)"),
                }
                after_index = false;
            } else {
                let (number, next) = digits(format, at);
                at = next;
                p.flags.precision = Some(number.unwrap_or(0));
            }
        }
        if !after_index {
            (arg, _, at) = argument_number(format, at, arg, args.len(), &mut reordered, &mut good);
        }
        if at >= end {
            p.out.extend_from_slice(b"%!(NOVERB)");
            break;
        }
        let (verb, size) = match format[at..].utf8_chunks().next().and_then(|c| c.valid().chars().next()) {
            Some(c) => (c, c.len_utf8()),
            None => ('\u{fffd}', 1),
        };
        at += size;
        if verb == '%' {
            p.out.push(b'%');
        } else if !good {
            p.text(&format!("%!{verb}(BADINDEX)"));
        } else if arg >= args.len() {
            p.text(&format!("%!{verb}(MISSING)"));
        } else {
            match verb {
                'w' => p.flags.sharp_v = false,
                'v' => {
                    p.flags.sharp_v = std::mem::take(&mut p.flags.sharp);
                    p.flags.plus_v = std::mem::take(&mut p.flags.plus);
                }
                _ => {}
            }
            p.argument(&args[arg], verb);
            arg += 1;
        }
    }
    if !reordered && arg < args.len() {
        p.flags = Flags::default();
        p.out.extend_from_slice(b"%!(EXTRA ");
        for (i, value) in args[arg..].iter().enumerate() {
            if i > 0 {
                p.out.extend_from_slice(b", ");
            }
            if value.is_nil() {
                p.out.extend_from_slice(b"<nil>");
            } else {
                p.text(&value.type_name());
                p.out.push(b'=');
                p.argument(value, 'v');
            }
        }
        p.out.push(b')');
    }
    p.out.into()
}

fn digits(format: &[u8], mut at: usize) -> (Option<usize>, usize) {
    let mut number = None;
    while at < format.len() && format[at].is_ascii_digit() {
        let next = number.unwrap_or(0) * 10 + usize::from(format[at] - b'0');
        if next > TOO_LARGE {
            return (None, at);
        }
        number = Some(next);
        at += 1;
    }
    (number, at)
}

fn star(args: &[Value], arg: &mut usize) -> Option<i64> {
    let value = args.get(*arg)?;
    *arg += 1;
    let n = match value {
        Value::Int(_, n) => *n,
        Value::Uint(_, n) => i64::try_from(*n).ok()?,
        _ => return None,
    };
    (n.unsigned_abs() as usize <= TOO_LARGE).then_some(n)
}

/// Reads `[3]`: the argument to use, whether there was one, the position after.
fn argument_number(
    format: &[u8],
    at: usize,
    arg: usize,
    count: usize,
    reordered: &mut bool,
    good: &mut bool,
) -> (usize, bool, usize) {
    if format.get(at) != Some(&b'[') {
        return (arg, false, at);
    }
    *reordered = true;
    let Some(close) = format[at..].iter().position(|b| *b == b']') else {
        *good = false;
        return (arg, false, at + 1);
    };
    let (number, next) = digits(format, at + 1);
    match number {
        Some(n) if next == at + close && n >= 1 && n <= count => (n - 1, true, at + close + 1),
        _ => {
            *good = false;
            (arg, next == at + close && number.is_some(), at + close + 1)
        }
    }
}

impl Printer {
    fn text(&mut self, text: &str) {
        self.out.extend_from_slice(text.as_bytes());
    }

    fn full(&self) -> bool {
        self.out.len() > MOST_BYTES
    }

    fn argument(&mut self, value: &Value, verb: char) {
        if value.is_nil() {
            match verb {
                'T' | 'v' => self.padded("<nil>"),
                _ => self.bad(value, verb),
            }
            return;
        }
        match verb {
            'T' => self.string(value.type_name().as_bytes(), 's'),
            'p' => self.bad(value, verb),
            _ => self.value(value, verb, 0),
        }
    }

    fn bad(&mut self, value: &Value, verb: char) {
        self.text(&format!("%!{verb}("));
        if value.is_nil() {
            self.text("<nil>");
        } else {
            self.text(&value.type_name());
            self.out.push(b'=');
            let flags = std::mem::take(&mut self.flags);
            self.value(value, 'v', 0);
            self.flags = flags;
        }
        self.out.push(b')');
    }

    fn padded(&mut self, text: &str) {
        self.padded_bytes(text.as_bytes());
    }

    fn padded_bytes(&mut self, text: &[u8]) {
        let Some(width) = self.flags.width else {
            self.out.extend_from_slice(text);
            return;
        };
        let count: usize = text.utf8_chunks().map(|c| c.valid().chars().count() + c.invalid().len()).sum();
        let pad = width.saturating_sub(count);
        if self.flags.minus {
            self.out.extend_from_slice(text);
            self.out.extend(std::iter::repeat_n(b' ', pad));
        } else {
            // Go pads with zeros on the left even for texts.
            let fill = if self.flags.zero { b'0' } else { b' ' };
            self.out.extend(std::iter::repeat_n(fill, pad));
            self.out.extend_from_slice(text);
        }
    }

    fn value(&mut self, value: &Value, verb: char, depth: usize) {
        if depth > MOST_DEPTH || self.full() {
            self.text("...");
            return;
        }
        match value {
            Value::Nil => self.padded("<nil>"),
            Value::Bool(b) => match verb {
                't' | 'v' => self.padded(if *b { "true" } else { "false" }),
                _ => self.bad(value, verb),
            },
            Value::Int(kind, n) => match (kind, verb) {
                (IntKind::Duration | IntKind::Month | IntKind::Weekday, 'v' | 's' | 'x' | 'X' | 'q')
                    if !self.flags.sharp_v =>
                {
                    let name = crate::functions::date::named(*kind, *n);
                    self.string(name.as_bytes(), verb);
                }
                _ => self.integer(value, n.unsigned_abs(), *n < 0, verb),
            },
            Value::Uint(_, n) => {
                if self.flags.sharp_v && verb == 'v' {
                    self.flags.sharp = true;
                    self.integer(value, *n, false, 'x');
                } else {
                    self.integer(value, *n, false, verb);
                }
            }
            Value::Float(f) => self.float(value, *f, verb),
            Value::Complex(re, im) => match verb {
                'v' | 'b' | 'g' | 'G' | 'x' | 'X' | 'f' | 'F' | 'e' | 'E' => {
                    let plus = self.flags.plus;
                    self.out.push(b'(');
                    self.float(value, *re, verb);
                    self.flags.plus = true;
                    self.float(value, *im, verb);
                    self.text("i)");
                    self.flags.plus = plus;
                }
                _ => self.bad(value, verb),
            },
            Value::Str(text) => match verb {
                'v' | 's' | 'x' | 'X' | 'q' => self.string(text.as_bytes(), verb),
                _ => self.bad(value, verb),
            },
            Value::Bytes(bytes) => match verb {
                's' | 'x' | 'X' | 'q' => self.string(bytes.as_bytes(), verb),
                'v' | 'd' if self.flags.sharp_v => {
                    self.text("[]byte{");
                    for (i, byte) in bytes.as_bytes().iter().enumerate() {
                        self.text(&format!("{}{byte:#x}", if i > 0 { ", " } else { "" }));
                    }
                    self.out.push(b'}');
                }
                _ => {
                    self.out.push(b'[');
                    for (i, byte) in bytes.as_bytes().iter().enumerate() {
                        if i > 0 {
                            self.out.push(b' ');
                        }
                        let byte = Value::Uint(crate::value::UintKind::Uint8, u64::from(*byte));
                        self.value(&byte, verb, depth + 1);
                    }
                    self.out.push(b']');
                }
            },
            Value::List(list) => {
                if self.flags.sharp_v {
                    self.text(&value.type_name());
                    if list.is_nil() {
                        self.text("(nil)");
                        return;
                    }
                    self.out.push(b'{');
                } else {
                    self.out.push(b'[');
                }
                for (i, item) in list.iter().enumerate() {
                    if i > 0 {
                        self.text(if self.flags.sharp_v { ", " } else { " " });
                    }
                    self.item(item, verb, depth);
                    if self.full() {
                        break;
                    }
                }
                self.out.push(if self.flags.sharp_v { b'}' } else { b']' });
            }
            Value::Map(map) => {
                if self.flags.sharp_v {
                    self.text(&value.type_name());
                    self.out.push(b'{');
                } else {
                    self.text("map[");
                }
                for (i, (key, item)) in map.pairs().into_iter().enumerate() {
                    if i > 0 {
                        self.text(if self.flags.sharp_v { ", " } else { " " });
                    }
                    self.value(&Value::Str(key), verb, depth + 1);
                    self.out.push(b':');
                    self.item(&item, verb, depth);
                    if self.full() {
                        break;
                    }
                }
                self.out.push(if self.flags.sharp_v { b'}' } else { b']' });
            }
            Value::Object(object) => {
                if let Some(text) = object.string()
                    && !self.flags.sharp_v
                    && matches!(verb, 'v' | 's' | 'x' | 'X' | 'q')
                {
                    self.string(text.as_bytes(), verb);
                    return;
                }
                if let Some(inner) = object.underlying() {
                    self.value(&inner, verb, depth + 1);
                    return;
                }
                let name = object.type_name();
                if name.starts_with('*') {
                    self.out.push(b'&');
                }
                if self.flags.sharp_v {
                    self.text(name.trim_start_matches('*'));
                }
                self.out.push(b'{');
                for (i, (field, item)) in object.fields().into_iter().enumerate() {
                    if i > 0 {
                        self.text(if self.flags.sharp_v { ", " } else { " " });
                    }
                    if self.flags.plus_v || self.flags.sharp_v {
                        self.text(field);
                        self.out.push(b':');
                    }
                    self.item(&item, verb, depth);
                }
                self.out.push(b'}');
            }
        }
    }

    fn item(&mut self, item: &Value, verb: char, depth: usize) {
        if item.is_nil() {
            self.text(if self.flags.sharp_v { "interface {}(nil)" } else { "<nil>" });
        } else {
            self.value(item, verb, depth + 1);
        }
    }

    fn string(&mut self, text: &[u8], verb: char) {
        let cut = match self.flags.precision {
            Some(precision) if matches!(verb, 's' | 'v' | 'q') => {
                let mut end = 0;
                let mut left = precision;
                for chunk in text.utf8_chunks() {
                    for c in chunk.valid().chars() {
                        if left == 0 {
                            break;
                        }
                        end += c.len_utf8();
                        left -= 1;
                    }
                    for _ in chunk.invalid() {
                        if left > 0 {
                            end += 1;
                            left -= 1;
                        }
                    }
                }
                &text[..end]
            }
            _ => text,
        };
        match verb {
            'v' if self.flags.sharp_v => {
                let quoted = quote(cut, false);
                self.padded(&quoted);
            }
            'q' => {
                let raw = self.flags.sharp && can_backquote(cut);
                let quoted = match std::str::from_utf8(cut) {
                    Ok(text) if raw => format!("`{text}`"),
                    _ => quote(cut, self.flags.plus),
                };
                self.padded(&quoted);
            }
            'x' | 'X' => self.hex(cut, verb),
            _ => self.padded_bytes(cut),
        }
    }

    fn hex(&mut self, text: &[u8], verb: char) {
        let text = &text[..self.flags.precision.unwrap_or(text.len()).min(text.len())];
        let mut out = String::new();
        for (i, byte) in text.iter().enumerate() {
            if self.flags.space && i > 0 {
                out.push(' ');
            }
            if self.flags.sharp && (i == 0 || self.flags.space) {
                out.push_str("0x");
            }
            out.push_str(&format!("{byte:02x}"));
        }
        self.padded(&if verb == 'X' { out.to_uppercase() } else { out });
    }

    fn integer(&mut self, value: &Value, n: u64, negative: bool, verb: char) {
        let (base, prefix) = match verb {
            'v' | 'd' => (10, ""),
            'b' => (2, if self.flags.sharp { "0b" } else { "" }),
            'o' => (8, if self.flags.sharp { "0" } else { "" }),
            'O' => (8, "0o"),
            'x' => (16, if self.flags.sharp { "0x" } else { "" }),
            'X' => (16, if self.flags.sharp { "0X" } else { "" }),
            'c' => {
                let c = if negative { '\u{fffd}' } else { rune(n) };
                self.padded(c.encode_utf8(&mut [0; 4]));
                return;
            }
            'q' => {
                let c = if negative { '\u{fffd}' } else { rune(n) };
                let quoted = quote_rune(c, self.flags.plus);
                self.padded(&quoted);
                return;
            }
            'U' => {
                let digits = format!("{n:04X}");
                let width = self.flags.precision.unwrap_or(4);
                let mut text = format!("U+{digits:0>width$}");
                if self.flags.sharp
                    && let Some(c) =
                        u32::try_from(n).ok().and_then(char::from_u32).filter(|c| crate::quote::is_print(*c))
                {
                    text.push_str(&format!(" '{c}'"));
                }
                let zero = std::mem::take(&mut self.flags.zero);
                self.padded(&text);
                self.flags.zero = zero;
                return;
            }
            _ => return self.bad(value, verb),
        };
        let mut digits = match base {
            2 => format!("{n:b}"),
            8 => format!("{n:o}"),
            16 => format!("{n:x}"),
            _ => n.to_string(),
        };
        if verb == 'X' {
            digits.make_ascii_uppercase();
        }
        let signed = negative || self.flags.plus || self.flags.space;
        let sign = if negative {
            "-"
        } else if self.flags.plus {
            "+"
        } else if self.flags.space {
            " "
        } else {
            ""
        };
        if let Some(precision) = self.flags.precision {
            if precision == 0 && n == 0 {
                let zero = std::mem::take(&mut self.flags.zero);
                let blank = " ".repeat(self.flags.width.unwrap_or(0));
                self.text(&blank);
                self.flags.zero = zero;
                return;
            }
            digits = format!("{digits:0>precision$}");
        } else if self.flags.zero
            && !self.flags.minus
            && let Some(width) = self.flags.width
        {
            let width = width.saturating_sub(usize::from(signed));
            digits = format!("{digits:0>width$}");
        }
        let prefix = if verb == 'o' && prefix == "0" && digits.starts_with('0') { "" } else { prefix };
        let zero = std::mem::take(&mut self.flags.zero);
        self.padded(&format!("{sign}{prefix}{digits}"));
        self.flags.zero = zero;
    }

    fn float(&mut self, value: &Value, f: f64, verb: char) {
        // Nearly every number in a chart is one without a fraction, printed as it is.
        let whole = f as i64;
        if verb == 'v' && whole as f64 == f && (1..1_000_000).contains(&whole.unsigned_abs()) && self.flags.are_none() {
            self.text(&whole.to_string());
            return;
        }
        let (kind, precision) = match verb {
            'v' | 'g' => ('g', None),
            'G' => ('G', None),
            'e' | 'E' => (verb, Some(6)),
            'f' | 'F' => ('f', Some(6)),
            'x' | 'X' => (verb, None),
            'b' => ('b', None),
            _ => return self.bad(value, verb),
        };
        let precision = self.flags.precision.or(precision);
        let mut number = format_float(f, kind, precision);
        if !number.starts_with(['-', '+']) {
            number.insert(0, '+');
        }
        // NaN and infinities are not padded with zeros, and go without a plus unless asked.
        let special = f.is_nan() || f.is_infinite();
        if self.flags.space && number.starts_with('+') && !self.flags.plus {
            number.replace_range(..1, " ");
        }
        if self.flags.sharp && kind != 'b' && !special {
            number = sharpened(&number, kind, self.flags.precision);
        }
        let keep = self.flags.plus || !number.starts_with('+');
        if !keep {
            number.remove(0);
        }
        if self.flags.zero
            && !self.flags.minus
            && !special
            && let Some(width) = self.flags.width
        {
            let (sign, digits) = match number.as_bytes()[0] {
                b'+' | b'-' | b' ' => number.split_at(1),
                _ => ("", number.as_str()),
            };
            let width = width.saturating_sub(sign.len());
            let padded = format!("{sign}{digits:0>width$}");
            self.text(&padded);
            return;
        }
        let zero = std::mem::take(&mut self.flags.zero);
        self.padded(&number);
        self.flags.zero = zero;
    }
}

/// `%#g` keeps trailing zeros and always has a point.
fn sharpened(number: &str, kind: char, precision: Option<usize>) -> String {
    let mut digits = match kind {
        'g' | 'G' => precision.unwrap_or(6) as i64,
        _ => 0,
    };
    let (body, tail) = match number[1..].find(['e', 'E', 'p', 'P']) {
        Some(at) if !matches!(kind, 'x' | 'X') || number.as_bytes()[at + 1] | 32 == b'p' => number.split_at(at + 1),
        _ => (number, ""),
    };
    let mut point = false;
    let mut seen = false;
    for b in body[1..].bytes() {
        if b == b'.' {
            point = true;
        } else if b.is_ascii_hexdigit() {
            seen |= b != b'0';
            if seen {
                digits -= 1;
            }
        }
    }
    let mut out = body.to_owned();
    if !point {
        if body.len() == 2 && body.ends_with('0') {
            digits -= 1;
        }
        out.push('.');
    }
    if matches!(kind, 'g' | 'G') {
        out.push_str(&"0".repeat(digits.max(0) as usize));
    }
    out + tail
}

fn rune(n: u64) -> char {
    u32::try_from(n).ok().and_then(char::from_u32).unwrap_or('\u{fffd}')
}

fn can_backquote(text: &[u8]) -> bool {
    std::str::from_utf8(text)
        .is_ok_and(|text| text.chars().all(|c| c != '`' && c != '\u{feff}' && c != '\x7f' && (c >= ' ' || c == '\t')))
}
