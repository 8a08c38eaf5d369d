//! What an image is tagged with: strategies that give every build a tag of its own.

use std::fmt;

use records::Timestamp;
use semver::Version;

use crate::{Error, Result, diagnostic::did_you_mean, export::check_tag};

/// How the tags of an image come about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TagStrategy {
    /// The number of the build in its project: `42`.
    BuildId,
    /// The build's id in the whole installation: `journal-42`.
    SystemBuildId,
    /// The commit: `1a2b3c4d5e6f`.
    GitHash,
    /// Both: `1a2b3c4d5e6f-42`.
    GitHashBuildId,
    /// A semantic version: `1.2.3`; with `aliases` also `1.2` and `1`, which move from version to version.
    Semver { aliases: bool },
    /// Words and placeholders.
    Template(Template),
}

/// The names of the strategies, in the order of their documentation.
pub const STRATEGIES: [&str; 6] =
    ["build-id", "system-build-id", "git-hash", "git-hash-build-id", "semver", "semver-aliases"];

/// What may stand between braces in a template.
pub const PLACEHOLDERS: [&str; 6] = ["commit", "build", "system-build", "version", "branch", "date"];

/// A text such as `{branch}-{commit}`; one placeholder at least is another in every build.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template(String);

/// What is known of a build. What a strategy needs and is not there is an error that says how to give it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TagFacts {
    pub build: Option<String>,
    pub system_build: Option<String>,
    /// The commit's id in hex.
    pub commit: Option<String>,
    /// Whether there are changes that are in no commit: the tag says so.
    pub dirty: bool,
    pub version: Option<Version>,
    pub branch: Option<String>,
    pub date: Option<Timestamp>,
}

/// Digits of a commit in a tag, as git shortens the ids of a large repository.
const SHORT: usize = 12;

impl TagStrategy {
    /// Reads the name of a strategy, or a template.
    pub fn parse(text: &str) -> Result<Self> {
        Ok(match text {
            "build-id" => Self::BuildId,
            "system-build-id" => Self::SystemBuildId,
            "git-hash" => Self::GitHash,
            "git-hash-build-id" => Self::GitHashBuildId,
            "semver" => Self::Semver { aliases: false },
            "semver-aliases" => Self::Semver { aliases: true },
            text if text.contains('{') => Self::Template(Template::parse(text)?),
            other => {
                let near = did_you_mean(other, STRATEGIES).map(|near| format!(": did you mean `{near}`?"));
                let near = near.unwrap_or_else(|| {
                    format!(": there are {}, and templates such as {{commit}}-{{build}}", STRATEGIES.join(", "))
                });
                return Err(wrong(other, format!("it is no way to tag images{near}")));
            }
        })
    }

    /// The tags of one build, the one that stays first.
    pub fn tags(&self, facts: &TagFacts) -> Result<Vec<String>> {
        let tags = match self {
            Self::BuildId => vec![facts.build(self)?],
            Self::SystemBuildId => vec![facts.system_build(self)?],
            Self::GitHash => vec![facts.commit(self)?],
            Self::GitHashBuildId => vec![format!("{}-{}", facts.commit(self)?, facts.build(self)?)],
            Self::Semver { aliases } => {
                let version = facts.version(self)?;
                let mut tags = vec![tag_of(version)];
                // `1` must not lead to what was not released yet.
                if *aliases && version.pre.is_empty() && version.build.is_empty() {
                    tags.push(format!("{}.{}", version.major, version.minor));
                    // Before 1.0.0 every minor version may break what stands on it.
                    if version.major > 0 {
                        tags.push(version.major.to_string());
                    }
                }
                tags
            }
            Self::Template(template) => vec![template.render(self, facts)?],
        };
        tags.iter().try_for_each(|tag| check_tag(tag))?;
        Ok(tags)
    }

    /// Whether another build of the same commit gets another tag.
    pub fn is_unique_per_build(&self) -> bool {
        match self {
            Self::BuildId | Self::SystemBuildId | Self::GitHashBuildId => true,
            Self::GitHash | Self::Semver { .. } => false,
            Self::Template(template) => ["{build}", "{system-build}", "{date}"].iter().any(|p| template.0.contains(p)),
        }
    }

    /// Whether a tag stays with the image that it was given first. Aliases of versions move.
    pub fn stays(&self, tag: &str) -> bool {
        !matches!(self, Self::Semver { aliases: true }) || Version::parse(tag).is_ok() || tag.matches('.').count() >= 2
    }
}

impl fmt::Display for TagStrategy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::BuildId => "build-id",
            Self::SystemBuildId => "system-build-id",
            Self::GitHash => "git-hash",
            Self::GitHashBuildId => "git-hash-build-id",
            Self::Semver { aliases: false } => "semver",
            Self::Semver { aliases: true } => "semver-aliases",
            Self::Template(template) => &template.0,
        })
    }
}

impl Template {
    /// Reads a template. `latest` is refused, and so is one in which nothing changes from build to build.
    pub fn parse(text: &str) -> Result<Self> {
        let mut rest = text;
        while let Some((_, after)) = rest.split_once('{') {
            let Some((name, after)) = after.split_once('}') else {
                return Err(wrong(text, "a `{` is not closed".into()));
            };
            if !PLACEHOLDERS.contains(&name) {
                let near = did_you_mean(name, PLACEHOLDERS).map(|near| format!(": did you mean {{{near}}}?"));
                let near = near
                    .unwrap_or_else(|| format!(": there are {}", PLACEHOLDERS.map(|p| format!("{{{p}}}")).join(", ")));
                return Err(wrong(text, format!("`{{{name}}}` is not known{near}")));
            }
            rest = after;
        }
        let moves = |name: &str| text.contains(&format!("{{{name}}}"));
        if !["commit", "build", "system-build", "version", "date"].into_iter().any(moves) {
            let reason =
                "every build would overwrite the one before: put {commit}, {build}, {version} or {date} into it";
            return Err(wrong(text, reason.into()));
        }
        Ok(Self(text.to_owned()))
    }

    fn render(&self, strategy: &TagStrategy, facts: &TagFacts) -> Result<String> {
        let (mut tag, mut rest) = (String::new(), self.0.as_str());
        while let Some((before, after)) = rest.split_once('{') {
            let Some((name, after)) = after.split_once('}') else { break };
            tag += before;
            tag += &match name {
                "commit" => facts.commit(strategy)?,
                "build" => facts.build(strategy)?,
                "system-build" => facts.system_build(strategy)?,
                "version" => tag_of(facts.version(strategy)?),
                "branch" => {
                    clean(facts.need(&facts.branch, strategy, "a branch", "build from a branch of a git repository")?)
                }
                _ => {
                    let date =
                        facts.date.ok_or_else(|| wrong(&strategy.to_string(), "the time is not known".into()))?;
                    date.strftime("%Y%m%dT%H%M%SZ").to_string()
                }
            };
            rest = after;
        }
        Ok(tag + rest)
    }
}

impl TagFacts {
    fn need<'a>(&self, fact: &'a Option<String>, strategy: &TagStrategy, what: &str, how: &str) -> Result<&'a str> {
        fact.as_deref().ok_or_else(|| wrong(&strategy.to_string(), format!("it needs {what}: {how}")))
    }

    fn build(&self, strategy: &TagStrategy) -> Result<String> {
        self.need(&self.build, strategy, "the number of the build", "give it with --build-id").map(clean)
    }

    fn system_build(&self, strategy: &TagStrategy) -> Result<String> {
        self.need(&self.system_build, strategy, "the build's id", "give it with --system-build-id").map(clean)
    }

    fn commit(&self, strategy: &TagStrategy) -> Result<String> {
        let commit = self.need(&self.commit, strategy, "a commit", "build from a git repository that has one")?;
        let dirty = if self.dirty { "-dirty" } else { "" };
        Ok(format!("{}{dirty}", commit.chars().take(SHORT).collect::<String>()))
    }

    fn version(&self, strategy: &TagStrategy) -> Result<&Version> {
        let reason = "it needs a version: tag the commit with one, such as v1.2.3, or give it with --image-version";
        self.version.as_ref().ok_or_else(|| wrong(&strategy.to_string(), reason.into()))
    }
}

/// Reads a version as people write it: `1.2.3` or `v1.2.3`.
pub fn version(text: &str) -> Option<Version> {
    Version::parse(text.strip_prefix('v').unwrap_or(text)).ok()
}

/// The version of a commit: the highest that a tag at it names; else what comes after the newest version before it, as a version that sorts
/// before the next one: three commits after `v1.2.3` it is `1.2.4-dev.3.1a2b3c4d5e6f`.
pub fn version_of<'a>(
    here: impl IntoIterator<Item = &'a str>,
    before: Option<(&'a str, u64)>,
    commit: &str,
) -> Option<Version> {
    if let Some(version) = here.into_iter().filter_map(version).max() {
        return Some(version);
    }
    let (tag, commits) = before?;
    let mut version = version(tag)?;
    let short: String = commit.chars().take(SHORT).collect();
    // What follows a version that was to come is still before it.
    let pre = match version.pre.is_empty() {
        true => {
            version.patch += 1;
            format!("dev.{commits}.g{short}")
        }
        false => format!("{}.dev.{commits}.g{short}", version.pre),
    };
    version.pre = semver::Prerelease::new(&pre).ok()?;
    version.build = semver::BuildMetadata::EMPTY;
    Some(version)
}

/// A version as a tag: `+` cannot stand in one, and is `_`, as in the tags of Helm.
fn tag_of(version: &Version) -> String {
    version.to_string().replace('+', "_")
}

/// What may stand in a tag.
fn clean(text: &str) -> String {
    let clean = |c: char| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '-' };
    text.trim_start_matches(['.', '-']).chars().map(clean).collect()
}

fn wrong(reference: &str, reason: String) -> Error {
    Error::TagStrategy { strategy: reference.chars().take(160).collect(), reason }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts() -> TagFacts {
        TagFacts {
            build: Some("42".into()),
            system_build: Some("journal-42".into()),
            commit: Some("1a2b3c4d5e6f708192a3b4c5d6e7f8091a2b3c4d".into()),
            dirty: false,
            version: version("v1.2.3"),
            branch: Some("feature/new".into()),
            date: "2026-11-21T08:00:00Z".parse().ok(),
        }
    }

    fn tags(strategy: &str, facts: &TagFacts) -> Result<Vec<String>, String> {
        TagStrategy::parse(strategy).and_then(|strategy| strategy.tags(facts)).map_err(|e| e.to_string())
    }

    #[test]
    fn every_strategy_gives_its_tags() {
        for (strategy, expected) in [
            ("build-id", &["42"][..]),
            ("system-build-id", &["journal-42"]),
            ("git-hash", &["1a2b3c4d5e6f"]),
            ("git-hash-build-id", &["1a2b3c4d5e6f-42"]),
            ("semver", &["1.2.3"]),
            ("semver-aliases", &["1.2.3", "1.2", "1"]),
            ("{branch}-{commit}", &["feature-new-1a2b3c4d5e6f"]),
            ("v{version}-{date}", &["v1.2.3-20261121T080000Z"]),
            ("{system-build}.x", &["journal-42.x"]),
        ] {
            assert_eq!(tags(strategy, &facts()).unwrap(), expected, "{strategy}");
            assert_eq!(TagStrategy::parse(strategy).unwrap().to_string(), strategy);
        }
        let dirty = TagFacts { dirty: true, ..facts() };
        assert_eq!(tags("git-hash-build-id", &dirty).unwrap(), ["1a2b3c4d5e6f-dirty-42"]);
    }

    #[test]
    fn versions_that_are_not_released_have_no_aliases() {
        for (given, expected) in
            [("2.0.0-rc.1", &["2.0.0-rc.1"][..]), ("0.3.1", &["0.3.1", "0.3"]), ("1.0.0+build.5", &["1.0.0_build.5"])]
        {
            let facts = TagFacts { version: version(given), ..facts() };
            assert_eq!(tags("semver-aliases", &facts).unwrap(), expected);
        }
        let strategy = TagStrategy::Semver { aliases: true };
        assert!(strategy.stays("1.2.3") && strategy.stays("1.0.0_build.5"));
        assert!(!strategy.stays("1.2") && !strategy.stays("1"));
        assert!(TagStrategy::GitHash.stays("1"));
    }

    #[test]
    fn versions_come_from_tags() {
        let commit = "1a2b3c4d5e6f7081";
        let of = |here: &[&str], before| version_of(here.iter().copied(), before, commit).map(|v| v.to_string());
        assert_eq!(of(&["v1.2.3", "v1.10.0", "nightly"], Some(("v9.0.0", 1))).unwrap(), "1.10.0");
        assert_eq!(of(&[], Some(("v1.2.3", 3))).unwrap(), "1.2.4-dev.3.g1a2b3c4d5e6f");
        assert_eq!(of(&[], Some(("2.0.0-rc.1", 3))).unwrap(), "2.0.0-rc.1.dev.3.g1a2b3c4d5e6f");
        assert_eq!(of(&["nightly"], None), None);
        // It sorts between the versions that it lies between.
        let between = version(&of(&[], Some(("v1.2.3", 3))).unwrap()).unwrap();
        assert!(version("1.2.3").unwrap() < between && between < version("1.2.4").unwrap());
        let between = version(&of(&[], Some(("2.0.0-rc.1", 3))).unwrap()).unwrap();
        assert!(version("2.0.0-rc.1").unwrap() < between && between < version("2.0.0-rc.2").unwrap());
    }

    #[test]
    fn what_would_overwrite_or_is_missing_is_refused() {
        for (strategy, why) in [
            ("latest", "it is no way to tag"),
            ("git-hsah", "did you mean `git-hash`?"),
            ("{branch}", "would overwrite"),
            ("{comit}", "did you mean {commit}?"),
            ("{commit", "not closed"),
            ("a b{commit}", "no name to push"),
        ] {
            let error = tags(strategy, &facts()).unwrap_err();
            assert!(error.contains(why), "{strategy}: {error}");
        }
        for (strategy, why) in [
            ("build-id", "--build-id"),
            ("system-build-id", "--system-build-id"),
            ("git-hash", "git repository"),
            ("semver", "--image-version"),
            ("{branch}-{build}", "a branch"),
        ] {
            let error = tags(strategy, &TagFacts::default()).unwrap_err();
            assert!(error.contains(why), "{strategy}: {error}");
        }
    }

    #[test]
    fn two_builds_of_one_commit_have_two_tags_where_the_strategy_says_so() {
        for strategy in ["build-id", "system-build-id", "git-hash-build-id", "{commit}-{build}"] {
            let strategy = TagStrategy::parse(strategy).unwrap();
            assert!(strategy.is_unique_per_build());
            let other = TagFacts { build: Some("43".into()), system_build: Some("journal-43".into()), ..facts() };
            assert_ne!(strategy.tags(&facts()).unwrap(), strategy.tags(&other).unwrap());
        }
        assert!(!TagStrategy::GitHash.is_unique_per_build());
    }

    proptest::proptest! {
        #[test]
        fn every_tag_is_one(template in "[a-z{}-]{0,40}", branch in ".{0,40}", build in ".{1,20}") {
            let facts = TagFacts { branch: Some(branch), build: Some(build), ..facts() };
            if let Ok(tags) = tags(&template, &facts) {
                proptest::prop_assert!(tags.iter().all(|tag| image::reference::check_tag(tag).is_ok()));
            }
        }
    }
}
