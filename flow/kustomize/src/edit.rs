//! Changing a kustomization file: only the fields that change are written anew, all other lines stay as they are.

use yaml::{Kind, Layout, Limits, Node};

use crate::{Error, Kustomization, Result, tree};

/// The text of a kustomization that is being edited.
#[derive(Debug, Clone, PartialEq)]
pub struct Edit {
    text: String,
    file: String,
}

impl Edit {
    /// `file` is named in errors.
    pub fn new(text: &str, file: &str) -> Result<Self> {
        let mut this = Self { text: text.to_owned(), file: file.to_owned() };
        // Fields are replaced by lines: a map in brackets is written as a block first.
        let malformed = |source| Error::Malformed { file: file.to_owned(), source };
        let mut documents = yaml::parse_all(text, &Limits::default(), true).map_err(malformed)?;
        if let [document] = &mut documents[..]
            && let Some(root @ Node { kind: Kind::Map(_), style: yaml::Style::Flow, .. }) = &mut document.root
        {
            root.style = yaml::Style::Plain;
            let empty = root.as_map().is_some_and(<[_]>::is_empty);
            this.text = if empty { String::new() } else { yaml::print(root, &Layout::default()) };
        }
        this.entries()?;
        Ok(this)
    }

    /// The name of the file.
    pub(crate) fn file(&self) -> &str {
        &self.file
    }

    /// The text as it is now.
    pub fn text(&self) -> &str {
        &self.text
    }

    fn entries(&self) -> Result<Vec<(Node, Node)>> {
        let malformed = |source| Error::Malformed { file: self.file.clone(), source };
        let documents = yaml::parse_all(&self.text, &Limits::default(), true).map_err(malformed)?;
        match documents.into_iter().next().and_then(|document| document.root) {
            None => Ok(Vec::new()),
            Some(Node { kind: Kind::Map(entries), style: yaml::Style::Plain, .. }) => Ok(entries),
            Some(node) if tree::is_null(&node) => Ok(Vec::new()),
            Some(_) => {
                Err(Error::Invalid { file: self.file.clone(), message: "must be a map in block style".to_owned() })
            }
        }
    }

    /// The value of a field.
    pub fn get(&self, field: &str) -> Result<Option<Node>> {
        Ok(self.entries()?.into_iter().find(|(key, _)| key.as_scalar() == Some(field)).map(|(_, value)| value))
    }

    /// Sets or removes a field.
    pub fn set(&mut self, field: &str, value: Option<Node>) -> Result<()> {
        let entries = self.entries()?;
        let old = entries.into_iter().find(|(key, _)| key.as_scalar() == Some(field));
        let printed = |mut key: Node, value: Node| {
            // What stands above the field is not part of what is replaced.
            if let Some(comments) = &mut key.comments {
                comments.head.clear();
                comments.foot.clear();
            }
            yaml::print(&Node::map(vec![(key, value)]), &Layout::default())
        };
        let lines: Vec<&str> = self.text.split_inclusive('\n').collect();
        let (from, to, key) = match old {
            Some((key, old)) => {
                let from = key.start.line as usize - 1;
                // An empty value may seem to end on the next key's line.
                let to =
                    if old.end.column == 1 && old.end.line > key.start.line { old.end.line - 1 } else { old.end.line };
                (from, (to as usize).clamp(from + 1, lines.len()), key)
            }
            None => (lines.len(), lines.len(), Node::string(field)),
        };
        let mut text = lines[..from].concat();
        if let Some(value) = value {
            if !text.is_empty() && !text.ends_with('\n') {
                text.push('\n');
            }
            text.push_str(&printed(key, value));
        }
        text.push_str(&lines[to..].concat());
        self.text = text;
        Ok(())
    }

    pub(crate) fn items(&self, field: &str) -> Result<Vec<Node>> {
        self.list(field)
    }

    fn list(&self, field: &str) -> Result<Vec<Node>> {
        match self.get(field)?.map(|node| node.kind) {
            Some(Kind::List(items)) => Ok(items),
            Some(Kind::Scalar(text)) if text.is_empty() || text == "null" => Ok(Vec::new()),
            None => Ok(Vec::new()),
            Some(_) => Err(Error::Invalid { file: self.file.clone(), message: format!("'{field}' must be a list") }),
        }
    }

    fn set_list(&mut self, field: &str, items: Vec<Node>) -> Result<()> {
        self.set(field, (!items.is_empty()).then(|| Node::list(items)))
    }

    /// Adds texts to a list (`resources`, `components`, …). Those that are there already.
    pub fn add(&mut self, field: &str, more: &[String]) -> Result<Vec<String>> {
        let mut items = self.list(field)?;
        let mut known = Vec::new();
        for text in more {
            if items.iter().any(|item| item.as_scalar() == Some(text)) {
                known.push(text.clone());
            } else {
                items.push(Node::string(text));
            }
        }
        self.set_list(field, items)?;
        Ok(known)
    }

    /// Takes texts out of a list; `*` and `?` stand for any characters. Those that were not there.
    pub fn remove(&mut self, field: &str, less: &[String]) -> Result<Vec<String>> {
        let mut items = self.list(field)?;
        let mut missing = Vec::new();
        for wanted in less {
            let before = items.len();
            items.retain(|item| !item.as_scalar().is_some_and(|text| fits(wanted, text)));
            if items.len() == before {
                missing.push(wanted.clone());
            }
        }
        self.set_list(field, items)?;
        Ok(missing)
    }

    /// Sets a field that holds one text; empty removes it.
    pub fn set_text(&mut self, field: &str, text: &str) -> Result<()> {
        self.set(field, (!text.is_empty()).then(|| Node::string(text)))
    }

    /// Whether a path fits a pattern of `*` and `?`.
    pub fn fits(pattern: &str, path: &str) -> bool {
        fits(pattern, path)
    }

    /// Sets keys of a map of texts (`commonAnnotations`). With `force` unset, a key that is there is an error.
    pub fn set_pairs(&mut self, field: &str, pairs: &[(String, String)], force: bool) -> Result<()> {
        let mut map = self.get(field)?.filter(|node| node.as_map().is_some()).unwrap_or_else(|| Node::map(Vec::new()));
        for (key, value) in pairs {
            if !force && map.get(key).is_some() {
                return Err(Error::wrong(format!(
                    "{} {key} already in kustomization file. Use --force to override.",
                    singular(field)
                )));
            }
            tree::set_string(&mut map, key, value);
        }
        self.set(field, Some(map))
    }

    /// Removes keys of a map. Those that were not there.
    pub fn remove_pairs(&mut self, field: &str, keys: &[String]) -> Result<Vec<String>> {
        let Some(mut map) = self.get(field)? else { return Ok(keys.to_vec()) };
        let missing = keys.iter().filter(|key| tree::remove(&mut map, key).is_none()).cloned().collect();
        let empty = map.as_map().is_none_or(<[_]>::is_empty);
        self.set(field, (!empty).then_some(map))?;
        Ok(missing)
    }

    /// Sets fields of the entry of a list whose `name` is given (`images`, `replicas`); empty ones are removed.
    pub fn set_named(&mut self, field: &str, name: &str, fields: &[(&str, Node)]) -> Result<()> {
        let mut items = self.list(field)?;
        let at = entry(&mut items, name);
        for (key, value) in fields {
            if value.as_scalar() == Some("") {
                tree::remove(&mut items[at], key);
            } else {
                tree::set(&mut items[at], key, value.clone());
            }
        }
        // The original keeps these lists sorted by name.
        items.sort_by(|a, b| tree::text_at(a, &["name"]).cmp(tree::text_at(b, &["name"])));
        self.set_list(field, items)
    }

    /// `set image`: `NAME`, `NAME:TAG`, `NAME@DIGEST`, `NAME=NEWNAME[:TAG][@DIGEST]`; `*` as tag keeps what is set.
    pub fn set_image(&mut self, argument: &str) -> Result<()> {
        let (name, new) = match argument.split_once('=') {
            Some((name, new)) => (Some(name), new),
            None => (None, argument),
        };
        let (new_name, tag, digest) = crate::image::split(new);
        let name = name.unwrap_or(new_name);
        if name.is_empty() || (new == argument && tag.is_empty() && digest.is_empty()) {
            return Err(Error::wrong(format!(
                "invalid format of image {argument:?}, use one of the following options:\n- <image>=<newimage>:<newtag>\n- <image>=<newimage>@<digest>\n- <image>=<newimage>\n- <image>:<newtag>\n- <image>@<digest>"
            )));
        }
        let new_name = if new_name == name || new_name == "*" { "" } else { new_name };
        let mut fields = vec![("newName", Node::string(new_name))];
        if tag != "*" {
            fields.push(("newTag", Node::string(tag)));
        }
        fields.push(("digest", Node::string(digest)));
        self.set_named("images", name, &fields)
    }

    /// Sets labels that do not become selectors: in the first entry of `labels` that is only that, or in a new one. `templates` puts
    /// them into pod templates too. With `force` unset, a key that is there is an error.
    pub fn set_labels(&mut self, pairs: &[(String, String)], templates: bool, force: bool) -> Result<()> {
        let mut items = self.list("labels")?;
        let on = |item: &Node, key: &str| item.get(key).and_then(Node::as_scalar) == Some("true");
        let fits = |item: &Node| !on(item, "includeSelectors") && on(item, "includeTemplates") == templates;
        let at = items.iter().position(fits).unwrap_or_else(|| {
            let templates = templates.then(|| (Node::string("includeTemplates"), Node::plain("true")));
            items.push(Node::map(templates.into_iter().collect()));
            items.len() - 1
        });
        let mut map = items[at].get("pairs").filter(|node| node.as_map().is_some()).cloned();
        let map = map.get_or_insert_with(|| Node::map(Vec::new()));
        for (key, value) in pairs {
            if !force && map.get(key).is_some() {
                return Err(Error::wrong(format!(
                    "label {key} already in kustomization file. Use --force to override."
                )));
            }
            tree::set_string(map, key, value);
        }
        tree::set(&mut items[at], "pairs", map.clone());
        self.set_list("labels", items)
    }

    /// Gives literals of a generator that is there other values, and the generator another namespace (unless it is empty).
    pub fn set_literals(
        &mut self,
        field: &str,
        name: &str,
        namespace: &str,
        literals: &[String],
        new_namespace: &str,
    ) -> Result<()> {
        let what = if field == "secretGenerator" { "Secret" } else { "ConfigMap" };
        let mut items = self.list(field)?;
        let Some(item) = items.iter_mut().find(|item| is_generator(item, name, namespace)) else {
            let place = if namespace.is_empty() { String::new() } else { format!(" in namespace {namespace:?}") };
            return Err(Error::Absent(format!("unable to find {what} with name {name:?}{place}")));
        };
        for literal in literals {
            let Some((key, _)) = literal.split_once('=').filter(|(key, _)| !key.is_empty()) else {
                return Err(Error::wrong("invalid format: literal values must be specified in the key=value format"));
            };
            let known = item.get_mut("literals").and_then(Node::as_list_mut);
            let known = known.and_then(|known| {
                known.iter_mut().find(|known| known.as_scalar().is_some_and(|text| data_key("literals", text) == key))
            });
            match known {
                Some(known) => *known = Node::string(literal),
                None => return Err(Error::Absent(format!("key '{key}' not found in resource"))),
            }
        }
        if !new_namespace.is_empty() {
            tree::set(item, "namespace", Node::string(new_namespace));
        }
        self.set_list(field, items)
    }

    /// Adds to the entry of a list of generators, which is made when it is not there. A key that it has already is an
    /// error. `keep_name` sets `disableNameSuffixHash`.
    pub fn add_generator(
        &mut self,
        field: &str,
        name: &str,
        lists: &[(&str, Vec<String>)],
        texts: &[(&str, &str)],
        keep_name: bool,
    ) -> Result<()> {
        let mut items = self.list(field)?;
        let namespace = texts.iter().find(|(key, _)| *key == "namespace").map_or("", |(_, namespace)| namespace);
        let there = items.iter().position(|item| is_generator(item, name, namespace));
        let at = there.unwrap_or_else(|| {
            items.push(Node::map(vec![(Node::string("name"), Node::string(name))]));
            items.len() - 1
        });
        let mut keys = std::collections::BTreeSet::new();
        let present = ["literals", "files"].into_iter().flat_map(|list| {
            let items = items[at].get(list).and_then(Node::as_list).unwrap_or_default();
            items.iter().filter_map(Node::as_scalar).map(move |source| data_key(list, source))
        });
        keys.extend(present.map(str::to_owned));
        let more = lists.iter().filter(|(list, _)| *list != "envs");
        for key in more.flat_map(|(list, more)| more.iter().map(|source| data_key(list, source))) {
            if !keys.insert(key.to_owned()) {
                let kind = if field == "secretGenerator" { "secret" } else { "configmap" };
                return Err(Error::wrong(format!("{kind} {name} illegally repeats the key `{key}`")));
            }
        }
        for (key, more) in lists.iter().filter(|(_, more)| !more.is_empty()) {
            let mut list = match items[at].get(key).map(|node| node.kind.clone()) {
                Some(Kind::List(list)) => list,
                _ => Vec::new(),
            };
            list.extend(more.iter().map(Node::string));
            tree::set(&mut items[at], key, Node::list(list));
        }
        let said = |key: &str, value: &str| !value.is_empty() && (key != "namespace" || there.is_none());
        for (key, value) in texts.iter().filter(|(key, value)| said(key, value)) {
            tree::set(&mut items[at], key, Node::string(*value));
        }
        if keep_name {
            let mut options = items[at].get("options").cloned().unwrap_or_else(|| Node::map(Vec::new()));
            tree::set(&mut options, "disableNameSuffixHash", Node::plain("true"));
            tree::set(&mut items[at], "options", options);
        }
        self.set_list(field, items)
    }

    /// Removes the generators with these names in a namespace (empty for `default`). Those that were not there.
    pub fn remove_generators(&mut self, field: &str, names: &[String], namespace: &str) -> Result<Vec<String>> {
        let mut items = self.list(field)?;
        let mut missing = Vec::new();
        for name in names {
            let before = items.len();
            items.retain(|item| !is_generator(item, name, namespace));
            if items.len() == before {
                missing.push(name.clone());
            }
        }
        self.set_list(field, items)?;
        Ok(missing)
    }

    /// Adds an entry to `patches`. False when it is there already.
    pub fn add_patch(&mut self, fields: &[(&str, &str)], target: &[(&str, &str)]) -> Result<bool> {
        let entry = patch(fields, target);
        let mut items = self.list("patches")?;
        let same = |item: &Node| tree::to_value(item.clone()).ok() == tree::to_value(entry.clone()).ok();
        if items.iter().any(same) {
            return Ok(false);
        }
        items.push(entry);
        self.set_list("patches", items)?;
        Ok(true)
    }

    /// Removes the entry of `patches` that says this and nothing else. False when there was none.
    pub fn remove_patch(&mut self, fields: &[(&str, &str)], target: &[(&str, &str)]) -> Result<bool> {
        let wanted = tree::to_value(patch(fields, target))?;
        let mut items = self.list("patches")?;
        let Some(at) = items.iter().position(|item| tree::to_value(item.clone()).is_ok_and(|item| item == wanted))
        else {
            return Ok(false);
        };
        items.remove(at);
        self.set_list("patches", items)?;
        Ok(true)
    }

    /// Moves deprecated fields to those that follow them. `is_file` says which entries of `patchesStrategicMerge` are paths.
    pub fn fix(&mut self, is_file: impl Fn(&str) -> bool) -> Result<()> {
        for (old, new) in [("bases", "resources"), ("imageTags", "images"), ("patchesJson6902", "patches")] {
            let moved = self.list(old)?;
            if !moved.is_empty() {
                let mut items = self.list(new)?;
                items.extend(moved);
                self.set_list(new, items)?;
            }
            self.set(old, None)?;
        }
        let merges = self.list("patchesStrategicMerge")?;
        if !merges.is_empty() {
            let mut items = self.list("patches")?;
            for item in merges {
                let key = if item.as_scalar().is_some_and(&is_file) { "path" } else { "patch" };
                items.push(Node::map(vec![(Node::string(key), item)]));
            }
            self.set_list("patches", items)?;
        }
        self.set("patchesStrategicMerge", None)?;
        if let Some(pairs) = self.get("commonLabels")? {
            let mut items = self.list("labels")?;
            let clash = pairs.as_map().unwrap_or_default().iter().find(|(key, _)| {
                let key = key.as_scalar().unwrap_or_default();
                items.iter().any(|item| tree::lookup(item, &["pairs", key]).is_some())
            });
            if let Some((key, _)) = clash {
                let key = key.as_scalar().unwrap_or_default();
                return Err(Error::wrong(format!("label name '{key}' exists in both commonLabels and labels")));
            }
            let selectors = (Node::string("includeSelectors"), Node::plain("true"));
            items.push(Node::map(vec![selectors, (Node::string("pairs"), pairs)]));
            self.set_list("labels", items)?;
            self.set("commonLabels", None)?;
        }
        for (field, value) in [("kind", "Kustomization"), ("apiVersion", "kustomize.config.k8s.io/v1beta1")] {
            if self.get(field)?.is_none() {
                self.text = format!("{field}: {value}\n{}", self.text);
            }
        }
        // One that says nothing can be built from nothing, and is no mistake here.
        if self.entries()?.len() <= 2 {
            return Ok(());
        }
        Kustomization::read(&self.text, &self.file).map(|_| ())
    }
}

/// Whether it is the generator of that name and namespace; none is `default`.
fn is_generator(item: &Node, name: &str, namespace: &str) -> bool {
    fn namespace_of(namespace: &str) -> &str {
        if namespace.is_empty() { "default" } else { namespace }
    }
    tree::text_at(item, &["name"]) == name
        && namespace_of(tree::text_at(item, &["namespace"])) == namespace_of(namespace)
}

/// An entry of `patches`.
fn patch(fields: &[(&str, &str)], target: &[(&str, &str)]) -> Node {
    let map = |pairs: &[(&str, &str)]| -> Vec<(Node, Node)> {
        let there = pairs.iter().filter(|(_, value)| !value.is_empty());
        there.map(|(key, value)| (Node::string(*key), Node::string(*value))).collect()
    };
    let mut entry = map(fields);
    let target = map(target);
    if !target.is_empty() {
        entry.push((Node::string("target"), Node::map(target)));
    }
    Node::map(entry)
}

/// The key that a generator makes of `KEY=VALUE` or `[KEY=]PATH`.
fn data_key<'a>(list: &str, source: &'a str) -> &'a str {
    match source.split_once('=') {
        Some((key, _)) => key,
        None if list == "files" => source.rsplit('/').next().unwrap_or(source),
        None => source,
    }
}

/// Where the entry of that name is; made when there is none.
fn entry(items: &mut Vec<Node>, name: &str) -> usize {
    let at = items.iter().position(|item| item.get("name").and_then(Node::as_scalar) == Some(name));
    at.unwrap_or_else(|| {
        items.push(Node::map(vec![(Node::string("name"), Node::string(name))]));
        items.len() - 1
    })
}

fn singular(field: &str) -> &str {
    match field {
        "commonLabels" | "labels" => "label",
        "commonAnnotations" => "annotation",
        other => other,
    }
}

/// `*` and `?` as a shell has them, not across `/`.
fn fits(pattern: &str, text: &str) -> bool {
    fn walk(p: &[u8], t: &[u8]) -> bool {
        match (p.first(), t.first()) {
            (None, None) => true,
            (Some(b'*'), _) => walk(&p[1..], t) || t.first().is_some_and(|c| *c != b'/' && walk(p, &t[1..])),
            (Some(b'?'), Some(c)) => *c != b'/' && walk(&p[1..], &t[1..]),
            (Some(a), Some(b)) => a == b && walk(&p[1..], &t[1..]),
            _ => false,
        }
    }
    pattern == text
        || (pattern.len() < 256
            && pattern.bytes().filter(|b| *b == b'*').count() < 8
            && walk(pattern.as_bytes(), text.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_map_in_brackets_can_be_edited() {
        let mut edit = Edit::new("{resources: [a.yaml], namePrefix: p-}\n", "kustomization.yaml").unwrap();
        edit.add("resources", &["b.yaml".to_owned()]).unwrap();
        let after = Edit::new(edit.text(), "kustomization.yaml").unwrap();
        assert_eq!(after.list("resources").unwrap().len(), 2, "{}", edit.text());
        assert!(edit.text().contains("namePrefix: p-\n"), "{}", edit.text());
    }

    /// Expectations are what `kustomize edit` 5.8 does.
    #[test]
    fn labels_without_selectors_and_generators_by_namespace() {
        let edit = |text: &str| Edit::new(text, "kustomization.yaml").unwrap();
        let pairs = [("a".to_owned(), "b".to_owned())];
        for (text, templates, expected) in [
            ("", false, "labels:\n- pairs:\n    a: b\n"),
            ("", true, "labels:\n- includeTemplates: true\n  pairs:\n    a: b\n"),
            ("labels:\n- pairs: {x: q}\n", false, "labels:\n- pairs: {x: q, a: b}\n"),
            (
                "labels:\n- pairs: {x: q}\n  includeSelectors: true\n",
                false,
                "labels:\n- pairs: {x: q}\n  includeSelectors: true\n- pairs:\n    a: b\n",
            ),
            (
                "labels:\n- pairs: {x: q}\n",
                true,
                "labels:\n- pairs: {x: q}\n- includeTemplates: true\n  pairs:\n    a: b\n",
            ),
        ] {
            let mut edit = edit(text);
            edit.set_labels(&pairs, templates, false).unwrap();
            assert_eq!(edit.text(), expected, "{text}");
            assert!(edit.set_labels(&pairs, templates, false).unwrap_err().to_string().contains("already in"));
            edit.set_labels(&pairs, templates, true).unwrap();
        }
        let text =
            "configMapGenerator:\n- name: a\n  literals: [k=1, l=2]\n- name: a\n  namespace: nn\n  literals: [k=1]\n";
        let field = "configMapGenerator";
        for (namespace, new, expected) in [
            ("default", "", "- name: a\n  literals: [k=9, l=2]\n- name: a\n  namespace: nn\n  literals: [k=1]\n"),
            ("nn", "q", "- name: a\n  literals: [k=1, l=2]\n- name: a\n  namespace: q\n  literals: [k=9]\n"),
        ] {
            let mut edit = edit(text);
            edit.set_literals(field, "a", namespace, &["k=9".to_owned()], new).unwrap();
            assert_eq!(edit.text(), format!("{field}:\n{expected}"));
        }
        for (name, literal) in [("zz", "k=1"), ("a", "zz=1")] {
            let error = edit(text).set_literals(field, name, "", &[literal.to_owned()], "").unwrap_err();
            assert!(matches!(error, Error::Absent(_)), "{error}");
        }
        let mut removed = edit(text);
        assert_eq!(removed.remove_generators(field, &["a".into(), "zz".into()], "").unwrap(), ["zz"]);
        assert_eq!(removed.text(), "configMapGenerator:\n- name: a\n  namespace: nn\n  literals: [k=1]\n");
        let mut added = edit(text);
        let more = [("literals", vec!["z=1".to_owned()])];
        added.add_generator(field, "a", &more, &[("namespace", "mm")], false).unwrap();
        assert!(added.text().ends_with("- name: a\n  literals:\n  - z=1\n  namespace: mm\n"), "{}", added.text());
    }

    #[test]
    fn patches_are_removed_with_their_targets_and_empty_files_are_fixed() {
        let text = "patches:\n- path: p.yaml\n  target: {kind: X}\n- path: p.yaml\n";
        for (kind, expected) in
            [("", "patches:\n- path: p.yaml\n  target: {kind: X}\n"), ("X", "patches:\n- path: p.yaml\n")]
        {
            let mut edit = Edit::new(text, "kustomization.yaml").unwrap();
            assert!(edit.remove_patch(&[("path", "p.yaml")], &[("kind", kind)]).unwrap());
            assert_eq!(edit.text(), expected);
            assert!(!edit.remove_patch(&[("path", "p.yaml")], &[("kind", "Y")]).unwrap());
        }
        for text in ["", "# Mine.\n", "{}\n"] {
            let mut edit = Edit::new(text, "kustomization.yaml").unwrap();
            edit.fix(|_| false).unwrap();
            let both = "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\n";
            assert!(edit.text().starts_with(both), "{text:?}: {}", edit.text());
        }
    }

    #[test]
    fn a_generator_does_not_repeat_a_key() {
        let text = "configMapGenerator:\n- name: a\n  literals: [x=1]\n  files: [d/y]\n";
        for (list, source) in [("literals", "x=2"), ("files", "x=f"), ("literals", "y=1"), ("files", "e/y")] {
            let mut edit = Edit::new(text, "kustomization.yaml").unwrap();
            let more = [(list, vec![source.to_owned()])];
            let error = edit.add_generator("configMapGenerator", "a", &more, &[], false).unwrap_err();
            assert!(error.to_string().contains("configmap a illegally repeats the key"), "{error}");
            assert_eq!(edit.text(), text);
            edit.add_generator("configMapGenerator", "b", &more, &[], true).unwrap();
            assert!(edit.text().contains("disableNameSuffixHash: true"), "{}", edit.text());
        }
    }
}
