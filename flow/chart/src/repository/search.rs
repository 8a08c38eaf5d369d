//! `helm search repo`: charts of indexes by words or by an expression.

use super::{Entry, Index};
use crate::version::{Range, Version};

/// What is looked for.
pub enum Wanted<'a> {
    Everything,
    /// A text that stands in a chart's name, its repository's, its description or its keywords, whatever the case.
    Words(&'a str),
    /// A test of the same lines, in small letters; gives where it matches.
    Pattern(&'a dyn Fn(&str) -> Option<usize>),
}

/// One chart in one version.
#[derive(Debug, Clone)]
pub struct Hit<'i> {
    /// `REPOSITORY/CHART`
    pub name: String,
    pub entry: &'i Entry,
    /// How early what is looked for was found: in the chart's name before all.
    score: usize,
}

/// What indexes have of it, the best first; of each chart the newest version in the range, or all of them.
pub fn search<'i>(indexes: &'i [(String, Index)], wanted: &Wanted<'_>, range: &Range, all: bool) -> Vec<Hit<'i>> {
    let mut hits = Vec::new();
    for (repository, index) in indexes {
        for (chart, versions) in &index.entries {
            let name = format!("{repository}/{chart}");
            let fits = |entry: &&Entry| Version::parse(&entry.metadata.version).is_some_and(|v| range.contains(&v));
            let scored = versions.iter().filter(fits).filter_map(|entry| {
                let score = score(&name, entry, wanted)?;
                Some(Hit { name: name.clone(), entry, score })
            });
            hits.extend(scored.take(if all { usize::MAX } else { 1 }));
        }
    }
    let version = |hit: &Hit<'_>| Version::parse(&hit.entry.metadata.version);
    hits.sort_by(|a, b| {
        let newest = || version(b).zip(version(a)).map_or(std::cmp::Ordering::Equal, |(b, a)| b.compare(&a));
        (a.score, &a.name).cmp(&(b.score, &b.name)).then_with(newest)
    });
    hits
}

fn score(name: &str, entry: &Entry, wanted: &Wanted<'_>) -> Option<usize> {
    // A vertical tab stands in no text of a chart.
    let metadata = &entry.metadata;
    let line = [metadata.name.as_str(), name, &metadata.description, &metadata.keywords.join(" ")].join("\u{b}");
    let line = line.to_lowercase();
    let at = match wanted {
        Wanted::Everything => return Some(0),
        Wanted::Words(words) => line.find(&words.to_lowercase())?,
        Wanted::Pattern(found) => found(&line)?,
    };
    Some(line[..at].matches('\u{b}').count())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_before_descriptions_and_the_newest_only() {
        let index = Index::parse(
            "apiVersion: v1\nentries:\n  web:\n  - {apiVersion: v2, name: web, version: 2.0.0-rc1}\n  - {apiVersion: v2, name: web, version: 1.1.0}\n  - {apiVersion: v2, name: web, version: 1.0.0}\n  db:\n  - {apiVersion: v2, name: db, version: 1.0.0, description: For the Web, keywords: [store]}\n",
        )
        .unwrap();
        let indexes = [("r".to_owned(), index)];
        let found = |wanted: &Wanted<'_>, range: &str, all| {
            let range = Range::parse(range).unwrap();
            let hits = search(&indexes, wanted, &range, all);
            hits.iter().map(|hit| format!("{}@{}", hit.name, hit.entry.metadata.version)).collect::<Vec<_>>()
        };
        assert_eq!(found(&Wanted::Everything, ">0.0.0", false), ["r/db@1.0.0", "r/web@1.1.0"]);
        assert_eq!(found(&Wanted::Words("WEB"), ">0.0.0", false), ["r/web@1.1.0", "r/db@1.0.0"]);
        assert_eq!(
            found(&Wanted::Words("web"), ">0.0.0-0", true)[..3],
            ["r/web@2.0.0-rc1", "r/web@1.1.0", "r/web@1.0.0"]
        );
        assert_eq!(found(&Wanted::Words("store"), ">0.0.0", false), ["r/db@1.0.0"]);
        assert_eq!(found(&Wanted::Pattern(&|line| line.find("r/w")), "<1.1", false), ["r/web@1.0.0"]);
    }
}
