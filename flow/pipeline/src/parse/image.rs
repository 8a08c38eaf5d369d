//! The `images` of the file.

use super::{PART, RESERVED, keys, refuse_latest, step::variables};
use crate::{
    check::Needs,
    diagnostics::{nearest, suggest},
    file::{Buildpacks, ImageBuild, Tag},
    read::{Fields, Located, NO_HINT, Reader, clip},
    yaml::Node,
};

pub(super) fn image(r: &mut Reader, node: &Node) -> Option<(ImageBuild, Needs)> {
    let fields = r.fields(node, "an image", keys::IMAGE)?;
    let name = r.require(&fields, "name", "name its repository, for example `name: journal/frontend`".to_owned());
    let name = name.and_then(|node| r.text(node)).filter(|name| repository(r, name));
    let args = fields.get("args").map(|node| variables(r, node, "args")).unwrap_or_default();
    let dockerfile = fields.get("dockerfile").and_then(|node| r.path(node));
    let context = fields.get("context").and_then(|node| r.path(node)).unwrap_or_default();
    let target = fields.get("target").and_then(|node| r.text(node)).map(|text| text.value);
    let buildpacks = buildpacks(r, &fields);
    let tag = fields.get("tag").and_then(|node| tag(r, node));
    let needs = fields.entry("needs").map(|(_, node)| r.texts(node));
    let name = name?;
    let image = ImageBuild {
        context,
        dockerfile,
        target,
        args,
        buildpacks,
        tag: tag.unwrap_or_else(|| Tag("{commit}-{build}".into())),
        needs: Vec::new(),
        name: name.value,
        name_at: name.at,
    };
    Some((image, Needs { at: name.at, given: needs }))
}

/// What is said of buildpacks, where anything is.
fn buildpacks(r: &mut Reader, fields: &Fields<'_>) -> Option<Buildpacks> {
    let first = keys::BUILDPACKS.iter().find(|key| fields.get(key).is_some())?;
    for other in keys::DOCKERFILE {
        if let Some((key, _)) = fields.entry(other) {
            let hint = format!("take out either `{other}` or `{first}`");
            let message = format!(
                "`{other}` is for images that a Dockerfile makes, and `{first}` says that buildpacks make this one"
            );
            r.error(key.at, message, hint);
        }
    }
    let mut packs = Buildpacks::default();
    let named = |r: &mut Reader, key: &str| fields.get(key).and_then(|node| image_name(r, node));
    if let Some(builder) = named(r, "builder") {
        (packs.builder, packs.builder_at) = (Some(builder.value), Some(builder.at));
    }
    if let Some(run_image) = named(r, "run-image") {
        (packs.run_image, packs.run_image_at) = (Some(run_image.value), Some(run_image.at));
    }
    for item in fields.get("buildpacks").map_or(&[][..], |node| r.list(node)) {
        if let Some(one) = image_name(r, item) {
            packs.buildpacks.push(one.value);
            packs.buildpacks_at.push(one.at);
        }
    }
    if packs.buildpacks.len() > MOST_BUILDPACKS {
        r.error(packs.buildpacks_at[MOST_BUILDPACKS], format!("more than {MOST_BUILDPACKS} buildpacks"), NO_HINT);
    }
    packs.env = fields.get("env").map(|node| variables(r, node, "env")).unwrap_or_default();
    packs.descriptor = fields.get("descriptor").and_then(|node| r.path(node));
    if let Some(node) = fields.get("default-process")
        && let Some(process) = r.text(node)
    {
        let valid = process.value.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c));
        match valid && !process.value.is_empty() {
            true => packs.process = Some(process.value),
            false => {
                let hint = "processes have names such as `web`: letters, digits, `.`, `_` and `-`".to_owned();
                r.error(process.at, format!("`{}` is not the name of a process", clip(&process.value)), hint);
            }
        }
    }
    Some(packs)
}

/// Buildpacks of one image.
const MOST_BUILDPACKS: usize = 100;

/// A builder, a buildpack or a run image: an image, a directory or file of the repository, an address, an id.
fn image_name(r: &mut Reader, node: &Node) -> Option<Located<String>> {
    let text = r.text(node)?;
    if text.value.trim().is_empty() || text.value.chars().any(char::is_control) {
        r.error(text.at, "this names nothing", "name an image, or a directory of the repository".to_owned());
        return None;
    }
    if text.value.ends_with(":latest") {
        refuse_latest(r, text.at, "an image that an image is made with");
        return None;
    }
    Some(text)
}

/// As long as the id of a run in a project whose name is as long as names may be.
const SYSTEM_BUILD: &str = "000000000000000000000000000000000000000000000000000000000000000-000000000000";

/// A repository name of the OCI distribution specification that does not belong to Shipway.
fn repository(r: &mut Reader, name: &Located<String>) -> bool {
    let part = |part: &str| {
        let edge = |c: Option<char>| c.is_some_and(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
        edge(part.chars().next())
            && edge(part.chars().last())
            && part.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "._-".contains(c))
    };
    let text = &name.value;
    if RESERVED.contains(&text.as_str()) {
        let hint = "choose another name, for example with the project's name before it".to_owned();
        r.error(name.at, format!("the name `{text}` is taken: {PART}"), hint);
    } else if text.contains(':') {
        let hint = "the tag goes into `tag`, as in `tag: \"{commit}-{build}\"`".to_owned();
        r.error(name.at, format!("`{}` has a tag in its name", clip(text)), hint);
    } else if text.len() > 200 || !text.split('/').all(part) {
        let hint = "use a-z, 0-9, `.`, `_`, `-`, with `/` between the parts".to_owned();
        r.error(name.at, format!("`{}` is not the name of a repository", clip(text)), hint);
    } else if text == "base" || text.starts_with("base/") {
        let hint = "choose another first part, for example the project's name".to_owned();
        r.error(name.at, "repositories under `base` are kept for the images that Shipway makes itself", hint);
    } else {
        return true;
    }
    false
}

fn tag(r: &mut Reader, node: &Node) -> Option<Tag> {
    let text = r.text(node)?;
    if text.value == "latest" {
        refuse_latest(r, text.at, "an image");
        return None;
    }
    if let Some((_, template)) = Tag::STRATEGIES.iter().find(|(name, _)| *name == text.value) {
        return Some(Tag((*template).into()));
    }
    if matches!(text.value.as_str(), "semver" | "semver-aliases") {
        let hint = "use `shipway build --tag-strategy semver`, or `git-hash-build-id` here".to_owned();
        r.error(text.at, "a pipeline does not know the version of a commit", hint);
        return None;
    }
    let mut rest = text.value.as_str();
    let mut plain = String::new();
    while let Some((before, after)) = rest.split_once('{') {
        let Some((name, after)) = after.split_once('}') else { break };
        if !["commit", "build", "system-build"].contains(&name) {
            let hint = suggest(name, ["commit", "build", "system-build"]);
            r.error(text.at, format!("a tag has no placeholder `{{{}}}`", clip(name)), hint);
            return None;
        }
        plain.push_str(before);
        // As long as what will stand there: a short commit id, or the number of a run, with a project's name before it.
        plain.push_str(if name == "system-build" { SYSTEM_BUILD } else { "000000000000" });
        rest = after;
    }
    let moves = rest == text.value;
    plain.push_str(rest);
    let first = plain.chars().next().is_some_and(|c| c.is_ascii_alphanumeric() || c == '_');
    let valid = first && plain.len() <= 128 && plain.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c));
    if !valid {
        let hint = "use letters, digits, `.`, `_` and `-`, at most 128".to_owned();
        r.error(text.at, format!("`{}` is not a tag", clip(&text.value)), hint);
    } else if moves {
        let names = Tag::STRATEGIES.map(|(name, _)| name);
        let hint = match nearest(&text.value, names) {
            Some(name) => format!("did you mean `{name}`?"),
            None => "put `{commit}` or `{build}` into it".to_owned(),
        };
        r.error(text.at, format!("every build would have the same tag `{}`", clip(&text.value)), hint);
    }
    (valid && !moves).then_some(Tag(text.value))
}
