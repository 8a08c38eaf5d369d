//! What only holds for the file as a whole: names that exist, names that are there once, nothing that waits for itself.

use std::collections::{BTreeMap, HashMap};

use crate::{
    diagnostics::{Span, suggest},
    file::{Pipeline, Target},
    read::{Located, Reader},
};

/// What a step or an image needs, as the file has it.
pub(crate) struct Needs {
    /// Where its name stands.
    pub at: Span,
    /// `None` when the file does not say.
    pub given: Option<Vec<Located<String>>>,
}

/// An environment with the places of its names.
pub(crate) struct Placed {
    pub target: Target,
    pub name_at: Span,
    pub namespace_at: Option<Span>,
    pub after_at: Option<Span>,
}

/// Fills in the `needs` of steps and images.
///
/// A step that does not say what it needs waits for the one before it: the file reads top to bottom, and what stands below has seen what
/// stands above succeed. `needs: []` starts at once. An image that does not say waits for every step.
pub(crate) fn steps(r: &mut Reader, pipeline: &mut Pipeline, needs: &[Needs], image_needs: &[Needs]) {
    let mut index: BTreeMap<String, usize> = BTreeMap::new();
    let mut lines: HashMap<String, u32> = HashMap::new();
    for (i, step) in pipeline.steps.iter().enumerate() {
        twice(r, &mut lines, step.name.as_str(), needs[i].at);
        index.entry(step.name.to_string()).or_insert(i);
    }
    for (i, image) in pipeline.images.iter().enumerate() {
        twice(r, &mut lines, &image.name, image_needs[i].at);
    }
    let resolve = |r: &mut Reader, wants: &[Located<String>]| -> Vec<usize> {
        let mut found = Vec::new();
        for want in wants {
            match index.get(&want.value) {
                Some(step) if !found.contains(step) => found.push(*step),
                Some(_) => {}
                None => {
                    let hint = suggest(&want.value, index.keys().map(String::as_str));
                    r.error(want.at, format!("there is no step `{}`", want.value), hint);
                }
            }
        }
        found
    };
    for (i, needs) in needs.iter().enumerate() {
        pipeline.steps[i].needs = match &needs.given {
            Some(given) => resolve(r, given),
            None => i.checked_sub(1).into_iter().collect(),
        };
    }
    let all: Vec<usize> = (0..pipeline.steps.len()).collect();
    for (i, needs) in image_needs.iter().enumerate() {
        pipeline.images[i].needs = match &needs.given {
            Some(given) => resolve(r, given),
            None => all.clone(),
        };
    }
    let edges: Vec<Vec<usize>> = pipeline.steps.iter().map(|step| step.needs.clone()).collect();
    if let Some(circle) = circle(&edges) {
        let names: Vec<&str> = circle.iter().map(|i| pipeline.steps[*i].name.as_str()).collect();
        let path = format!("{} → {}", names.join(" → "), names[0]);
        // Where the circle was written down: the first `needs` in it. A step without one waits for the step above.
        let implied = circle.iter().find(|i| needs[**i].given.is_none());
        let hint = match implied {
            Some(i) => {
                let name = &pipeline.steps[*i].name;
                format!("`{name}` says no `needs`, so it waits for the step above it; `needs: []` starts it at once")
            }
            None => "take one of these `needs` away".to_owned(),
        };
        let at = circle.iter().enumerate().find_map(|(place, i)| {
            let next = &names[(place + 1) % names.len()];
            needs[*i].given.as_ref()?.iter().find(|want| want.value == *next).map(|want| want.at)
        });
        r.error(at.unwrap_or(needs[circle[0]].at), format!("`needs` goes round in a circle: {path}"), hint);
    }
}

fn twice(r: &mut Reader, lines: &mut HashMap<String, u32>, name: &str, at: Span) {
    if let Some(line) = lines.insert(name.to_owned(), at.line) {
        let hint = format!("the first is on line {line}; give this one another name");
        r.error(at, format!("the name `{name}` is there twice"), hint);
    }
}

pub(crate) fn environments(r: &mut Reader, environments: &[Placed]) {
    let mut lines = HashMap::new();
    let mut namespaces: HashMap<&str, &str> = HashMap::new();
    let names: Vec<&str> = environments.iter().map(|placed| placed.target.name.as_str()).collect();
    for placed in environments {
        let target = &placed.target;
        twice(r, &mut lines, target.name.as_str(), placed.name_at);
        if let (Some(namespace), Some(at)) = (&target.namespace, placed.namespace_at)
            && let Some(other) = namespaces.insert(namespace.as_str(), target.name.as_str())
        {
            let hint = "each environment needs a namespace of its own, or one would overwrite the other".to_owned();
            r.error(at, format!("the namespace `{namespace}` belongs to the environment `{other}`"), hint);
        }
        if let (Some(after), Some(at)) = (&target.after, placed.after_at)
            && !names.contains(&after.as_str())
        {
            let hint = suggest(after.as_str(), names.iter().copied());
            r.error(at, format!("there is no environment `{after}`"), hint);
        }
    }
    let edge = |placed: &Placed| -> Vec<usize> {
        let after = placed.target.after.as_ref();
        after.and_then(|after| names.iter().position(|name| *name == after.as_str())).into_iter().collect()
    };
    let edges: Vec<Vec<usize>> = environments.iter().map(edge).collect();
    if let Some(circle) = circle(&edges) {
        let path: Vec<&str> = circle.iter().chain(&circle[..1]).map(|i| names[*i]).collect();
        let placed = &environments[circle[0]];
        let message = format!("`after` goes round in a circle: {}", path.join(" → "));
        r.error(placed.after_at.unwrap_or(placed.name_at), message, "one of them must come first".to_owned());
    }
}

/// A circle in the graph, starting with its smallest member, if there is one.
fn circle(edges: &[Vec<usize>]) -> Option<Vec<usize>> {
    // What is taken away layer by layer is in no circle; following the edges of what is left must come round.
    let mut left: Vec<bool> = vec![true; edges.len()];
    while let Some(free) = (0..edges.len()).find(|i| left[*i] && edges[*i].iter().all(|to| !left[*to])) {
        left[free] = false;
    }
    let mut path = vec![left.iter().position(|left| *left)?];
    loop {
        let next = *edges[*path.last()?].iter().find(|to| left[**to])?;
        if let Some(start) = path.iter().position(|seen| *seen == next) {
            let mut circle = path.split_off(start);
            let smallest = circle.iter().enumerate().min_by_key(|(_, i)| **i).map_or(0, |(place, _)| place);
            circle.rotate_left(smallest);
            return Some(circle);
        }
        path.push(next);
    }
}
