//! `helm test`.

use std::time::Duration;

use chart::{
    manifest::{Event, Hook},
    release::Record,
};

use super::{Helm, check_name};
use crate::{Error, claim::Operation, cluster::segment, hooks};

/// Which tests of a release are run.
#[derive(Clone, Debug, Default)]
pub struct Testing {
    pub name: String,
    pub timeout: Duration,
    /// Only those of these names, if there are any.
    pub only: Vec<String>,
    /// Not those of these names.
    pub without: Vec<String>,
}

impl Testing {
    fn takes(&self, name: &str) -> bool {
        let among = |names: &[String]| names.iter().any(|known| known == name);
        !among(&self.without) && (self.only.is_empty() || among(&self.only))
    }
}

impl Helm {
    /// Runs the tests of a release's newest revision. Gives the record as it then is, and how it went; the objects of the
    /// tests are left for [`Self::clean_tests`], so that their logs can be read.
    pub async fn test(&self, options: &Testing) -> Result<(Record, Result<(), Error>), Error> {
        self.cluster.version().await?;
        let name = &options.name;
        check_name(name).map_err(|_| Error::Option(format!("releaseTest: Release name is invalid: {name}")))?;
        let history = self.releases.history(name).await?;
        let last = history.last().cloned().ok_or(Error::NotFound)?;
        // Testing does not hold the release: another operation may end, or begin, meanwhile.
        let mut record = last;
        record.hooks.retain(|hook| options.takes(&hook.name));
        let server = record.apply_method() == "ssa";
        let mut operation = Operation::watch(self, record);
        let run = hooks::Run { event: Event::Test, timeout: options.timeout, server, leave: true };
        let result = hooks::run(self, &mut operation, run).await;
        let ran = |record: &mut Record| {
            for hook in record.hooks.iter_mut().filter(|hook| hook.is_test()) {
                let same = |done: &&Hook| done.path == hook.path && done.name == hook.name;
                if let Some(done) = operation.record.hooks.iter().find(same) {
                    hook.last_run = done.last_run.clone();
                }
            }
        };
        let record = self.releases.amend(name, operation.record.version, self.now(), ran).await?;
        Ok((record, result))
    }

    /// Deletes the objects of tests, as their policies say.
    pub async fn clean_tests(&self, record: &Record, options: &Testing, succeeded: bool) -> Result<(), Error> {
        let mut record = record.clone();
        record.hooks.retain(|hook| options.takes(&hook.name));
        let operation = Operation::watch(self, record);
        let run = hooks::Run { event: Event::Test, timeout: options.timeout, server: true, leave: true };
        hooks::clean(self, &operation, run, succeeded).await
    }
}

/// What the pods of a release's tests wrote: a heading, the text, an empty line each.
pub async fn logs(helm: &Helm, record: &Record, options: &Testing) -> Result<Vec<u8>, Error> {
    let mut out = Vec::new();
    for hook in chart::release::hooks(record, Event::Test) {
        if hook.kind != "Pod" || !options.takes(&hook.name) {
            continue;
        }
        let path = format!("/api/v1/namespaces/{}/pods/{}", segment(&record.namespace), segment(&hook.name));
        let pod = helm.cluster.get(&path).await;
        let pod = pod.map_err(|error| error.context(format!("unable to get pod {}", hook.name)))?;
        for (container, log) in hooks::container_logs(helm, &pod, true).await {
            let log = log.map_err(|error| {
                error.context(format!("unable to get logs for pod {}, container {container}", hook.name))
            })?;
            out.extend_from_slice(format!("POD LOGS: {} ({container})\n", hook.name).as_bytes());
            out.extend_from_slice(&log);
            out.push(b'\n');
        }
    }
    Ok(out)
}
