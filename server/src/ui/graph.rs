//! Where the parts of a run stand in the drawing of its graph. Lengths are CSS pixels.

use std::collections::{BTreeMap, BTreeSet};

use records::StepRun;

/// A drawing: boxes in columns, a line from each part to those that need it.
pub struct Drawing<'a> {
    pub width: usize,
    pub height: usize,
    pub boxes: Vec<Place<'a>>,
    /// Data of SVG paths.
    pub lines: Vec<String>,
}

/// A part's box.
pub struct Place<'a> {
    pub x: usize,
    pub y: usize,
    pub step: &'a StepRun,
}

/// Size of a box, and the room between two.
pub const WIDTH: usize = 196;
pub const HEIGHT: usize = 58;
const BESIDE: usize = 40;
const BELOW: usize = 14;
/// Around everything, so that the ring of a focused box is seen.
const MARGIN: usize = 4;

/// Draws the parts. What stands in one column could run at the same time. A line that passes a column has a row of its own there, so
/// that it never leads behind a box.
pub fn draw(steps: &[StepRun]) -> Drawing<'_> {
    let columns = columns(steps);
    let needed = direct(steps);
    // The row of each part, from its own column to that of the last part that needs it.
    let mut rows: Vec<BTreeMap<usize, usize>> = vec![BTreeMap::new(); steps.len()];
    let last = |part: usize| {
        let users = (0..steps.len()).filter(|to| needed[*to].contains(&part));
        users.map(|to| columns[to]).max().unwrap_or(columns[part])
    };
    let mut tallest = 0;
    for column in 0..columns.iter().map(|column| column + 1).max().unwrap_or_default() {
        let here = |part: &usize| columns[*part] == column || (columns[*part] < column && last(*part) > column);
        let mut parts: Vec<usize> = (0..steps.len()).filter(here).collect();
        // Level with what it comes from, as far as there is room. Twice the row, so that the middle of two rows is a number too.
        let level = |part: &usize| match (rows[*part].values().next_back(), needed[*part].as_slice()) {
            (Some(row), _) => 2 * row,
            (None, []) => usize::MAX,
            (None, from) => {
                let of = |from: &usize| rows[*from].values().next_back().copied().unwrap_or_default();
                2 * from.iter().map(of).sum::<usize>() / from.len()
            }
        };
        parts.sort_by_key(level);
        tallest = tallest.max(parts.len());
        for (row, part) in parts.into_iter().enumerate() {
            rows[part].insert(column, row);
        }
    }
    let (x, y) = (|column: usize| column * (WIDTH + BESIDE) + MARGIN, |row: usize| row * (HEIGHT + BELOW) + MARGIN);
    let row = |part: usize, column: usize| rows[part].get(&column).copied().unwrap_or_default();
    let mut lines = Vec::new();
    for (to, from) in needed.iter().enumerate().flat_map(|(to, all)| all.iter().map(move |from| (to, *from))) {
        let mut level = y(row(from, columns[from])) + HEIGHT / 2;
        let mut line = format!("M{} {level}", x(columns[from]) + WIDTH);
        for column in columns[from] + 1..=columns[to] {
            let arrives = column == columns[to];
            let next = y(if arrives { row(to, column) } else { row(from, column) }) + HEIGHT / 2;
            let (left, middle) = (x(column), x(column) - BESIDE / 2);
            line += &format!("C{middle} {level} {middle} {next} {left} {next}");
            if !arrives {
                line += &format!("H{}", left + WIDTH);
            }
            level = next;
        }
        lines.push(line);
    }
    let place = |(part, step)| Place { x: x(columns[part]), y: y(row(part, columns[part])), step };
    let most = columns.iter().map(|column| column + 1).max().unwrap_or_default();
    Drawing {
        width: (most * (WIDTH + BESIDE)).saturating_sub(BESIDE) + 2 * MARGIN,
        height: (tallest * (HEIGHT + BELOW)).saturating_sub(BELOW) + 2 * MARGIN,
        boxes: steps.iter().enumerate().map(place).collect(),
        lines,
    }
}

/// What each step needs, without what it waits for anyway because another step that it needs does.
fn direct(steps: &[StepRun]) -> Vec<Vec<usize>> {
    let needs = |to: usize| (0..steps.len()).filter(move |from| steps[to].needs.contains(&steps[*from].name));
    let all: Vec<BTreeSet<usize>> = (0..steps.len())
        .map(|step| {
            let mut found = BTreeSet::new();
            let mut look: Vec<usize> = needs(step).collect();
            while let Some(next) = look.pop() {
                if found.insert(next) {
                    look.extend(needs(next));
                }
            }
            found
        })
        .collect();
    let between = |from: usize, to: usize| needs(to).any(|other| other != from && all[other].contains(&from));
    (0..steps.len()).map(|to| needs(to).filter(|from| !between(*from, to)).collect()).collect()
}

/// The column of each step: how many others, one after the other, have to end before it.
fn columns(steps: &[StepRun]) -> Vec<usize> {
    let mut depth = vec![0usize; steps.len()];
    // Names that a step needs always end before it, so as many rounds as there are steps are enough.
    for _ in 0..steps.len() {
        for (at, step) in steps.iter().enumerate() {
            let needed = steps.iter().enumerate().filter(|(_, other)| step.needs.contains(&other.name));
            depth[at] = needed.map(|(before, _)| depth[before] + 1).max().unwrap_or(0).min(steps.len());
        }
    }
    depth
}

#[cfg(test)]
mod tests {
    use records::{StepKind, StepState};

    use super::*;

    fn step(name: &str, needs: &[&str]) -> StepRun {
        let needs = needs.iter().map(|need| (*need).to_owned()).collect();
        let (kind, state) = (StepKind::Step, StepState::Waiting);
        StepRun { name: name.into(), kind, needs, state, tests: None, artifacts: Vec::new() }
    }

    #[test]
    fn a_step_stands_right_of_all_that_it_needs() {
        let steps = [step("c", &["a", "b"]), step("a", &[]), step("b", &["a"]), step("d", &[])];
        assert_eq!(columns(&steps), [2, 0, 1, 0]);
        let drawing = draw(&steps);
        assert_eq!(drawing.lines.len(), 2, "that `c` needs `a` follows from its needing `b`");
        assert!(drawing.boxes.iter().all(|b| b.x + WIDTH <= drawing.width && b.y + HEIGHT <= drawing.height));
        let places: std::collections::BTreeSet<(usize, usize)> = drawing.boxes.iter().map(|b| (b.x, b.y)).collect();
        assert_eq!(places.len(), 4, "no two at one place");
    }

    #[test]
    fn a_line_that_passes_a_column_leads_behind_no_box() {
        // `unit` is needed two columns on; `build` stands between.
        let steps = [step("lint", &[]), step("unit", &[]), step("build", &["lint"]), step("ship", &["build", "unit"])];
        let drawing = draw(&steps);
        let place = |name: &str| drawing.boxes.iter().find(|b| b.step.name == name).unwrap();
        let (unit, build) = (place("unit"), place("build"));
        assert!(unit.y > build.y, "the line keeps to its own row");
        assert!(
            drawing.lines.iter().any(|line| line.contains(&format!("H{}", build.x + WIDTH))),
            "{:?}",
            drawing.lines
        );
    }

    #[test]
    fn a_run_without_parts_is_drawn_too() {
        let drawing = draw(&[]);
        assert!(drawing.boxes.is_empty() && drawing.width > 0);
    }
}
