//! Another run image under an image, by its documents alone: no layer is read.

use serde_json::Value;

use crate::{
    Error, Result,
    labels::{self, Lifecycle, StackLabel},
    target::Target,
};

/// An image by its documents.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Image {
    /// The configuration.
    pub config: Value,
    /// Descriptors of the manifest's layers, lowest first.
    pub layers: Vec<Value>,
}

/// What is put under it.
#[derive(Debug, Clone)]
pub struct Onto<'a> {
    pub image: &'a Image,
    /// As people name it.
    pub name: &'a str,
    /// `name@sha256:…`
    pub reference: &'a str,
    /// Also where targets or names do not fit, or the image says that it cannot be rebased.
    pub force: bool,
    /// RFC 3339.
    pub created: &'a str,
}

/// Puts `onto` under `app`.
pub fn rebase(app: &Image, onto: &Onto<'_>) -> Result<Image> {
    let wrong = |message: String| Err(Error::Image(message));
    let mut lifecycle: Lifecycle = labels::read(&app.config, labels::LIFECYCLE)?.ok_or_else(|| {
        Error::Image(format!("the image has no label {}: buildpacks did not make it", labels::LIFECYCLE))
    })?;
    let label =
        |image: &Image, name: &str| image.config["config"]["Labels"][name].as_str().unwrap_or_default().to_owned();
    let hint = "--force does it anyway";
    if label(app, labels::REBASABLE) == "false" && !onto.force {
        return wrong(format!("the image is marked as one that cannot be rebased; {hint}"));
    }
    let (old, new) = (Target::of_config(&app.config), Target::of_config(&onto.image.config));
    let fits = old.satisfies(&new) && old.distros.is_empty() == new.distros.is_empty();
    if !fits && !onto.force {
        return wrong(format!("the image is for {}, and {} is {}; {hint}", shown(&old), onto.name, shown(&new)));
    }
    let names = lifecycle.run_names();
    if !names.names().any(|name| name == onto.name) {
        if !onto.force {
            let known: Vec<&str> = names.names().collect();
            let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
            return wrong(format!("{} is no run image that the image knows; it knows {known}; {hint}", onto.name));
        }
        lifecycle.run_image.image = onto.name.to_owned();
        lifecycle.run_image.mirrors = Vec::new();
        let image = crate::descriptor::RunImage { image: onto.name.to_owned(), mirrors: Vec::new() };
        lifecycle.stack = Some(StackLabel { run_image: image });
    }
    let ids =
        |image: &Image| -> Vec<Value> { image.config["rootfs"]["diff_ids"].as_array().cloned().unwrap_or_default() };
    let (app_ids, base_ids) = (ids(app), ids(onto.image));
    if app_ids.len() != app.layers.len() || base_ids.len() != onto.image.layers.len() {
        return wrong("manifest and configuration name different numbers of layers".into());
    }
    let top = app_ids.iter().position(|id| *id == lifecycle.run_image.top_layer.as_str());
    let Some(top) = top else {
        return wrong(format!(
            "the image has no layer {}, which its label names as the top of its run image",
            lifecycle.run_image.top_layer
        ));
    };
    lifecycle.run_image.top_layer = base_ids.last().and_then(Value::as_str).unwrap_or_default().to_owned();
    lifecycle.run_image.reference = onto.reference.to_owned();

    let mut config = app.config.clone();
    config["rootfs"]["diff_ids"] = base_ids.iter().chain(&app_ids[top + 1..]).cloned().collect();
    let history = |image: &Image| image.config["history"].as_array().cloned().unwrap_or_default();
    // The history of the application begins behind that of as many layers as the old run image has.
    let (mut below, mut cut) = (0, 0);
    let old_history = history(app);
    for one in &old_history {
        if below > top {
            break;
        }
        cut += 1;
        below += usize::from(one["empty_layer"].as_bool() != Some(true));
    }
    config["history"] = history(onto.image).into_iter().chain(old_history[cut..].iter().cloned()).collect();
    config["created"] = onto.created.into();
    for name in ["os", "architecture", "variant", "os.version", "os.features"] {
        match onto.image.config.get(name) {
            Some(value) => config[name] = value.clone(),
            None => drop(config.as_object_mut().and_then(|config| config.remove(name))),
        }
    }
    let text = serde_json::to_string(&lifecycle).unwrap_or_default();
    if let Some(all) = config["config"]["Labels"].as_object_mut() {
        let of_base = |name: &str| name.starts_with("io.buildpacks.stack.") || name.starts_with("io.buildpacks.base.");
        all.retain(|name, _| !of_base(name));
        let new = onto.image.config["config"]["Labels"].as_object();
        all.extend(
            new.into_iter()
                .flatten()
                .filter(|(name, _)| of_base(name))
                .map(|(name, value)| (name.clone(), value.clone())),
        );
        all.insert(labels::LIFECYCLE.into(), text.into());
    }
    let layers = onto.image.layers.iter().chain(&app.layers[top + 1..]).cloned().collect();
    Ok(Image { config, layers })
}

fn shown(target: &Target) -> String {
    let distro = target.distros.first().map(|d| format!(" ({} {})", d.name, d.version)).unwrap_or_default();
    let variant = if target.variant.is_empty() { String::new() } else { format!("/{}", target.variant) };
    format!("{}/{}{variant}{distro}", target.os, target.arch)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn image(ids: &[&str], labels: Value) -> Image {
        let history: Vec<Value> = ids.iter().map(|id| json!({"created_by": id})).collect();
        Image {
            config: json!({"os": "linux", "architecture": "amd64", "config": {"Labels": labels}, "history": history,
                "rootfs": {"type": "layers", "diff_ids": ids}}),
            layers: ids.iter().map(|id| json!({"digest": id})).collect(),
        }
    }

    fn app(more: &[(&str, &str)]) -> Image {
        let lifecycle = json!({"runImage": {"topLayer": "r2", "reference": "x", "image": "run:1", "mirrors": ["ghcr.io/run:1"]},
            "stack": {"runImage": {"image": "run:1"}}, "buildpacks": [{"key": "a", "version": "1", "layers": {"l": {"sha": "a1", "launch": true}}}]});
        let mut labels =
            json!({(labels::LIFECYCLE): lifecycle.to_string(), "io.buildpacks.base.id": "old", "own": "1"});
        more.iter().for_each(|(name, value)| labels[*name] = (*value).into());
        image(&["r1", "r2", "a1", "a2"], labels)
    }

    fn onto<'a>(image: &'a Image, name: &'a str, force: bool) -> Onto<'a> {
        Onto { image, name, reference: "run@sha256:1", force, created: crate::export::CREATED }
    }

    #[test]
    fn the_layers_of_the_application_stay() {
        let run = image(&["n1", "n2", "n3"], json!({"io.buildpacks.base.id": "new", "other": "2"}));
        let done = rebase(&app(&[]), &onto(&run, "ghcr.io/run:1", false)).unwrap();
        assert_eq!(done.config["rootfs"]["diff_ids"], json!(["n1", "n2", "n3", "a1", "a2"]));
        assert_eq!(done.layers.len(), 5);
        let by: Vec<_> =
            done.config["history"].as_array().unwrap().iter().map(|h| h["created_by"].as_str().unwrap()).collect();
        assert_eq!(by, ["n1", "n2", "n3", "a1", "a2"]);
        let labels = &done.config["config"]["Labels"];
        assert_eq!(
            (labels["io.buildpacks.base.id"].as_str(), labels["own"].as_str(), labels.get("other")),
            (Some("new"), Some("1"), None)
        );
        let lifecycle: Lifecycle = labels::read(&done.config, labels::LIFECYCLE).unwrap().unwrap();
        assert_eq!((lifecycle.run_image.top_layer.as_str(), lifecycle.run_image.image.as_str()), ("n3", "run:1"));
        assert_eq!(lifecycle.buildpacks[0].layers["l"].sha, "a1");
        // Twice is as good.
        assert_eq!(rebase(&done, &onto(&run, "run:1", false)).unwrap().layers, done.layers);
    }

    #[test]
    fn what_does_not_fit_is_refused_unless_forced() {
        let run = image(&["n1"], json!({}));
        let mut arm = run.clone();
        arm.config["architecture"] = "arm64".into();
        for (app, run, name, why) in [
            (app(&[]), &run, "other:1", "no run image that the image knows; it knows run:1, ghcr.io/run:1"),
            (app(&[(labels::REBASABLE, "false")]), &run, "run:1", "cannot be rebased"),
            (app(&[]), &arm, "run:1", "linux/amd64, and run:1 is linux/arm64"),
        ] {
            let error = rebase(&app, &onto(run, name, false)).unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
            assert!(rebase(&app, &onto(run, name, true)).is_ok());
        }
        let forced = rebase(&app(&[]), &onto(&run, "other:1", true)).unwrap();
        let lifecycle: Lifecycle = labels::read(&forced.config, labels::LIFECYCLE).unwrap().unwrap();
        assert_eq!((lifecycle.run_image.image.as_str(), lifecycle.run_image.mirrors.len()), ("other:1", 0));
        assert!(
            rebase(&image(&["a"], json!({})), &onto(&run, "run:1", true))
                .unwrap_err()
                .to_string()
                .contains("buildpacks did not make it")
        );
    }
}
