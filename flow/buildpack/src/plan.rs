//! Build plans: what buildpacks require and provide, and which of them are left when that is settled.

use serde::{Deserialize, Serialize};

use crate::{Error, Result, error::parse};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Require {
    pub name: String,
    #[serde(default, skip_serializing)]
    pub version: String,
    #[serde(default, skip_serializing_if = "toml::Table::is_empty")]
    pub metadata: toml::Table,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Provide {
    pub name: String,
}

/// One way in which a buildpack would take part.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
pub struct Sections {
    #[serde(default)]
    pub requires: Vec<Require>,
    #[serde(default)]
    pub provides: Vec<Provide>,
}

/// What `bin/detect` writes: ways, the first preferred.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct BuildPlan {
    pub ways: Vec<Sections>,
}

impl BuildPlan {
    pub fn parse(file: &str, text: &str) -> Result<Self> {
        #[derive(Deserialize)]
        struct File {
            #[serde(default)]
            requires: Vec<Require>,
            #[serde(default)]
            provides: Vec<Provide>,
            #[serde(default)]
            or: Vec<Sections>,
        }
        let read: File = parse(file, text)?;
        let mut ways = vec![Sections { requires: read.requires, provides: read.provides }];
        ways.extend(read.or);
        if let Some(old) = ways.iter().flat_map(|way| &way.requires).find(|require| !require.version.is_empty()) {
            let message =
                format!("`{}` is required with a `version`: that key is gone, write `metadata.version`", old.name);
            return Err(Error::document(file, message));
        }
        Ok(Self { ways })
    }
}

/// A buildpack that takes part.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    pub id: String,
    pub version: String,
    pub api: crate::api::Api,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub homepage: String,
}

impl Member {
    pub fn shown(&self) -> String {
        format!("{}@{}", self.id, self.version)
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Provider {
    pub id: String,
    pub version: String,
}

/// A dependency: who may provide it, and who asked for it with what.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    pub providers: Vec<Provider>,
    pub requires: Vec<Require>,
}

/// `plan.toml`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    #[serde(default)]
    pub entries: Vec<Entry>,
}

impl Plan {
    /// What a buildpack is asked for: its own `plan.toml`.
    pub fn asked_of(&self, id: &str) -> Vec<Require> {
        let its = self.entries.iter().filter(|entry| entry.providers.iter().any(|provider| provider.id == id));
        its.flat_map(|entry| entry.requires.iter().cloned()).collect()
    }

    /// Without what was met.
    pub fn without(mut self, met: &[String]) -> Self {
        self.entries.retain(|entry| !entry.requires.iter().any(|require| met.contains(&require.name)));
        self
    }
}

/// A buildpack that said yes.
#[derive(Debug, Clone)]
pub struct Passed {
    pub member: Member,
    pub optional: bool,
    pub plan: BuildPlan,
}

/// The most combinations of `or` that are tried.
pub const MOST_TRIALS: usize = 20_000;

struct Chosen<'a> {
    at: usize,
    optional: bool,
    way: &'a Sections,
}

/// Tries the ways of all buildpacks, leftmost first and depth first: the first combination in which everything required is provided
/// before, and everything provided is used. `Err` says why the last one failed.
pub fn resolve(passed: &[Passed]) -> Result<(Vec<Member>, Plan), String> {
    let mut digits = vec![0usize; passed.len()];
    for _ in 0..MOST_TRIALS {
        let mut chosen: Vec<Chosen<'_>> = Vec::with_capacity(passed.len());
        for (at, (one, digit)) in passed.iter().zip(&digits).enumerate() {
            // An optional buildpack is left out only when its last way fails too.
            let optional = one.optional && *digit + 1 >= one.plan.ways.len();
            if let Some(way) = one.plan.ways.get(*digit) {
                chosen.push(Chosen { at, optional, way });
            }
        }
        let why = match trial(passed, chosen) {
            Ok(found) => return Ok(found),
            Err(why) => why,
        };
        // The next combination: the rightmost turns fastest.
        let mut turned = false;
        for at in (0..digits.len()).rev() {
            digits[at] += 1;
            if digits[at] < passed[at].plan.ways.len() {
                turned = true;
                break;
            }
            digits[at] = 0;
        }
        if !turned {
            return Err(why);
        }
    }
    Err(format!("the alternatives of its plans have more than {MOST_TRIALS} combinations"))
}

#[derive(Default)]
struct Dependency<'a> {
    name: &'a str,
    providers: Vec<usize>,
    requires: Vec<&'a Require>,
    early: Vec<usize>,
    unused: Vec<usize>,
}

fn trial(passed: &[Passed], mut chosen: Vec<Chosen<'_>>) -> Result<(Vec<Member>, Plan), String> {
    loop {
        let mut all: Vec<Dependency<'_>> = Vec::new();
        for one in &chosen {
            for provide in &one.way.provides {
                dependency(&mut all, &provide.name).unused.push(one.at);
            }
            for require in &one.way.requires {
                let entry = dependency(&mut all, &require.name);
                let fresh = std::mem::take(&mut entry.unused);
                entry.providers.extend(fresh);
                match entry.providers.is_empty() {
                    true => entry.early.push(one.at),
                    false => entry.requires.push(require),
                }
            }
        }
        let mut out: Vec<usize> = Vec::new();
        for entry in &all {
            let early = entry.early.iter().map(|at| (*at, "requires", "which nothing before it provides"));
            let unused = entry.unused.iter().map(|at| (*at, "provides", "which nothing requires"));
            for (at, does, why) in early.chain(unused) {
                let optional = chosen.iter().any(|one| one.at == at && one.optional);
                if !optional {
                    return Err(format!("{} {does} {}, {why}", passed[at].member.shown(), entry.name));
                }
                out.push(at);
            }
        }
        if out.is_empty() {
            if chosen.is_empty() {
                return Err("no buildpack is left".into());
            }
            let member = |at: usize| passed[at].member.clone();
            let provider = |at: &usize| Provider { id: member(*at).id, version: member(*at).version };
            let entries = all.iter().filter(|entry| !entry.requires.is_empty()).map(|entry| Entry {
                providers: entry.providers.iter().map(provider).collect(),
                requires: entry.requires.iter().map(|require| (*require).clone()).collect(),
            });
            let entries = entries.collect();
            return Ok((chosen.iter().map(|one| member(one.at)).collect(), Plan { entries }));
        }
        chosen.retain(|one| !out.contains(&one.at));
    }
}

fn dependency<'a, 'b>(all: &'b mut Vec<Dependency<'a>>, name: &'a str) -> &'b mut Dependency<'a> {
    let at = all.iter().position(|entry| entry.name == name).unwrap_or_else(|| {
        all.push(Dependency { name, ..Dependency::default() });
        all.len() - 1
    });
    &mut all[at]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passed(id: &str, optional: bool, plan: &str) -> Passed {
        let member = Member { id: id.into(), version: "1".into(), api: crate::api::NEWEST, homepage: String::new() };
        Passed { member, optional, plan: BuildPlan::parse("plan.toml", plan).unwrap() }
    }

    fn ids(all: &[Passed]) -> Result<String, String> {
        let (members, plan) = resolve(all)?;
        let names: Vec<String> = plan.entries.iter().map(|entry| entry.requires[0].name.clone()).collect();
        Ok(format!("{} / {}", members.iter().map(|m| m.id.as_str()).collect::<Vec<_>>().join(" "), names.join(" ")))
    }

    const P: &str = "[[provides]]\nname = \"x\"\n";
    const R: &str = "[[requires]]\nname = \"x\"\n";

    #[test]
    fn required_and_provided_must_meet_in_order() {
        assert_eq!(ids(&[passed("a", false, P), passed("b", false, R)]).unwrap(), "a b / x");
        assert!(ids(&[passed("a", false, R), passed("b", false, P)]).unwrap_err().contains("a@1 requires x"));
        assert!(ids(&[passed("a", false, P)]).unwrap_err().contains("a@1 provides x, which nothing requires"));
        // An optional one leaves, and whoever needed it leaves with it or fails.
        assert_eq!(ids(&[passed("a", true, P), passed("b", false, "")]).unwrap(), "b / ");
        assert_eq!(ids(&[passed("a", true, R), passed("b", false, "")]).unwrap(), "b / ");
        assert!(ids(&[passed("a", true, R)]).unwrap_err().contains("no buildpack is left"));
    }

    #[test]
    fn alternatives_are_tried_from_the_left() {
        let or = format!("{R}[[or]]\n[[or.provides]]\nname = \"y\"\n");
        let y = "[[requires]]\nname = \"y\"\n";
        assert_eq!(ids(&[passed("a", false, &or), passed("b", false, y)]).unwrap(), "a b / y");
        // Only the last alternative of an optional buildpack lets it leave.
        assert_eq!(ids(&[passed("a", true, &or), passed("b", false, "")]).unwrap(), "b / ");
        assert!(BuildPlan::parse("p", "[[requires]]\nname = \"x\"\nversion = \"1\"").is_err());
    }

    #[test]
    fn too_many_alternatives_end() {
        let many = format!("{R}{}", "[[or]]\n[[or.requires]]\nname = \"x\"\n".repeat(9));
        let all: Vec<Passed> = (0..20).map(|n| passed(&format!("b{n}"), false, &many)).collect();
        assert!(resolve(&all).unwrap_err().contains("combinations"));
    }

    #[test]
    fn what_is_met_is_not_asked_again() {
        let (_, plan) =
            resolve(&[passed("a", false, P), passed("b", false, R), passed("c", false, P), passed("d", false, R)])
                .unwrap();
        assert_eq!(plan.asked_of("a").len(), 2);
        assert_eq!(plan.asked_of("c").len(), 2);
        assert!(plan.asked_of("b").is_empty());
        assert!(plan.without(&["x".into()]).entries.is_empty());
    }
}
