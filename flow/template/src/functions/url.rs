//! URLs as Go's `net/url` reads and writes them.

use super::{Fail, Function, Outcome, fixed, string};
use crate::{
    quote::quote_str,
    render::Session,
    value::{Map, Param, Value},
};

pub const TABLE: &[Function] = &[
    fixed("urlParse", &[Param::Str], |_, v| match parse(&string(v, 0)) {
        Ok(url) => {
            let map = Map::new();
            map.insert("scheme", url.scheme);
            map.insert("host", url.host.clone());
            map.insert("hostname", hostname(&url.host));
            map.insert("path", url.path);
            map.insert("query", url.query);
            map.insert("opaque", url.opaque);
            map.insert("fragment", url.fragment);
            map.insert("userinfo", url.user.map(|user| user.to_string()).unwrap_or_default());
            Ok(Value::Map(map))
        }
        Err(message) => Err(Fail::Message(format!("unable to parse url: {message}"))),
    }),
    fixed("urlJoin", &[Param::Map], join),
];

#[derive(Default)]
struct Url {
    scheme: String,
    opaque: String,
    user: Option<User>,
    host: String,
    path: String,
    raw_path: String,
    query: String,
    force_query: bool,
    fragment: String,
    raw_fragment: String,
}

struct User {
    name: String,
    password: Option<String>,
}

impl std::fmt::Display for User {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&escape(self.name.as_bytes(), Part::User))?;
        match &self.password {
            Some(password) => write!(f, ":{}", escape(password.as_bytes(), Part::User)),
            None => Ok(()),
        }
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Part {
    Path,
    Host,
    User,
    Query,
    Fragment,
}

fn must_escape(c: u8, part: Part) -> bool {
    if c.is_ascii_alphanumeric() {
        return false;
    }
    match c {
        b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b',' | b';' | b'=' | b':' | b'[' | b']' | b'<'
        | b'>' | b'"'
            if part == Part::Host =>
        {
            false
        }
        b'-' | b'_' | b'.' | b'~' => false,
        b'$' | b'&' | b'+' | b',' | b'/' | b':' | b';' | b'=' | b'?' | b'@' => match part {
            Part::Path => c == b'?',
            Part::User => matches!(c, b'@' | b'/' | b'?' | b':'),
            Part::Query => true,
            Part::Fragment | Part::Host => part == Part::Host,
        },
        b'!' | b'(' | b')' | b'*' => part != Part::Fragment,
        _ => true,
    }
}

fn escape(text: &[u8], part: Part) -> String {
    let mut out = String::with_capacity(text.len());
    for &c in text {
        match c {
            b' ' if part == Part::Query => out.push('+'),
            c if must_escape(c, part) => out.push_str(&format!("%{c:02X}")),
            c => out.push(c as char),
        }
    }
    out
}

/// `url.QueryEscape`.
pub fn query_escape(text: &[u8]) -> String {
    escape(text, Part::Query)
}

fn unescape(text: &str, part: Part) -> Result<String, String> {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let c = bytes[at];
        if c == b'%' {
            let digits = bytes.get(at + 1..at + 3).and_then(|d| std::str::from_utf8(d).ok());
            let byte = digits.filter(|d| d.bytes().all(|b| b.is_ascii_hexdigit()));
            let Some(byte) = byte.and_then(|d| u8::from_str_radix(d, 16).ok()) else {
                let shown: String = text[at..].chars().take(3).collect();
                return Err(format!("invalid URL escape {}", quote_str(&shown)));
            };
            if part == Part::Host && byte < 0x80 && &bytes[at..at + 3] != b"%25" {
                return Err(format!("invalid URL escape {}", quote_str(&text[at..at + 3])));
            }
            out.push(byte);
            at += 3;
            continue;
        }
        if part == Part::Host && c < 0x80 && must_escape(c, part) {
            return Err(format!("invalid character {} in host name", quote_str(&text[at..at + 1])));
        }
        out.push(c);
        at += 1;
    }
    Ok(String::from_utf8_lossy(&out).into_owned())
}

fn parse(text: &str) -> Result<Url, String> {
    let (body, fragment) = text.split_once('#').unwrap_or((text, ""));
    let wrong = |message: String| format!("parse {}: {message}", quote_str(body));
    let mut url = parse_body(body).map_err(wrong)?;
    if !fragment.is_empty() {
        url.fragment = unescape(fragment, Part::Fragment).map_err(|m| format!("parse {}: {m}", quote_str(text)))?;
        url.raw_fragment = fragment.to_owned();
    }
    Ok(url)
}

fn parse_body(text: &str) -> Result<Url, String> {
    if text.bytes().any(|b| b < b' ' || b == 0x7f) {
        return Err("net/url: invalid control character in URL".to_owned());
    }
    let mut url = Url::default();
    if text == "*" {
        url.path = "*".to_owned();
        return Ok(url);
    }
    let mut rest = text;
    let stop = text
        .bytes()
        .enumerate()
        .find(|(i, c)| !(c.is_ascii_alphabetic() || *i > 0 && (c.is_ascii_digit() || matches!(c, b'+' | b'-' | b'.'))));
    match stop {
        Some((0, b':')) => return Err("missing protocol scheme".to_owned()),
        Some((at, b':')) => {
            url.scheme = text[..at].to_ascii_lowercase();
            rest = &text[at + 1..];
        }
        _ => {}
    }
    if rest.ends_with('?') && rest.matches('?').count() == 1 {
        url.force_query = true;
        rest = &rest[..rest.len() - 1];
    } else if let Some((path, query)) = rest.split_once('?') {
        url.query = query.to_owned();
        rest = path;
    }
    if !rest.starts_with('/') {
        if !url.scheme.is_empty() {
            url.opaque = rest.to_owned();
            return Ok(url);
        }
        if rest.split('/').next().unwrap_or_default().contains(':') {
            return Err("first path segment in URL cannot contain colon".to_owned());
        }
    }
    if (!url.scheme.is_empty() || !rest.starts_with("///")) && rest.starts_with("//") {
        let authority = &rest[2..];
        let end = authority.find('/').unwrap_or(authority.len());
        let (authority, path) = authority.split_at(end);
        rest = path;
        let host = match authority.rsplit_once('@') {
            Some((user, host)) => {
                url.user = Some(userinfo(user)?);
                host
            }
            None => authority,
        };
        url.host = parse_host(host)?;
    }
    url.path = unescape(rest, Part::Path)?;
    if escape(url.path.as_bytes(), Part::Path) != rest {
        url.raw_path = rest.to_owned();
    }
    Ok(url)
}

fn userinfo(text: &str) -> Result<User, String> {
    let valid = |b: u8| b.is_ascii_alphanumeric() || b"-._:~!$&'()*+,;=%@".contains(&b);
    if !text.bytes().all(valid) {
        return Err("net/url: invalid userinfo".to_owned());
    }
    Ok(match text.split_once(':') {
        None => User { name: unescape(text, Part::User)?, password: None },
        Some((name, password)) => {
            User { name: unescape(name, Part::User)?, password: Some(unescape(password, Part::User)?) }
        }
    })
}

fn valid_port(port: &str) -> bool {
    port.is_empty() || port.strip_prefix(':').is_some_and(|digits| digits.bytes().all(|b| b.is_ascii_digit()))
}

fn parse_host(host: &str) -> Result<String, String> {
    if host.starts_with('[') {
        let Some(end) = host.rfind(']') else {
            return Err("missing ']' in host".to_owned());
        };
        let port = &host[end + 1..];
        if !valid_port(port) {
            return Err(format!("invalid port {} after host", quote_str(port)));
        }
    } else if let Some(at) = host.rfind(':')
        && !valid_port(&host[at..])
    {
        return Err(format!("invalid port {} after host", quote_str(&host[at..])));
    }
    unescape(host, Part::Host)
}

/// The host without port and brackets.
fn hostname(host: &str) -> &str {
    let bare = match host.rfind(':') {
        Some(at) if valid_port(&host[at..]) && !host[at..].contains(']') => &host[..at],
        _ => host,
    };
    bare.strip_prefix('[').and_then(|inner| inner.strip_suffix(']')).unwrap_or(bare)
}

impl Url {
    fn write(&self) -> String {
        let mut out = String::new();
        if !self.scheme.is_empty() {
            out.push_str(&self.scheme);
            out.push(':');
        }
        if !self.opaque.is_empty() {
            out.push_str(&self.opaque);
        } else {
            if !self.scheme.is_empty() || !self.host.is_empty() || self.user.is_some() {
                if !self.host.is_empty() || !self.path.is_empty() || self.user.is_some() {
                    out.push_str("//");
                }
                if let Some(user) = &self.user {
                    out.push_str(&format!("{user}@"));
                }
                out.push_str(&escape(self.host.as_bytes(), Part::Host));
            }
            let path = self.escaped_path();
            if !path.is_empty() && !path.starts_with('/') && !self.host.is_empty() {
                out.push('/');
            }
            if out.is_empty() {
                let segment = path.split('/').next().unwrap_or_default();
                if segment.contains(':') {
                    out.push_str("./");
                }
            }
            out.push_str(&path);
        }
        if self.force_query || !self.query.is_empty() {
            out.push('?');
            out.push_str(&self.query);
        }
        if !self.fragment.is_empty() {
            out.push('#');
            out.push_str(&escape(self.fragment.as_bytes(), Part::Fragment));
        }
        out
    }

    fn escaped_path(&self) -> String {
        if self.path == "*" {
            return "*".to_owned();
        }
        escape(self.path.as_bytes(), Part::Path)
    }
}

fn join(_: &mut Session<'_>, v: &[Value]) -> Outcome {
    let map = v[0].as_map().cloned().unwrap_or_default();
    let get = |key: &str| match map.get(key) {
        None => Ok(String::new()),
        Some(Value::Str(text)) => Ok(text.to_string()),
        Some(Value::Nil) => Err(Fail::from("runtime error: invalid memory address or nil pointer dereference")),
        Some(other) => Err(Fail::Message(format!(
            "unable to parse {key} key, must be of type string, but {} found",
            other.kind_name()
        ))),
    };
    let mut url = Url {
        scheme: get("scheme")?,
        host: get("host")?,
        path: get("path")?,
        query: get("query")?,
        opaque: get("opaque")?,
        fragment: get("fragment")?,
        ..Url::default()
    };
    let user = get("userinfo")?;
    if !user.is_empty() {
        let parsed = parse(&format!("proto://{user}@host"))
            .map_err(|message| Fail::Message(format!("unable to parse userinfo in dict: {message}")))?;
        url.user = parsed.user;
    }
    Ok(Value::str(url.write()))
}
