//! Text in quotes as Go's `%q` prints it, for errors that people search for.

/// A Go string literal.
pub(crate) fn quote(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{7}' => out.push_str("\\a"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\u{b}' => out.push_str("\\v"),
            c if (c as u32) < 0x20 || c as u32 == 0x7f => out.push_str(&format!("\\x{:02x}", c as u32)),
            c if c.is_control() => out.push_str(&format!("\\u{:04x}", c as u32)),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// Characters as Go prints a `[]rune` with `%q`: `['a' 'b']`.
pub(crate) fn quote_chars(text: &[char]) -> String {
    let quoted: Vec<String> = text
        .iter()
        .map(|c| match c {
            '\'' => "'\\''".to_owned(),
            '"' => "'\"'".to_owned(),
            c => {
                let quoted = quote(&c.to_string());
                format!("'{}'", &quoted[1..quoted.len() - 1])
            }
        })
        .collect();
    format!("[{}]", quoted.join(" "))
}

/// What Go calls the type of a value in a conversion error.
pub(crate) fn go_type(value: &yaml::Value) -> &'static str {
    match value {
        yaml::Value::Null => "nil",
        yaml::Value::Bool(_) => "bool",
        yaml::Value::Int(_) => "int64",
        yaml::Value::Uint(_) => "uint64",
        yaml::Value::Float(_) => "float64",
        yaml::Value::String(_) => "string",
        yaml::Value::List(_) => "[]interface {}",
        yaml::Value::Map(_) => "map[string]interface {}",
    }
}
