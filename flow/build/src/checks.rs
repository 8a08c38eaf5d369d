//! What is allowed and yet unwise in a Dockerfile. Rules that Docker has bear Docker's names.

mod packages;

use crate::{
    config::ImageConfig,
    diagnostic::Warning,
    dockerfile::{Command, Dockerfile, Instruction, Kind},
};

/// The rules that `# check=skip=A,B` switches off; `all` for every one.
pub fn skipped(file: &Dockerfile) -> Vec<String> {
    let directive = file.directives.iter().find(|directive| *directive.name == "check");
    let options = directive.map(|directive| directive.value.as_str()).unwrap_or_default();
    let skip = options.split(';').filter_map(|option| option.trim().strip_prefix("skip="));
    skip.flat_map(|rules| rules.split(',')).map(|rule| rule.trim().to_owned()).collect()
}

/// Whether `# check=error=true` asks that a warning fails the build.
pub fn fatal(file: &Dockerfile) -> bool {
    let directive = file.directives.iter().find(|directive| *directive.name == "check");
    let mut options = directive.map(|directive| directive.value.as_str()).unwrap_or_default().split(';');
    options.any(|option| {
        option.trim().strip_prefix("error=").is_some_and(|value| value.trim().eq_ignore_ascii_case("true"))
    })
}

/// Looks over a file whose target stage starts with `from` and came out with `config`.
pub fn check(file: &Dockerfile, from: &Instruction, config: &ImageConfig) -> Vec<Warning> {
    let mut warnings = Vec::new();
    let mut stages: Vec<&str> = Vec::new();
    let mut last = false;
    for instruction in &file.instructions {
        match &instruction.kind {
            Kind::From(kind) => {
                last = std::ptr::eq(instruction, from);
                if !stages.contains(&kind.image.value.as_str()) {
                    warnings.extend(unpinned(file, instruction, &kind.image.value));
                }
                stages.extend(kind.name.as_ref().map(|name| name.value.as_str()));
            }
            Kind::Run(run) => warnings.extend(packages::check(file, instruction, run, last)),
            Kind::Workdir(path) if !path.value.starts_with(['/', '$', '"', '\'']) => {
                let reason = format!("`{}` counts from wherever the working directory is at this line", path.value);
                let diagnostic =
                    file.source.diagnostic(path.span, reason).hint("write it from the root, with a `/` first");
                warnings.push(Warning::new("WorkdirRelativePath", diagnostic));
            }
            Kind::Env(pairs) => {
                let names = pairs.iter().filter(|pair| !pair.value.is_empty() && looks_secret(&pair.name));
                warnings.extend(names.map(|pair| secret(file, "ENV", &pair.name)));
            }
            Kind::Arg(args) => {
                let names = args.iter().filter(|arg| looks_secret(&arg.name));
                warnings.extend(names.map(|arg| secret(file, "ARG", &arg.name)));
            }
            Kind::Cmd(Command::Shell(text)) | Kind::Entrypoint(Command::Shell(text)) => {
                let keyword = instruction.keyword.as_str();
                let reason = format!("{keyword} in shell form: the shell, not the program, is sent the signal to stop");
                let hint = format!("write {keyword} [\"program\", \"argument\"]");
                let diagnostic = file.source.diagnostic(text.span, reason).hint(hint);
                warnings.push(Warning::new("JSONArgsRecommended", diagnostic));
            }
            _ => {}
        }
    }
    warnings.extend(overridden(file));
    let user = config.config.user.split(':').next().unwrap_or_default();
    if matches!(user, "" | "root" | "0") {
        let last = file.instructions.iter().rev().find(|i| matches!(i.kind, Kind::User(_)) && i.span() > from.span());
        let place = last.map_or(from.keyword.span, |instruction| instruction.span());
        let diagnostic = file.source.diagnostic(place, "the image runs as root");
        warnings.push(Warning::new(
            "RunsAsRoot",
            diagnostic.hint("end the last stage with USER and a user of the base image, for example USER nonroot"),
        ));
    }
    warnings
}

fn unpinned(file: &Dockerfile, instruction: &Instruction, image: &str) -> Option<Warning> {
    let Kind::From(from) = &instruction.kind else { return None };
    // A file of the context has its versions in its lock.
    if image.contains('@') || image.contains('$') || image == "scratch" || image.starts_with("./") {
        return None;
    }
    let last = image.rsplit('/').next().unwrap_or(image);
    let outside = image.split_once('/').is_some_and(|(host, _)| host.contains('.') || host.contains(':'));
    let reason = match last.split_once(':') {
        Some((_, "latest")) => format!("`{image}` is another image tomorrow"),
        // Base images of this installation have no tags: they are recorded by digest.
        None if outside => format!("`{image}` names no tag: it is another image tomorrow"),
        _ => return None,
    };
    let diagnostic =
        file.source.diagnostic(from.image.span, reason).hint("name a version, or pin it: image:1.2@sha256:…");
    Some(Warning::new("UnpinnedBase", diagnostic))
}

fn secret(file: &Dockerfile, keyword: &str, name: &crate::diagnostic::Spanned<String>) -> Warning {
    let reason = format!("`{}` looks like a secret: {keyword} leaves it in the image's history or cache", name.value);
    let hint = "give it to the one command that needs it: RUN --mount=type=secret,id=NAME,env=NAME …";
    Warning::new("SecretsUsedInArgOrEnv", file.source.diagnostic(name.span, reason).hint(hint))
}

/// Docker's words for it, compared by the parts of the name.
fn looks_secret(name: &str) -> bool {
    const WORDS: [&str; 10] =
        ["apikey", "auth", "credential", "credentials", "key", "password", "passwd", "pword", "secret", "token"];
    let name = name.to_ascii_lowercase();
    let mut parts = name.split(['_', '-', '.']);
    const ABOUT: [&str; 7] = ["_file", "_path", "_id", "_version", "_url", "_name", "_type"];
    let public = name.contains("public") || ABOUT.iter().any(|end| name.ends_with(end));
    !public && parts.any(|part| WORDS.contains(&part))
}

/// Of these instructions a stage needs one: the last holds, and the others do nothing.
fn overridden(file: &Dockerfile) -> Vec<Warning> {
    let mut warnings = Vec::new();
    let mut seen: Vec<(&str, &Instruction)> = Vec::new();
    for instruction in &file.instructions {
        match &instruction.kind {
            Kind::From(_) => seen.clear(),
            Kind::Cmd(_) | Kind::Entrypoint(_) | Kind::Healthcheck(_) => {
                let keyword = instruction.keyword.as_str();
                if let Some((_, earlier)) = seen.iter().find(|(known, _)| *known == keyword) {
                    let reason = format!("another {keyword} below this one holds: this one does nothing");
                    let diagnostic = file.source.diagnostic(earlier.span(), reason).hint("remove it");
                    warnings.push(Warning::new("MultipleInstructionsDisallowed", diagnostic));
                    seen.retain(|(known, _)| *known != keyword);
                }
                seen.push((keyword, instruction));
            }
            _ => {}
        }
    }
    warnings
}
