//! `repositories.yaml`: the names that repositories have on this machine, in Helm's own file.

use std::path::PathBuf;

use chart::repository::Index;
use nix::fcntl::{Flock, FlockArg};
use yaml::{Map, Value};

use super::{
    access::{Access, LARGEST_INDEX, shown_text},
    fault,
    places::{Places, write},
};
use crate::fault::{Class, Fault, Result};

/// A named repository and how it is reached.
#[derive(Debug, Clone, Default)]
pub struct Repository {
    pub name: String,
    pub url: String,
    pub access: Access,
}

/// The file, with whatever else is in it.
pub struct Repositories {
    path: PathBuf,
    rest: Map,
    pub list: Vec<Repository>,
}

impl Repositories {
    /// Reads the file; one that is not there is empty.
    pub fn read(places: &Places) -> Result<Self> {
        let path = places.repositories();
        let broken = |why: String| Fault::usage(format!("couldn't load repositories file ({}): {why}", path.display()));
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
            Err(error) => return Err(broken(error.to_string())),
        };
        let mut rest = match yaml::from_str(&text).map_err(|error| broken(error.to_string()))? {
            Value::Map(map) => map,
            Value::Null => Map::new(),
            _ => return Err(broken("it is no map".to_owned())),
        };
        let list = rest.remove("repositories").unwrap_or(Value::Null);
        let list = list.as_list().unwrap_or_default().iter().filter_map(Repository::decode).collect();
        Ok(Self { path, rest, list })
    }

    pub fn find(&self, name: &str) -> Option<&Repository> {
        self.list.iter().find(|repository| repository.name == name)
    }

    /// The one with that URL; a slash at the end makes no difference.
    pub fn with_url(&self, url: &str) -> Option<&Repository> {
        let bare = |url: &str| url.trim_end_matches('/').to_owned();
        self.list.iter().find(|repository| bare(&repository.url) == bare(url))
    }

    /// Writes the file as Helm writes it.
    pub fn save(mut self) -> Result<()> {
        for (key, value) in [("apiVersion", ""), ("generated", "0001-01-01T00:00:00Z")] {
            self.rest.entry(key.to_owned()).or_insert_with(|| value.into());
        }
        let list = self.list.iter().map(Repository::encode).collect();
        self.rest.insert("repositories".to_owned(), Value::List(list));
        let text = yaml::to_go(&Value::Map(self.rest));
        write(&self.path, text.as_bytes(), true)
            .map_err(|error| Fault::new(Class::Unavailable, format!("cannot write {}: {error}", self.path.display())))
    }
}

/// Held while the file is changed; other programs, `helm` among them, wait.
pub fn lock(places: &Places) -> Result<Flock<std::fs::File>> {
    let path = places.repositories().with_extension("lock");
    let failed = |why: String| Fault::new(Class::Unavailable, format!("cannot lock {}: {why}", path.display()));
    path.parent().map_or(Ok(()), std::fs::create_dir_all).map_err(|e| failed(e.to_string()))?;
    let open = std::fs::OpenOptions::new().create(true).truncate(false).write(true).open(&path);
    let mut file = open.map_err(|e| failed(e.to_string()))?;
    for _ in 0..300 {
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => return Ok(lock),
            Err((back, nix::errno::Errno::EWOULDBLOCK)) => file = back,
            Err((_, error)) => return Err(failed(error.to_string())),
        }
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    Err(failed("another program has held it for 30 s".to_owned()))
}

impl Repository {
    fn decode(value: &Value) -> Option<Self> {
        let text =
            |key: &str| value.get(key).and_then(Value::as_str).filter(|text| !text.is_empty()).map(str::to_owned);
        let flag = |key: &str| value.get(key).and_then(Value::as_bool).unwrap_or_default();
        let access = Access {
            username: text("username"),
            password: text("password"),
            pass_credentials: flag("pass_credentials_all"),
            cert_file: text("certFile").map(PathBuf::from),
            key_file: text("keyFile").map(PathBuf::from),
            ca_file: text("caFile").map(PathBuf::from),
            insecure_skip_tls_verify: flag("insecure_skip_tls_verify"),
            plain_http: false,
        };
        Some(Self { name: text("name")?, url: text("url").unwrap_or_default(), access })
    }

    fn encode(&self) -> Value {
        let path = |path: &Option<PathBuf>| {
            Value::from(path.as_ref().map(|path| path.display().to_string()).unwrap_or_default().as_str())
        };
        let text = |text: &Option<String>| Value::from(text.as_deref().unwrap_or_default());
        let fields = [
            ("name", Value::from(self.name.as_str())),
            ("url", Value::from(self.url.as_str())),
            ("username", text(&self.access.username)),
            ("password", text(&self.access.password)),
            ("certFile", path(&self.access.cert_file)),
            ("keyFile", path(&self.access.key_file)),
            ("caFile", path(&self.access.ca_file)),
            ("insecure_skip_tls_verify", Value::Bool(self.access.insecure_skip_tls_verify)),
            ("pass_credentials_all", Value::Bool(self.access.pass_credentials)),
        ];
        Value::Map(fields.into_iter().map(|(key, value)| (key.to_owned(), value)).collect())
    }

    pub fn same(&self, other: &Self) -> bool {
        self.encode() == other.encode()
    }

    /// Fetches the index. With `places`, a copy is kept under the repository's name.
    pub async fn fetch(&self, places: Option<&Places>) -> Result<Index> {
        let url = chart::repository::absolute(&self.url, "index.yaml");
        let said = |fault: &Fault| {
            format!(
                "looks like {:?} is not a valid chart repository or cannot be reached: {}",
                shown_text(&self.url),
                fault.message
            )
        };
        let got = self.access.get(&url, &self.url, LARGEST_INDEX).await;
        let content = got.map_err(|fault| Fault::new(fault.class, said(&fault)))?;
        let index = Index::parse(&String::from_utf8_lossy(&content)).map_err(fault);
        let index = index.map_err(|fault| Fault::new(fault.class, said(&fault)))?;
        if let Some(places) = places {
            let names: String = index.entries.keys().map(|name| format!("{name}\n")).collect();
            let kept = write(&places.names(&self.name), names.as_bytes(), false)
                .and_then(|()| write(&places.index(&self.name), &content, false));
            kept.map_err(|e| Fault::new(Class::Unavailable, format!("cannot keep the index of {}: {e}", self.name)))?;
        }
        Ok(index)
    }

    /// The copy of the index that is on this machine.
    pub fn kept(&self, places: &Places) -> Result<Index> {
        let path = places.index(&self.name);
        let missing = |why: String| {
            Fault::not_found(format!("no cached repo found. (try 'helm repo update'): {}: {why}", path.display()))
                .hint(format!("run `shipway helm repo update {}`", self.name))
        };
        let text = std::fs::read(&path).map_err(|error| missing(error.to_string()))?;
        Index::parse(&String::from_utf8_lossy(&text)).map_err(|error| missing(error.to_string()))
    }
}
