//! The schemas that objects are held against: built in, given, or those of a cluster.

use std::path::{Path, PathBuf};

use manifest::{Output, Schemas, schema};

use super::{Options, show::Shown};
use crate::fault::{Class, Fault, Result};

/// What was given, read once; each thread makes its own schemas of it.
pub struct Sources {
    /// The version that was asked for.
    wanted: Option<(u32, u32)>,
    /// OpenAPI documents and their names.
    documents: Vec<(String, Vec<u8>)>,
    /// Definitions of custom resources.
    definitions: Vec<yaml::Value>,
    /// The version that counts in the end.
    pub version: (u32, u32),
}

impl Sources {
    /// Reads what `--schemas` and `--kube-version` name; nothing if nothing is to be checked.
    pub async fn of(options: &Options, shown: &Shown) -> Result<Option<Self>> {
        if !options.validate && options.schemas.is_empty() {
            return Ok(None);
        }
        let wanted = options.kube_version.as_deref().and_then(schema::minor);
        let version = wanted.unwrap_or(schema::BUILT_IN);
        let mut sources = Self { wanted, documents: Vec::new(), definitions: Vec::new(), version };
        for source in &options.schemas {
            if source == "cluster" {
                sources.documents.push(("the cluster".to_owned(), from_cluster().await?));
                continue;
            }
            for file in schema_files(Path::new(source))? {
                sources.add(&file)?;
            }
        }
        sources.version = sources.schemas().map_err(|error| shown.fault(&error))?.version();
        if let Some(wanted) = wanted.filter(|wanted| sources.documents.is_empty() && *wanted != schema::BUILT_IN) {
            let (major, minor) = schema::BUILT_IN;
            eprintln!(
                "note: fields are checked as of Kubernetes {major}.{minor}, API versions as of {}.{}; for the fields of that version give its swagger.json with --schemas, or --schemas cluster",
                wanted.0, wanted.1
            );
        }
        Ok(Some(sources))
    }

    /// Schemas without those that are rendered.
    pub fn schemas(&self) -> manifest::Result<Schemas> {
        let mut schemas = Schemas::built_in(self.wanted.unwrap_or(schema::BUILT_IN));
        for (name, text) in &self.documents {
            schemas.openapi(name, text, self.wanted.is_some())?;
        }
        for definition in &self.definitions {
            schemas.add_definition(definition);
        }
        Ok(schemas)
    }

    /// An OpenAPI document, or definitions of custom resources.
    fn add(&mut self, file: &Path) -> Result<()> {
        let unreadable = |error: std::io::Error| Fault::usage(format!("cannot read {}: {error}", file.display()));
        let size = std::fs::metadata(file).map_err(unreadable)?.len();
        if size > schema::LARGEST as u64 {
            let message = format!("{} has more than {} MiB", file.display(), schema::LARGEST >> 20);
            return Err(Fault::new(Class::TooLarge, message));
        }
        let text = std::fs::read(file).map_err(unreadable)?;
        let name = file.display().to_string();
        let has = |key: &[u8]| text.windows(key.len()).any(|part| part == key);
        if file.extension().is_some_and(|extension| extension == "json")
            && (has(b"\"definitions\"") || has(b"\"components\""))
        {
            self.documents.push((name, text));
            return Ok(());
        }
        let values = yaml::from_str_all(&String::from_utf8_lossy(&text))
            .map_err(|error| Fault::usage(format!("{name}: {error}")))?;
        let before = self.definitions.len();
        let kind = |value: &yaml::Value| value.get("kind").and_then(yaml::Value::as_str).map(str::to_owned);
        self.definitions
            .extend(values.into_iter().filter(|value| kind(value).as_deref() == Some("CustomResourceDefinition")));
        if self.definitions.len() == before {
            return Err(Fault::usage(format!("{name} is neither an OpenAPI document nor a CustomResourceDefinition")));
        }
        Ok(())
    }
}

/// Takes the definitions that were rendered too.
pub fn learn(schemas: &mut Schemas, output: &Output) {
    for document in output.documents.iter().filter(|document| document.name.kind == "CustomResourceDefinition") {
        if let Ok(value) = document.value() {
            schemas.add_definition(&value);
        }
    }
}

fn schema_files(source: &Path) -> Result<Vec<PathBuf>> {
    if !source.is_dir() {
        return Ok(vec![source.to_owned()]);
    }
    let mut files: Vec<PathBuf> = walkdir::WalkDir::new(source)
        .max_depth(10)
        .into_iter()
        .filter_map(std::result::Result::ok)
        .filter(|entry| entry.file_type().is_file() && manifest::is_manifest(&entry.path().to_string_lossy()))
        .map(walkdir::DirEntry::into_path)
        .collect();
    files.sort();
    if files.is_empty() {
        return Err(Fault::usage(format!("{} has no .json or .yaml files", source.display())));
    }
    Ok(files)
}

async fn from_cluster() -> Result<Vec<u8>> {
    let unavailable = |error: &dyn std::fmt::Display| {
        Fault::new(Class::Unavailable, format!("cannot get the schemas of the cluster: {error}"))
            .hint("`kubectl get --raw /openapi/v2` writes them to a file, which --schemas takes")
    };
    let client = kube::Client::try_default().await.map_err(|error| unavailable(&error))?;
    let request = http::Request::get("/openapi/v2").body(Vec::new()).map_err(|error| unavailable(&error))?;
    client.request_text(request).await.map(String::into_bytes).map_err(|error| unavailable(&error))
}
