//! `ONBUILD`: what an image leaves to those who build on it, done right after their `FROM`.

use super::stage::{Lowering, State};
use crate::{
    Error, Result,
    diagnostic::Source,
    dockerfile::{self, Instruction, Kind},
};

/// Triggers that one image may have.
const MOST: usize = 200;

/// A trigger as an image's configuration keeps it.
pub fn text(instruction: &Instruction) -> String {
    let mut text = instruction.text.clone();
    let heredocs = match &instruction.kind {
        Kind::Run(run) => run.heredocs.iter().collect(),
        Kind::Copy(copy) | Kind::Add(copy) => copy.heredocs(),
        _ => Vec::new(),
    };
    for heredoc in heredocs {
        text.push_str(&format!("\n{}{}", heredoc.content, heredoc.name));
    }
    text
}

impl Lowering<'_> {
    /// Does the triggers of an image. What is wrong in them is shown as a text of its own, named `of`.
    pub fn triggers(&mut self, state: &mut State, of: &str, triggers: &[String], from: &Instruction) -> Result<()> {
        if triggers.len() > MOST {
            let reason = format!("the image has more than {MOST} ONBUILD triggers");
            return Err(self.source.diagnostic(from.span(), reason).into());
        }
        let text = triggers.join("\n");
        let instructions = dockerfile::parse_triggers(of, &text)?;
        let outside = std::mem::replace(&mut self.source, Source::new(of, text));
        let done = instructions.iter().try_for_each(|instruction| match &instruction.kind {
            Kind::Onbuild(_) | Kind::From(_) => {
                let reason = format!("{} cannot be a trigger", instruction.keyword.as_str());
                Err(Error::from(self.source.diagnostic(instruction.span(), reason)))
            }
            _ => self.instruction(state, instruction),
        });
        self.source = outside;
        done
    }
}
