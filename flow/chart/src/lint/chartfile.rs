//! What `helm lint` says about a `Chart.yaml`.

use yaml::Value;

use super::{Findings, Severity, text};
use crate::{
    File, Flavor,
    metadata::Metadata,
    version::{Range, Version},
};

const PATH: &str = "Chart.yaml";

pub(super) fn check(files: &[File], flavor: Flavor, findings: &mut Findings) {
    let Some(file) = files.iter().find(|file| file.name == PATH) else { return };
    let text = text(file);
    let mut metadata = Metadata::default();
    if let Err(error) = metadata.read(&text) {
        findings.error(PATH, format!("unable to parse YAML\n\t{error}"));
        return;
    }
    let raw = yaml::from_str(&text).unwrap_or_default();
    let strict = yaml::Decode { strict: true, ..yaml::Decode::default() }.value(&text);
    let said = match (strict, unknown(&raw)) {
        (Err(error), _) => Some(format!("error converting YAML to JSON: yaml: {}", error.message)),
        (Ok(_), field) => {
            field.map(|field| format!("error unmarshaling JSON: while decoding JSON: json: unknown field {field:?}"))
        }
    };
    if let Some(said) = said.filter(|_| flavor == Flavor::Helm4) {
        findings.add(Severity::Warning, PATH, format!("failed to strictly parse chart metadata file\n\t{said}"));
    }
    if metadata.name.is_empty() {
        findings.error(PATH, "name is required");
    } else if metadata.name.contains('/') {
        findings.error(PATH, format!("chart name {:?} is invalid", metadata.name));
    }
    match metadata.api_version.as_str() {
        "v1" | "v2" => {}
        "" => findings.error(PATH, "apiVersion is required. The value must be either \"v1\" or \"v2\""),
        other => {
            findings
                .error(PATH, format!("apiVersion '{other}' is not valid. The value must be either \"v1\" or \"v2\""));
        }
    }
    typed(&raw, "version", findings);
    version(&metadata, findings);
    typed(&raw, "appVersion", findings);
    for maintainer in &metadata.maintainers {
        let fault = if maintainer.name.is_empty() {
            "each maintainer requires a name".to_owned()
        } else if !maintainer.email.is_empty() && !email(&maintainer.email) {
            format!("invalid email '{}' for maintainer '{}'", maintainer.email, maintainer.name)
        } else if !maintainer.url.is_empty() && !url(&maintainer.url, false) {
            format!("invalid url '{}' for maintainer '{}'", maintainer.url, maintainer.name)
        } else {
            continue;
        };
        findings.error(PATH, fault);
        break;
    }
    if let Some(source) = metadata.sources.iter().find(|source| !url(source, true)) {
        findings.error(PATH, format!("invalid source URL '{source}'"));
    }
    if metadata.icon.is_empty() {
        findings.add(Severity::Info, PATH, "icon is recommended");
    } else if !url(&metadata.icon, true) {
        findings.error(PATH, format!("invalid icon URL '{}'", metadata.icon));
    }
    if metadata.api_version != "v2" {
        let version = &metadata.api_version;
        if !metadata.kind.is_empty() {
            findings.error(
                PATH,
                format!("chart type is not valid in apiVersion '{version}'. It is valid in apiVersion 'v2'"),
            );
        }
        if !metadata.dependencies.is_empty() {
            findings.error(
                PATH,
                format!("dependencies are not valid in the Chart file with apiVersion '{version}'. They are valid in apiVersion 'v2'"),
            );
        }
    }
    if flavor == Flavor::Helm4 && Version::parse_strict(&metadata.version).is_none() {
        let text = format!("version '{}' is not a valid SemVerV2", metadata.version);
        findings.add(Severity::Warning, PATH, text);
    }
}

fn typed(raw: &Value, key: &str, findings: &mut Findings) {
    let kind = match raw.get(key) {
        None | Some(Value::String(_)) => return,
        Some(Value::Null) => "<nil>",
        Some(Value::Bool(_)) => "bool",
        Some(Value::Int(_) | Value::Uint(_) | Value::Float(_)) => "float64",
        Some(Value::List(_)) => "[]interface {}",
        Some(Value::Map(_)) => "map[string]interface {}",
    };
    findings.error(PATH, format!("{key} should be of type string but it's of type {kind}"));
}

fn version(metadata: &Metadata, findings: &mut Findings) {
    if metadata.version.is_empty() {
        findings.error(PATH, "version is required");
        return;
    }
    let Some(version) = Version::parse(&metadata.version) else {
        findings.error(PATH, format!("version '{}' is not a valid SemVer", metadata.version));
        return;
    };
    if Range::parse(">0.0.0-0").is_ok_and(|range| !range.contains(&version)) {
        findings.error(
            PATH,
            format!("version {version:?} is less than or equal to \"0.0.0-0\"", version = version.to_string()),
        );
    }
}

/// The usual characters, in parts between dots.
fn email(text: &str) -> bool {
    let Some((name, domain)) = text.rsplit_once('@') else { return false };
    let local =
        |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-/=?^_`{|}~".contains(c) || !c.is_ascii() && !c.is_control();
    let plain = |c: char| c.is_ascii_alphanumeric() || !c.is_ascii() && !c.is_control();
    let part = |part: &str| {
        part.starts_with(plain) && part.ends_with(plain) && part.chars().all(|c| plain(c) || "-_~".contains(c))
    };
    let whole = |text: &str, holds: &dyn Fn(char) -> bool| {
        text.split('.').all(|part| !part.is_empty() && part.chars().all(holds))
    };
    let domain = domain.strip_suffix('.').unwrap_or(domain);
    whole(name, &local)
        && domain.contains('.')
        && domain.split('.').all(part)
        && domain.rsplit('.').next().is_some_and(|top| !top.starts_with(|c: char| c.is_ascii_digit()))
}

/// An address with a scheme (`strict`), or one that may leave it out.
fn url(text: &str, strict: bool) -> bool {
    if text.chars().any(|c| c.is_control() || c.is_whitespace() && !strict) {
        return false;
    }
    let scheme = |scheme: &str| {
        scheme.starts_with(|c: char| c.is_ascii_alphabetic())
            && scheme.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c))
    };
    match text.split_once(':') {
        Some((before, rest)) if scheme(before) => {
            (strict || rest.len() > 2) && rest.strip_prefix("//").is_none_or(authority) && escapes(rest)
        }
        _ => !strict && text.contains('.') && !text.starts_with('@'),
    }
}

/// Whether Go takes what stands between `//` and the path.
fn authority(text: &str) -> bool {
    let host = text.split(['/', '?', '#']).next().unwrap_or(text);
    let host = host.rsplit_once('@').map_or(host, |(_, host)| host);
    let bare = host.rfind(']').map_or(host, |end| &host[end..]);
    let port = bare.split_once(':').map_or("", |(_, port)| port);
    let plain = |c: char| c.is_ascii_alphanumeric() || !c.is_ascii() || "-_.~!$&'()*+,;=:[]<>\"%".contains(c);
    host.chars().all(plain) && port.bytes().all(|c| c.is_ascii_digit())
}

/// Whether every `%` starts two digits.
fn escapes(text: &str) -> bool {
    text.split('%').skip(1).all(|after| after.bytes().take(2).filter(u8::is_ascii_hexdigit).count() == 2)
}

/// The first field that Helm does not know, in the order of names; their case does not matter.
fn unknown(raw: &Value) -> Option<&str> {
    const ALL: &[&str] = &[
        "name",
        "home",
        "sources",
        "version",
        "description",
        "keywords",
        "maintainers",
        "icon",
        "apiversion",
        "condition",
        "tags",
        "appversion",
        "deprecated",
        "annotations",
        "kubeversion",
        "dependencies",
        "type",
    ];
    const MAINTAINER: &[&str] = &["name", "email", "url"];
    const DEPENDENCY: &[&str] =
        &["name", "version", "repository", "condition", "tags", "enabled", "import-values", "alias"];
    let strange = |key: &String, known: &[&str]| !known.contains(&key.to_ascii_lowercase().as_str());
    raw.as_map()?.iter().find_map(|(key, value)| {
        let inner = match key.to_ascii_lowercase().as_str() {
            "maintainers" => MAINTAINER,
            "dependencies" => DEPENDENCY,
            _ => return strange(key, ALL).then_some(key.as_str()),
        };
        let maps = value.as_list().unwrap_or_default().iter().filter_map(Value::as_map);
        maps.flat_map(|map| map.keys()).find(|key| strange(key, inner)).map(String::as_str)
    })
}
