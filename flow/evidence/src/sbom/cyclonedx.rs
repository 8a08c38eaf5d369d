//! CycloneDX 1.6 as JSON (<https://cyclonedx.org/docs/1.6/json/>): the part of it that Shipway writes and reads back.
//!
//! Documents are deterministic: the same image and time give the same bytes. The serial number is derived from what the document
//! speaks of.

use records::{Digest, Timestamp};
use serde::{Deserialize, Serialize};

use super::catalogue::{Catalogue, Ecosystem, Package, purl};
use crate::licence::Licence;

/// The media type of a document.
pub const MEDIA_TYPE: &str = "application/vnd.cyclonedx+json";

/// A document: a bill of materials, or a report of vulnerabilities.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Bom {
    pub bom_format: String,
    pub spec_version: String,
    pub serial_number: String,
    pub version: u32,
    pub metadata: Metadata,
    #[serde(default)]
    pub components: Vec<Component>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dependencies: Vec<Dependency>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vulnerabilities: Option<Vec<serde_json::Value>>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Metadata {
    pub timestamp: Timestamp,
    pub tools: Tools,
    pub component: Component,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Tools {
    #[serde(default)]
    pub components: Vec<Component>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Component {
    #[serde(rename = "type")]
    pub kind: String,
    #[serde(rename = "bom-ref", default, skip_serializing_if = "Option::is_none")]
    pub bom_ref: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub supplier: Option<Supplier>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    pub name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hashes: Vec<Hash>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub licenses: Vec<LicenceChoice>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub purl: Option<String>,
    #[serde(rename = "externalReferences", default, skip_serializing_if = "Vec::is_empty")]
    pub external_references: Vec<ExternalReference>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub properties: Vec<Property>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evidence: Option<Occurrences>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Supplier {
    pub name: String,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Hash {
    pub alg: String,
    pub content: String,
}

/// Either licences, or exactly one expression: the schema does not allow both in one component.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LicenceChoice {
    License(NamedLicence),
    Expression(String),
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NamedLicence {
    Id(String),
    Name(String),
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ExternalReference {
    #[serde(rename = "type")]
    pub kind: String,
    pub url: String,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Property {
    pub name: String,
    pub value: String,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Occurrences {
    pub occurrences: Vec<Occurrence>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Occurrence {
    pub location: String,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Dependency {
    #[serde(rename = "ref")]
    pub of: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub depends_on: Vec<String>,
}

/// The image as a component: `version` is its digest.
pub fn image_component(repository: &str, digest: &Digest) -> Component {
    let name = repository.rsplit('/').next().unwrap_or(repository);
    let image = purl("oci", None, name, digest.as_str(), vec![("repository_url", repository.to_owned())]);
    let alg = if digest.algorithm() == "sha512" { "SHA-512" } else { "SHA-256" };
    Component {
        kind: "container".into(),
        bom_ref: Some(image.clone()),
        name: repository.to_owned(),
        version: Some(digest.to_string()),
        hashes: vec![Hash { alg: alg.into(), content: digest.hex().into() }],
        purl: Some(image),
        ..Component::default()
    }
}

/// Shipway, as the tool that wrote a document.
pub fn tool() -> Tools {
    let shipway = Component {
        kind: "application".into(),
        name: "shipway".into(),
        version: Some(env!("CARGO_PKG_VERSION").into()),
        ..Component::default()
    };
    Tools { components: vec![shipway] }
}

/// A UUID (version 8 of RFC 9562: made from a hash) that names a document by what it speaks of.
pub fn serial_number(of: &[&str]) -> String {
    let sum = image::hash::digest(image::Algorithm::Sha256, of.join("\n").as_bytes());
    let hex = sum.hex();
    format!("urn:uuid:{}-{}-8{}-9{}-{}", &hex[..8], &hex[8..12], &hex[13..16], &hex[17..20], &hex[20..32])
}

/// The bill of materials of an image.
pub fn document(repository: &str, digest: &Digest, catalogue: &Catalogue, now: Timestamp) -> Bom {
    let image = image_component(repository, digest);
    let root = image.bom_ref.clone().unwrap_or_default();
    let mut components = Vec::with_capacity(catalogue.packages.len() + 1);
    if let Some(os) = &catalogue.os {
        components.push(Component {
            kind: "operating-system".into(),
            bom_ref: Some(format!("os:{}@{}", os.id, os.version_id)),
            name: os.id.clone(),
            version: (!os.version_id.is_empty()).then(|| os.version_id.clone()),
            description: (!os.name.is_empty()).then(|| os.name.clone()),
            ..Component::default()
        });
    }
    components.extend(catalogue.packages.values().map(component));
    let mut dependencies = vec![Dependency {
        of: root,
        depends_on: components.iter().filter_map(|component| component.bom_ref.clone()).collect(),
    }];
    dependencies.extend(
        catalogue
            .packages
            .values()
            .map(|p| Dependency { of: p.purl.clone(), depends_on: p.depends.iter().cloned().collect() }),
    );
    Bom {
        bom_format: "CycloneDX".into(),
        spec_version: "1.6".into(),
        serial_number: serial_number(&["sbom", repository, digest.as_str(), env!("CARGO_PKG_VERSION")]),
        version: 1,
        metadata: Metadata { timestamp: now, tools: tool(), component: image },
        components,
        dependencies,
        vulnerabilities: None,
    }
}

/// A package as a component.
pub fn component(package: &Package) -> Component {
    let (group, name) = match (package.ecosystem, package.name.split_once('/')) {
        (Ecosystem::Npm, Some((scope, name))) => (Some(scope.to_owned()), name.to_owned()),
        _ => (None, package.name.clone()),
    };
    let mut references = Vec::new();
    if let Some(url) = &package.homepage {
        references.push(ExternalReference { kind: "website".into(), url: url.clone() });
    }
    if let Some(url) = &package.resolved {
        references.push(ExternalReference { kind: "distribution".into(), url: url.clone() });
    }
    Component {
        kind: "library".into(),
        bom_ref: Some(package.purl.clone()),
        supplier: package.maintainer.clone().map(|name| Supplier { name }),
        group,
        name,
        version: Some(package.version.clone()),
        description: package.description.clone(),
        hashes: package.hash.iter().map(|(alg, content)| Hash { alg: alg.clone(), content: content.clone() }).collect(),
        licenses: licences(&package.licences),
        purl: Some(package.purl.clone()),
        external_references: references,
        properties: properties(package),
        evidence: Some(Occurrences {
            occurrences: package.locations.iter().map(|location| Occurrence { location: location.clone() }).collect(),
        }),
    }
}

fn licences(licences: &[Licence]) -> Vec<LicenceChoice> {
    if let [Licence::Expression(expression)] = licences {
        return vec![LicenceChoice::Expression(expression.clone())];
    }
    let named = licences.iter().map(|licence| match licence {
        Licence::Id(id) => NamedLicence::Id(id.clone()),
        Licence::Expression(text) | Licence::Name(text) => NamedLicence::Name(text.clone()),
    });
    named.map(LicenceChoice::License).collect()
}

/// The source package under the names by which Trivy finds it in documents of its own.
fn properties(package: &Package) -> Vec<Property> {
    let Some((source, version)) = &package.source else { return Vec::new() };
    let (epoch, rest) = version.split_once(':').map_or((None, version.as_str()), |(epoch, rest)| (Some(epoch), rest));
    let (upstream, revision) = rest.rsplit_once('-').map_or((rest, None), |(up, revision)| (up, Some(revision)));
    let property =
        |name: &str, value: &str| Property { name: format!("aquasecurity:trivy:{name}"), value: value.to_owned() };
    let mut properties =
        vec![property("PkgType", "debian"), property("SrcName", source), property("SrcVersion", upstream)];
    properties.extend(revision.map(|revision| property("SrcRelease", revision)));
    properties.extend(epoch.map(|epoch| property("SrcEpoch", epoch)));
    properties
}
