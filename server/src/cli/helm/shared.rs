//! Flags that stand before a command's name or after it.

use std::ops::Deref;

use clap::{ArgMatches, Args, Command, Error, FromArgMatches};

/// Flags that `helm` itself has and hands down. A command that is built when it is asked for has got them by then, and does not make them
/// again.
#[derive(Debug, Clone, Default)]
pub struct Shared<T>(T);

/// Which flags they are.
pub trait Flags: Args {
    /// One of them.
    const ONE: &'static str;
}

impl<T> Deref for Shared<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T: Flags> Args for Shared<T> {
    fn augment_args(command: Command) -> Command {
        if command.get_arguments().any(|argument| argument.get_id() == T::ONE) {
            return command;
        }
        T::augment_args(command)
    }

    fn augment_args_for_update(command: Command) -> Command {
        T::augment_args_for_update(command)
    }
}

impl<T: FromArgMatches> FromArgMatches for Shared<T> {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, Error> {
        T::from_arg_matches(matches).map(Self)
    }

    fn from_arg_matches_mut(matches: &mut ArgMatches) -> Result<Self, Error> {
        T::from_arg_matches_mut(matches).map(Self)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), Error> {
        self.0.update_from_arg_matches(matches)
    }
}
