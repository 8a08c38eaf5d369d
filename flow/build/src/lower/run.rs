//! `RUN` to an execution.

use std::collections::BTreeMap;

use graph::{Exec, Mount, Network, Op, Tmpfs};

use super::{
    arguments::PROXIES,
    stage::{Lowering, State},
};
use crate::{
    Result,
    config::Platform,
    diagnostic::Spanned,
    dockerfile::{Command, Flag, Instruction, Run},
};

/// Where a script from a heredoc is seen while it runs.
const SCRIPTS: &str = "/dev/pipes";

impl Lowering<'_> {
    pub fn run_instruction(&mut self, state: &mut State, instruction: &Instruction, run: &Run) -> Result<()> {
        let mut exec = Exec {
            argv: Vec::new(),
            env: self.environment(state),
            cwd: state.config.config.directory().to_owned(),
            user: state.config.config.user.clone(),
            network: self.options.network,
            hosts: self.options.hosts.clone(),
            ulimits: self.options.ulimits.clone(),
            ..Exec::default()
        };
        if self.options.shm_size.is_some() {
            exec.tmpfs.push(Tmpfs { target: "/dev/shm".into(), size: self.options.shm_size });
        }
        let mut inputs = Vec::new();
        for flag in &run.flags {
            self.run_flag(state, flag, &mut exec, &mut inputs)?;
        }
        exec.argv = self.run_argv(state, run, &mut exec.mounts, &mut inputs)?;
        if exec.argv.is_empty() || exec.argv.iter().any(|word| word.contains('\0')) {
            let place = Spanned::new(String::new(), instruction.span());
            return Err(self.error(&place, "RUN needs a command").into());
        }
        let platform = &self.stages.all[self.current].platform;
        if *platform != Platform::host() && !self.foreign.iter().any(|(known, _)| known == platform) {
            let place = self.error(&Spanned::new(String::new(), instruction.span()), "");
            self.foreign.push((platform.clone(), place));
        }
        self.layer(state, instruction, Op::Exec(exec), inputs);
        Ok(())
    }

    /// What a command sees: the image's environment over the arguments of the stage, but for those that were declared below it.
    fn environment(&self, state: &State) -> BTreeMap<String, String> {
        let mut environment = BTreeMap::new();
        for name in PROXIES {
            if let Some(value) = self.options.build_args.get(name) {
                environment.insert(name.to_owned(), value.clone());
            }
        }
        environment.extend(state.arguments.set_values().map(|(name, value)| (name.to_owned(), value.to_owned())));
        for entry in &state.config.config.env {
            if let Some((name, value)) = entry.split_once('=') {
                environment.insert(name.to_owned(), value.to_owned());
            }
        }
        let later = state.arguments.over_environment();
        environment.extend(later.map(|(name, value)| (name.to_owned(), value.to_owned())));
        environment
    }

    fn run_argv(
        &mut self,
        state: &State,
        run: &Run,
        mounts: &mut Vec<Mount>,
        inputs: &mut Vec<usize>,
    ) -> Result<Vec<String>> {
        let text = match &run.command {
            Command::Exec(words) => return Ok(words.clone()),
            Command::Shell(text) => &text.value,
        };
        let mut argv = self.shell(state);
        match run.heredocs.as_slice() {
            [] => argv.push(text.clone()),
            [heredoc] if heredoc.word.value == *text => {
                let content = heredoc.chomped();
                if content.starts_with("#!") {
                    // A script with its own interpreter is run as a program.
                    let files = self.inline_file(&heredoc.name, 0o755, content.into_bytes());
                    let vertex = self.add("heredoc", Op::Files(files), Vec::new());
                    mounts.push(Mount {
                        input: inputs.len() + 1,
                        source: String::new(),
                        target: SCRIPTS.into(),
                        writable: false,
                    });
                    inputs.push(vertex);
                    return Ok(vec![format!("{SCRIPTS}/{}", heredoc.name.replace('/', "_"))]);
                }
                argv.push(content);
            }
            // The shell reads heredocs by itself.
            heredocs => {
                let bodies = heredocs.iter().map(|heredoc| format!("\n{}{}", heredoc.content, heredoc.name));
                argv.push(std::iter::once(text.clone()).chain(bodies).collect());
            }
        }
        Ok(argv)
    }

    fn run_flag(&mut self, state: &State, flag: &Flag, exec: &mut Exec, inputs: &mut Vec<usize>) -> Result<()> {
        let place = Spanned::new(String::new(), flag.span());
        let value = match &flag.value {
            Some(value) => self.word(state, value)?,
            None => return Err(self.error(&place, format!("--{} needs a value", flag.name.value)).into()),
        };
        match (flag.name.as_str(), value.as_str()) {
            ("network", "default") => {
                exec.network = Network::Bridge;
                Ok(())
            }
            ("security", "sandbox") => Ok(()),
            ("network", "none") => {
                exec.network = Network::None;
                Ok(())
            }
            ("network", "host") => {
                let hint = "the default network reaches other machines; `none` reaches nothing";
                Err(self.error(&place, "a build may not use this machine's own network").hint(hint).into())
            }
            ("network", _) => Err(self.error(&place, "--network takes `default` or `none`").into()),
            ("security", "insecure") => {
                let hint = "leave it out: commands run without privileges";
                Err(self.error(&place, "a build may not run privileged").hint(hint).into())
            }
            ("security", _) => Err(self.error(&place, "--security takes `sandbox`").into()),
            ("mount", _) => self.mount(state, &place, &value, exec, inputs),
            (name, _) => {
                let hint = "leave it out: a build reaches no device of this machine";
                Err(self.error(&place, format!("RUN --{name} is not possible here")).hint(hint).into())
            }
        }
    }
}
