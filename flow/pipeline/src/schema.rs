//! The JSON Schema of `.shipway.yaml`, with which editors complete and check the file.
//!
//! These types describe the file as it is written and are never filled: the parser reads the YAML itself, for messages with places. A test
//! holds the two together.
#![allow(dead_code, reason = "the types are only described")]

use std::collections::BTreeMap;

use schemars::{JsonSchema, generate::SchemaSettings};

/// The JSON Schema (draft 7, which YAML editors know best), ending in a line break.
pub fn schema() -> String {
    let generator = SchemaSettings::draft07().into_generator();
    let schema = generator.into_root_schema_for::<File>();
    // A schema holds only text, numbers and lists of them: it can always be written.
    let mut text = serde_json::to_string_pretty(&schema).unwrap_or_default();
    text.push('\n');
    text
}

/// The way of a commit from its tests to where it runs. Read top to bottom.
#[derive(JsonSchema)]
#[schemars(title = "Shipway pipeline", rename_all = "kebab-case", deny_unknown_fields, extend("patternProperties" = { "^x-": true }))]
struct File {
    /// Programs that run in containers on the files of the commit. A step without `needs` waits for the step above it; a step that fails stops everything after it.
    steps: Option<Vec<Step>>,
    /// Images that are made by Dockerfiles or by buildpacks, and pushed into Shipway's registry.
    images: Option<Vec<Image>>,
    /// What an image must bring to run in an environment.
    verify: Option<Verify>,
    /// Where the images go.
    deploy: Option<Deploy>,
}

/// A name: a-z, 0-9 and `-`, with a letter or digit at both ends.
#[derive(JsonSchema)]
struct Label(#[schemars(regex(pattern = r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$"))] String);

/// A duration such as `20s`, `5m` or `1h30m`.
#[derive(JsonSchema)]
struct Duration(#[schemars(regex(pattern = r"^([0-9]+h)?([0-9]+m(in)?)?([0-9]+s)?([0-9]+ms)?$"))] String);

/// A text; numbers and `true` or `false` are taken as they are written.
#[derive(JsonSchema)]
#[schemars(untagged)]
enum Text {
    Quoted(String),
    Number(f64),
    Bool(bool),
    Empty(()),
}

#[derive(JsonSchema)]
#[schemars(untagged)]
enum OneOrMore {
    One(String),
    More(Vec<String>),
}

#[derive(JsonSchema)]
#[schemars(rename_all = "kebab-case", deny_unknown_fields)]
struct Step {
    /// The name by which the step is known in the run and in `needs`.
    name: Label,
    /// The image to run in, resolved once and recorded by digest. `latest` is refused.
    image: String,
    /// A script for `/bin/sh -eu`, or a program and its arguments as a list.
    run: OneOrMore,
    /// The steps that must have succeeded before this one starts. Without it: the step above. `[]`: none.
    needs: Option<OneOrMore>,
    /// Environment variables.
    env: Option<BTreeMap<String, Text>>,
    /// The directory to run in, relative to the top of the repository.
    workdir: Option<String>,
    /// After how long the step is stopped.
    #[schemars(extend("default" = "30m"))]
    timeout: Option<Duration>,
    /// Secrets that the step is given as environment variables. Their values are hidden in the log.
    secrets: Option<Vec<Secret>>,
    /// Patterns of files to keep, also when the step fails, relative to the top of the repository. Steps that need this one find them in place.
    artifacts: Option<OneOrMore>,
    /// Reports that the step writes.
    reports: Option<Reports>,
    /// What the step reaches: `bridge` (other machines) or `none`.
    #[schemars(extend("default" = "bridge"))]
    network: Option<Network>,
    /// The memory that the step may use, such as `512Mi` or `2Gi`.
    #[schemars(regex(pattern = r"^[0-9]+ ?(B|[kKMG]B?|[KMG]i|[KMG]iB)?$"))]
    memory: Option<String>,
}

#[derive(JsonSchema)]
#[schemars(untagged)]
enum Secret {
    /// The name of the secret and of the variable that holds it.
    Name(String),
    Use(SecretUse),
}

#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct SecretUse {
    /// The name of the secret.
    name: String,
    /// The environment variable that holds it. Without it: the name of the secret.
    env: Option<String>,
}

#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct Reports {
    /// Patterns of JUnit XML files, relative to the top of the repository.
    junit: Option<OneOrMore>,
}

#[derive(JsonSchema)]
#[schemars(rename_all = "kebab-case")]
enum Network {
    Bridge,
    None,
}

#[derive(JsonSchema)]
#[schemars(rename_all = "kebab-case", deny_unknown_fields)]
struct Image {
    /// The repository in Shipway's registry, for example `journal/frontend`.
    name: String,
    /// The directory that the build sees, relative to the top of the repository.
    #[schemars(extend("default" = "."))]
    context: Option<String>,
    /// The Dockerfile, relative to the context. Without it: `Dockerfile` or `Containerfile`; where the context has neither, buildpacks make the image.
    #[schemars(extend("default" = "Dockerfile"))]
    dockerfile: Option<String>,
    /// The stage to build. Without it: the last.
    target: Option<String>,
    /// Values of the Dockerfile's `ARG`s.
    args: Option<BTreeMap<String, Text>>,
    /// The builder on which buildpacks make the image, in place of a Dockerfile: an image, or a directory of the repository with `builder.toml`. Without it: that of `project.toml`, else the server's.
    builder: Option<String>,
    /// Buildpacks in place of the builder's order: directories of the repository, images, addresses of archives, `id[@version]` of the builder's, `from=builder` for all of its.
    buildpacks: Option<OneOrMore>,
    /// The image that what the buildpacks make stands on. Without it: what the builder names.
    run_image: Option<String>,
    /// Variables for buildpacks, over those of `project.toml`.
    env: Option<BTreeMap<String, Text>>,
    /// The project's file, relative to the context.
    #[schemars(extend("default" = "project.toml"))]
    descriptor: Option<String>,
    /// The process that the image starts. Without it: what the buildpacks say.
    default_process: Option<String>,
    /// The tag: build-id, system-build-id, git-hash, git-hash-build-id, or a text with `{commit}`, `{build}` or `{system-build}` in it. `latest` is refused.
    #[schemars(extend("default" = "{commit}-{build}"))]
    tag: Option<String>,
    /// The steps that must have succeeded before the image is built. Without it: all.
    needs: Option<OneOrMore>,
}

#[derive(JsonSchema)]
#[schemars(rename_all = "kebab-case", deny_unknown_fields)]
struct Verify {
    /// The kinds of evidence without which nothing runs. Without it: all of them.
    require: Option<Vec<Evidence>>,
    /// What is done about known vulnerabilities.
    vulnerabilities: Option<Vulnerabilities>,
    /// What is done about licences.
    licences: Option<Licences>,
    /// The keys that sign: `ci` is the server's own.
    #[schemars(extend("default" = ["ci"]))]
    sign: Option<Vec<Key>>,
}

#[derive(JsonSchema)]
#[schemars(rename_all = "kebab-case")]
enum Evidence {
    Sbom,
    Vulnerabilities,
    Provenance,
    Signature,
}

#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct Vulnerabilities {
    /// The severity from which a finding refuses an image.
    #[schemars(extend("default" = "high"))]
    fail: Option<Severity>,
    /// Patterns of OpenVEX documents that say which findings do not apply.
    vex: Option<OneOrMore>,
}

#[derive(JsonSchema)]
#[schemars(rename_all = "kebab-case")]
enum Severity {
    Low,
    Medium,
    High,
    Critical,
    Never,
}

#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct Licences {
    /// SPDX identifiers of licences that refuse an image.
    deny: Option<OneOrMore>,
}

#[derive(JsonSchema)]
#[schemars(rename_all = "kebab-case")]
enum Key {
    Ci,
}

#[derive(JsonSchema)]
#[schemars(rename_all = "kebab-case", deny_unknown_fields)]
struct Deploy {
    /// The directory or file with the Kubernetes manifests, or the directory of a kustomization or a chart.
    #[schemars(extend("default" = "deploy"))]
    from: Option<String>,
    /// Files of values for the chart, later ones over earlier ones.
    values: Option<OneOrMore>,
    /// The environments, in the order in which they are shown.
    environments: Vec<Environment>,
}

#[derive(JsonSchema)]
#[schemars(rename_all = "kebab-case", deny_unknown_fields)]
struct Environment {
    name: Label,
    /// The namespace in the cluster. Without it: `<project>-<environment>`.
    namespace: Option<Label>,
    /// The environment in which a release must be complete before it comes here.
    after: Option<Label>,
    /// The groups of which one must approve.
    approve: Option<OneOrMore>,
    /// How a release replaces the one before it.
    #[schemars(extend("default" = "rolling"))]
    strategy: Option<Strategy>,
    /// What happens when a rollout fails: back to the last good release, or left for a person to look at.
    #[schemars(extend("default" = "rollback"))]
    on_failure: Option<OnFailure>,
    /// How long a rollout may make no progress before it has failed.
    #[schemars(extend("default" = "2m"))]
    progress_deadline: Option<Duration>,
    /// Files of values for the chart in this environment, over those of all environments.
    values: Option<OneOrMore>,
}

#[derive(JsonSchema)]
#[schemars(rename_all = "kebab-case")]
enum Strategy {
    Rolling,
    Recreate,
}

#[derive(JsonSchema)]
#[schemars(rename_all = "kebab-case")]
enum OnFailure {
    Rollback,
    Pause,
}

#[cfg(test)]
mod tests {
    use crate::parse::{TIMEOUT, keys};

    fn value() -> serde_json::Value {
        serde_json::from_str(&super::schema()).unwrap()
    }

    #[test]
    fn the_file_in_the_repository_is_current() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/schema.json");
        let schema = super::schema();
        if std::env::var_os("UPDATE_SCHEMA").is_some() {
            std::fs::write(path, &schema).unwrap();
        }
        let there = std::fs::read_to_string(path).unwrap_or_default();
        assert!(there == schema, "schema.json is not current: run `UPDATE_SCHEMA=1 cargo test -p pipeline schema`");
    }

    #[test]
    fn the_schema_knows_the_keys_that_the_parser_knows() {
        let schema = value();
        let of = |pointer: &str| -> Vec<String> {
            let properties = schema.pointer(&format!("{pointer}/properties")).unwrap_or_else(|| panic!("{pointer}"));
            properties.as_object().unwrap().keys().cloned().collect()
        };
        for (pointer, known) in [
            ("", keys::TOP),
            ("/definitions/Step", keys::STEP),
            ("/definitions/SecretUse", keys::SECRET),
            ("/definitions/Reports", keys::REPORTS),
            ("/definitions/Image", keys::IMAGE),
            ("/definitions/Verify", keys::VERIFY),
            ("/definitions/Vulnerabilities", keys::VULNERABILITIES),
            ("/definitions/Licences", keys::LICENCES),
            ("/definitions/Deploy", keys::DEPLOY),
            ("/definitions/Environment", keys::ENVIRONMENT),
        ] {
            assert_eq!(of(pointer), known, "{pointer}");
        }
    }

    #[test]
    fn the_defaults_it_names_are_those_of_the_parser() {
        let schema = value();
        assert_eq!(schema.pointer("/definitions/Step/properties/timeout/default").unwrap(), "30m");
        assert_eq!(TIMEOUT.as_secs(), 1800);
        let deadline = "/definitions/Environment/properties/progress-deadline/default";
        assert_eq!(schema.pointer(deadline).unwrap(), "2m");
        assert_eq!(crate::parse::PROGRESS_DEADLINE.as_secs(), 120);
    }
}
