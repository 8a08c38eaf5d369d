//! `project.toml`: what a project says about how it is built. Schema 0.2 (a table `_`) and 0.1.

use serde::Deserialize;

use crate::{Error, Result, error::parse};

/// A buildpack that a project names.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub struct Named {
    #[serde(default)]
    pub id: String,
    #[serde(default)]
    pub version: String,
    #[serde(default)]
    pub uri: String,
    pub script: Option<Script>,
}

/// A buildpack that stands in the project's file itself.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Script {
    pub api: String,
    #[serde(default = "shell")]
    pub shell: String,
    pub inline: String,
}

fn shell() -> String {
    "/bin/sh".into()
}

/// What is read of `project.toml`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Project {
    pub id: String,
    pub version: String,
    pub source_url: String,
    pub builder: Option<String>,
    /// Patterns as in `.gitignore`; one of both at most.
    pub include: Vec<String>,
    pub exclude: Vec<String>,
    /// Instead of the builder's order.
    pub group: Vec<Named>,
    /// At the beginning and the end of every group.
    pub pre: Vec<Named>,
    pub post: Vec<Named>,
    pub env: Vec<(String, String)>,
}

#[derive(Default, Deserialize)]
struct Variable {
    name: String,
    value: String,
}

impl Project {
    pub fn parse(file: &str, text: &str) -> Result<Self> {
        let table: toml::Table = parse(file, text)?;
        let project = match table.get("_") {
            Some(_) => Self::new(file, text)?,
            None => Self::old(file, text)?,
        };
        let wrong = |message: &str| Err(Error::document(file, message));
        if !project.include.is_empty() && !project.exclude.is_empty() {
            return wrong("it has both `include` and `exclude`: leave one of them out");
        }
        for named in project.group.iter().chain(&project.pre).chain(&project.post) {
            let ways = [!named.version.is_empty(), !named.uri.is_empty(), named.script.is_some()];
            if ways.iter().filter(|way| **way).count() > 1 {
                return wrong("a buildpack has one of `version`, `uri` and `script`, not several");
            }
            if named.id.is_empty() && named.uri.is_empty() {
                return wrong("a buildpack has neither `id` nor `uri`");
            }
        }
        Ok(project)
    }

    fn new(file: &str, text: &str) -> Result<Self> {
        #[derive(Default, Deserialize)]
        #[serde(rename_all = "kebab-case")]
        struct About {
            #[serde(default)]
            schema_version: String,
            #[serde(default)]
            id: String,
            #[serde(default)]
            version: String,
            #[serde(default)]
            source_url: String,
        }
        #[derive(Default, Deserialize)]
        struct Some {
            #[serde(default)]
            group: Vec<Named>,
        }
        #[derive(Default, Deserialize)]
        struct Build {
            #[serde(default)]
            env: Vec<Variable>,
        }
        #[derive(Default, Deserialize)]
        struct Buildpacks {
            builder: Option<String>,
            #[serde(default)]
            include: Vec<String>,
            #[serde(default)]
            exclude: Vec<String>,
            #[serde(default)]
            group: Vec<Named>,
            #[serde(default)]
            pre: Some,
            #[serde(default)]
            post: Some,
            #[serde(default)]
            build: Build,
        }
        #[derive(Default, Deserialize)]
        struct Io {
            #[serde(default)]
            buildpacks: Buildpacks,
        }
        #[derive(Deserialize)]
        struct File {
            #[serde(rename = "_", default)]
            about: About,
            #[serde(default)]
            io: Io,
        }
        let read: File = parse(file, text)?;
        if read.about.schema_version != "0.2" {
            let found = &read.about.schema_version;
            return Err(Error::document(
                file,
                format!("schema-version is `{found}`: 0.2 is understood, or 0.1 without a table `_`"),
            ));
        }
        let buildpacks = read.io.buildpacks;
        Ok(Self {
            id: read.about.id,
            version: read.about.version,
            source_url: read.about.source_url,
            builder: buildpacks.builder,
            include: buildpacks.include,
            exclude: buildpacks.exclude,
            group: buildpacks.group,
            pre: buildpacks.pre.group,
            post: buildpacks.post.group,
            env: buildpacks.build.env.into_iter().map(|one| (one.name, one.value)).collect(),
        })
    }

    fn old(file: &str, text: &str) -> Result<Self> {
        #[derive(Default, Deserialize)]
        #[serde(rename_all = "kebab-case")]
        struct About {
            #[serde(default)]
            id: String,
            #[serde(default)]
            version: String,
            #[serde(default)]
            source_url: String,
        }
        #[derive(Default, Deserialize)]
        struct Build {
            builder: Option<String>,
            #[serde(default)]
            include: Vec<String>,
            #[serde(default)]
            exclude: Vec<String>,
            #[serde(default)]
            buildpacks: Vec<Named>,
            #[serde(default)]
            env: Vec<Variable>,
        }
        #[derive(Deserialize)]
        struct File {
            #[serde(default)]
            project: About,
            #[serde(default)]
            build: Build,
        }
        let read: File = parse(file, text)?;
        Ok(Self {
            id: read.project.id,
            version: read.project.version,
            source_url: read.project.source_url,
            builder: read.build.builder,
            include: read.build.include,
            exclude: read.build.exclude,
            group: read.build.buildpacks,
            env: read.build.env.into_iter().map(|one| (one.name, one.value)).collect(),
            ..Self::default()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_schemas_say_the_same() {
        let new = "[_]\nschema-version = \"0.2\"\nid = \"p\"\n[io.buildpacks]\nbuilder = \"b\"\nexclude = [\"spec/\"]\n[[io.buildpacks.group]]\nid = \"x\"\nversion = \"1\"\n[[io.buildpacks.build.env]]\nname = \"A\"\nvalue = \"1\"\n";
        let old = "[project]\nid = \"p\"\n[build]\nbuilder = \"b\"\nexclude = [\"spec/\"]\n[[build.buildpacks]]\nid = \"x\"\nversion = \"1\"\n[[build.env]]\nname = \"A\"\nvalue = \"1\"\n";
        let read = Project::parse("project.toml", new).unwrap();
        assert_eq!(read, Project::parse("project.toml", old).unwrap());
        assert_eq!((read.builder.as_deref(), read.env[0].0.as_str(), read.group.len()), (Some("b"), "A", 1));
    }

    #[test]
    fn contradictions_are_refused() {
        for (text, why) in [
            ("[_]\nschema-version = \"0.3\"\n", "schema-version"),
            ("[build]\ninclude = [\"a\"]\nexclude = [\"b\"]\n", "both"),
            ("[[build.buildpacks]]\nid = \"a\"\nversion = \"1\"\nuri = \"x\"\n", "not several"),
            ("[[build.buildpacks]]\nversion = \"1\"\n", "neither"),
            ("[build]\nbuilder = 3\n", "project.toml:2:11"),
        ] {
            let error = Project::parse("project.toml", text).unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        }
    }
}
