//! Secrets and agents of a build, from files and variables of this machine. Values are read when a step needs them.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::Arc,
};

use async_trait::async_trait;
use build::csv;

use super::keys::KeyAgent;
use crate::fault::{Fault, Result};

/// The largest secret.
const MOST: u64 = 500 << 10;

#[derive(Debug, Clone, PartialEq, Eq)]
enum Source {
    File(PathBuf),
    Variable(String),
}

/// Where secrets and agents are found, by their ids. Never what they are.
#[derive(Debug, Clone, Default)]
pub struct Store {
    secrets: BTreeMap<String, Source>,
    agents: BTreeMap<String, PathBuf>,
    /// Agents of this build's own.
    keys: Vec<Arc<KeyAgent>>,
}

impl Store {
    /// Reads `--secret id=NAME[,src=FILE|,env=VARIABLE][,type=file|env]`.
    pub fn secret(&mut self, text: &str) -> Result<()> {
        let (mut id, mut file, mut variable) = (None, None, None);
        for field in csv(text) {
            let (name, value) = field.split_once('=').unwrap_or((field.as_str(), ""));
            match name.trim() {
                "id" => id = Some(value.to_owned()),
                "src" | "source" => file = Some(PathBuf::from(value)),
                "env" => variable = Some(value.to_owned()),
                "type" if matches!(value, "file" | "env") => {}
                other => {
                    return Err(Fault::usage(format!("--secret knows no `{other}`"))
                        .hint("write --secret id=NAME,src=FILE or --secret id=NAME,env=VARIABLE"));
                }
            }
        }
        let id = id.filter(|id| !id.is_empty());
        let id = id.ok_or_else(|| Fault::usage("--secret needs an id").hint("write --secret id=NAME,src=FILE"))?;
        let source = match (file, variable) {
            (Some(file), _) => Source::File(file),
            (None, Some(variable)) => Source::Variable(variable),
            // As Docker: the variable of that name, else the file.
            (None, None) if std::env::var_os(&id).is_some() => Source::Variable(id.clone()),
            (None, None) => Source::File(PathBuf::from(&id)),
        };
        self.add(id, source)
    }

    fn add(&mut self, id: String, source: Source) -> Result<()> {
        match &source {
            Source::File(path) => {
                let metadata = std::fs::metadata(path)
                    .map_err(|e| Fault::usage(format!("secret `{id}`: cannot open {}: {e}", path.display())))?;
                if metadata.len() > MOST {
                    return Err(Fault::usage(format!("secret `{id}`: {} has more than {MOST} bytes", path.display())));
                }
            }
            Source::Variable(name) if std::env::var_os(name).is_none() => {
                return Err(Fault::usage(format!("secret `{id}`: the variable {name} is not set")));
            }
            Source::Variable(_) => {}
        }
        self.secrets.insert(id, source);
        Ok(())
    }

    pub fn add_file(&mut self, id: &str, path: PathBuf) -> Result<()> {
        self.add(id.to_owned(), Source::File(path))
    }

    pub fn add_variable(&mut self, id: &str, name: &str) -> Result<()> {
        self.add(id.to_owned(), Source::Variable(name.to_owned()))
    }

    /// Reads `--ssh default|ID[=SOCKET|KEY[,KEY…]]`.
    pub fn agent(&mut self, text: &str) -> Result<()> {
        let (id, path) = text.split_once('=').unwrap_or((text, ""));
        let files: Vec<PathBuf> = path.split(',').filter(|part| !part.is_empty()).map(PathBuf::from).collect();
        if !files.is_empty() && files.iter().all(|file| file.is_file()) {
            let agent = KeyAgent::start(&files)?;
            self.agents.insert(if id.is_empty() { "default" } else { id }.to_owned(), agent.socket());
            self.keys.push(Arc::new(agent));
            return Ok(());
        }
        let path = match path {
            "" => std::env::var_os("SSH_AUTH_SOCK").map(PathBuf::from),
            path => Some(PathBuf::from(path)),
        };
        let path = path.ok_or_else(|| {
            Fault::usage(format!("--ssh {id}: there is no SSH agent"))
                .hint("start one, or name its socket or a key: --ssh ID=SOCKET, --ssh ID=KEY")
        })?;
        use std::os::unix::fs::FileTypeExt;
        let socket = std::fs::metadata(&path).is_ok_and(|metadata| metadata.file_type().is_socket());
        if !socket {
            return Err(Fault::usage(format!("--ssh {id}: {} is no socket of an agent, and no key", path.display())));
        }
        let id = if id.is_empty() { "default" } else { id };
        self.agents.insert(id.to_owned(), path);
        Ok(())
    }

    pub fn ids(&self) -> BTreeSet<String> {
        self.secrets.keys().cloned().collect()
    }

    pub fn agents(&self) -> BTreeSet<String> {
        self.agents.keys().cloned().collect()
    }
}

#[async_trait]
impl graph::Secrets for Store {
    async fn values(&self, names: &[String]) -> graph::Result<BTreeMap<String, String>> {
        let value = |name: &String| {
            if let Some(agent) = name.strip_prefix("ssh/").and_then(|id| self.agents.get(id)) {
                return Ok((name.clone(), agent.display().to_string()));
            }
            let read = match self.secrets.get(name) {
                Some(Source::File(path)) => {
                    std::fs::read_to_string(path).map_err(|e| format!("secret `{name}`: {}: {e}", path.display()))
                }
                Some(Source::Variable(variable)) => {
                    std::env::var(variable).map_err(|e| format!("secret `{name}`: {variable}: {e}"))
                }
                None => Err(format!("there is no secret `{name}`: give it with --secret id={name},src=FILE")),
            };
            read.map(|value| (name.clone(), value)).map_err(graph::Error::Invalid)
        };
        names.iter().map(value).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_read_as_docker_writes_them() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("token");
        std::fs::write(&file, "x").unwrap();
        let mut store = Store::default();
        store.secret(&format!("id=a,src={}", file.display())).unwrap();
        store.secret("id=b,env=PATH").unwrap();
        store.secret("type=env,id=PATH").unwrap();
        assert_eq!(store.ids().into_iter().collect::<Vec<_>>(), ["PATH", "a", "b"]);
        for wrong in ["src=x", "id=a,src=/nowhere/at/all", "id=a,env=NOT_SET_AT_ALL", "id=a,mode=1", ""] {
            assert!(store.secret(wrong).is_err(), "{wrong}");
        }
        assert!(store.agent("default=/nowhere").is_err());
    }
}
