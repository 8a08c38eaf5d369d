//! Rendered text as Kubernetes objects: documents, hooks, and the order in which they are installed.

mod head;
mod hook;
mod order;
mod split;

pub use head::Head;
pub use hook::{DeletePolicy, Event, Execution, Hook, Phase};
pub use order::{install as install_order, uninstall as uninstall_order};
pub use split::split;

use crate::{Error, Flavor, Warnings};

/// One document of a rendered template.
#[derive(Clone, Debug, PartialEq)]
pub struct Manifest {
    /// The template it comes from.
    pub path: String,
    pub content: String,
    pub head: Head,
}

/// Which way round kinds are ordered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    Install,
    Uninstall,
}

/// Cuts rendered files (path, text) into documents, tells hooks from the rest, and orders both.
pub fn sort<'a>(
    files: impl IntoIterator<Item = (&'a str, &'a str)>,
    order: Order,
    flavor: Flavor,
    warnings: &Warnings,
) -> Result<(Vec<Hook>, Vec<Manifest>), Error> {
    let mut files: Vec<(&str, &str)> = files.into_iter().collect();
    files.sort_by(|a, b| a.0.cmp(b.0));
    let (mut hooks, mut manifests) = (Vec::new(), Vec::new());
    for (path, text) in files {
        let name = path.rsplit('/').next().unwrap_or(path);
        if name.starts_with('_') || text.trim().is_empty() {
            continue;
        }
        for content in split(text, flavor) {
            let head = Head::read(content, flavor).map_err(|cause| Error::Manifest {
                path: path.to_owned(),
                cause,
                rendered: String::new(),
            })?;
            match head.annotation("helm.sh/hook") {
                None => manifests.push(Manifest { path: path.to_owned(), content: content.to_owned(), head }),
                Some(events) => match hook::events(events) {
                    Some(events) => hooks.push(Hook::new(path, content, &head, events)),
                    None => warnings.add(format!("info: skipping unknown hook: {events:?}")),
                },
            }
        }
    }
    let compare = |a: &str, b: &str| match order {
        Order::Install => install_order(a, b, flavor),
        Order::Uninstall => uninstall_order(a, b, flavor),
    };
    hooks.sort_by(|a, b| compare(&a.kind, &b.kind));
    manifests.sort_by(|a, b| compare(&a.head.kind, &b.head.kind));
    Ok((hooks, manifests))
}
