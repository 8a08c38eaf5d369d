//! Names from manifests as parts of a path: nothing in them can lead elsewhere.

/// One segment of a path, everything but letters, digits and `-._~` written as `%XX`; `.` and `..` too.
pub fn segment(name: &str) -> String {
    if name == "." || name == ".." {
        return name.replace('.', "%2E");
    }
    let mut out = String::with_capacity(name.len());
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_leads_elsewhere() {
        assert_eq!(segment("web-1.x"), "web-1.x");
        assert_eq!(segment("system:admin"), "system%3Aadmin");
        assert_eq!(segment("../a?b#c"), "..%2Fa%3Fb%23c");
        assert_eq!(segment(".."), "%2E%2E");
    }
}
