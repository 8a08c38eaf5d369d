//! Charts in registries.

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use chart::{
    Chart,
    version::{Range, Version},
};
use image::{Reference, client, media::OCI_MANIFEST};
use serde_json::{Value as Json, json};

use super::{
    access::{Access, LARGEST_CHART},
    login,
    places::Places,
    reference::Fetched,
};
use crate::fault::{Class, Fault, Result};

const CONFIG: &str = "application/vnd.cncf.helm.config.v1+json";
const CONTENT: &str = "application/vnd.cncf.helm.chart.content.v1.tar+gzip";
/// What charts were called before.
const OLD_CONTENT: &str = "application/tar+gzip";
const PROVENANCE: &str = "application/vnd.cncf.helm.chart.provenance.v1.prov";

/// One repository of a registry, and a client for it.
pub struct Registry {
    client: client::Client,
    named: Reference,
}

/// What was pushed.
pub struct Pushed {
    pub reference: String,
    pub digest: String,
}

impl Registry {
    /// The repository that `oci://HOST/PATH[:TAG][@DIGEST]` names; with the credentials of the flags, else with those of
    /// earlier log-ins.
    pub fn new(reference: &str, access: &Access, places: &Places) -> Result<Self> {
        let bare = reference.strip_prefix("oci://").unwrap_or(reference).trim_end_matches('/');
        // A tag has no `+`, which versions may have.
        let named: Reference = bare.replace('+', "_").parse().map_err(|e: image::Error| {
            Fault::usage(format!("`{reference}` names no chart in a registry: {e}"))
                .hint("oci://HOST/PATH/CHART[:VERSION]")
        })?;
        let Some(host) = named.host.clone() else {
            return Err(
                Fault::usage(format!("`{reference}` names no registry")).hint("oci://HOST/PATH/CHART[:VERSION]")
            );
        };
        Ok(Self { client: client(&host, access, places)?, named })
    }

    /// The chart of a version, of the newest one in a range, or of the tag or digest in the reference.
    pub async fn fetch(&self, version: &str, provenance: bool) -> Result<Fetched> {
        let tagged = self.named.tag.as_deref().map(|tag| tag.replace('_', "+"));
        let version = match (version, &tagged) {
            ("", Some(tag)) => tag.clone(),
            (version, Some(tag)) if version != tag => {
                return Err(Fault::usage(format!("chart reference and version mismatch: {version} is not {tag}")));
            }
            (version, _) => version.to_owned(),
        };
        let version = match &self.named.digest {
            None if Version::parse(&version).is_none() => self.newest(&version).await?,
            _ => version,
        };
        let tag = Some(version.replace('+', "_")).filter(|tag| !tag.is_empty());
        let reference = Reference { tag, ..self.named.clone() };
        let manifest = self.client.manifest(&reference).await.map_err(said)?;
        let document: Json = serde_json::from_slice(&manifest.content).unwrap_or_default();
        let is = |wanted: &str| document["config"]["mediaType"] == wanted;
        if !is(CONFIG) {
            return Err(Fault::new(
                Class::Failed,
                format!("{reference} is no chart: could not load config with mediatype {CONFIG}"),
            ));
        }
        let layers = document["layers"].as_array().cloned().unwrap_or_default();
        let layer = |types: &[&str]| {
            let found = layers.iter().find(|layer| types.iter().any(|kind| layer["mediaType"] == *kind));
            let digest = found.and_then(|layer| layer["digest"].as_str()?.parse().ok());
            let lacks = format!("{reference}: manifest does not contain a layer with mediatype {}", types[0]);
            digest.ok_or_else(|| Fault::new(Class::Failed, lacks))
        };
        let content = layer(&[CONTENT, OLD_CONTENT])?;
        let archive = self.client.content(&reference, &content, LARGEST_CHART).await.map_err(said)?.to_vec();
        let provenance = match provenance {
            true => {
                Some(self.client.content(&reference, &layer(&[PROVENANCE])?, 1 << 20).await.map_err(said)?.to_vec())
            }
            false => None,
        };
        super::warned(format!("Pulled: {reference}\nDigest: {}", manifest.digest));
        let name = self.named.repository.rsplit('/').next().unwrap_or(&self.named.repository);
        let version = if version.is_empty() { manifest.digest.hex()[..12].to_owned() } else { version };
        Ok(Fetched { name: format!("{name}-{version}.tgz"), archive, provenance })
    }

    /// The tags that are versions, the newest first.
    pub async fn versions(&self) -> Result<Vec<String>> {
        let tags = self.client.tags(&self.named).await.map_err(said)?;
        let mut versions: Vec<Version> =
            tags.iter().filter_map(|tag| Version::parse_strict(&tag.replace('_', "+"))).collect();
        versions.sort_by(|a, b| b.compare(a));
        Ok(versions.into_iter().map(|version| version.original).collect())
    }

    async fn newest(&self, range: &str) -> Result<String> {
        let versions = self.versions().await?;
        if versions.is_empty() {
            return Err(Fault::not_found(format!(
                "unable to locate any tags in provided repository: oci://{}",
                self.named
            )));
        }
        if versions.iter().any(|version| version == range) {
            return Ok(range.to_owned());
        }
        let wanted = Range::parse(if range.is_empty() { "*" } else { range });
        let wanted = wanted.map_err(|why| Fault::usage(format!("{range:?} is no range of versions: {why}")))?;
        let fits = |version: &String| Version::parse(version).is_some_and(|version| wanted.contains(&version));
        versions.iter().find(|version| fits(version)).cloned().ok_or_else(|| {
            let newest: Vec<&str> = versions.iter().take(5).map(String::as_str).collect();
            Fault::not_found(format!("could not locate a version matching provided version string {range}"))
                .hint(format!("the newest ones of oci://{} are {}", self.named, newest.join(", ")))
        })
    }

    /// Pushes a packed chart (and its provenance) under its name and version into the path that the reference names.
    /// `created` is when the archive was written, RFC 3339.
    pub async fn push(
        &self,
        chart: &Chart,
        archive: Bytes,
        provenance: Option<Bytes>,
        created: &str,
    ) -> Result<Pushed> {
        let metadata = &chart.metadata;
        let tag = metadata.version.replace('+', "_");
        let repository = format!("{}/{}", self.named.repository, metadata.name);
        image::reference::check_repository(&repository)
            .and_then(|()| image::reference::check_tag(&tag))
            .map_err(said)?;
        let to = Reference { repository, tag: Some(tag), host: self.named.host.clone(), digest: None };
        // As Go's encoder writes it, so that the same chart has the same digest whoever pushes it.
        let config = ['<', '>', '&']
            .into_iter()
            .fold(metadata.json().to_string(), |json, c| json.replace(c, &format!("\\u{:04x}", c as u32)));
        let config = Bytes::from(config);
        let describe = |media_type: &str, content: &Bytes| {
            let digest = image::hash::digest(image::Algorithm::Sha256, content);
            json!({ "mediaType": media_type, "digest": digest.as_str(), "size": content.len() })
        };
        let mut layers = vec![describe(CONTENT, &archive)];
        layers.extend(provenance.as_ref().map(|provenance| describe(PROVENANCE, provenance)));
        layers.sort_by_key(|layer| layer["digest"].as_str().unwrap_or_default().to_owned());
        let manifest = json!({
            "schemaVersion": 2,
            "config": describe(CONFIG, &config),
            "layers": layers,
            "annotations": annotations(chart, created),
        });
        let manifest = Bytes::from(manifest.to_string());
        let mut blobs = vec![archive, config];
        blobs.extend(provenance);
        let digest = self.client.push_artifact(&to, OCI_MANIFEST, manifest, &blobs).await.map_err(said)?;
        Ok(Pushed { reference: to.to_string(), digest: digest.to_string() })
    }
}

/// A client for one registry.
pub fn client(host: &str, access: &Access, places: &Places) -> Result<client::Client> {
    let given = access.username.clone().zip(access.password.clone());
    let logins = places.registries();
    let credentials = move |host: &str| match &given {
        Some((user, password)) => Some(client::Credentials { user: user.clone(), password: password.clone() }),
        None => login::find(&logins, host),
    };
    let plain_http = access.plain_http.then(|| host.to_owned()).into_iter().collect();
    let tls = access.wants_tls().then(|| host.to_owned()).into_iter().collect();
    let options = client::Options { plain_http, tls, credentials: Arc::new(credentials), ..client::Options::default() };
    Ok(client::Client::with(access.http()?, options))
}

/// What a registry shows of a chart, by the names that OCI gives.
fn annotations(chart: &Chart, created: &str) -> BTreeMap<String, String> {
    let metadata = &chart.metadata;
    let authors = metadata.maintainers.iter().map(|person| match person.email.as_str() {
        "" => person.name.clone(),
        email => format!("{} ({email})", person.name),
    });
    let authors: Vec<String> = authors.collect();
    let own = [
        ("description", metadata.description.as_str()),
        ("title", &metadata.name),
        ("version", &metadata.version),
        ("url", &metadata.home),
        ("created", created),
        ("source", metadata.sources.first().map_or("", String::as_str)),
        ("authors", &authors.join(", ")),
    ];
    let own = own.into_iter().filter(|(_, text)| !text.trim().is_empty());
    let mut all: BTreeMap<String, String> =
        own.map(|(key, text)| (format!("org.opencontainers.image.{key}"), text.to_owned())).collect();
    for (key, text) in &metadata.annotations {
        if !matches!(key.as_str(), "org.opencontainers.image.version" | "org.opencontainers.image.title") {
            all.insert(key.clone(), text.clone());
        }
    }
    all
}

/// An error of the client, as this program says it.
pub fn said(error: image::Error) -> Fault {
    let class = match error.kind {
        image::Kind::Unauthorized => Class::Unauthorized,
        image::Kind::ManifestUnknown | image::Kind::NameUnknown | image::Kind::BlobUnknown => Class::NotFound,
        image::Kind::NameInvalid | image::Kind::TagInvalid => Class::Usage,
        image::Kind::TooLarge => Class::TooLarge,
        _ => Class::Unavailable,
    };
    let fault = Fault::from_error(class, &error);
    match class {
        Class::Unauthorized => fault.hint("`shipway helm registry login HOST` keeps credentials"),
        _ => fault,
    }
}
