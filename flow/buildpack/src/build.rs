//! The build phase: every buildpack of the group in turn.

use serde::{Deserialize, Serialize};

use crate::{
    Error, Result,
    api::Api,
    detect::{Catalog, Detected, target_variables},
    environment::{Environment, Plain},
    error::parse,
    files,
    launch::{Label, Launch, Metadata, Processes},
    layer::{layers, sboms},
    plan::Require,
    runner::{Ground, Program, Runner},
};

/// What the build phase made, besides files.
#[derive(Debug, Clone, Default)]
pub struct Built {
    pub metadata: Metadata,
    pub warnings: Vec<String>,
}

/// Runs `bin/build` of every buildpack. Afterwards `<layers>/config/metadata.toml` and `<layers>/sbom` are written.
pub async fn build(detected: &Detected, catalog: &Catalog, ground: &Ground, runner: &dyn Runner) -> Result<Built> {
    let mut plan = detected.plan.clone();
    let mut environment = Environment::for_build(&ground.env);
    let mut processes = Processes::default();
    let mut built = Built::default();
    let sbom = ground.layers.host.join("sbom");
    if files::exists(&sbom) {
        std::fs::remove_dir_all(&sbom).map_err(Error::io("remove", &sbom))?;
    }
    for member in &detected.group {
        let found = catalog.find(&member.id, &member.version);
        let found = found.ok_or_else(|| Error::Image(format!("buildpack {} is gone", member.shown())))?;
        let descriptor = &found.descriptor;
        let name = descriptor.shown();
        let directory = ground.layers.join(&crate::escaped(&member.id));
        files::shared_directory(&directory.host, ground.owner)?;
        let own = ground.plans.join(&format!("build-{}", crate::escaped(&member.id)));
        files::shared_directory(&own.host, ground.owner)?;
        let asked = plan.asked_of(&member.id);
        let file = own.join("plan.toml");
        files::write(&file.host, &buildpack_plan(&asked))?;
        files::hand_over(&file.host, ground.owner)?;

        let mut env = environment.with_overrides(ground, !descriptor.clear_env)?;
        env.insert("CNB_BUILDPACK_DIR".into(), found.root.inside.clone());
        if descriptor.api >= Api::new(0, 8) {
            env.insert("CNB_PLATFORM_DIR".into(), ground.platform.inside.clone());
            env.insert("CNB_BP_PLAN_PATH".into(), file.inside.clone());
            env.insert("CNB_LAYERS_DIR".into(), directory.inside.clone());
        }
        target_variables(descriptor.api, ground, &mut env);
        let program = format!("{}/bin/build", found.root.inside);
        let argv = vec![program, directory.inside.clone(), ground.platform.inside.clone(), file.inside.clone()];
        let program = Program { buildpack: name.clone(), argv, directory: ground.app.inside.clone(), env, shown: true };
        let ended = runner.run(program).await?;
        if ended.code != 0 {
            return Err(Error::BuildFailed { buildpack: name, code: ended.code });
        }

        let left = layers(&name, &directory, true)?;
        for layer in left.iter().filter(|layer| layer.file.build) {
            environment.add_root(&layer.place);
            for of in ["env", "env.build"] {
                let from = layer.place.host.join(of);
                environment.apply(&files::variables(&directory.host, &from)?, Plain::Override);
            }
        }
        let unmet = unmet(&name, &directory.host, &asked)?;
        let met = asked.iter().map(|require| require.name.clone()).filter(|name| !unmet.contains(name));
        plan = plan.without(&met.collect::<Vec<_>>());

        let names: Vec<String> = files::names(&directory.host, &directory.host)?.into_iter().map(|(n, _)| n).collect();
        for one in sboms(&name, &descriptor.sbom_formats, &names, &left)? {
            let mut to = sbom.join(one.of.directory()).join(crate::escaped(&member.id));
            to.extend(&one.layer);
            std::fs::create_dir_all(&to).map_err(Error::io("make", &to))?;
            copy(&directory.host, &one.file, &to.join(format!("sbom.{}", one.extension)))?;
        }
        if let Some(text) = files::text(&directory.host, &directory.host.join("launch.toml"))? {
            let launch = Launch::parse(&format!("{name}: launch.toml"), &text, descriptor.api, &member.id)?;
            built.metadata.labels.extend(launch.labels);
            built.metadata.slices.extend(launch.slices);
            built.warnings.extend(processes.add(launch.processes));
        }
    }
    dedupe(&mut built.metadata.labels);
    built.metadata.buildpacks.clone_from(&detected.group);
    built.metadata.processes = processes.list();
    built.metadata.default = processes.default;
    let config = ground.layers.host.join("config");
    std::fs::create_dir_all(&config).map_err(Error::io("make", &config))?;
    files::write(&config.join("metadata.toml"), &built.metadata.document())?;
    Ok(built)
}

/// The last definition of a label counts, at its own place.
fn dedupe(labels: &mut Vec<Label>) {
    let all = std::mem::take(labels);
    for (at, label) in all.iter().enumerate() {
        if !all[at + 1..].iter().any(|later| later.key == label.key) {
            labels.push(label.clone());
        }
    }
}

/// Large SBOMs are copied, not read; links are refused.
fn copy(root: &std::path::Path, file: &str, to: &std::path::Path) -> Result<()> {
    let from = root.join(file);
    let plain = std::fs::symlink_metadata(&from).map_err(Error::io("read", &from))?;
    if !plain.is_file() {
        return Err(Error::io("copy", &from)(std::io::Error::other("it is no file")));
    }
    std::fs::copy(&from, to).map(drop).map_err(Error::io("copy", &from))
}

fn buildpack_plan(asked: &[Require]) -> String {
    #[derive(Serialize)]
    struct File<'a> {
        #[serde(skip_serializing_if = "<[Require]>::is_empty")]
        entries: &'a [Require],
    }
    crate::write::document(&File { entries: asked })
}

/// What the buildpack says it did not do.
fn unmet(name: &str, directory: &std::path::Path, asked: &[Require]) -> Result<Vec<String>> {
    #[derive(Deserialize)]
    struct One {
        #[serde(default)]
        name: String,
    }
    #[derive(Deserialize)]
    struct File {
        #[serde(default)]
        unmet: Vec<One>,
    }
    let Some(text) = files::text(directory, &directory.join("build.toml"))? else { return Ok(Vec::new()) };
    let read: File = parse(&format!("{name}: build.toml"), &text)?;
    for one in &read.unmet {
        if !asked.iter().any(|require| require.name == one.name) {
            let message = format!("build.toml says that `{}` is unmet, and nobody asked it for that", one.name);
            return Err(Error::Output { buildpack: name.to_owned(), message });
        }
    }
    Ok(read.unmet.into_iter().map(|one| one.name).collect())
}
