//! What Helm refuses in a `Chart.yaml`, in its words.

use std::collections::BTreeSet;

use super::Metadata;
use crate::version::Version;

impl Metadata {
    /// Cleans the texts of what cannot be printed and checks them.
    pub fn validate(&mut self) -> Result<(), String> {
        for text in [
            &mut self.name,
            &mut self.description,
            &mut self.home,
            &mut self.icon,
            &mut self.condition,
            &mut self.tags,
            &mut self.app_version,
            &mut self.kube_version,
        ] {
            sanitize(text);
        }
        self.sources.iter_mut().chain(&mut self.keywords).for_each(sanitize);
        let fail = |why: &str| Err(format!("validation: {why}"));
        if self.api_version.is_empty() {
            return fail("chart.metadata.apiVersion is required");
        }
        if self.name.is_empty() {
            return fail("chart.metadata.name is required");
        }
        if self.name == "." || self.name == ".." {
            return fail(&format!("chart.metadata.name {:?} is not allowed", self.name));
        }
        if self.name.contains('/') {
            return fail(&format!("chart.metadata.name {:?} is invalid", self.name));
        }
        if self.version.is_empty() {
            return fail("chart.metadata.version is required");
        }
        if Version::parse(&self.version).is_none() {
            return fail(&format!("chart.metadata.version {:?} is invalid", self.version));
        }
        if !matches!(self.kind.as_str(), "" | "application" | "library") {
            return fail("chart.metadata.type must be application or library");
        }
        for maintainer in &mut self.maintainers {
            [&mut maintainer.name, &mut maintainer.email, &mut maintainer.url].into_iter().for_each(sanitize);
        }
        let mut names = BTreeSet::new();
        for dependency in &mut self.dependencies {
            for text in
                [&mut dependency.name, &mut dependency.version, &mut dependency.repository, &mut dependency.condition]
            {
                sanitize(text);
            }
            dependency.tags.iter_mut().for_each(sanitize);
            let legal = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
            if !dependency.alias.chars().all(legal) {
                return fail(&format!("dependency {:?} has disallowed characters in the alias", dependency.name));
            }
            let key = if dependency.alias.is_empty() { &dependency.name } else { &dependency.alias };
            if !names.insert(key.clone()) {
                return fail(&format!("more than one dependency with name or alias {key:?}"));
            }
        }
        Ok(())
    }
}

fn sanitize(text: &mut String) {
    if text.bytes().all(|b| (0x20..0x7f).contains(&b)) {
        return;
    }
    *text = text
        .chars()
        .filter_map(|c| match c {
            c if c.is_whitespace() => Some(' '),
            c if c.is_control() => None,
            // Marks of direction, joiners and the byte order mark.
            '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' => None,
            '\u{e000}'..='\u{f8ff}' => None,
            c => Some(c),
        })
        .collect();
}
