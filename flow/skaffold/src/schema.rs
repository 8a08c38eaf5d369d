//! Which fields there are in which version, from the table in `schema.txt`.

use std::{collections::HashMap, sync::LazyLock};

/// A version of the schema: its place among all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version(u8);

impl Version {
    /// Finds `skaffold/v4beta13`.
    pub fn find(api_version: &str) -> Option<Self> {
        let name = api_version.strip_prefix("skaffold/")?;
        Self::named(name)
    }

    pub(crate) fn named(name: &str) -> Option<Self> {
        SCHEMA.versions.iter().position(|known| *known == name).map(|at| Self(at as u8))
    }

    /// The newest.
    pub fn newest() -> Self {
        Self(SCHEMA.versions.len().saturating_sub(1) as u8)
    }

    pub fn next(self) -> Option<Self> {
        (self < Self::newest()).then_some(Self(self.0 + 1))
    }

    /// `v4beta13`.
    pub fn name(self) -> &'static str {
        SCHEMA.versions.get(self.0 as usize).copied().unwrap_or_default()
    }

    /// Every known version, oldest first.
    pub fn all() -> impl Iterator<Item = Self> {
        (0..SCHEMA.versions.len() as u8).map(Self)
    }
}

/// What a field holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Type {
    Text,
    Bool,
    Int,
    /// A number or a name.
    Port,
    Any,
    /// A map of texts, given with nested keys.
    Flat,
    Struct(&'static str),
    List(Box<Type>),
    Map(Box<Type>),
    /// Left out is not the same as empty.
    Maybe(Box<Type>),
}

impl Type {
    fn parse(text: &'static str) -> Self {
        let inner = |text: &'static str| Box::new(Self::parse(text));
        match text.as_bytes() {
            [b'?', ..] => Self::Maybe(inner(&text[1..])),
            [b'[', .., b']'] => Self::List(inner(&text[1..text.len() - 1])),
            [b'{', .., b'}'] => Self::Map(inner(&text[1..text.len() - 1])),
            _ => match text {
                "string" => Self::Text,
                "bool" => Self::Bool,
                "int" => Self::Int,
                "port" => Self::Port,
                "any" => Self::Any,
                "flat" => Self::Flat,
                name => Self::Struct(name),
            },
        }
    }
}

#[derive(Debug)]
pub(crate) struct Field {
    /// Empty for fields that stand in their parent themselves.
    pub name: &'static str,
    pub of: Type,
    pub since: Version,
    pub until: Version,
    /// Written even when empty.
    pub always: bool,
    /// Only one of those so flagged is set.
    pub one: bool,
    pub path: bool,
    pub template: bool,
}

impl Field {
    pub fn inline(&self) -> bool {
        self.name.is_empty()
    }

    pub fn in_version(&self, version: Version) -> bool {
        (self.since..=self.until).contains(&version)
    }
}

pub(crate) struct Schema {
    versions: Vec<&'static str>,
    types: HashMap<&'static str, Vec<Field>>,
}

static SCHEMA: LazyLock<Schema> = LazyLock::new(|| Schema::parse(include_str!("schema.txt")));

/// The fields of a type, of all versions.
pub(crate) fn fields(of: &str) -> &'static [Field] {
    SCHEMA.types.get(of).map_or(&[], Vec::as_slice)
}

/// A field of a type in a version, wherever it is written down.
pub(crate) fn find(of: &str, name: &str, version: Version) -> Option<&'static Field> {
    fields(of).iter().filter(|field| field.in_version(version)).find_map(|field| match &field.of {
        Type::Struct(inner) if field.inline() => find(inner, name, version),
        _ => (field.name == name).then_some(field),
    })
}

/// The fields of that name in any version.
pub(crate) fn ever(of: &str, name: &str) -> Vec<&'static Field> {
    let below = fields(of).iter().flat_map(|field| match &field.of {
        Type::Struct(inner) if field.inline() => ever(inner, name),
        _ if field.name == name => vec![field],
        _ => Vec::new(),
    });
    below.collect()
}

/// The names of the fields of a type in a version.
pub(crate) fn names(of: &str, version: Version) -> Vec<&'static str> {
    let mut names = Vec::new();
    for field in fields(of).iter().filter(|field| field.in_version(version)) {
        match &field.of {
            Type::Struct(inner) if field.inline() => names.extend(self::names(inner, version)),
            _ => names.push(field.name),
        }
    }
    names
}

impl Schema {
    fn parse(text: &'static str) -> Self {
        let mut this = Self { versions: Vec::new(), types: HashMap::new() };
        let mut of = "";
        for line in text.lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
            if let Some(versions) = line.strip_prefix("versions ") {
                this.versions = versions.split(' ').collect();
            } else if let Some(field) = line.strip_prefix("  ") {
                let field = this.field(field);
                this.types.entry(of).or_default().extend(field);
            } else {
                of = line;
                this.types.entry(of).or_default();
            }
        }
        this
    }

    fn field(&self, line: &'static str) -> Option<Field> {
        let mut words = line.split(' ');
        let name = words.next()?;
        let of = Type::parse(words.next()?);
        let last = Version(self.versions.len().saturating_sub(1) as u8);
        let mut field = Field {
            name: if name == "^" { "" } else { name },
            of,
            since: Version(0),
            until: last,
            always: false,
            one: false,
            path: false,
            template: false,
        };
        let version = |name: &str| self.versions.iter().position(|known| *known == name).map(|at| Version(at as u8));
        for word in words {
            match word {
                "always" => field.always = true,
                "one" => field.one = true,
                "path" => field.path = true,
                "template" => field.template = true,
                range => {
                    let (since, until) = range.split_once("..")?;
                    field.since = version(since).unwrap_or(Version(0));
                    field.until = version(until).unwrap_or(last);
                }
            }
        }
        Some(field)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_that_is_named_is_described() {
        fn inner(of: &Type) -> &Type {
            match of {
                Type::List(of) | Type::Map(of) | Type::Maybe(of) => inner(of),
                other => other,
            }
        }
        for (name, fields) in &SCHEMA.types {
            for field in fields {
                assert!(field.since <= field.until, "{name}.{}", field.name);
                if let Type::Struct(of) = inner(&field.of) {
                    assert!(SCHEMA.types.contains_key(of), "{name}.{} is a {of}", field.name);
                }
            }
        }
        let lines = include_str!("schema.txt").lines().filter(|line| line.starts_with("  ")).count();
        assert_eq!(SCHEMA.types.values().map(Vec::len).sum::<usize>(), lines);
    }

    #[test]
    fn fields_come_and_go_with_versions() {
        let version = |name| Version::find(name).unwrap();
        assert!(find("DockerArtifact", "secrets", version("skaffold/v2beta22")).is_none());
        assert!(find("DockerArtifact", "secrets", version("skaffold/v2beta23")).is_some());
        assert!(find("DockerArtifact", "secret", version("skaffold/v2beta23")).is_none());
        assert!(find("SkaffoldConfig", "manifests", version("skaffold/v4beta1")).is_some());
        assert!(find("SkaffoldConfig", "manifests", version("skaffold/v2beta29")).is_none());
        assert_eq!(Version::all().count(), 72);
        assert_eq!(Version::newest().name(), "v4beta14");
    }
}
