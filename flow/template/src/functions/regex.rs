//! Regular expressions with RE2's syntax, matched in linear time.

use std::rc::Rc;

use regex::bytes::{Captures, Match, Regex, RegexBuilder};

use super::{Fail, Function, Outcome, bytes, fixed, int};
use crate::{
    render::Session,
    value::{Element, List, Param, Text, Value},
};

use Param::{Int, Str};

/// A compiled expression and the names of its groups.
pub struct Pattern(Regex, Vec<String>);

impl Pattern {
    /// What it finds, one after the other. Where nothing is found between the bytes of one character, Go does not look.
    fn all<'t>(&'t self, text: &'t [u8]) -> impl Iterator<Item = Match<'t>> {
        self.0.find_iter(text).filter(|found| !found.is_empty() || boundary(text, found.start()))
    }

    fn captures<'t>(&'t self, text: &'t [u8]) -> impl Iterator<Item = (Match<'t>, Captures<'t>)> {
        let found = self.0.captures_iter(text).filter_map(|found| Some((found.get(0)?, found)));
        found.filter(|(whole, _)| !whole.is_empty() || boundary(text, whole.start()))
    }
}

/// Whether a place is not within a character.
fn boundary(text: &[u8], at: usize) -> bool {
    let lead = (at.saturating_sub(3)..at).rev().find(|i| text[*i] >= 0xC0);
    lead.is_none_or(|lead| {
        let end = text.len().min(lead + 4);
        let valid = match std::str::from_utf8(&text[lead..end]) {
            Ok(text) => text,
            Err(error) => std::str::from_utf8(&text[lead..lead + error.valid_up_to()]).unwrap_or_default(),
        };
        valid.chars().next().is_none_or(|c| lead + c.len_utf8() <= at)
    })
}

pub const TABLE: &[Function] = &[
    fixed("regexMatch", &[Str, Str], |s, v| Ok(Value::Bool(compile(s, v)?.is_ok_and(|p| p.0.is_match(bytes(v, 1)))))),
    fixed("mustRegexMatch", &[Str, Str], |s, v| Ok(Value::Bool(compile(s, v)??.0.is_match(bytes(v, 1))))),
    fixed("regexFind", &[Str, Str], |s, v| Ok(find(&*sure(s, v)?, v))),
    fixed("mustRegexFind", &[Str, Str], |s, v| Ok(find(&*compile(s, v)??, v))),
    fixed("regexFindAll", &[Str, Str, Int], |s, v| sure(s, v).and_then(|p| find_all(s, &p, v))),
    fixed("mustRegexFindAll", &[Str, Str, Int], |s, v| {
        let pattern = compile(s, v)??;
        find_all(s, &pattern, v)
    }),
    fixed("regexReplaceAll", &[Str, Str, Str], |s, v| sure(s, v).and_then(|p| replace(s, &p, v, false))),
    fixed("mustRegexReplaceAll", &[Str, Str, Str], |s, v| {
        let pattern = compile(s, v)??;
        replace(s, &pattern, v, false)
    }),
    fixed("regexReplaceAllLiteral", &[Str, Str, Str], |s, v| sure(s, v).and_then(|p| replace(s, &p, v, true))),
    fixed("mustRegexReplaceAllLiteral", &[Str, Str, Str], |s, v| {
        let pattern = compile(s, v)??;
        replace(s, &pattern, v, true)
    }),
    fixed("regexSplit", &[Str, Str, Int], |s, v| sure(s, v).and_then(|p| split(s, &p, v))),
    fixed("mustRegexSplit", &[Str, Str, Int], |s, v| {
        let pattern = compile(s, v)??;
        split(s, &pattern, v)
    }),
    fixed("regexQuoteMeta", &[Str], |_, v| {
        let mut out = Vec::new();
        for b in bytes(v, 0) {
            if b"\\.+*?()|[]{}^$".contains(b) {
                out.push(b'\\');
            }
            out.push(*b);
        }
        Ok(Value::str(out))
    }),
];

/// Expressions are kept for the rest of the rendering. The inner error is Go's.
fn compile(s: &mut Session<'_>, v: &[Value]) -> Result<Result<Rc<Pattern>, String>, Fail> {
    let Some(Value::Str(source)) = v.first() else {
        return Ok(Err("no expression".to_owned()));
    };
    let text = v.get(1).map_or(0, |v| if let Value::Str(t) = v { t.len() } else { 0 });
    s.charge(10 + text as u64 / 16)?;
    if let Some(known) = s.patterns.get(source) {
        return Ok(known.clone());
    }
    s.charge(1000 + source.len() as u64 * 20)?;
    let made = make(&source.to_str()).map(Rc::new);
    if s.patterns.len() > 2000 {
        s.patterns.clear();
    }
    s.patterns.insert(source.clone(), made.clone());
    Ok(made)
}

/// As `regexp.MustCompile`.
fn sure(s: &mut Session<'_>, v: &[Value]) -> Result<Rc<Pattern>, Fail> {
    compile(s, v)?.map_err(|message| {
        let source = super::string(v, 0);
        let quoted = if source.contains('`') { crate::quote::quote_str(&source) } else { format!("`{source}`") };
        Fail::Message(format!("regexp: Compile({quoted}): {message}"))
    })
}

fn make(source: &str) -> Result<Pattern, String> {
    let wrong = |message: &str, piece: &str| Err(format!("error parsing regexp: {message}: `{piece}`"));
    if source.len() > 1 << 20 {
        return wrong("expression too large", &source[..source.floor_char_boundary(40)]);
    }
    let translated = match super::super::re2::translate(source) {
        Ok(translated) => translated,
        Err((message, piece)) => return wrong(message, &piece),
    };
    RegexBuilder::new(&translated.text)
        .size_limit(10 << 20)
        .dfa_size_limit(10 << 20)
        .nest_limit(250)
        .build()
        .map(|regex| Pattern(regex, translated.names))
        .or_else(|_| wrong("expression too large", source))
}

fn find(pattern: &Pattern, v: &[Value]) -> Value {
    Value::str(pattern.0.find(bytes(v, 1)).map_or(&b""[..], |m| m.as_bytes()))
}

fn most(v: &[Value]) -> usize {
    usize::try_from(int(v, 2)).unwrap_or(usize::MAX)
}

fn find_all(s: &mut Session<'_>, pattern: &Pattern, v: &[Value]) -> Outcome {
    let found: Vec<Text> = pattern.all(bytes(v, 1)).take(most(v)).map(|m| m.as_bytes().into()).collect();
    s.charge(found.len() as u64)?;
    Ok(if found.is_empty() { Value::List(List::nil(Element::Str)) } else { Value::strings(found) })
}

fn replace(s: &mut Session<'_>, pattern: &Pattern, v: &[Value], literal: bool) -> Outcome {
    let (text, by) = (bytes(v, 1), bytes(v, 2));
    let mut out = Vec::with_capacity(text.len());
    let mut at = 0;
    for (whole, found) in pattern.captures(text) {
        out.extend_from_slice(&text[at..whole.start()]);
        if literal {
            out.extend_from_slice(by);
        } else {
            expand(&mut out, by, &found, &pattern.1);
        }
        at = whole.end();
        if out.len() > s.options.limits.text {
            s.room(out.len())?;
        }
    }
    out.extend_from_slice(&text[at..]);
    s.room(out.len())?;
    Ok(Value::str(out))
}

/// `$1`, `${name}`, `$$`.
fn expand(out: &mut Vec<u8>, template: &[u8], found: &Captures<'_>, names: &[String]) {
    let mut rest = template;
    while let Some(at) = rest.iter().position(|b| *b == b'$') {
        out.extend_from_slice(&rest[..at]);
        rest = &rest[at + 1..];
        if rest.first() == Some(&b'$') {
            out.push(b'$');
            rest = &rest[1..];
            continue;
        }
        let brace = rest.first() == Some(&b'{');
        let body = if brace { &rest[1..] } else { rest };
        let word = String::from_utf8_lossy(body);
        let length: usize = word.chars().take_while(|c| *c == '_' || c.is_alphanumeric()).map(char::len_utf8).sum();
        if length == 0 || brace && body.get(length) != Some(&b'}') {
            out.push(b'$');
            continue;
        }
        let name = &word[..length];
        let group = match name.parse::<usize>() {
            Ok(n) if !name.starts_with('0') || name == "0" => found.get(n),
            _ => names.iter().enumerate().filter(|(_, known)| *known == name).find_map(|(at, _)| found.get(at)),
        };
        out.extend_from_slice(group.map_or(&b""[..], |m| m.as_bytes()));
        rest = &body[length + usize::from(brace)..];
    }
    out.extend_from_slice(rest);
}

fn split(s: &mut Session<'_>, pattern: &Pattern, v: &[Value]) -> Outcome {
    let (text, count) = (bytes(v, 1), int(v, 2));
    if count == 0 {
        return Ok(Value::List(List::nil(Element::Str)));
    }
    if !pattern.0.as_str().is_empty() && text.is_empty() {
        return Ok(Value::strings([""]));
    }
    let most = usize::try_from(count).unwrap_or(usize::MAX);
    let mut parts: Vec<Text> = Vec::new();
    let (mut begin, mut end) = (0, 0);
    for found in pattern.all(text).take(most) {
        s.charge(1)?;
        if parts.len() + 1 == most {
            break;
        }
        end = found.start();
        if found.end() != 0 {
            parts.push(text[begin..end].into());
        }
        begin = found.end();
    }
    if end != text.len() {
        parts.push(text[begin..].into());
    }
    Ok(Value::strings(parts))
}
