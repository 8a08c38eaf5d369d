//! The objects of a build, in order.

use crate::{
    Error, Gvk, Id, Result,
    resource::{Behavior, Resource},
};

/// The objects, each id once.
#[derive(Debug, Clone, Default)]
pub struct Resources {
    pub list: Vec<Resource>,
    /// Where an object with an id is; ids change, so it is built anew when asked for after a change.
    ids: std::collections::HashMap<(String, Gvk, String), usize>,
    fresh: bool,
}

fn key(id: &Id) -> (String, Gvk, String) {
    (id.name.clone(), id.gvk.clone(), id.effective_namespace().to_owned())
}

impl Resources {
    fn index(&mut self) {
        if !self.fresh || self.ids.len() > self.list.len() {
            self.ids = self.list.iter().enumerate().map(|(i, resource)| (key(&resource.id()), i)).collect();
            self.fresh = true;
        }
    }

    /// To be called when an object's name, kind or namespace may have changed.
    pub fn touched(&mut self) {
        self.fresh = false;
    }

    pub fn append(&mut self, resource: Resource) -> Result<()> {
        self.index();
        let id = resource.id();
        if self.ids.insert(key(&id), self.list.len()).is_some() {
            self.fresh = false;
            return Err(Error::wrong(format!("may not add resource with an already registered id: {id}")));
        }
        self.list.push(resource);
        Ok(())
    }

    pub fn append_all(&mut self, resources: Vec<Resource>) -> Result<()> {
        resources.into_iter().try_for_each(|resource| self.append(resource))
    }

    /// Objects that have or had this id.
    pub fn matching(&self, fits: impl Fn(&Id) -> bool) -> Vec<usize> {
        (0..self.list.len()).filter(|&i| !self.list[i].is_gone() && self.list[i].ids().iter().any(&fits)).collect()
    }

    /// The only object that has or had this id.
    pub fn by_id(&self, id: &Id) -> Result<usize> {
        let found = self.matching(|other| id.same(other));
        let problem = match found[..] {
            [one] => return Ok(one),
            [] => "no",
            _ => "multiple",
        };
        Err(Error::wrong(format!("{problem} matches for Id {id}; failed to find unique target for patch {id}")))
    }

    /// Generated objects: added, or merged into what is there, as their behaviour says.
    pub fn absorb_all(&mut self, resources: Vec<Resource>) -> Result<()> {
        for resource in resources {
            self.absorb(resource)?;
        }
        Ok(())
    }

    fn absorb(&mut self, mut resource: Resource) -> Result<()> {
        let id = resource.id();
        let found = self.matching(|other| id.same(other));
        let at = match found[..] {
            [] if matches!(resource.behavior, Behavior::Merge | Behavior::Replace) => {
                return Err(Error::wrong(format!("id {id} does not exist; cannot merge or replace")));
            }
            [] => return self.append(resource),
            [at] => at,
            _ => return Err(Error::wrong(format!("found multiple objects that could accept merge of {id}"))),
        };
        match resource.behavior {
            Behavior::Replace => resource.take_metadata_from(&self.list[at])?,
            Behavior::Merge => {
                resource.take_metadata_from(&self.list[at])?;
                resource.merge_data_from(&self.list[at])?;
                if self.list[at].origin.is_some() {
                    resource.origin.clone_from(&self.list[at].origin);
                }
            }
            other => {
                return Err(Error::wrong(format!(
                    "id {id} exists; can not use behavior: '{other}', behavior must be merge or replace"
                )));
            }
        }
        self.list[at] = resource;
        self.touched();
        Ok(())
    }

    /// Takes away what patches deleted.
    pub fn drop_gone(&mut self) {
        let before = self.list.len();
        self.list.retain(|resource| !resource.is_gone());
        if self.list.len() != before {
            self.touched();
        }
    }
}
