//! Checks of the commands that install packages: versions, caches that stay behind, compilers in the image that runs.

use crate::{
    diagnostic::{Spanned, Warning},
    dockerfile::{Command, Dockerfile, Instruction, Run},
};

/// What compiles, and what is only needed to compile, by the names of the usual distributions.
const COMPILERS: [&str; 20] = [
    "build-essential",
    "build-base",
    "gcc",
    "g++",
    "clang",
    "llvm",
    "make",
    "cmake",
    "ninja-build",
    "golang",
    "golang-go",
    "go",
    "rustc",
    "cargo",
    "rust",
    "gfortran",
    "autoconf",
    "automake",
    "libtool",
    "pkg-config",
];

/// One way to install packages.
struct Manager {
    /// The words that begin the command.
    words: &'static [&'static [&'static str]],
    name: &'static str,
    /// What stands between a package and its version.
    pins: &'static [&'static str],
    example: &'static str,
    /// A flag or a later command that leaves no cache behind.
    cleans: &'static [&'static str],
    /// The directory that a cache mount would be on.
    cache: &'static [&'static str],
    hint: &'static str,
}

const MANAGERS: [Manager; 5] = [
    Manager {
        words: &[&["apt-get", "install"], &["apt", "install"]],
        name: "apt-get",
        pins: &["="],
        example: "curl=8.5.0-2",
        cleans: &["/var/lib/apt/lists"],
        cache: &["/var/cache/apt", "/var/lib/apt"],
        hint: "end the command with && rm -rf /var/lib/apt/lists/*, or mount a cache on /var/cache/apt and /var/lib/apt",
    },
    Manager {
        words: &[&["apk", "add"]],
        name: "apk",
        pins: &["=", "~", "<", ">"],
        example: "curl=8.5.0-r0",
        cleans: &["--no-cache", "/var/cache/apk"],
        cache: &["/var/cache/apk", "/etc/apk/cache"],
        hint: "add --no-cache",
    },
    Manager {
        words: &[&["dnf", "install"], &["yum", "install"], &["microdnf", "install"]],
        name: "dnf",
        pins: &["-[0-9]"],
        example: "curl-8.5.0",
        cleans: &["clean all", "/var/cache/dnf", "/var/cache/yum"],
        cache: &["/var/cache/dnf", "/var/cache/yum", "/var/cache/libdnf5"],
        hint: "end the command with && dnf clean all",
    },
    Manager {
        words: &[&["pip", "install"], &["pip3", "install"]],
        name: "pip",
        pins: &["==", "~=", ">=", "<=", "@"],
        example: "requests==2.32.3",
        cleans: &["--no-cache-dir", "PIP_NO_CACHE_DIR"],
        cache: &["/root/.cache", "/root/.cache/pip"],
        hint: "add --no-cache-dir, or mount a cache on /root/.cache/pip",
    },
    Manager {
        words: &[&["npm", "install"], &["npm", "i"]],
        name: "npm",
        pins: &["@"],
        example: "express@4.21.0",
        cleans: &[],
        cache: &[],
        hint: "",
    },
];

/// Flags whose next word is a value and no package.
const VALUED: [&str; 12] = [
    "-t",
    "-o",
    "-c",
    "-r",
    "-e",
    "-i",
    "--requirement",
    "--constraint",
    "--index-url",
    "--target",
    "--virtual",
    "--repository",
];

/// Looks over one `RUN`. `last` is whether it belongs to the image that is built.
pub fn check(file: &Dockerfile, instruction: &Instruction, run: &Run, last: bool) -> Vec<Warning> {
    let text = match &run.command {
        Command::Shell(text) if run.heredocs.is_empty() => text.value.clone(),
        Command::Shell(text) => {
            let bodies = run.heredocs.iter().map(|heredoc| heredoc.content.as_str());
            std::iter::once(text.value.as_str()).chain(bodies).collect::<Vec<_>>().join("\n")
        }
        Command::Exec(words) => words.join(" "),
    };
    let place = Spanned::new((), instruction.span());
    let warn = |rule: &str, reason: String, hint: String| {
        Warning::new(rule, file.source.diagnostic(place.span, reason).hint(hint))
    };
    let mut warnings = Vec::new();
    for manager in &MANAGERS {
        let mut installs = false;
        let (mut loose, mut compilers): (Vec<String>, Vec<String>) = (Vec::new(), Vec::new());
        for command in commands(&text) {
            let Some(packages) = packages(&command, manager) else { continue };
            installs = true;
            loose.extend(packages.iter().filter(|package| !is_pinned(package, manager)).cloned());
            let plain = |package: &String| package.split(['=', '~', '<', '>']).next().unwrap_or(package).to_owned();
            if !matches!(manager.name, "pip" | "npm") && !command.iter().any(|word| word == "--virtual" || word == "-t")
            {
                compilers.extend(packages.iter().map(plain).filter(|package| COMPILERS.contains(&package.as_str())));
            }
        }
        if !loose.is_empty() {
            let shown = loose.iter().take(3).cloned().collect::<Vec<_>>().join(", ");
            let more = if loose.len() > 3 { format!(" and {} more", loose.len() - 3) } else { String::new() };
            let reason = format!("{} takes whatever version there is today: {shown}{more}", manager.name);
            warnings.push(warn("UnpinnedPackages", reason, format!("name versions, for example {}", manager.example)));
        }
        let mounted = run
            .flags
            .iter()
            .filter(|flag| *flag.name == "mount")
            .filter_map(|flag| flag.value.as_ref())
            .any(|value| value.contains("type=cache") && manager.cache.iter().any(|cache| value.contains(cache)));
        if last
            && installs
            && !manager.cleans.is_empty()
            && !mounted
            && !manager.cleans.iter().any(|clean| text.contains(clean))
        {
            let reason = format!("what {} keeps for the next time stays in the image", manager.name);
            warnings.push(warn("PackageCacheLeft", reason, manager.hint.to_owned()));
        }
        // What is taken away again in the same step is not in the image.
        let removed = ["apt-get purge", "apt-get remove", "apt-get autoremove", "apk del", "dnf remove", "yum remove"];
        if last && !compilers.is_empty() && !removed.iter().any(|command| text.contains(command)) {
            compilers.dedup();
            let reason = format!("the image that runs holds what only builds need: {}", compilers.join(", "));
            let hint = "build in a stage of its own and COPY --from what came of it".to_owned();
            warnings.push(warn("CompilerInFinalStage", reason, hint));
        }
    }
    warnings
}

/// The simple commands of a shell text, as words without quotes.
fn commands(text: &str) -> Vec<Vec<String>> {
    let mut commands: Vec<Vec<String>> = vec![Vec::new()];
    for line in text.lines() {
        let line = line.split(" #").next().unwrap_or(line);
        for word in line.split_whitespace() {
            let ends = matches!(word, "&&" | "||" | ";" | "|" | "&" | "then" | "do" | "fi" | "done");
            let bare = word.trim_end_matches(';').trim_matches(['"', '\'']);
            if ends {
                commands.push(Vec::new());
                continue;
            }
            if let (Some(command), false) = (commands.last_mut(), bare.is_empty()) {
                command.push(bare.to_owned());
            }
            if word.ends_with(';') {
                commands.push(Vec::new());
            }
        }
        if !line.trim_end().ends_with('\\') {
            commands.push(Vec::new());
        }
    }
    commands.retain(|command| !command.is_empty());
    commands
}

/// The packages that a command installs; `None` when it installs none.
fn packages(command: &[String], manager: &Manager) -> Option<Vec<String>> {
    let start = command.iter().position(|word| manager.words.iter().any(|words| word == words[0]))?;
    let verbs: Vec<&str> =
        manager.words.iter().filter(|words| words[0] == command[start]).map(|words| words[1]).collect();
    let verb = command[start + 1..].iter().position(|word| !word.starts_with('-') && !word.contains('='))? + start + 1;
    if !verbs.contains(&command[verb].as_str()) {
        return None;
    }
    let mut packages = Vec::new();
    let mut value = false;
    for word in &command[verb + 1..] {
        if std::mem::take(&mut value) {
            continue;
        }
        if word.starts_with('-') {
            value = VALUED.contains(&word.as_str());
            continue;
        }
        // Files, variables and redirections say nothing of versions.
        let plain = !word.starts_with(['.', '/', '$', '>', '<', '(']) && !word.contains("://") && !word.contains('$');
        if plain && word != "\\" {
            packages.push(word.clone());
        }
    }
    Some(packages)
}

fn is_pinned(package: &str, manager: &Manager) -> bool {
    if manager.name == "dnf" {
        let version =
            package.match_indices('-').any(|(at, _)| package[at + 1..].starts_with(|c: char| c.is_ascii_digit()));
        return version;
    }
    // The scope of a package of npm is no version.
    let package = package.strip_prefix('@').unwrap_or(package);
    manager.pins.iter().any(|pin| package.contains(pin))
}

#[cfg(test)]
mod tests {
    use crate::{
        checks,
        config::{ImageConfig, Platform},
        dockerfile::{Kind, parse},
    };

    fn rules(text: &str) -> Vec<String> {
        let file = parse("Dockerfile", text).unwrap();
        let from = file.instructions.iter().rfind(|i| matches!(i.kind, Kind::From(_))).unwrap();
        let mut config = ImageConfig::empty(&Platform::host());
        config.config.user = "app".into();
        let mut rules: Vec<String> = checks::check(&file, from, &config).into_iter().map(|w| w.rule).collect();
        rules.sort();
        rules.dedup();
        rules
    }

    #[test]
    fn what_installs_is_looked_at() {
        for (run, expected) in [
            ("apt-get update && apt-get install -y curl", &["PackageCacheLeft", "UnpinnedPackages"][..]),
            ("apt-get install -y curl=8.5.0-2 && rm -rf /var/lib/apt/lists/*", &[]),
            ("--mount=type=cache,target=/var/cache/apt apt-get install -y curl=1", &[]),
            ("apt-get -y install gcc=1 && rm -rf /var/lib/apt/lists/*", &["CompilerInFinalStage"]),
            ("apk add --no-cache --virtual .build gcc=1", &[]),
            ("apk add curl~8", &["PackageCacheLeft"]),
            ("pip install --no-cache-dir -r requirements.txt", &[]),
            ("pip install requests", &["PackageCacheLeft", "UnpinnedPackages"]),
            ("npm install @scope/x", &["UnpinnedPackages"]),
            ("npm install @scope/x@1.2 && npm ci", &[]),
            ("npm install", &[]),
            ("dnf install -y curl-8.5 && dnf clean all", &[]),
            ("echo apt-get is not install", &[]),
            ("apt-get update", &[]),
        ] {
            assert_eq!(rules(&format!("FROM node\nRUN {run}\n")), expected, "{run}");
        }
        // In a stage that only builds, a compiler and a cache are where they belong.
        assert_eq!(
            rules("FROM node AS a\nRUN apt-get install -y gcc=1\nFROM node\nCOPY --from=a /x /x\n"),
            [] as [&str; 0]
        );
    }

    proptest::proptest! {
        #[test]
        fn any_command_is_looked_at(text in "[a-z=&|; \\\\$-]{0,60}") {
            let _ = rules(&format!("FROM node\nRUN apt-get install {text}x\n"));
        }
    }
}
