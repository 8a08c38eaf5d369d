//! What a template may know of the cluster: `.Capabilities`.

mod known;

use template::{Element, List, Map, Object, Param, Signature, Value};

use crate::Flavor;

/// A version of Kubernetes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KubeVersion {
    /// With everything a vendor adds: `v1.33.4-gke.1245000`.
    pub version: String,
    /// Only the numbers: `v1.33.4`; ranges are compared with this.
    pub plain: String,
    pub major: String,
    pub minor: String,
}

impl KubeVersion {
    /// Reads `v1.33.4-gke.1`, `1.33` or the like. Helm 3 forgets what stands behind the numbers.
    pub fn parse(text: &str, flavor: Flavor) -> Result<Self, String> {
        let trimmed = text.trim();
        let rest = trimmed.strip_prefix('v').unwrap_or(trimmed);
        let numeric = |c: char| c.is_ascii_digit() || c == '.';
        let end = rest.find(|c: char| !numeric(c)).unwrap_or(rest.len());
        let (numbers, suffix) = rest.split_at(end);
        let parts: Vec<&str> = numbers.split('.').collect();
        let proper = |part: &&str| !part.is_empty() && (part.len() == 1 || !part.starts_with('0'));
        let wrong = || format!("could not parse {text:?} as version");
        if parts.len() < 2 || !suffix.is_empty() && suffix.starts_with(char::is_alphanumeric) {
            return Err(wrong());
        }
        if let Some(part) = parts.iter().find(|part| !proper(part)) {
            return Err(if part.is_empty() {
                wrong()
            } else {
                format!("illegal zero-prefixed version component {part:?} in {text:?}")
            });
        }
        if parts.iter().any(|part| part.parse::<u64>().is_err()) {
            return Err(wrong());
        }
        let mut plain = parts.clone();
        plain.resize(parts.len().max(3), "0");
        let plain = format!("v{}", plain.join("."));
        let version = match flavor {
            Flavor::Helm3 => plain.clone(),
            Flavor::Helm4 if text.starts_with('v') => text.to_owned(),
            Flavor::Helm4 => format!("v{text}"),
        };
        Ok(Self { version, plain, major: parts[0].to_owned(), minor: parts[1].to_owned() })
    }
}

/// What the cluster can do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Capabilities {
    pub kube: KubeVersion,
    /// `v1`, `apps/v1`, `apps/v1/Deployment`, …
    pub api_versions: Vec<String>,
    /// What `.Capabilities.HelmVersion.Version` says.
    pub helm_version: String,
}

impl Capabilities {
    /// Without a cluster: the version that the Helm of this flavor takes for granted, and the APIs it knows.
    pub fn offline(flavor: Flavor) -> Self {
        let (version, helm) = match flavor {
            Flavor::Helm3 => ("1.37.0", "v3.22"),
            Flavor::Helm4 => ("1.37.0", "v4.3"),
        };
        let kube = KubeVersion {
            version: format!("v{version}"),
            plain: format!("v{version}"),
            major: "1".to_owned(),
            minor: "37".to_owned(),
        };
        Self {
            kube,
            api_versions: known::VERSIONS.iter().map(|version| (*version).to_owned()).collect(),
            helm_version: helm.to_owned(),
        }
    }

    /// `.Capabilities`.
    pub(crate) fn object(&self, flavor: Flavor) -> Value {
        let package = match flavor {
            Flavor::Helm3 => "chartutil",
            Flavor::Helm4 => "common",
        };
        Value::object(Struct {
            name: format!("*{package}.Capabilities"),
            fields: vec![
                (
                    "KubeVersion",
                    Value::object(Struct {
                        name: format!("{package}.KubeVersion"),
                        fields: vec![
                            ("Version", self.kube.version.as_str().into()),
                            ("Major", self.kube.major.as_str().into()),
                            ("Minor", self.kube.minor.as_str().into()),
                        ],
                        methods: vec![
                            ("GitVersion", self.kube.version.as_str().into()),
                            ("String", self.kube.plain.as_str().into()),
                        ],
                        shown: Some(self.kube.plain.clone()),
                    }),
                ),
                ("APIVersions", Value::object(Versions { package, versions: self.api_versions.clone() })),
                (
                    "HelmVersion",
                    Value::object(Struct {
                        name: "version.BuildInfo".to_owned(),
                        fields: vec![
                            ("Version", self.helm_version.as_str().into()),
                            ("GitCommit", "".into()),
                            ("GitTreeState", "".into()),
                            ("GoVersion", "go1.26".into()),
                        ],
                        methods: Vec::new(),
                        shown: None,
                    }),
                ),
            ],
            methods: Vec::new(),
            shown: None,
        })
    }
}

struct Struct {
    name: String,
    fields: Vec<(&'static str, Value)>,
    methods: Vec<(&'static str, Value)>,
    shown: Option<String>,
}

impl Object for Struct {
    fn type_name(&self) -> &str {
        &self.name
    }

    fn field(&self, name: &str) -> Option<Value> {
        self.fields.iter().find(|(field, _)| *field == name).map(|(_, value)| value.clone())
    }

    fn fields(&self) -> Vec<(&'static str, Value)> {
        self.fields.clone()
    }

    fn method(&self, name: &str) -> Option<Signature> {
        self.methods.iter().any(|(method, _)| *method == name).then_some(Signature::new(&[]))
    }

    fn call(&self, name: &str, _: &[Value]) -> Result<Value, String> {
        let method = self.methods.iter().find(|(method, _)| *method == name);
        method.map(|(_, value)| value.clone()).ok_or_else(|| format!("no method {name}"))
    }

    fn string(&self) -> Option<String> {
        self.shown.clone()
    }

    fn as_any(&self) -> &dyn std::any::Any {
        self
    }
}

/// `.Capabilities.APIVersions`.
struct Versions {
    package: &'static str,
    versions: Vec<String>,
}

impl Object for Versions {
    fn type_name(&self) -> &str {
        match self.package {
            "chartutil" => "chartutil.VersionSet",
            _ => "common.VersionSet",
        }
    }

    fn method(&self, name: &str) -> Option<Signature> {
        (name == "Has").then_some(Signature::new(&[Param::Str]))
    }

    fn call(&self, _: &str, args: &[Value]) -> Result<Value, String> {
        match args {
            [Value::Str(version)] => Ok(Value::Bool(self.versions.iter().any(|v| v.as_bytes() == version.as_bytes()))),
            [other] => Err(format!("wrong type for value; expected string; got {}", other.type_name())),
            _ => Err("wrong number of args for Has: want 1".to_owned()),
        }
    }

    fn underlying(&self) -> Option<Value> {
        let items = self.versions.iter().map(|version| Value::str(version.as_str())).collect();
        Some(Value::List(List::of(Element::Str, items)))
    }

    fn as_any(&self) -> &dyn std::any::Any {
        self
    }
}

/// `.Release`.
pub(crate) fn release(release: &crate::Release) -> Map {
    let map = Map::new();
    map.insert("Name", release.name.as_str());
    map.insert("Namespace", release.namespace.as_str());
    map.insert("IsUpgrade", release.is_upgrade);
    map.insert("IsInstall", !release.is_upgrade);
    map.insert("Revision", Value::int(i64::try_from(release.revision).unwrap_or(i64::MAX)));
    map.insert("Service", "Helm");
    map
}
