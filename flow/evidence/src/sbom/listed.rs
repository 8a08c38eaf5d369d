//! Packages that bills of materials in an image list: those that buildpacks leave at `/layers/sbom/launch`, as CycloneDX, SPDX or Syft JSON.
//!
//! What a buildpack says of what it installed is taken as it says it. Files, and entries without a name, are left out.

use std::str::FromStr;

use packageurl::PackageUrl;
use serde_json::Value;

use super::{catalogue::purl, facts::ListedPackage};
use crate::{error::clip, licence::Licence};

/// Where buildpacks leave them.
const PLACE: &str = "layers/sbom/launch/";

/// The largest document, and the most packages of one.
pub const LIMIT: u64 = 64 << 20;
const MOST: usize = 50_000;

/// How deep components lie in components.
const DEPTH: usize = 8;

/// Whether `path` is a bill of materials of a buildpack.
pub fn is_list(path: &str) -> bool {
    path.strip_prefix(PLACE).is_some_and(|rest| {
        let name = rest.rsplit('/').next().unwrap_or_default();
        matches!(name, "sbom.cdx.json" | "sbom.spdx.json" | "sbom.syft.json")
    })
}

/// Reads a document; `None` for one that lists nothing, or is of no kind that is known.
pub fn parse(text: &str) -> Option<Vec<ListedPackage>> {
    let json: Value = serde_json::from_str(text).ok()?;
    let mut found = Vec::new();
    if json["bomFormat"] == "CycloneDX" {
        cyclonedx(&json["components"], DEPTH, &mut found);
    } else if json["spdxVersion"].is_string() {
        json["packages"].as_array()?.iter().take(MOST).for_each(|package| found.extend(spdx(package)));
    } else {
        json["artifacts"].as_array()?.iter().take(MOST).for_each(|artifact| found.extend(syft(artifact)));
    }
    (!found.is_empty()).then_some(found)
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn cyclonedx(components: &Value, depth: usize, found: &mut Vec<ListedPackage>) {
    for component in components.as_array().into_iter().flatten() {
        if found.len() >= MOST || depth == 0 {
            return;
        }
        if component["type"] != "file" && component["type"] != "operating-system" {
            let licences = component["licenses"].as_array().into_iter().flatten().filter_map(|licence| {
                let named = &licence["license"];
                let said = [&licence["expression"], &named["id"], &named["name"]];
                said.into_iter().find_map(Value::as_str)
            });
            let (group, name) = (text(&component["group"]), text(&component["name"]));
            let name = if group.is_empty() { name.to_owned() } else { format!("{group}/{name}") };
            let version = text(&component["version"]);
            found.extend(package(&name, version, text(&component["purl"]), licences));
        }
        cyclonedx(&component["components"], depth - 1, found);
    }
}

fn spdx(package_of: &Value) -> Option<ListedPackage> {
    let references = package_of["externalRefs"].as_array().into_iter().flatten();
    let mut purls = references.filter(|reference| reference["referenceType"] == "purl");
    let purl = purls.next().map_or("", |reference| text(&reference["referenceLocator"]));
    let licences = [&package_of["licenseConcluded"], &package_of["licenseDeclared"]];
    let licences = licences.into_iter().map(text).filter(|said| !matches!(*said, "" | "NOASSERTION" | "NONE"));
    package(text(&package_of["name"]), text(&package_of["versionInfo"]), purl, licences.take(1))
}

fn syft(artifact: &Value) -> Option<ListedPackage> {
    let licences = artifact["licenses"].as_array().into_iter().flatten();
    let licences = licences.filter_map(|licence| licence.as_str().or_else(|| licence["value"].as_str()));
    package(text(&artifact["name"]), text(&artifact["version"]), text(&artifact["purl"]), licences)
}

fn package<'a>(name: &str, version: &str, url: &str, licences: impl Iterator<Item = &'a str>) -> Option<ListedPackage> {
    if name.is_empty() {
        return None;
    }
    let (name, version) = (clip(name, 300), clip(version, 200));
    let url = match PackageUrl::from_str(url) {
        Ok(parsed) if url.len() <= 1_000 => parsed.to_string(),
        // Without a version there is nothing behind the `@`, which goes too.
        _ => purl("generic", None, &name, &version, Vec::new()).trim_end_matches('@').to_owned(),
    };
    let mut licences: Vec<Licence> = licences.take(20).filter_map(Licence::parse).collect();
    licences.sort();
    licences.dedup();
    Some(ListedPackage { purl: url, name, version, licences })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> Vec<String> {
        let show = |one: ListedPackage| {
            let licences: Vec<&str> = one.licences.iter().map(Licence::text).collect();
            format!("{} {} {} [{}]", one.purl, one.name, one.version, licences.join(", "))
        };
        parse(text).unwrap_or_default().into_iter().map(show).collect()
    }

    #[test]
    fn the_three_formats_say_the_same() {
        let same = ["pkg:golang/example.org/tool@v1.2.3 tool v1.2.3 [MIT]"];
        let cyclonedx = r#"{"bomFormat": "CycloneDX", "components": [{"type": "library", "name": "tool", "version": "v1.2.3",
            "purl": "pkg:golang/example.org/tool@v1.2.3", "licenses": [{"license": {"id": "MIT"}}]}, {"type": "file", "name": "x"}]}"#;
        let spdx = r#"{"spdxVersion": "SPDX-2.3", "packages": [{"name": "tool", "versionInfo": "v1.2.3", "licenseConcluded": "NOASSERTION",
            "licenseDeclared": "MIT", "externalRefs": [{"referenceType": "cpe23Type", "referenceLocator": "x"},
            {"referenceType": "purl", "referenceLocator": "pkg:golang/example.org/tool@v1.2.3"}]}]}"#;
        let syft = r#"{"artifacts": [{"name": "tool", "version": "v1.2.3", "purl": "pkg:golang/example.org/tool@v1.2.3",
            "licenses": ["MIT", {"value": "MIT"}]}]}"#;
        for text in [cyclonedx, spdx, syft] {
            assert_eq!(shown(text), same, "{text}");
        }
    }

    #[test]
    fn what_has_no_url_gets_one_and_what_is_no_list_is_none() {
        let nested = r#"{"bomFormat": "CycloneDX", "components": [{"name": "a", "purl": "nonsense", "components": [{"name": "b", "version": "2"}]}]}"#;
        assert_eq!(shown(nested), ["pkg:generic/a a  []", "pkg:generic/b@2 b 2 []"]);
        for text in ["", "[]", "{}", "{\"artifacts\": []}", "{\"bomFormat\": \"CycloneDX\"}"] {
            assert_eq!(parse(text), None, "{text}");
        }
        assert!(is_list("layers/sbom/launch/a_b/deps/sbom.cdx.json") && !is_list("layers/sbom/build/a/sbom.cdx.json"));
        assert!(!is_list("layers/sbom/launch/a/other.json"));
    }
}
