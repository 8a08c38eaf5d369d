//! What templates may ask of the cluster: `lookup`, and names of hosts where that is allowed.

use serde_json::Value as Json;
use template::{Hooks, List, Map, Value};
use tokio::runtime::Handle;

use crate::{Cluster, cluster::segment};

/// Answers templates while they are carried out on a thread of their own.
pub(crate) struct Asking {
    /// `None` when templates are told of an empty cluster.
    pub cluster: Option<Cluster>,
    pub dns: bool,
    pub runtime: Handle,
}

impl Hooks for Asking {
    fn lookup(&self, version: &str, kind: &str, namespace: &str, name: &str) -> Result<Value, String> {
        let nothing = || Value::Map(Map::new());
        let Some(cluster) = &self.cluster else { return Ok(nothing()) };
        self.runtime.block_on(async {
            let kinds = cluster.kinds().await.map_err(|error| error.to_string())?;
            let Some(resource) = kinds.find(version, kind) else {
                if kinds.has_version(version) {
                    return Ok(nothing());
                }
                return Err(format!(
                    "unable to create apiresource from unstructured: {version}, Kind={kind}: the server could not find the requested resource"
                ));
            };
            let namespace = Some(namespace).filter(|namespace| !namespace.is_empty());
            let mut path = resource.collection(namespace);
            if !name.is_empty() {
                path.push('/');
                path.push_str(&segment(name));
            }
            match cluster.find(&path).await {
                Ok(found) => Ok(found.map_or_else(nothing, |found| plant(&found))),
                Err(error) => Err(error.to_string()),
            }
        })
    }

    fn host(&self, name: &str) -> Result<String, String> {
        use std::net::ToSocketAddrs;
        if !self.dns {
            return Ok(String::new());
        }
        let found = (name, 0).to_socket_addrs().ok().and_then(|mut all| all.next());
        Ok(found.map(|address| address.ip().to_string()).unwrap_or_default())
    }
}

fn plant(json: &Json) -> Value {
    match json {
        Json::Null => Value::Nil,
        Json::Bool(b) => Value::Bool(*b),
        Json::Number(n) => n.as_i64().map_or_else(|| Value::Float(n.as_f64().unwrap_or(f64::NAN)), Value::int64),
        Json::String(text) => Value::str(text.as_str()),
        Json::Array(items) => Value::List(List::new(items.iter().map(plant).collect())),
        Json::Object(fields) => {
            let map = Map::new();
            for (key, value) in fields {
                map.insert(key.as_str(), plant(value));
            }
            Value::Map(map)
        }
    }
}
