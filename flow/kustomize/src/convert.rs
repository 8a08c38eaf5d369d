//! `edit fix --vars`: from vars to replacements.
//!
//! A variable is a text that stands for a value anywhere in a field; a replacement fills a whole field or a part between
//! delimiters. Where the one cannot be said by the other, nothing is changed: what the kustomization makes is compared.

use std::collections::{BTreeMap, BTreeSet};

use yaml::{Kind, Limits, Node};

use crate::{
    Edit, Error, FileError, Files, Gvk, Kustomization, Options, Result,
    kustomization::{ObjectRef, Var},
    path, tree,
};

/// A place where a variable is used.
struct Use {
    object: Vec<(&'static str, String)>,
    field: String,
    /// The delimiter and which part it is; nothing where the variable is all of the field.
    part: Option<(char, usize)>,
}

impl Edit {
    /// Turns `vars` into `replacements`. `root` is the directory of the kustomization. The texts of the files that use them, which
    /// have to change with it, by their paths as the kustomization names them.
    pub fn replace_vars(&mut self, files: &dyn Files, root: &str) -> Result<Vec<(String, String)>> {
        if self.items("vars")?.is_empty() {
            return Ok(Vec::new());
        }
        let (kustomization, _) = Kustomization::read(self.text(), self.file())?;
        let before = crate::build(files, root, &Options::default())?;
        let patches = kustomization.patches.iter().map(|patch| &patch.path).filter(|path| !path.is_empty());
        let named: BTreeSet<&String> = kustomization.resources.iter().chain(patches).collect();
        let mut uses: BTreeMap<&str, Vec<Use>> = BTreeMap::new();
        let mut changed = Vec::new();
        for name in named {
            let file = path::join(root, name);
            if path::is_remote(name) || files.is_dir(&file) {
                continue;
            }
            let Ok(text) = String::from_utf8(files.read(&file)?) else { continue };
            let used: Vec<&Var> =
                kustomization.vars.iter().filter(|var| text.contains(&reference(&var.name))).collect();
            if used.is_empty() {
                continue;
            }
            let malformed = |source| Error::Malformed { file: name.clone(), source };
            for document in yaml::parse_all(&text, &Limits::default(), false).map_err(malformed)? {
                let Some(root) = document.into_expanded(&Limits::default()).map_err(malformed)? else { continue };
                let object = selector(&root);
                for var in &used {
                    let found = uses.entry(&var.name).or_default();
                    collect(&root, &mut Vec::new(), &var.name, &object, found)
                        .map_err(|error| error.during(format!("error with {name}")))?;
                }
            }
            let new = used.iter().fold(text, |text, var| text.replace(&reference(&var.name), &placeholder(&var.name)));
            changed.push((name.clone(), new));
        }
        let mut items = self.items("replacements")?;
        for var in &kustomization.vars {
            let Some(uses) = uses.get(var.name.as_str()).filter(|uses| !uses.is_empty()) else { continue };
            let targets = uses.iter().map(target).collect();
            items.push(map(vec![("source", source(var)), ("targets", Node::list(targets))]));
        }
        let mut fixed = self.clone();
        fixed.set("vars", None)?;
        fixed.set("replacements", (!items.is_empty()).then(|| Node::list(items)))?;
        let mut texts: BTreeMap<String, Vec<u8>> = BTreeMap::new();
        let own = (self.file().to_owned(), fixed.text().to_owned());
        for (name, text) in changed.iter().chain([&own]) {
            let file = path::join(root, name);
            texts.insert(files.canonical(&file).unwrap_or(file), text.clone().into_bytes());
        }
        let doing = "vars were not changed: with replacements the kustomization would make something else";
        let after = crate::build(&Overlay { files, texts }, root, &Options::default());
        let after = after.map_err(|error| error.during(doing))?;
        let differ = before.objects.iter().zip(&after.objects).find(|(was, is)| was.value != is.value);
        if let Some((was, _)) = differ {
            let message = format!("{doing}: {}/{} differs", was.id.gvk.kind, was.id.name);
            return Err(Error::wrong(message));
        }
        *self = fixed;
        Ok(changed)
    }
}

/// Files of which some have other contents.
struct Overlay<'a> {
    files: &'a dyn Files,
    texts: BTreeMap<String, Vec<u8>>,
}

impl Files for Overlay<'_> {
    fn read(&self, path: &str) -> std::result::Result<Vec<u8>, FileError> {
        match self.files.canonical(path).and_then(|real| self.texts.get(&real)) {
            Some(text) => Ok(text.clone()),
            None => self.files.read(path),
        }
    }

    fn is_dir(&self, path: &str) -> bool {
        self.files.is_dir(path)
    }

    fn canonical(&self, path: &str) -> Option<String> {
        self.files.canonical(path)
    }

    fn list(&self, directory: &str) -> std::result::Result<Vec<(String, Option<u64>)>, FileError> {
        self.files.list(directory)
    }
}

fn reference(name: &str) -> String {
    format!("$({name})")
}

fn placeholder(name: &str) -> String {
    format!("{name}_PLACEHOLDER")
}

fn map(entries: Vec<(&str, Node)>) -> Node {
    Node::map(entries.into_iter().map(|(key, value)| (Node::string(key), value)).collect())
}

fn texts(entries: &[(&'static str, String)]) -> Vec<(&'static str, Node)> {
    entries.iter().filter(|(_, text)| !text.is_empty()).map(|(key, text)| (*key, Node::string(text))).collect()
}

/// What an object is selected by.
fn selector(root: &Node) -> Vec<(&'static str, String)> {
    let text = |path: &[&str]| tree::text_at(root, path).to_owned();
    let gvk = Gvk::new(&text(&["apiVersion"]), &text(&["kind"]));
    vec![
        ("group", gvk.group),
        ("version", gvk.version),
        ("kind", gvk.kind),
        ("name", text(&["metadata", "name"])),
        ("namespace", text(&["metadata", "namespace"])),
    ]
}

fn source(var: &Var) -> Node {
    let ObjectRef { api_version, group, version, kind, name, namespace } = &var.objref;
    let gvk = Gvk::new(api_version, kind);
    let or = |text: &String, other: String| if text.is_empty() { other } else { text.clone() };
    let mut entries = texts(&[
        ("group", or(group, gvk.group)),
        ("version", or(version, gvk.version)),
        ("kind", kind.clone()),
        ("name", name.clone()),
        ("namespace", namespace.clone()),
    ]);
    if !["", "metadata.name"].contains(&var.fieldref.fieldpath.as_str()) {
        // Replacements write items of lists as names.
        let field = var.fieldref.fieldpath.replace('[', ".").replace(']', "");
        entries.push(("fieldPath", Node::string(field)));
    }
    map(entries)
}

fn target(found: &Use) -> Node {
    let mut entries =
        vec![("select", map(texts(&found.object))), ("fieldPaths", Node::list(vec![Node::string(&found.field)]))];
    if let Some((delimiter, index)) = found.part {
        let index = Node::plain(index.to_string());
        entries.push(("options", map(vec![("delimiter", Node::string(delimiter.to_string())), ("index", index)])));
    }
    map(entries)
}

/// Every place below a node where a variable is used. The depth is bounded by that of the text.
fn collect(
    node: &Node,
    at: &mut Vec<String>,
    name: &str,
    object: &[(&'static str, String)],
    found: &mut Vec<Use>,
) -> Result<()> {
    match &node.kind {
        Kind::Map(entries) => {
            for (key, value) in entries {
                at.push(key.as_scalar().unwrap_or_default().replace('.', "\\."));
                collect(value, at, name, object, found)?;
                at.pop();
            }
        }
        Kind::List(items) => {
            for (i, item) in items.iter().enumerate() {
                at.push(i.to_string());
                collect(item, at, name, object, found)?;
                at.pop();
            }
        }
        Kind::Scalar(text) => {
            for (start, _) in text.match_indices(&reference(name)) {
                let part = part(text, start, name)?;
                found.push(Use { object: object.to_vec(), field: at.join("."), part });
            }
        }
        Kind::Alias(_) => {}
    }
    Ok(())
}

/// Between which delimiters a variable stands.
fn part(text: &str, start: usize, name: &str) -> Result<Option<(char, usize)>> {
    let (before, rest) = text.split_at(start);
    let after = &rest[reference(name).len()..];
    let delimiter = match (before.chars().next_back(), after.chars().next()) {
        (None, None) => return Ok(None),
        (Some(left), Some(right)) if left == right => left,
        (Some(one), None) | (None, Some(one)) => one,
        _ => '$',
    };
    if ['$', ')'].contains(&delimiter) {
        return Err(Error::wrong(format!(
            "cannot convert all vars to replacements; {} is not delimited in {text:?}: write the replacement by hand",
            reference(name)
        )));
    }
    Ok(Some((delimiter, before.matches(delimiter).count())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Memory;

    fn files(vars: &str, command: &str) -> Memory {
        let deployment = format!(
            "apiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: dep}}\nspec:\n  template:\n    spec:\n      containers:\n      - name: c # Kept.\n        image: nginx\n        command: {command}\n"
        );
        Memory::default()
            .with("/k/kustomization.yaml", format!("namePrefix: p-\nresources: [dep.yaml, svc.yaml]\nvars:\n{vars}"))
            .with("/k/dep.yaml", deployment)
            .with(
                "/k/svc.yaml",
                "apiVersion: v1\nkind: Service\nmetadata: {name: web, namespace: n1}\nspec: {ports: [{port: 80}]}\n",
            )
    }

    const WEB: &str = "- {name: SVC, objref: {apiVersion: v1, kind: Service, name: web}}\n";

    fn converted(vars: &str, command: &str) -> Result<(String, Vec<(String, String)>)> {
        let files = files(vars, command);
        let text = String::from_utf8(files.read("/k/kustomization.yaml").unwrap()).unwrap();
        let mut edit = Edit::new(&text, "kustomization.yaml")?;
        let changed = edit.replace_vars(&files, "/k")?;
        Ok((edit.text().to_owned(), changed))
    }

    #[test]
    fn vars_become_replacements_that_make_the_same() {
        let vars = format!(
            "{WEB}- {{name: NS, objref: {{apiVersion: v1, kind: Service, name: web}}, fieldref: {{fieldpath: metadata.namespace}}}}\n"
        );
        let (text, changed) = converted(&vars, "[\"$(SVC)\", \"http://$(SVC)/$(NS)\"]").unwrap();
        assert!(!text.contains("vars:"), "{text}");
        let expected = "\
replacements:
- source:
    version: v1
    kind: Service
    name: web
  targets:
  - select:
      group: apps
      version: v1
      kind: Deployment
      name: dep
    fieldPaths:
    - spec.template.spec.containers.0.command.0
  - select:
      group: apps
      version: v1
      kind: Deployment
      name: dep
    fieldPaths:
    - spec.template.spec.containers.0.command.1
    options:
      delimiter: /
      index: 2
";
        assert!(text.contains(expected), "{text}");
        assert!(text.contains("      delimiter: /\n      index: 3\n"), "{text}");
        let [(name, file)] = &changed[..] else { panic!("{changed:?}") };
        assert_eq!(name, "dep.yaml");
        assert!(file.contains("# Kept.") && file.contains("\"http://SVC_PLACEHOLDER/NS_PLACEHOLDER\""), "{file}");
    }

    #[test]
    fn what_replacements_cannot_say_is_left_as_it_is() {
        let said = |command: &str| converted(WEB, command).unwrap_err().to_string();
        assert!(said("[\"a-$(SVC):80\"]").contains("$(SVC) is not delimited"));
        // An escaped reference is none.
        let escaped = said("[\"$(SVC)\", \"/$$(SVC)\"]");
        assert!(escaped.contains("not delimited") || escaped.contains("would make something else"), "{escaped}");
    }
}
