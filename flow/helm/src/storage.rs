//! Where revisions are kept: Secrets, or ConfigMaps, named and labelled as Helm does.

use std::collections::BTreeMap;

use base64::{Engine, engine::general_purpose::STANDARD};
use chart::release::{
    Access, Claim, HEARTBEAT, History, OWNER, Record, SECRET_TYPE, Status, decode, encode, key, labels,
};
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::{
    Cluster, Error,
    cluster::{Patch, Resource, segment},
};

/// How many objects are asked for at once.
const PAGE: usize = 200;
/// How often a write is tried again that somebody came before.
const TRIES: usize = 5;

/// What holds the records: the words of `HELM_DRIVER`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Driver {
    #[default]
    Secret,
    ConfigMap,
}

impl Driver {
    /// Reads the value of `HELM_DRIVER`.
    pub fn parse(word: &str) -> Result<Self, Error> {
        match word {
            "" | "secret" | "secrets" => Ok(Self::Secret),
            "configmap" | "configmaps" => Ok(Self::ConfigMap),
            "sql" | "memory" => Err(Error::Option(format!(
                "releases are not kept by the driver {word:?}: they are in `secret` or `configmap`; what helm keeps in a database is for helm itself to change"
            ))),
            other => {
                Err(Error::Option(format!("unknown driver {other:?}: releases are kept in `secret` or `configmap`")))
            }
        }
    }
}

/// What must still stand in a revision that an operation writes.
#[derive(Clone, Debug)]
pub struct Held {
    pub owner: String,
    /// The unsettled status in which the operation holds it.
    pub status: Status,
}

/// The labels of an object.
pub type Labels = BTreeMap<String, String>;

fn labels_of(object: &Value) -> Labels {
    let labels = object["metadata"]["labels"].as_object().into_iter().flatten();
    labels.filter_map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned()))).collect()
}

/// The stored revisions of a namespace.
#[derive(Clone)]
pub struct Storage {
    cluster: Cluster,
    driver: Driver,
    namespace: String,
}

impl Storage {
    pub fn new(cluster: Cluster, driver: Driver, namespace: &str) -> Self {
        Self { cluster, driver, namespace: namespace.to_owned() }
    }

    fn collection(&self, namespace: Option<&str>) -> String {
        let (kind, plural) = match self.driver {
            Driver::Secret => ("Secret", "secrets"),
            Driver::ConfigMap => ("ConfigMap", "configmaps"),
        };
        let resource = Resource {
            group: String::new(),
            version: "v1".to_owned(),
            kind: kind.to_owned(),
            plural: plural.to_owned(),
            namespaced: true,
        };
        resource.collection(namespace)
    }

    fn path(&self, name: &str, revision: u64) -> String {
        format!("{}/{}", self.collection(Some(&self.namespace)), segment(&key(name, revision)))
    }

    /// All revisions of a release; none when there is no such release.
    pub async fn history(&self, name: &str) -> Result<History, Error> {
        let selector = format!("name={name},owner=helm");
        Ok(History::new(
            self.list(Some(&self.namespace), &selector)
                .await
                .map_err(|e| e.context("query: failed to query with labels"))?
                .into_iter()
                .map(|(record, _)| record)
                .collect(),
        ))
    }

    /// All revisions of all releases, of all namespaces if asked for.
    pub async fn all(&self, everywhere: bool) -> Result<Vec<Record>, Error> {
        Ok(self.labelled(everywhere).await?.into_iter().map(|(record, _)| record).collect())
    }

    /// The same with all labels of what holds them, Helm's own too.
    pub async fn labelled(&self, everywhere: bool) -> Result<Vec<(Record, Labels)>, Error> {
        let namespace = (!everywhere).then_some(self.namespace.as_str());
        self.list(namespace, "owner=helm").await.map_err(|error| error.context("list: failed to list"))
    }

    async fn list(&self, namespace: Option<&str>, selector: &str) -> Result<Vec<(Record, Labels)>, Error> {
        let mut records = Vec::new();
        let mut next = String::new();
        loop {
            let mut path = format!("{}?labelSelector={}&limit={PAGE}", self.collection(namespace), segment(selector));
            if !next.is_empty() {
                path.push_str(&format!("&continue={}", segment(&next)));
            }
            let page = self.cluster.get(&path).await?;
            for object in page["items"].as_array().into_iter().flatten() {
                match self.read(object) {
                    Ok(record) => records.push((record, labels_of(object))),
                    Err(error) => {
                        tracing::warn!(%error, name = %object["metadata"]["name"], "skipped a stored release")
                    }
                }
            }
            next = page["metadata"]["continue"].as_str().unwrap_or_default().to_owned();
            if next.is_empty() {
                return Ok(records);
            }
        }
    }

    fn read(&self, object: &Value) -> Result<Record, Error> {
        let broken = |what: &str| Error::Chart(chart::Error::Record(what.to_owned()));
        let data = object["data"]["release"].as_str().ok_or_else(|| broken("it has no key `release`"))?;
        let data = match self.driver {
            Driver::Secret => STANDARD.decode(data).map_err(|error| broken(&error.to_string()))?,
            Driver::ConfigMap => data.as_bytes().to_vec(),
        };
        let mut record = decode(&data, &labels_of(object))?;
        let annotation = |name: &str| object["metadata"]["annotations"][name].as_str().map(str::to_owned);
        record.claim = annotation(OWNER)
            .map(|owner| Claim { owner, beat: annotation(HEARTBEAT).unwrap_or_default() })
            .filter(|_| record.is_unsettled());
        Ok(record)
    }

    /// All labels of what holds a revision, Helm's own too.
    pub async fn labels(&self, name: &str, revision: u64) -> Result<Labels, Error> {
        self.cluster.get(&self.path(name, revision)).await.map(|object| labels_of(&object))
    }

    /// One revision as it is now.
    pub async fn get(&self, name: &str, revision: u64) -> Result<Option<Record>, Error> {
        match self.cluster.find(&self.path(name, revision)).await? {
            Some(object) => self.read(&object).map(Some),
            None => Ok(None),
        }
    }

    fn object(&self, record: &Record, write: Access, now: Timestamp) -> Result<Value, Error> {
        let data = encode(record)?;
        let mut metadata = json!({
            "name": key(&record.name, record.version),
            "namespace": self.namespace,
            "labels": labels(record, write, now),
        });
        if let Some(claim) = record.claim.as_ref().filter(|_| record.is_unsettled()) {
            metadata["annotations"] = json!({ OWNER: claim.owner, HEARTBEAT: claim.beat });
        }
        Ok(match self.driver {
            Driver::Secret => json!({
                "apiVersion": "v1", "kind": "Secret", "metadata": metadata, "type": SECRET_TYPE,
                "data": { "release": STANDARD.encode(data) },
            }),
            Driver::ConfigMap => json!({
                "apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": { "release": data },
            }),
        })
    }

    /// Writes a new revision. One that is there already means that somebody else was faster.
    pub async fn create(&self, record: &Record, now: Timestamp) -> Result<(), Error> {
        let object = self.object(record, Access::Create, now)?;
        match self.cluster.create(&self.collection(Some(&self.namespace)), &object).await {
            Ok(_) => Ok(()),
            Err(error) if error.is_already_exists() => Err(Error::Busy),
            Err(error) => Err(error.context("create: failed to create")),
        }
    }

    /// Whether the revision in `live` is still that of `held`. Helm writes records whole and without annotations, `helm test`
    /// during an upgrade too; so a revision that names nobody, and on which nobody went on, was not taken over.
    async fn check(&self, live: &Value, name: &str, revision: u64, held: &Held) -> Result<(), Error> {
        let metadata = &live["metadata"];
        match metadata["annotations"][OWNER].as_str() {
            Some(owner) if owner == held.owner => return Ok(()),
            None if metadata["labels"]["status"] == held.status.to_string().as_str() => {}
            _ => return Err(Error::TakenOver(name.to_owned())),
        }
        match self.cluster.find(&self.path(name, revision + 1)).await? {
            None => Ok(()),
            Some(_) => Err(Error::TakenOver(name.to_owned())),
        }
    }

    /// Changes a revision as it is now, and leaves the rest of it alone. What is uninstalled is not written.
    pub(crate) async fn amend(
        &self,
        name: &str,
        revision: u64,
        now: Timestamp,
        change: impl Fn(&mut Record),
    ) -> Result<Record, Error> {
        let failed = |error: Error| error.context("update: failed to update");
        let path = self.path(name, revision);
        let mut tried = 1;
        loop {
            let live = self.cluster.get(&path).await.map_err(failed)?;
            let mut record = self.read(&live)?;
            change(&mut record);
            if record.info.status == Status::Uninstalled {
                return Ok(record);
            }
            let mut object = self.object(&record, Access::Update, now)?;
            object["metadata"]["resourceVersion"] = live["metadata"]["resourceVersion"].clone();
            match self.cluster.replace(&path, &object, false).await {
                Ok(_) => return Ok(record),
                Err(error) if error.is_conflict() && tried < TRIES => tried += 1,
                Err(error) => return Err(failed(error)),
            }
        }
    }

    /// Writes a revision that is there. `held` is what must still stand in it.
    pub async fn update(&self, record: &Record, held: Option<&Held>, now: Timestamp) -> Result<(), Error> {
        let mut object = self.object(record, Access::Update, now)?;
        let path = self.path(&record.name, record.version);
        for tried in 1.. {
            if let Some(held) = held {
                let live = self.cluster.get(&path).await.map_err(|error| error.context("update: failed to update"))?;
                self.check(&live, &record.name, record.version, held).await?;
                object["metadata"]["resourceVersion"] = live["metadata"]["resourceVersion"].clone();
            }
            match self.cluster.replace(&path, &object, false).await {
                Ok(_) => break,
                // A heartbeat came between.
                Err(error) if held.is_some() && error.is_conflict() && tried < TRIES => {}
                Err(error) => return Err(error.context("update: failed to update")),
            }
        }
        Ok(())
    }

    /// Takes a revision that nobody holds, or whose holder is `from`: it is written only if it is still so.
    pub async fn take(&self, record: &Record, from: Option<&str>, now: Timestamp) -> Result<(), Error> {
        let mut object = self.object(record, Access::Update, now)?;
        let path = self.path(&record.name, record.version);
        let live = self.cluster.get(&path).await?;
        if live["metadata"]["annotations"][OWNER].as_str() != from {
            return Err(Error::Busy);
        }
        object["metadata"]["resourceVersion"] = live["metadata"]["resourceVersion"].clone();
        match self.cluster.replace(&path, &object, false).await {
            Ok(_) => Ok(()),
            Err(error) if error.is_conflict() => Err(Error::Busy),
            Err(error) => Err(error.context("update: failed to update")),
        }
    }

    /// Deletes a revision; it may be gone already.
    pub async fn delete(&self, name: &str, revision: u64) -> Result<(), Error> {
        match self.cluster.delete(&self.path(name, revision), "Background").await {
            Err(error) if !error.is_not_found() => Err(error),
            _ => Ok(()),
        }
    }

    /// Says that the process that holds a revision lives, and writes its claim again if it was lost and nobody else has one;
    /// [`Error::TakenOver`] and most errors of the API mean that it does not hold it any more.
    pub(crate) async fn beat(&self, name: &str, revision: u64, held: &Held, beat: &str) -> Result<(), Error> {
        let at = |annotation: &str| format!("/metadata/annotations/{}", annotation.replace('/', "~1"));
        let patch = json!([
            { "op": "test", "path": at(OWNER), "value": held.owner },
            { "op": "replace", "path": at(HEARTBEAT), "value": beat },
        ]);
        let path = self.path(name, revision);
        let Err(refused) = self.cluster.patch(&path, Patch::Json, &patch).await else { return Ok(()) };
        if !refused.is_refused() {
            return Err(refused);
        }
        let mut live = self.cluster.get(&path).await?;
        self.check(&live, name, revision, held).await?;
        let annotations = &mut live["metadata"]["annotations"];
        annotations[OWNER] = held.owner.as_str().into();
        annotations[HEARTBEAT] = beat.into();
        self.cluster.replace(&path, &live, false).await.map(drop)
    }
}
