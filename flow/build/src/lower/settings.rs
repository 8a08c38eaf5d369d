//! Instructions that change the configuration, and the way to those that run.

use graph::Op;

use super::{
    arguments::{Arguments, Resolver},
    health,
    stage::{Lowering, State},
};
use crate::{
    Result,
    config::Empty,
    diagnostic::{Spanned, Warning},
    dockerfile::{Command, Healthcheck, Instruction, Kind, ast::Pair},
};

impl Lowering<'_> {
    pub fn instruction(&mut self, state: &mut State, instruction: &Instruction) -> Result<()> {
        match &instruction.kind {
            Kind::Run(run) => return self.run_instruction(state, instruction, run),
            Kind::Copy(copy) => return self.copy(state, instruction, copy, false),
            Kind::Add(copy) => return self.copy(state, instruction, copy, true),
            Kind::Workdir(path) => return self.workdir(state, instruction, path),
            // It changes nothing here, and stands in no history.
            Kind::Onbuild(inner) => {
                state.triggers.push(super::onbuild::text(inner));
                return Ok(());
            }
            Kind::From(_) => return Ok(()),
            Kind::Arg(_) => self.arg(state, instruction)?,
            Kind::Env(pairs) => {
                for (name, value) in self.pairs(state, pairs)? {
                    state.config.config.set_env(&name, &value);
                    state.arguments.hide(&name);
                }
            }
            Kind::Label(pairs) => state.config.config.labels.extend(self.pairs(state, pairs)?),
            Kind::User(user) => {
                let value = self.word(state, user)?;
                if value.is_empty() {
                    return Err(self.error(user, "USER comes out empty").into());
                }
                state.config.config.user = value;
                state.user = Some(self.error(user, ""));
            }
            Kind::Expose(words) => self.expose(state, words)?,
            Kind::Volume(words) => {
                for word in words {
                    let path = self.word(state, word)?;
                    if path.trim().is_empty() {
                        return Err(self.error(word, "VOLUME needs a path").into());
                    }
                    state.config.config.volumes.insert(path, Empty {});
                }
            }
            Kind::Stopsignal(word) => {
                let signal = self.word(state, word)?;
                if !is_signal(&signal) {
                    let hint = "use a name such as SIGTERM, or a number from 1 to 64";
                    return Err(self.error(word, format!("`{signal}` is no signal")).hint(hint).into());
                }
                state.config.config.stop_signal = Some(signal);
            }
            Kind::Shell(words) => state.config.config.shell = Some(words.clone()),
            Kind::Healthcheck(check) => {
                let config = match check {
                    Healthcheck::None => health::none(),
                    Healthcheck::Command { flags, command } => health::check(&self.source, flags, command)?,
                };
                state.config.config.healthcheck = Some(config);
            }
            Kind::Entrypoint(command) => {
                state.config.config.entrypoint = Some(self.argv(state, command)).filter(|argv| !argv.is_empty());
                if !state.cmd_set {
                    state.config.config.cmd = None;
                }
            }
            Kind::Cmd(command) => {
                state.config.config.cmd = Some(self.argv(state, command)).filter(|argv| !argv.is_empty());
                state.cmd_set = true;
            }
            Kind::Maintainer(name) => {
                state.config.author = Some(name.value.clone());
                let hint = format!("write LABEL org.opencontainers.image.authors=\"{}\"", name.value);
                let diagnostic = self.source.diagnostic(instruction.span(), "MAINTAINER is deprecated").hint(hint);
                self.warnings.push(Warning::new("MaintainerDeprecated", diagnostic));
            }
        }
        self.no_layer(state, instruction);
        Ok(())
    }

    /// The shell that shell forms are given to.
    pub fn shell(&self, state: &State) -> Vec<String> {
        state.config.config.shell.clone().unwrap_or_else(|| vec!["/bin/sh".into(), "-c".into()])
    }

    pub fn argv(&self, state: &State, command: &Command) -> Vec<String> {
        match command {
            Command::Exec(words) => words.clone(),
            Command::Shell(text) => self.shell(state).into_iter().chain([text.value.clone()]).collect(),
        }
    }

    fn arg(&mut self, state: &mut State, instruction: &Instruction) -> Result<()> {
        let Kind::Arg(args) = &instruction.kind else { return Ok(()) };
        for arg in args {
            let default = arg.value.as_ref().map(|value| self.word(state, value)).transpose()?;
            let value = Arguments::value_of(arg, default, self.options, Some(&self.stages.global));
            state.arguments.declare(&arg.name, value);
        }
        Ok(())
    }

    /// All values are resolved before any is set.
    fn pairs(&mut self, state: &State, pairs: &[Pair]) -> Result<Vec<(String, String)>> {
        let words: Vec<&Spanned<String>> = pairs.iter().flat_map(|pair| [&pair.name, &pair.value]).collect();
        let values = self.words(state, &words)?;
        let mut out = Vec::with_capacity(pairs.len());
        for (pair, value) in pairs.iter().zip(values.chunks_exact(2)) {
            if value[0].is_empty() {
                return Err(self.error(&pair.name, "the name comes out empty").into());
            }
            out.push((value[0].clone(), value[1].clone()));
        }
        Ok(out)
    }

    fn expose(&mut self, state: &mut State, words: &[Spanned<String>]) -> Result<()> {
        for word in words {
            let value = self.word(state, word)?;
            for port in value.split_whitespace() {
                match ports(port) {
                    Some(ports) => {
                        state.config.config.exposed_ports.extend(ports.into_iter().map(|port| (port, Empty {})));
                    }
                    None => {
                        let hint = "write port[/tcp|/udp], for example 8080 or 53/udp, or a range such as 8000-8010";
                        return Err(self.error(word, format!("`{port}` is no port")).hint(hint).into());
                    }
                }
            }
        }
        Ok(())
    }

    fn workdir(&mut self, state: &mut State, instruction: &Instruction, path: &Spanned<String>) -> Result<()> {
        let value = self.word(state, path)?;
        if value.is_empty() {
            return Err(self.error(path, "WORKDIR comes out empty").into());
        }
        let path = absolute(&value, state.config.config.directory());
        state.config.config.working_dir.clone_from(&path);
        if path == "/" {
            self.no_layer(state, instruction);
        } else {
            let user = with_group(&state.config.config.user);
            self.layer(state, instruction, Op::Mkdir { path, user }, Vec::new());
        }
        Ok(())
    }

    /// A resolver for texts of heredocs.
    pub fn resolver<'b>(&'b self, state: &'b State) -> Resolver<'b> {
        let config = &state.config.config;
        Resolver::new(&self.source, self.file.escape(), Some(config), &state.arguments, &self.options.build_args)
    }
}

/// An owner. A number alone stands for the group of that number, too, whatever `/etc/passwd` says.
pub fn with_group(user: &str) -> String {
    let number = !user.is_empty() && user.bytes().all(|b| b.is_ascii_digit());
    if number { format!("{user}:{user}") } else { user.to_owned() }
}

/// The path from the root, without `.`, `..` and double slashes.
pub fn absolute(path: &str, directory: &str) -> String {
    let whole = if path.starts_with('/') { path.to_owned() } else { format!("{directory}/{path}") };
    format!("/{}", crate::ignore::clean(&whole))
}

/// `80`, `80/udp`, `80-82/tcp` to `port/protocol`; ranges of at most 1,000 ports.
fn ports(text: &str) -> Option<Vec<String>> {
    let (numbers, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let protocol = protocol.to_ascii_lowercase();
    if !matches!(protocol.as_str(), "tcp" | "udp" | "sctp") {
        return None;
    }
    let (first, last) = numbers.split_once('-').unwrap_or((numbers, numbers));
    let (first, last) = (first.parse::<u16>().ok()?, last.parse::<u16>().ok()?);
    if first == 0 || last < first || last - first >= 1000 {
        return None;
    }
    Some((first..=last).map(|port| format!("{port}/{protocol}")).collect())
}

fn is_signal(text: &str) -> bool {
    const NAMES: [&str; 32] = [
        "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "IOT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE",
        "ALRM", "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU", "XFSZ", "VTALRM",
        "PROF", "WINCH", "IO", "PWR", "SYS",
    ];
    if let Ok(number) = text.parse::<u8>() {
        return (1..=64).contains(&number);
    }
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    NAMES.contains(&name) || name.starts_with("RTMIN") || name.starts_with("RTMAX")
}
