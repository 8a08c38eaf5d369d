//! Names of releases.

use crate::Error;

const LONGEST: usize = 53;

/// Refuses what is no name of a release: labels of DNS with dots between them, 53 characters at most.
pub fn check_name(name: &str) -> Result<(), Error> {
    if name.is_empty() {
        return Err(Error::Option("no name provided".to_owned()));
    }
    let edge = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let label =
        |label: &str| label.starts_with(edge) && label.ends_with(edge) && label.chars().all(|c| edge(c) || c == '-');
    if name.len() > LONGEST || !name.split('.').all(label) {
        return Err(Error::Option(
            "invalid release name, must match regex ^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$ and the length must not be longer than 53".to_owned(),
        ));
    }
    Ok(())
}

/// `--generate-name`: what the chart is called where it comes from, and the time.
pub fn generated_name(reference: &str, now: jiff::Timestamp) -> String {
    let base = reference.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
    let base = if base.is_empty() || base == "." { "chart" } else { base };
    // The version in the name of an archive is no part of the name.
    let base = match base.find(".tgz") {
        Some(at) => &base[..at],
        None => base,
    };
    let base = base.split('.').next().unwrap_or(base);
    format!("{base}-{}", now.as_second())
}

/// `--name-template`: what a template with Helm's functions makes, from no data.
pub fn templated_name(text: &str, seed: u64, now: jiff::Timestamp) -> Result<String, Error> {
    let wrong = |error: template::Error| Error::Option(error.to_string());
    let mut set = template::Set::new(template::Family::Helm4);
    set.parse("name-template", text).map_err(wrong)?;
    let options = template::Options { now, seed, ..template::Options::default() };
    let made = template::Renderer::new(&set, options).render("name-template", template::Value::Nil).map_err(wrong)?;
    Ok(String::from_utf8_lossy(&made.text).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_from_templates() {
        let now = jiff::Timestamp::from_second(7).unwrap();
        let made = |text: &str| templated_name(text, 1, now);
        assert_eq!(made(r#"x-{{ upper "a" | lower }}"#).unwrap(), "x-a");
        assert_eq!(made("{{ randAlphaNum 5 | lower }}").unwrap(), made("{{ randAlphaNum 5 | lower }}").unwrap());
        let said = made("{{ nofunc }}").unwrap_err().to_string();
        assert_eq!(said, r#"template: name-template:1: function "nofunc" not defined"#);
    }

    #[test]
    fn names() {
        for good in ["a", "web-1", "a.b-c.d", &"x".repeat(53)] {
            check_name(good).unwrap();
        }
        for bad in ["", "-a", "a-", "A", "a..b", "a_b", &"x".repeat(54), "a/b"] {
            check_name(bad).unwrap_err();
        }
        let now = jiff::Timestamp::from_second(7).unwrap();
        assert_eq!(generated_name("./charts/web/", now), "web-7");
        assert_eq!(generated_name(".", now), "chart-7");
    }
}
