//! Which packages a list of packages needs.
//!
//! As `apt` does it without `Recommends`: the newest version of each, the first alternative that can be had, and for a name that several
//! packages provide the one of the highest priority. The same index and list always give the same answer.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    fmt,
};

use super::{
    archive::{Index, Package},
    relation::{self, Clause, Relation},
};
use crate::{Error, Result, diagnostic::did_you_mean};

/// Packages that an image may have.
pub const MAX_PACKAGES: usize = 10_000;

/// What is asked for.
#[derive(Debug, Clone, Default)]
pub struct Request {
    /// Who asks, for errors.
    pub name: String,
    /// Relations: `nodejs`, `nodejs (>= 20)`.
    pub packages: Vec<String>,
    /// Names that count as installed and are not.
    pub exclude: Vec<String>,
    pub architecture: String,
}

/// A list of packages that cannot be installed, and why, from who asks to what is missing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unresolvable {
    pub name: String,
    pub reason: String,
    pub chain: Vec<String>,
    pub hint: Option<String>,
    /// The package of the list that asks for it, in the end.
    pub asked: Option<String>,
}

impl fmt::Display for Unresolvable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "base image {}: {}", self.name, self.reason)?;
        for link in &self.chain {
            write!(f, "\n  {link}")?;
        }
        self.hint.as_ref().map_or(Ok(()), |hint| write!(f, "\nhint: {hint}"))
    }
}

struct Resolution<'a> {
    index: &'a Index,
    request: &'a Request,
    excluded: BTreeSet<&'a str>,
    chosen: BTreeMap<String, Package>,
    /// For each chosen package: who asked, and for what.
    because: BTreeMap<String, (Option<String>, String)>,
}

/// Finds the packages, in the order of their names.
pub fn resolve(index: &Index, request: &Request) -> Result<Vec<Package>> {
    let excluded = request.exclude.iter().map(String::as_str).collect();
    let mut resolution = Resolution { index, request, excluded, chosen: BTreeMap::new(), because: BTreeMap::new() };
    let mut queue = VecDeque::new();
    for text in &request.packages {
        let relation =
            relation::relation(text).map_err(|reason| Error::Definition { name: request.name.clone(), reason })?;
        let clause = Clause(vec![relation]);
        // What is asked for by name comes first, so that alternatives elsewhere are met by it.
        if let Some(name) = resolution.satisfy(&clause, None)? {
            queue.push_back(name);
        }
    }
    while let Some(name) = queue.pop_front() {
        let depends = resolution.chosen.get(&name).map(|package| package.depends.clone()).unwrap_or_default();
        for clause in depends {
            if let Some(added) = resolution.satisfy(&clause, Some(&name))? {
                queue.push_back(added);
            }
        }
    }
    resolution.check_conflicts()?;
    Ok(resolution.chosen.into_values().collect())
}

impl Resolution<'_> {
    /// Makes the clause hold; returns the package that was added for it, if one was.
    fn satisfy(&mut self, clause: &Clause, by: Option<&str>) -> Result<Option<String>> {
        if clause.0.iter().any(|relation| self.is_met(relation) || self.excluded.contains(relation.name.as_str())) {
            return Ok(None);
        }
        for relation in &clause.0 {
            if !relation.is_for(&self.request.architecture) {
                continue;
            }
            if let Some(package) = self.candidate(relation)? {
                if self.chosen.len() == MAX_PACKAGES {
                    let reason = format!("needs more than {MAX_PACKAGES} packages");
                    return Err(Error::Definition { name: self.request.name.clone(), reason });
                }
                let name = package.name.clone();
                self.because.insert(name.clone(), (by.map(str::to_owned), clause.to_string()));
                self.chosen.insert(name.clone(), package);
                return Ok(Some(name));
            }
        }
        Err(self.unmet(clause, by)?)
    }

    fn is_met(&self, relation: &Relation) -> bool {
        if !relation.is_for(&self.request.architecture) {
            return false;
        }
        if self.chosen.get(&relation.name).is_some_and(|package| relation.accepts(&package.version)) {
            return true;
        }
        self.chosen.values().any(|package| provides(package, relation))
    }

    /// The package to install for a relation. One that is chosen in another version is none.
    fn candidate(&self, relation: &Relation) -> Result<Option<Package>> {
        let fits = |package: &Package| {
            (package.architecture == "all" || package.architecture == self.request.architecture)
                && !self.chosen.contains_key(&package.name)
                && !self.excluded.contains(package.name.as_str())
        };
        let versions = self.index.versions(&relation.name)?;
        if let Some(package) = versions.into_iter().find(|p| fits(p) && relation.accepts(&p.version)) {
            return Ok(Some(package));
        }
        let providers = self.index.providers(&relation.name)?;
        Ok(providers.into_iter().find(|package| fits(package) && provides(package, relation)))
    }

    fn check_conflicts(&self) -> Result<()> {
        for package in self.chosen.values() {
            for relation in package.conflicts.iter().flat_map(|clause| &clause.0) {
                let hit = self.chosen.values().find(|other| {
                    other.name != package.name
                        && ((other.name == relation.name && relation.accepts(&other.version))
                            || provides(other, relation))
                });
                if let Some(other) = hit {
                    let mut chain = self.chain(&package.name);
                    chain.extend(self.chain(&other.name));
                    return Err(Error::Unresolvable(Box::new(Unresolvable {
                        name: self.request.name.clone(),
                        reason: format!(
                            "{} {} cannot be installed beside {} {} (it conflicts with {relation})",
                            package.name, package.version, other.name, other.version
                        ),
                        chain,
                        hint: None,
                        asked: self.asked(&package.name),
                    })));
                }
            }
        }
        Ok(())
    }

    /// From who asks to the package.
    fn chain(&self, name: &str) -> Vec<String> {
        let mut links = Vec::new();
        let mut name = Some(name.to_owned());
        while let Some(current) = name {
            let Some((by, wanted)) = self.because.get(&current) else { break };
            let who = match by {
                Some(by) => match self.chosen.get(by) {
                    Some(package) => format!("{by} {}", package.version),
                    None => by.clone(),
                },
                None => self.request.name.clone(),
            };
            links.push(format!("{who} needs {wanted}"));
            // Every package was chosen for one that was chosen before it, so that this ends.
            name = by.clone();
        }
        links.reverse();
        links
    }

    /// What the list says, that the package is there for.
    fn asked(&self, name: &str) -> Option<String> {
        let mut name = name;
        loop {
            match self.because.get(name)? {
                (Some(by), _) => name = by,
                (None, wanted) => return Some(wanted.clone()),
            }
        }
    }

    fn unmet(&self, clause: &Clause, by: Option<&str>) -> Result<Error> {
        let mut found = Vec::new();
        for relation in &clause.0 {
            let versions = self.index.versions(&relation.name)?;
            let listed: Vec<String> = versions.iter().map(|package| package.version.to_string()).collect();
            match self.chosen.get(&relation.name) {
                Some(chosen) => found.push(format!("{} {} is chosen already", relation.name, chosen.version)),
                None if !relation.is_for(&self.request.architecture) => {
                    found.push(format!("{} is for another architecture", relation.name));
                }
                None if !listed.is_empty() => {
                    found.push(format!("the archive has {} {}", relation.name, listed.join(", ")))
                }
                None => found.push(format!("the archive has no {}", relation.name)),
            }
        }
        let mut chain = by.map(|by| self.chain(by)).unwrap_or_default();
        let who = match by {
            Some(by) => match self.chosen.get(by) {
                Some(package) => format!("{by} {}", package.version),
                None => by.to_owned(),
            },
            None => self.request.name.clone(),
        };
        chain.push(format!("{who} needs {clause}"));
        let hint = match clause.0.as_slice() {
            [only] if by.is_none() => {
                did_you_mean(&only.name, self.index.names()).map(|near| format!("did you mean `{near}`?"))
            }
            _ => None,
        };
        Ok(Error::Unresolvable(Box::new(Unresolvable {
            name: self.request.name.clone(),
            reason: format!("{clause} cannot be had: {}", found.join("; ")),
            chain,
            hint,
            asked: by.map_or_else(|| Some(clause.to_string()), |by| self.asked(by)),
        })))
    }
}

/// Whether a package provides what a relation names: with a version only if it says which.
fn provides(package: &Package, relation: &Relation) -> bool {
    package.provides.iter().flat_map(|clause| &clause.0).any(|provided| {
        provided.name == relation.name
            && match (&relation.version, &provided.version) {
                (None, _) => true,
                (Some(_), Some((_, version))) => relation.accepts(version),
                (Some(_), None) => false,
            }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn index(entries: &[(&str, &str, &str)]) -> Index {
        let mut text = String::new();
        for (name, version, more) in entries {
            let sum = "a".repeat(64);
            text += &format!("Package: {name}\nVersion: {version}\nArchitecture: amd64\n");
            text += &more.split(';').filter(|f| !f.is_empty()).map(|f| format!("{}\n", f.trim())).collect::<String>();
            text += &format!("Filename: pool/{name}.deb\nSize: 1\nSHA256: {sum}\n\n");
        }
        let mut index = Index::default();
        index.add(text.as_bytes(), 0, "test").unwrap();
        index
    }

    fn run(entries: &[(&str, &str, &str)], packages: &[&str], exclude: &[&str]) -> Result<String, String> {
        let request = Request {
            name: "test".into(),
            packages: packages.iter().map(|p| (*p).to_owned()).collect(),
            exclude: exclude.iter().map(|p| (*p).to_owned()).collect(),
            architecture: "amd64".into(),
        };
        let found = resolve(&index(entries), &request).map_err(|e| e.to_string())?;
        Ok(found.iter().map(|p| format!("{}={}", p.name, p.version)).collect::<Vec<_>>().join(" "))
    }

    #[test]
    fn follows_dependencies_and_versions() {
        let entries = [
            ("app", "1", "Depends: lib (>= 2), other | lib;Pre-Depends: pre"),
            ("lib", "1", ""),
            ("lib", "2.1", "Depends: app"),
            ("pre", "1", ""),
            ("other", "1", ""),
        ];
        assert_eq!(run(&entries, &["app"], &[]).unwrap(), "app=1 lib=2.1 pre=1");
        assert_eq!(run(&entries, &["lib (= 1)"], &[]).unwrap(), "lib=1");
        assert_eq!(run(&entries, &["app"], &["pre"]).unwrap(), "app=1 lib=2.1");
    }

    #[test]
    fn chooses_among_alternatives_and_providers() {
        let entries = [
            ("app", "1", "Depends: awk, first | second"),
            ("gawk", "1", "Provides: awk;Priority: optional"),
            ("mawk", "1", "Provides: awk (= 3);Priority: required"),
            ("first", "1", ""),
            ("second", "1", ""),
        ];
        assert_eq!(run(&entries, &["app"], &[]).unwrap(), "app=1 first=1 mawk=1");
        // What is asked for by name meets alternatives.
        assert_eq!(run(&entries, &["app", "second", "gawk"], &[]).unwrap(), "app=1 gawk=1 second=1");
        // A version is met only by who says which version it provides.
        let entries = [("app", "1", "Depends: v (>= 2)"), ("x", "9", "Provides: v"), ("y", "1", "Provides: v (= 2)")];
        assert_eq!(run(&entries, &["app"], &[]).unwrap(), "app=1 y=1");
    }

    #[test]
    fn qualifiers_name_architectures() {
        let entries = [
            ("app", "1", "Depends: a:any, b:amd64, c:i386 | d"),
            ("a", "1", ""),
            ("b", "1", ""),
            ("c", "1", ""),
            ("d", "1", ""),
        ];
        assert_eq!(run(&entries, &["app"], &[]).unwrap(), "a=1 app=1 b=1 d=1");
    }

    #[test]
    fn errors_show_the_chain() {
        let entries =
            [("app", "1", "Depends: lib (>= 1)"), ("lib", "1", "Depends: deep (>= 5) | none"), ("deep", "4", "")];
        insta::assert_snapshot!(run(&entries, &["app"], &[]).unwrap_err(), @r"
        base image test: deep (>= 5) | none cannot be had: the archive has deep 4; the archive has no none
          test needs app
          app 1 needs lib (>= 1)
          lib 1 needs deep (>= 5) | none
        ");
        insta::assert_snapshot!(run(&entries, &["ap"], &[]).unwrap_err(), @r"
        base image test: ap cannot be had: the archive has no ap
          test needs ap
        hint: did you mean `app`?
        ");
    }

    #[test]
    fn conflicts_are_found() {
        let entries =
            [("a", "1", "Depends: b"), ("b", "1", "Conflicts: c"), ("c", "1", ""), ("d", "1", "Breaks: c (<< 1)")];
        insta::assert_snapshot!(run(&entries, &["a", "c"], &[]).unwrap_err(), @r"
        base image test: b 1 cannot be installed beside c 1 (it conflicts with c)
          test needs a
          a 1 needs b
          test needs c
        ");
        assert!(run(&entries, &["c", "d"], &[]).is_ok());
    }

    #[test]
    fn circles_end() {
        let entries = [("a", "1", "Depends: b"), ("b", "1", "Depends: a")];
        assert_eq!(run(&entries, &["a"], &[]).unwrap(), "a=1 b=1");
    }
}
