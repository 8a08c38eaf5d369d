//! Names of images as people type them, and the repositories of the local store that hold them.

use image::Reference;

use crate::fault::{Class, Fault, Result};

/// Where images go that have no name.
pub const UNTAGGED: &str = "untagged";

/// The repository of the local store for a reference: the host is its first part, with the colon of a port as two underscores, which no
/// host name has.
pub fn repository(reference: &Reference) -> String {
    match &reference.host {
        Some(host) => format!("{}/{}", host.to_lowercase().replace(':', "__"), reference.repository),
        None => reference.repository.clone(),
    }
}

/// The name that people know a repository of the local store by.
pub fn shown(repository: &str) -> String {
    match repository.split_once('/') {
        Some((host, rest)) if host.contains("__") || host.contains('.') || host == "localhost" => {
            format!("{}/{rest}", host.replace("__", ":"))
        }
        _ => repository.to_owned(),
    }
}

/// A name to give to an image. Without a tag it would be `latest`, which only `latest` allows.
pub fn to_give(text: &str, latest: bool) -> Result<Reference> {
    let mut reference: Reference =
        text.parse().map_err(|e: image::Error| Fault::usage(format!("`{text}` is no name for an image: {e}")))?;
    if reference.digest.is_some() {
        return Err(Fault::usage(format!("`{text}` names a digest: an image is given a tag")));
    }
    let tag = reference.tag.get_or_insert_with(|| "latest".to_owned());
    if tag == "latest" && !latest {
        return Err(Fault::usage(format!("`{text}` would be tagged `latest`, which is another image tomorrow")).hint(
            format!("name a version, for example {}:1.0, or add --allow-latest", text.trim_end_matches(":latest")),
        ));
    }
    Ok(reference)
}

/// The error when a name belongs to another image already.
pub fn taken(name: &Reference) -> Fault {
    Fault::new(Class::Conflict, format!("{name} is another image already, and its tag is one that stays"))
        .hint("build another commit or version, give another --build-id, or name the tag yourself with -t")
}

/// The reference at a registry: one without a host is Docker's, as everybody writes it.
pub fn outside(reference: &Reference) -> Reference {
    let mut reference = reference.clone();
    if reference.host.is_none() {
        reference.host = Some("docker.io".into());
        if !reference.repository.contains('/') {
            reference.repository = format!("library/{}", reference.repository);
        }
    }
    if reference.tag.is_none() && reference.digest.is_none() {
        reference.tag = Some("latest".into());
    }
    reference
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repositories_and_names_are_the_same_both_ways() {
        for (name, expected) in [
            ("app:1", "app"),
            ("team/app:1", "team/app"),
            ("localhost:5000/app:1", "localhost__5000/app"),
            ("registry.example.org/team/app:1", "registry.example.org/team/app"),
        ] {
            let reference: Reference = name.parse().unwrap();
            let held = repository(&reference);
            assert_eq!(held, expected);
            assert!(image::reference::check_repository(&held).is_ok(), "{held}");
            assert_eq!(format!("{}:1", shown(&held)), name);
        }
    }

    #[test]
    fn latest_is_given_only_to_who_asks_for_it() {
        assert!(to_give("app", false).is_err() && to_give("app:latest", false).is_err());
        assert_eq!(to_give("app", true).unwrap().tag.as_deref(), Some("latest"));
        assert_eq!(to_give("app:1", false).unwrap().tag.as_deref(), Some("1"));
        assert_eq!(outside(&"node".parse().unwrap()).to_string(), "docker.io/library/node:latest");
        assert_eq!(outside(&"a/b:1".parse().unwrap()).to_string(), "docker.io/a/b:1");
    }
}
