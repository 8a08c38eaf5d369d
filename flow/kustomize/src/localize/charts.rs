//! Charts that lie beside a kustomization, and their values.

use yaml::{Map, Value};

use super::{
    Localized, MAX_DEPTH, Root,
    fields::{change, entries, texts},
    relative,
};
use crate::{Error, Result, path};

/// Where charts lie when nothing else is said.
const HOME: &str = "charts";

impl Root<'_> {
    pub(super) fn charts(&self, fields: &mut Map, copy: &mut Localized) -> Result<()> {
        let mut at = 0;
        entries(fields, "helmChartInflationGenerator", |chart| {
            let entry = format!("helmChartInflationGenerator entry {at}");
            at += 1;
            change(chart, "values", |name| self.file(name, copy))
                .map_err(|error| error.during(format!("unable to localize {entry} values")))?;
            self.home_of(chart, copy).map_err(|error| error.during(format!("unable to copy {entry}")))
        })?;
        let mut at = 0;
        entries(fields, "helmCharts", |chart| {
            let unable = |what: &str| format!("unable to localize helmCharts entry {at} {what}");
            change(chart, "valuesFile", |name| self.file(name, copy))
                .map_err(|error| error.during(unable("valuesFile")))?;
            texts(chart, "additionalValuesFiles", |name| self.file(name, copy))
                .map_err(|error| error.during(unable("additionalValuesFiles")))?;
            at += 1;
            Ok(())
        })?;
        let some = matches!(fields.get("helmCharts"), Some(Value::List(charts)) if !charts.is_empty());
        match fields.get_mut("helmGlobals") {
            Some(Value::Map(globals)) => {
                self.home_of(globals, copy).map_err(|error| error.during("unable to copy helmGlobals"))
            }
            _ if some => {
                self.home("", copy).map(drop).map_err(|error| error.during("unable to copy default chart home"))
            }
            _ => Ok(()),
        }
    }

    fn home_of(&self, fields: &mut Map, copy: &mut Localized) -> Result<()> {
        match fields.get("chartHome") {
            Some(Value::String(_)) => change(fields, "chartHome", |home| self.home(home, copy)),
            _ => self.home("", copy).map(drop),
        }
    }

    /// Copies a directory of charts to the same place; gives the path that names it. One that is not there may come yet.
    pub(super) fn home(&self, entry: &str, copy: &mut Localized) -> Result<String> {
        let named = if entry.is_empty() { HOME } else { entry };
        if named.starts_with('/') {
            return Err(Error::wrong(format!("absolute path {named:?} not handled in alpha")));
        }
        let at = path::join(&self.root, named);
        let given = relative(&self.root, &at);
        let place = if self.files.canonical(&at).is_none() {
            given
        } else {
            let below = self.below(&given).map_err(|error| error.during(format!("unable to copy home {entry:?}")))?;
            let default = at == path::join(&self.root, HOME);
            let place = if default { given } else { relative(&self.root, &below.root) };
            let to = path::clean(&format!("{}/{place}", self.copy));
            if !copy.directories.contains(&to) {
                self.directory_copy(&below.root, &to, copy, 0)
                    .map_err(|error| error.during(format!("unable to copy chart home {named:?}")))?;
            }
            place
        };
        Ok(if entry.is_empty() { String::new() } else { place })
    }

    /// Copies what is in a directory; links are left out.
    fn directory_copy(&self, from: &str, to: &str, copy: &mut Localized, depth: usize) -> Result<()> {
        if depth > MAX_DEPTH {
            return Err(Error::Refused(format!("directories nested deeper than {MAX_DEPTH}: {from}")));
        }
        copy.directories.push(to.to_owned());
        for (name, size) in self.files.list(from)? {
            let (source, target) = (path::join(from, &name), path::clean(&format!("{to}/{name}")));
            if self.files.canonical(&source).as_deref() != Some(&source) {
                continue;
            }
            match size {
                None => self.directory_copy(&source, &target, copy, depth + 1)?,
                Some(_) => copy.add(&target, self.files.read(&source)?)?,
            }
        }
        Ok(())
    }
}
