//! SLSA v1 provenance (<https://slsa.dev/spec/v1.0/provenance>): which run of which pipeline made an image from which commit.

use std::collections::BTreeMap;

use base64::{Engine, prelude::BASE64_STANDARD};
use records::{CommitId, Digest, TestSummary, Timestamp};
use serde::{Deserialize, Serialize};

use crate::{error::clip, facts::RunFacts, statement::digests};

/// The predicate type.
pub const PREDICATE_TYPE: &str = "https://slsa.dev/provenance/v1";

/// What the external parameters mean: a Shipway pipeline that was started by a commit.
pub const BUILD_TYPE: &str = "https://shipway.dev/build-types/pipeline/v1";

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Predicate {
    pub build_definition: BuildDefinition,
    pub run_details: RunDetails,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BuildDefinition {
    pub build_type: String,
    pub external_parameters: ExternalParameters,
    pub internal_parameters: InternalParameters,
    #[serde(default)]
    pub resolved_dependencies: Vec<Resource>,
}

/// All that decides what is built.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ExternalParameters {
    /// The repository, as a URI.
    pub source: String,
    pub branch: String,
    pub commit: CommitId,
    pub pipeline: Pipeline,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Pipeline {
    pub path: String,
    pub digest: BTreeMap<String, String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct InternalParameters {
    pub project: String,
    pub build: u64,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Resource {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uri: Option<String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub digest: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<String>,
    /// Base64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunDetails {
    pub builder: Builder,
    pub metadata: RunMetadata,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub byproducts: Vec<Resource>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Builder {
    pub id: String,
    #[serde(default)]
    pub version: BTreeMap<String, String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RunMetadata {
    pub invocation_id: String,
    pub started_on: Timestamp,
    pub finished_on: Timestamp,
}

/// The name of the by-product with the test results.
pub const TESTS: &str = "test-results";

/// The test results of a run, as its provenance holds them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tests {
    pub passed: u64,
    pub failed: u64,
    pub skipped: u64,
}

/// Writes the provenance of an image that a run made.
pub fn predicate(facts: &RunFacts) -> Predicate {
    let source = &facts.source;
    let mut dependencies = vec![Resource {
        uri: Some(format!("{}@{}", source.uri, facts.commit)),
        digest: BTreeMap::from([("gitCommit".to_owned(), facts.commit.to_string())]),
        ..Resource::default()
    }];
    let images =
        facts.bases.iter().map(|image| ("base", image)).chain(facts.step_images.iter().map(|image| ("step", image)));
    let mut seen = std::collections::BTreeSet::new();
    for (role, image) in images.filter(|image| seen.insert((image.0, image.1.clone()))) {
        let (name, digest) = image.rsplit_once('@').unwrap_or((image, ""));
        let digest = digest.parse::<Digest>().ok();
        dependencies.push(Resource {
            name: Some(role.to_owned()),
            uri: Some(oci_purl(name, digest.as_ref())),
            digest: digest.as_ref().map(digests).unwrap_or_default(),
            ..Resource::default()
        });
    }
    Predicate {
        build_definition: BuildDefinition {
            build_type: BUILD_TYPE.into(),
            external_parameters: ExternalParameters {
                source: source.uri.clone(),
                branch: source.branch.clone(),
                commit: facts.commit.clone(),
                pipeline: Pipeline { path: source.pipeline.clone(), digest: digests(&source.pipeline_digest) },
            },
            internal_parameters: InternalParameters { project: facts.run.project.to_string(), build: facts.run.build },
            resolved_dependencies: dependencies,
        },
        run_details: RunDetails {
            builder: Builder {
                id: facts.builder.clone(),
                version: BTreeMap::from([("shipway".to_owned(), env!("CARGO_PKG_VERSION").to_owned())]),
            },
            metadata: RunMetadata {
                invocation_id: facts.run.to_string(),
                started_on: facts.started_at,
                finished_on: facts.finished_at,
            },
            byproducts: vec![test_results(&facts.tests)],
        },
    }
}

fn oci_purl(name: &str, digest: Option<&Digest>) -> String {
    let short = name.rsplit('/').next().unwrap_or(name);
    let short = short.split(':').next().unwrap_or(short);
    let version = digest.map_or("", Digest::as_str);
    crate::sbom::catalogue::purl("oci", None, short, version, vec![("repository_url", name.to_owned())])
}

fn test_results(tests: &TestSummary) -> Resource {
    let sum = Tests { passed: tests.passed, failed: tests.failed, skipped: tests.skipped };
    let content = format!(r#"{{"passed":{},"failed":{},"skipped":{}}}"#, sum.passed, sum.failed, sum.skipped);
    Resource {
        name: Some(TESTS.into()),
        media_type: Some("application/json".into()),
        digest: digests(&image::hash::digest(image::Algorithm::Sha256, content.as_bytes())),
        content: Some(BASE64_STANDARD.encode(content)),
        ..Resource::default()
    }
}

impl Predicate {
    /// The test results that it holds; `None` when they are not there or not what their digest says.
    pub fn tests(&self) -> Option<Tests> {
        let found = self.run_details.byproducts.iter().find(|one| one.name.as_deref() == Some(TESTS))?;
        let content = BASE64_STANDARD.decode(found.content.as_ref()?).ok()?;
        let digest = image::hash::digest(image::Algorithm::Sha256, &content);
        (found.digest == digests(&digest)).then(|| serde_json::from_slice(&content).ok())?
    }

    /// One sentence for people.
    pub fn summary(&self) -> String {
        let run = clip(&self.run_details.metadata.invocation_id, 100);
        let commit = self.build_definition.external_parameters.commit.short();
        let tests = self
            .tests()
            .map_or_else(String::new, |tests| format!(", {} tests passed, {} failed", tests.passed, tests.failed));
        format!("run {run} of commit {commit}{tests}")
    }
}
