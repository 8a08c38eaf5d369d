//! Which runs are to be: a pure decision over the records.
//!
//! - Each commit on the default branch of its project gets one run, with the next build number of the project, in the order of arrival.
//! - Runs of a project go one after the other, so that a later commit never overtakes an earlier one.
//! - A run that still waits when a newer commit has come is cancelled: its result would be replaced at once.
//! - A run that was under way when the server ended is taken up again.

use std::collections::{BTreeMap, BTreeSet};

use records::{Commit, Name, Project, Run, RunId, RunState, Timestamp};

/// What is known.
#[derive(Debug, Clone, Copy)]
pub struct State<'a> {
    pub projects: &'a [Project],
    pub commits: &'a [Commit],
    pub runs: &'a [Run],
    /// The runs that somebody works on in this process.
    pub working: &'a BTreeSet<RunId>,
}

/// What to do. To be done in order; each can be repeated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Write this run down (it must not be there yet).
    Create(Box<Run>),
    /// Cancel this queued run; `by` says what took its place.
    Cancel { run: RunId, by: String },
    /// Work on this run: from the start, or where an earlier server left it.
    Work(RunId),
}

/// Why a run waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiting {
    pub run: RunId,
    /// The run of the same project that must end first.
    pub for_run: RunId,
}

/// What to do and what is waited for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    pub actions: Vec<Action>,
    pub waiting: Vec<Waiting>,
}

/// Decides. The answer depends on its arguments alone.
pub fn plan(state: State<'_>, now: Timestamp) -> Plan {
    let mut plan = Plan::default();
    for project in state.projects {
        one_project(project, &state, now, &mut plan);
    }
    plan
}

fn one_project(project: &Project, state: &State<'_>, now: Timestamp, plan: &mut Plan) {
    let own = |name: &Name| *name == project.name;
    let mut runs: BTreeMap<u64, Run> =
        state.runs.iter().filter(|run| own(&run.id.project)).map(|run| (run.id.build, run.clone())).collect();

    // A commit that was pushed again, to the same branch or another, keeps the run that it has.
    let done: BTreeSet<&str> =
        state.runs.iter().filter(|run| own(&run.id.project)).map(|run| run.commit.as_str()).collect();
    let mut fresh: Vec<&Commit> = state
        .commits
        .iter()
        .filter(|commit| {
            own(&commit.project) && commit.branch == project.default_branch && !done.contains(commit.id.as_str())
        })
        .collect();
    // The id decides between commits that arrived at the same instant, so that the answer is always the same.
    fresh.sort_by(|a, b| (a.received_at, a.id.as_str()).cmp(&(b.received_at, b.id.as_str())));
    let next = runs.last_key_value().map_or(1, |(build, _)| build + 1);
    for (build, commit) in (next..).zip(fresh) {
        let run = Run::new(RunId { project: project.name.clone(), build }, commit.id.clone(), now);
        plan.actions.push(Action::Create(Box::new(run.clone())));
        runs.insert(build, run);
    }

    let queued: Vec<RunId> =
        runs.values().filter(|run| matches!(run.state, RunState::Queued)).map(|run| run.id.clone()).collect();
    let Some((newest, older)) = queued.split_last() else {
        resume(runs.values(), state, plan);
        return;
    };
    for run in older {
        plan.actions.push(Action::Cancel { run: run.clone(), by: format!("run {newest}, which is of a newer commit") });
    }
    let running = resume(runs.values(), state, plan);
    match running {
        Some(running) => plan.waiting.push(Waiting { run: newest.clone(), for_run: running }),
        None if !state.working.contains(newest) => plan.actions.push(Action::Work(newest.clone())),
        None => {}
    }
}

/// Takes up again what nobody works on; the run that is under way, if there is one.
fn resume<'r>(runs: impl Iterator<Item = &'r Run>, state: &State<'_>, plan: &mut Plan) -> Option<RunId> {
    let mut under_way = None;
    for run in runs.filter(|run| matches!(run.state, RunState::Running { .. })) {
        if !state.working.contains(&run.id) {
            plan.actions.push(Action::Work(run.id.clone()));
        }
        under_way = Some(run.id.clone());
    }
    under_way
}

#[cfg(test)]
mod tests {
    use records::Person;

    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn project() -> Project {
        Project { name: "journal".parse().unwrap(), default_branch: "main".into(), created_at: at(0) }
    }

    fn commit(digit: char, branch: &str, second: i64) -> Commit {
        Commit {
            project: "journal".parse().unwrap(),
            id: digit.to_string().repeat(40).parse().unwrap(),
            branch: branch.into(),
            parent: None,
            author: Person { name: "Ada".into(), email: "ada@example.org".into() },
            subject: "Change".into(),
            committed_at: at(second),
            received_at: at(second),
        }
    }

    fn run(build: u64, digit: char) -> Run {
        let id = RunId { project: "journal".parse().unwrap(), build };
        Run::new(id, digit.to_string().repeat(40).parse().unwrap(), at(0))
    }

    fn decide(commits: &[Commit], runs: &[Run], working: &[RunId]) -> Plan {
        let working = working.iter().cloned().collect();
        plan(State { projects: &[project()], commits, runs, working: &working }, at(100))
    }

    #[test]
    fn a_new_commit_gets_the_next_build_and_is_worked_on() {
        let plan = decide(
            &[commit('b', "main", 2), commit('c', "topic", 3)],
            &[run(4, 'a').start(at(1)).unwrap().pass(at(2)).unwrap()],
            &[],
        );
        let created = Run::new("journal/5".parse().unwrap(), "b".repeat(40).parse().unwrap(), at(100));
        assert_eq!(plan.actions, [Action::Create(Box::new(created.clone())), Action::Work(created.id)]);
    }

    #[test]
    fn deciding_again_after_acting_decides_nothing() {
        let working = ["journal/1".parse().unwrap()];
        assert_eq!(decide(&[commit('a', "main", 1)], &[run(1, 'a')], &working), Plan::default());
        assert_eq!(decide(&[commit('a', "main", 1)], &[run(1, 'a').start(at(5)).unwrap()], &working), Plan::default());
    }

    #[test]
    fn a_waiting_run_gives_way_to_a_newer_commit_and_waits_for_the_one_under_way() {
        let runs = [run(1, 'a').start(at(1)).unwrap(), run(2, 'b')];
        let commits = [commit('a', "main", 1), commit('b', "main", 2), commit('c', "main", 3)];
        let plan = decide(&commits, &runs, &["journal/1".parse().unwrap()]);
        let created = Run::new("journal/3".parse().unwrap(), "c".repeat(40).parse().unwrap(), at(100));
        let by = "run journal/3, which is of a newer commit".to_owned();
        assert_eq!(
            plan.actions,
            [Action::Create(Box::new(created.clone())), Action::Cancel { run: "journal/2".parse().unwrap(), by }]
        );
        assert_eq!(plan.waiting, [Waiting { run: created.id, for_run: "journal/1".parse().unwrap() }]);
    }

    #[test]
    fn what_an_earlier_server_left_is_taken_up_again() {
        let runs = [run(1, 'a').start(at(1)).unwrap(), run(2, 'b')];
        let plan = decide(&[], &runs, &[]);
        assert_eq!(plan.actions, [Action::Work("journal/1".parse().unwrap())]);
        let plan = decide(&[], &runs[..1], &[]);
        assert_eq!(plan.actions, [Action::Work("journal/1".parse().unwrap())]);
    }

    #[test]
    fn commits_of_one_instant_are_ordered_the_same_way_always() {
        let (a, b) = (commit('a', "main", 1), commit('b', "main", 1));
        assert_eq!(decide(&[a.clone(), b.clone()], &[], &[]), decide(&[b, a], &[], &[]));
    }
}
