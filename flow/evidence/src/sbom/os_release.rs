//! `os-release(5)`: which distribution the image is made of.

use super::facts::OsRelease;

/// Reads the file; `None` when it names no distribution.
pub fn parse(text: &str) -> Option<OsRelease> {
    let mut found = OsRelease::default();
    for line in text.lines() {
        let Some((key, value)) = line.trim().split_once('=') else { continue };
        let value = value.trim().trim_matches(['"', '\'']);
        let field = match key {
            "ID" => &mut found.id,
            "VERSION_ID" => &mut found.version_id,
            "PRETTY_NAME" => &mut found.name,
            _ => continue,
        };
        *field = value.chars().take(100).collect();
    }
    (!found.id.is_empty()).then_some(found)
}

#[cfg(test)]
mod tests {
    #[test]
    fn reads_debian() {
        let text = "PRETTY_NAME=\"Debian GNU/Linux 13 (trixie)\"\nVERSION_ID=\"13\"\nID=debian\n# note\n";
        let os = super::parse(text).unwrap();
        assert_eq!((os.id.as_str(), os.version_id.as_str()), ("debian", "13"));
        assert_eq!(super::parse("NAME=x"), None);
    }
}
