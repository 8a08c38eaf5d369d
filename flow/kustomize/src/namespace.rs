//! Putting everything into one namespace.

use yaml::{Kind, Node};

use crate::{Error, FieldSpec, Gvk, Result, field, field::Create, resources::Resources, tree};

/// Which subjects of role bindings get the namespace.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub enum Subjects {
    /// Those called `default`.
    #[default]
    Default,
    ServiceAccounts,
    None,
}

impl Subjects {
    pub fn named(name: &str) -> Result<Self> {
        match name {
            "" | "defaultOnly" => Ok(Self::Default),
            "allServiceAccounts" => Ok(Self::ServiceAccounts),
            "none" => Ok(Self::None),
            other => Err(Error::wrong(format!(
                "invalid value {other:?} for setRoleBindingSubjects: must be one of \"defaultOnly\", \"none\" or \"allServiceAccounts\""
            ))),
        }
    }
}

/// How it is set.
pub struct Setting<'s> {
    pub namespace: &'s str,
    pub specs: &'s [FieldSpec],
    pub subjects: Subjects,
    /// Only where there is none yet.
    pub unset_only: bool,
}

impl Setting<'_> {
    fn set(&self, node: &mut Node) {
        if self.unset_only && !tree::text(node).is_empty() {
            return;
        }
        tree::set_scalar(node, self.namespace, Some("!!str"));
    }

    pub fn apply(&self, resources: &mut Resources) -> Result<()> {
        let mut seen = std::collections::HashSet::new();
        for resource in &mut resources.list {
            if resource.is_gone() || resource.from_chart {
                continue;
            }
            resource.store_id();
            let gvk = resource.gvk();
            self.node(&mut resource.node, &gvk)?;
        }
        resources.touched();
        for resource in &resources.list {
            let id = resource.id();
            let key = (id.gvk.clone(), id.name.clone(), id.effective_namespace().to_owned());
            if !seen.insert(key) {
                return Err(Error::wrong(format!("namespace transformation produces ID conflict: {id}")));
            }
        }
        Ok(())
    }

    fn node(&self, node: &mut Node, gvk: &Gvk) -> Result<()> {
        if !gvk.is_cluster_scoped() {
            let metadata = tree::map_under(node, "metadata")?;
            match metadata.get_mut("namespace") {
                Some(namespace) => self.set(namespace),
                None => tree::set(metadata, "namespace", Node::string(self.namespace)),
            }
        }
        let binding = matches!(gvk.kind.as_str(), "RoleBinding" | "ClusterRoleBinding");
        if binding {
            self.bind(node)?;
        }
        for spec in self.specs {
            let skipped = spec.path == "metadata/namespace"
                || (spec.path == "metadata/name" && gvk.api_version() != "v1")
                || (binding
                    && spec.path == "subjects/namespace"
                    && matches!(spec.gvk.kind.as_str(), "RoleBinding" | "ClusterRoleBinding"));
            if skipped {
                continue;
            }
            field::visit(node, gvk, spec, Create::Scalar, &mut |node| {
                if !matches!(node.kind, Kind::Scalar(_)) {
                    return Err(Error::wrong("namespace field specs must target scalar nodes"));
                }
                self.set(node);
                Ok(())
            })
            .map_err(|error| error.during("namespace transformation failed"))?;
        }
        Ok(())
    }

    fn bind(&self, node: &mut Node) -> Result<()> {
        if self.subjects == Subjects::None {
            return Ok(());
        }
        let Some(subjects) = node.get_mut("subjects").filter(|subjects| !tree::is_null(subjects)) else {
            return Ok(());
        };
        let Kind::List(subjects) = &mut subjects.kind else {
            return Err(Error::wrong("setting namespace on (cluster)role binding subjects: subjects must be a list"));
        };
        for subject in subjects {
            let fits = match self.subjects {
                Subjects::Default => tree::text_at(subject, &["name"]) == "default",
                _ => tree::text_at(subject, &["kind"]) == "ServiceAccount",
            };
            if !fits {
                continue;
            }
            match subject.get_mut("namespace") {
                Some(namespace) => self.set(namespace),
                None => tree::set(subject, "namespace", Node::string(self.namespace)),
            }
        }
        Ok(())
    }
}
