//! `!reset` and `!override`: what a file says about values of the files below it.

use std::borrow::Cow;

use serde_json::Value;
use serde_saphyr::granit_parser::{self, Event, Parser};

/// Nodes that one file may have, and how deep.
const MOST: usize = 500_000;
const DEEPEST: usize = 200;

/// A place in a file, as the keys that lead there, and what is to be done with what stands there already.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mark {
    pub path: Vec<String>,
    pub kind: MarkKind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MarkKind {
    /// `!reset`: nothing of it stays, whatever the value behind the tag.
    Reset,
    /// `!override`: the value replaces it, and is not merged into it.
    Override,
}

enum Frame {
    /// The key that a value is awaited for.
    Map(Option<String>),
    List(usize),
}

/// The marks of a file, in its order. Those inside of lists have no place that a merge could reach, and are not found.
///
/// # Errors
/// What is no YAML, or too large.
pub fn marks(text: &str) -> Result<Vec<Mark>, String> {
    // Nearly no file has one.
    if !text.contains("!reset") && !text.contains("!override") {
        return Ok(Vec::new());
    }
    let options = granit_parser::options! {
        emit_comments: false,
        flow_nesting_limit: DEEPEST,
        block_nesting_limit: DEEPEST,
    };
    let (mut stack, mut found): (Vec<Frame>, Vec<Mark>) = (Vec::new(), Vec::new());
    for (number, event) in Parser::new_from_str_with_options(text, options).enumerate() {
        if number > MOST {
            return Err(format!("has more than {MOST} values"));
        }
        let (event, _) = event.map_err(|error| error.to_string())?;
        let kind = event.tag().map(|tag| tag.to_string()).and_then(|tag| match tag.trim_start_matches('!') {
            "reset" => Some(MarkKind::Reset),
            "override" => Some(MarkKind::Override),
            _ => None,
        });
        match event {
            Event::Scalar(word, ..) => {
                if let Some(Frame::Map(key @ None)) = stack.last_mut() {
                    *key = Some(Cow::into_owned(word));
                    continue;
                }
                note(&stack, kind, &mut found);
                ended(&mut stack);
            }
            Event::Alias(..) => {
                if let Some(Frame::Map(key @ None)) = stack.last_mut() {
                    *key = Some(String::new());
                    continue;
                }
                ended(&mut stack);
            }
            Event::MappingStart(..) => {
                note(&stack, kind, &mut found);
                stack.push(Frame::Map(None));
            }
            Event::SequenceStart(..) => {
                note(&stack, kind, &mut found);
                stack.push(Frame::List(0));
            }
            Event::MappingEnd | Event::SequenceEnd => {
                stack.pop();
                ended(&mut stack);
            }
            _ => {}
        }
    }
    Ok(found)
}

/// Line and column (from 1) of the key that a path ends in; `None` when an alias or a merge key brought it there.
pub fn place(text: &str, path: &[&str]) -> Option<(usize, usize)> {
    let options = granit_parser::options! {
        emit_comments: false,
        flow_nesting_limit: DEEPEST,
        block_nesting_limit: DEEPEST,
    };
    let mut stack: Vec<Frame> = Vec::new();
    for (event, span) in Parser::new_from_str_with_options(text, options).take(MOST).map_while(Result::ok) {
        match event {
            Event::Scalar(word, ..) => {
                if let Some(Frame::Map(key @ None)) = stack.last_mut() {
                    *key = Some(Cow::into_owned(word));
                    let here = stack.iter().map(|frame| match frame {
                        Frame::Map(key) => key.as_deref(),
                        Frame::List(_) => None,
                    });
                    if here.eq(path.iter().map(|part| Some(*part))) {
                        return Some((span.start.line(), span.start.col() + 1));
                    }
                    continue;
                }
                ended(&mut stack);
            }
            Event::Alias(..) => match stack.last_mut() {
                Some(Frame::Map(key @ None)) => *key = Some(String::new()),
                _ => ended(&mut stack),
            },
            Event::MappingStart(..) => stack.push(Frame::Map(None)),
            Event::SequenceStart(..) => stack.push(Frame::List(0)),
            Event::MappingEnd | Event::SequenceEnd => {
                stack.pop();
                ended(&mut stack);
            }
            _ => {}
        }
    }
    None
}

fn note(stack: &[Frame], kind: Option<MarkKind>, found: &mut Vec<Mark>) {
    let Some(kind) = kind else { return };
    let path = stack.iter().map(|frame| match frame {
        Frame::Map(key) => key.clone(),
        Frame::List(_) => None,
    });
    if let Some(path) = path.collect::<Option<Vec<String>>>() {
        found.push(Mark { path, kind });
    }
}

fn ended(stack: &mut [Frame]) {
    match stack.last_mut() {
        Some(Frame::Map(key)) => *key = None,
        Some(Frame::List(at)) => *at += 1,
        None => {}
    }
}

/// Takes what is marked out of what lies below the file.
pub fn clear(below: &mut Value, marks: &[Mark]) {
    marks.iter().for_each(|mark| remove(below, &mark.path));
}

/// Takes what is reset out of the file itself.
pub fn reset(file: &mut Value, marks: &[Mark]) {
    marks.iter().filter(|mark| mark.kind == MarkKind::Reset).for_each(|mark| remove(file, &mark.path));
}

/// The marks below a place, with paths from there.
pub fn below(marks: &[Mark], place: &[&str]) -> Vec<Mark> {
    let inside = |mark: &&Mark| mark.path.len() > place.len() && mark.path.iter().zip(place).all(|(a, b)| a == b);
    let from_there = |mark: &Mark| Mark { path: mark.path[place.len()..].to_vec(), kind: mark.kind };
    marks.iter().filter(inside).map(from_there).collect()
}

fn remove(value: &mut Value, path: &[String]) {
    let Some((last, parents)) = path.split_last() else { return };
    let mut at = value;
    for key in parents {
        match at.get_mut(key) {
            Some(next) => at = next,
            None => return,
        }
    }
    if let Some(map) = at.as_object_mut() {
        map.remove(last);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_are_found_where_they_stand() {
        let text = "services:\n  a:\n    ports: !reset []\n    build: !override\n      context: ./x\n    list:\n      - !reset x\n      - {k: !reset null}\n    env: {A: !reset null, B: 1}\n  b: !reset null\n";
        let found: Vec<String> =
            marks(text).unwrap().iter().map(|mark| format!("{} {:?}", mark.path.join("."), mark.kind)).collect();
        assert_eq!(
            found,
            ["services.a.ports Reset", "services.a.build Override", "services.a.env.A Reset", "services.b Reset"]
        );
        assert!(marks("a: b\n").unwrap().is_empty());
        assert!(marks("a: !reset [\n").is_err());
    }
}
