//! `buildpack.toml`, orders, `run.toml`, `stack.toml`, `builder.toml` and `package.toml`.

use serde::{Deserialize, Serialize};

use crate::{
    Error, Result,
    api::{Api, NEWEST, OLDEST},
    error::parse,
    target::{Distro, Target},
};

/// One buildpack in a group.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct GroupEntry {
    pub id: String,
    #[serde(default)]
    pub version: String,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub optional: bool,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub exec_env: Vec<String>,
}

/// Buildpacks that build together.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Group {
    pub group: Vec<GroupEntry>,
}

/// Groups, of which the first that takes the application builds it.
pub type Order = Vec<Group>;

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct License {
    #[serde(default, rename = "type")]
    pub kind: String,
    #[serde(default)]
    pub uri: String,
}

/// Environments are written as strings by some and as tables by the specification.
#[derive(Deserialize)]
#[serde(untagged)]
enum ExecEnv {
    Text(String),
    Table { name: String },
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct RawInfo {
    id: String,
    #[serde(default)]
    version: String,
    #[serde(default)]
    name: String,
    #[serde(default)]
    homepage: String,
    #[serde(default)]
    description: String,
    #[serde(default)]
    keywords: Vec<String>,
    #[serde(default)]
    clear_env: bool,
    #[serde(default, rename = "sbom-formats")]
    sbom_formats: Vec<String>,
    #[serde(default)]
    licenses: Vec<License>,
    #[serde(default)]
    exec_env: Vec<ExecEnv>,
}

#[derive(Deserialize)]
struct Stack {
    id: String,
}

#[derive(Deserialize)]
struct Raw {
    api: Api,
    buildpack: Option<RawInfo>,
    extension: Option<toml::Value>,
    #[serde(default)]
    order: Order,
    #[serde(default)]
    targets: Vec<Target>,
    #[serde(default)]
    stacks: Vec<Stack>,
    #[serde(default)]
    metadata: toml::Table,
}

/// `buildpack.toml`.
#[derive(Debug, Clone)]
pub struct Descriptor {
    pub api: Api,
    pub id: String,
    pub version: String,
    pub name: String,
    pub homepage: String,
    pub description: String,
    pub keywords: Vec<String>,
    /// The user's variables do not reach its programs.
    pub clear_env: bool,
    pub sbom_formats: Vec<String>,
    pub licenses: Vec<License>,
    /// Environments it is for; empty for all.
    pub exec_env: Vec<String>,
    /// A composite buildpack has an order and no programs.
    pub order: Order,
    /// Never empty for a component: any Linux where nothing is said.
    pub targets: Vec<Target>,
    pub metadata: toml::Table,
}

const RESERVED: [&str; 4] = ["app", "config", "generated", "sbom"];

/// The media types of SBOMs, and what files of them end in.
pub const SBOM_FORMATS: [(&str, &str); 3] = [
    ("application/vnd.cyclonedx+json", "cdx.json"),
    ("application/spdx+json", "spdx.json"),
    ("application/vnd.syft+json", "syft.json"),
];

/// Checks an id: letters, digits, `.`, `/`, `-`, and `_`, which the field uses.
pub fn check_id(id: &str) -> Result<(), String> {
    let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '/' | '-' | '_');
    if id.is_empty() || !id.chars().all(good) || RESERVED.contains(&id) {
        return Err(format!(
            "`{id}` is no id of a buildpack: letters, digits, `.`, `/` and `-`, and none of {RESERVED:?}"
        ));
    }
    if id.split('/').any(|part| matches!(part, "" | "." | "..")) {
        return Err(format!("`{id}` is no id of a buildpack: it would be another path"));
    }
    Ok(())
}

fn check_entries(file: &str, order: &Order) -> Result<()> {
    for (at, group) in order.iter().enumerate() {
        if group.group.is_empty() {
            return Err(Error::document(file, format!("group {} of the order has no buildpacks", at + 1)));
        }
        group.group.iter().try_for_each(|entry| check_id(&entry.id).map_err(|why| Error::document(file, why)))?;
    }
    Ok(())
}

impl Descriptor {
    /// Reads `buildpack.toml`. `file` is what errors call it.
    pub fn parse(file: &str, text: &str) -> Result<Self> {
        let raw: Raw = parse(file, text)?;
        if raw.extension.is_some() {
            return Err(extensions(file));
        }
        let Some(info) = raw.buildpack else {
            return Err(Error::document(file, "it has no [buildpack] table"));
        };
        check_id(&info.id).map_err(|why| Error::document(file, why))?;
        if !raw.api.is_spoken() {
            return Err(Error::Unsupported {
                what: format!("buildpack {}@{} speaks Buildpack API {}", info.id, info.version, raw.api),
                way_out: format!("Shipway speaks {OLDEST} to {NEWEST}; take another version of the buildpack"),
            });
        }
        let says_where = !raw.stacks.is_empty() || !raw.targets.is_empty();
        if !raw.order.is_empty() && says_where {
            return Err(Error::document(file, "a composite buildpack has an order, and neither stacks nor targets"));
        }
        for format in &info.sbom_formats {
            if !SBOM_FORMATS.iter().any(|(media, _)| media == format) {
                return Err(Error::document(file, format!("`{format}` is no media type of an SBOM")));
            }
        }
        check_entries(file, &raw.order)?;
        let mut targets = raw.targets;
        if targets.is_empty() {
            targets.extend(raw.stacks.iter().filter_map(|stack| match stack.id.as_str() {
                "io.buildpacks.stacks.bionic" => Some(Target {
                    os: "linux".into(),
                    arch: "amd64".into(),
                    variant: String::new(),
                    distros: vec![Distro { name: "ubuntu".into(), version: "18.04".into() }],
                }),
                "*" => Some(Target::default()),
                _ => None,
            }));
        }
        if targets.is_empty() && raw.order.is_empty() {
            targets.push(Target { os: "linux".into(), ..Target::default() });
        }
        let exec_env = info.exec_env.into_iter().map(|one| match one {
            ExecEnv::Text(name) | ExecEnv::Table { name } => name,
        });
        Ok(Self {
            api: raw.api,
            exec_env: exec_env.collect(),
            id: info.id,
            version: info.version,
            name: info.name,
            homepage: info.homepage,
            description: info.description,
            keywords: info.keywords,
            clear_env: info.clear_env,
            sbom_formats: info.sbom_formats,
            licenses: info.licenses,
            order: raw.order,
            targets,
            metadata: raw.metadata,
        })
    }

    /// `id@version`
    pub fn shown(&self) -> String {
        format!("{}@{}", self.id, self.version)
    }
}

fn extensions(file: &str) -> Error {
    Error::Unsupported {
        what: format!("{file} has image extensions, which Shipway does not run"),
        way_out: "put what they install into the builder and run images, for example with `shipway base build`".into(),
    }
}

/// Reads `order.toml`.
pub fn parse_order(file: &str, text: &str) -> Result<Order> {
    #[derive(Deserialize)]
    #[serde(rename_all = "kebab-case")]
    struct File {
        #[serde(default)]
        order: Order,
        #[serde(default)]
        order_extensions: Order,
    }
    let read: File = parse(file, text)?;
    if !read.order_extensions.is_empty() {
        return Err(extensions(file));
    }
    check_entries(file, &read.order)?;
    Ok(read.order)
}

/// A run image and where else it is to be had.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunImage {
    #[serde(default)]
    pub image: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mirrors: Vec<String>,
}

impl RunImage {
    pub fn names(&self) -> impl Iterator<Item = &str> {
        std::iter::once(self.image.as_str())
            .filter(|name| !name.is_empty())
            .chain(self.mirrors.iter().map(String::as_str))
    }
}

/// Reads `run.toml`.
pub fn parse_run(file: &str, text: &str) -> Result<Vec<RunImage>> {
    #[derive(Deserialize)]
    struct File {
        #[serde(default)]
        images: Vec<RunImage>,
    }
    let read: File = parse(file, text)?;
    match read.images.iter().find(|one| one.image.is_empty()) {
        Some(_) => Err(Error::document(file, "an entry of `images` has no `image`")),
        None => Ok(read.images),
    }
}

/// Reads the old `stack.toml`.
pub fn parse_stack(file: &str, text: &str) -> Result<Vec<RunImage>> {
    #[derive(Deserialize)]
    #[serde(rename_all = "kebab-case")]
    struct File {
        run_image: RunImage,
    }
    parse::<File>(file, text).map(|read| vec![read.run_image])
}

/// The run image to stand on: one at the registry of the image to be made, else the first.
pub fn choose_run<'a>(images: &'a [RunImage], registry: Option<&str>) -> Option<&'a str> {
    let host = |name: &str| match name.split_once('/') {
        Some((host, _)) if host.contains(['.', ':']) || host == "localhost" => host.to_owned(),
        _ => "docker.io".to_owned(),
    };
    let first = images.first()?;
    let near = registry.and_then(|registry| first.names().find(|name| host(name) == registry));
    near.or_else(|| first.names().next())
}

/// `builder.toml`: what a builder is made of.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Builder {
    #[serde(default)]
    pub description: String,
    #[serde(default)]
    pub buildpacks: Vec<Module>,
    #[serde(default)]
    pub order: Order,
    #[serde(default)]
    pub order_extensions: Order,
    #[serde(default)]
    pub extensions: Vec<Module>,
    #[serde(default)]
    pub build: BuildSection,
    #[serde(default)]
    pub run: RunSection,
    pub stack: Option<LegacyStack>,
}

#[derive(Debug, Clone, Default, Deserialize)]
pub struct BuildSection {
    #[serde(default)]
    pub image: String,
    #[serde(default)]
    pub env: Vec<BuildVariable>,
}

/// A variable that the builder's author sets.
#[derive(Debug, Clone, Deserialize)]
pub struct BuildVariable {
    pub name: String,
    pub value: String,
    #[serde(default)]
    pub suffix: String,
    #[serde(default)]
    pub delim: String,
}

#[derive(Debug, Clone, Default, Deserialize)]
pub struct RunSection {
    #[serde(default)]
    pub images: Vec<RunImage>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct LegacyStack {
    pub id: String,
    pub build_image: String,
    pub run_image: String,
    #[serde(default)]
    pub run_image_mirrors: Vec<String>,
}

/// A buildpack of a builder or a package: a directory, an archive or an image.
#[derive(Debug, Clone, Deserialize)]
pub struct Module {
    #[serde(default)]
    pub id: String,
    #[serde(default)]
    pub version: String,
    #[serde(default)]
    pub uri: String,
    #[serde(default)]
    pub image: String,
}

impl Builder {
    pub fn parse(file: &str, text: &str) -> Result<Self> {
        let mut read: Self = parse(file, text)?;
        if !read.order_extensions.is_empty() || !read.extensions.is_empty() {
            return Err(extensions(file));
        }
        if let Some(stack) = &read.stack {
            if read.build.image.is_empty() {
                read.build.image.clone_from(&stack.build_image);
            }
            if read.run.images.is_empty() {
                let mirrors = stack.run_image_mirrors.clone();
                read.run.images.push(RunImage { image: stack.run_image.clone(), mirrors });
            }
        }
        if read.order.is_empty() {
            return Err(Error::document(file, "it has no order"));
        }
        check_entries(file, &read.order)?;
        Ok(read)
    }
}

/// `package.toml`: what a buildpackage is made of.
#[derive(Debug, Clone, Deserialize)]
pub struct Package {
    pub buildpack: Module,
    #[serde(default)]
    pub dependencies: Vec<Module>,
    #[serde(default)]
    pub targets: Vec<Target>,
}

impl Package {
    pub fn parse(file: &str, text: &str) -> Result<Self> {
        parse(file, text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_component_says_nothing_and_is_for_linux() {
        let read =
            Descriptor::parse("b/buildpack.toml", "api = \"0.10\"\n[buildpack]\nid = \"a/b\"\nversion = \"1.2.3\"\n")
                .unwrap();
        assert_eq!((read.shown().as_str(), read.targets[0].os.as_str()), ("a/b@1.2.3", "linux"));
        let stacks = "api = \"0.9\"\n[buildpack]\nid = \"x\"\nexec-env = [\"test\"]\n[[stacks]]\nid = \"io.buildpacks.stacks.bionic\"\n";
        let read = Descriptor::parse("b", stacks).unwrap();
        assert_eq!((read.targets[0].distros[0].name.as_str(), read.exec_env), ("ubuntu", vec!["test".to_owned()]));
    }

    #[test]
    fn errors_say_where() {
        let error = |text: &str| Descriptor::parse("bp/buildpack.toml", text).unwrap_err().to_string();
        assert!(
            error("api = \"0.10\"\n[buildpack]\nid = 3\n").starts_with("bp/buildpack.toml:3:6: "),
            "{}",
            error("api = \"0.10\"\n[buildpack]\nid = 3\n")
        );
        for (text, why) in [
            ("api = \"0.5\"\n[buildpack]\nid = \"a\"", "speaks Buildpack API 0.5"),
            ("api = \"0.10\"\n[buildpack]\nid = \"sbom\"", "no id"),
            ("api = \"0.10\"\n[buildpack]\nid = \"a/../b\"", "no id"),
            ("api = \"0.10\"\n[extension]\nid = \"a\"", "image extensions"),
            ("api = \"0.10\"", "no [buildpack]"),
            ("api = \"0.10\"\n[buildpack]\nid = \"a\"\nsbom-formats = [\"x\"]", "no media type"),
            (
                "api = \"0.10\"\n[buildpack]\nid = \"a\"\n[[order]]\n[[order.group]]\nid = \"b\"\n[[targets]]\nos = \"linux\"",
                "composite",
            ),
        ] {
            assert!(error(text).contains(why), "{}", error(text));
        }
        assert!(
            parse_order("order.toml", "[[order-extensions]]\n[[order-extensions.group]]\nid = \"a\"\n")
                .unwrap_err()
                .to_string()
                .contains("extensions")
        );
    }

    #[test]
    fn a_run_image_of_the_same_registry_is_nearer() {
        let images =
            parse_run("run.toml", "[[images]]\nimage = \"cnbs/run:1\"\nmirrors = [\"ghcr.io/cnbs/run:1\"]\n").unwrap();
        assert_eq!(choose_run(&images, Some("ghcr.io")), Some("ghcr.io/cnbs/run:1"));
        assert_eq!(choose_run(&images, Some("quay.io")), Some("cnbs/run:1"));
        assert_eq!(choose_run(&images, None), Some("cnbs/run:1"));
        let old = parse_stack("stack.toml", "[run-image]\nimage = \"r\"\n").unwrap();
        assert_eq!(old[0].image, "r");
    }

    #[test]
    fn an_old_builder_names_its_stack() {
        let text = "[[buildpacks]]\nuri = \"./x\"\n[[order]]\n[[order.group]]\nid = \"x\"\n[stack]\nid = \"s\"\nbuild-image = \"b\"\nrun-image = \"r\"\n";
        let builder = Builder::parse("builder.toml", text).unwrap();
        assert_eq!((builder.build.image.as_str(), builder.run.images[0].image.as_str()), ("b", "r"));
    }
}
