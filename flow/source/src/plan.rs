//! Which commits are to be written down. Pure.

use std::collections::BTreeMap;

use records::{Commit, CommitId, Name, Timestamp};

use crate::CommitInfo;

/// A branch and the commit at its tip.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Branch {
    /// Without `refs/heads/`.
    pub name: String,
    pub commit: CommitInfo,
}

/// The commits to write for a project: the tip of each branch, unless it is `known` already (id → the branch that it is known
/// on). A commit belongs to one branch; to the default branch, as soon as it is the tip of that.
pub fn plan(
    project: &Name,
    default_branch: &str,
    branches: &[Branch],
    known: &BTreeMap<CommitId, String>,
    now: Timestamp,
) -> Vec<Commit> {
    let mut tips: BTreeMap<&CommitId, &Branch> = BTreeMap::new();
    for branch in branches {
        let tip = tips.entry(&branch.commit.id).or_insert(branch);
        if branch.name == default_branch {
            *tip = branch;
        }
    }
    let is_new = |branch: &&Branch| match known.get(&branch.commit.id) {
        None => true,
        Some(on) => branch.name == default_branch && on != default_branch,
    };
    let commit = |branch: &Branch| {
        let CommitInfo { id, parent, author, subject, committed_at } = branch.commit.clone();
        let branch = branch.name.clone();
        Commit { project: project.clone(), id, branch, parent, author, subject, committed_at, received_at: now }
    };
    tips.into_values().filter(is_new).map(commit).collect()
}

#[cfg(test)]
mod tests {
    use records::Person;

    use super::*;

    fn branch(name: &str, id: char) -> Branch {
        let author = Person { name: "Ada".into(), email: "ada@example.org".into() };
        let id = id.to_string().repeat(40).parse().unwrap();
        let commit = CommitInfo { id, parent: None, author, subject: "x".into(), committed_at: Timestamp::UNIX_EPOCH };
        Branch { name: name.into(), commit }
    }

    fn planned(branches: &[Branch], known: &[(char, &str)]) -> Vec<(char, String)> {
        let known = known.iter().map(|(id, on)| (id.to_string().repeat(40).parse().unwrap(), (*on).to_owned()));
        let now = Timestamp::from_second(7).unwrap();
        let commits = plan(&"journal".parse().unwrap(), "main", branches, &known.collect(), now);
        assert!(commits.iter().all(|commit| commit.received_at == now));
        commits.into_iter().map(|commit| (commit.id.as_str().chars().next().unwrap(), commit.branch)).collect()
    }

    #[test]
    fn every_new_tip_once() {
        let branches = [branch("a", '1'), branch("b", '2'), branch("main", '3')];
        assert_eq!(planned(&branches, &[('2', "b")]), [('1', "a".into()), ('3', "main".into())]);
        assert_eq!(planned(&branches, &[('1', "x"), ('2', "b"), ('3', "main")]), []);
        assert_eq!(planned(&[], &[]), []);
    }

    #[test]
    fn a_shared_tip_belongs_to_the_default_branch() {
        for branches in [[branch("z", '1'), branch("main", '1')], [branch("main", '1'), branch("z", '1')]] {
            assert_eq!(planned(&branches, &[]), [('1', "main".into())]);
        }
        assert_eq!(planned(&[branch("a", '1'), branch("b", '1')], &[]), [('1', "a".into())]);
    }

    #[test]
    fn a_merged_branch_makes_its_commit_the_default_branchs() {
        let branches = [branch("feature", '1'), branch("main", '1')];
        assert_eq!(planned(&branches, &[('1', "feature")]), [('1', "main".into())]);
        assert_eq!(planned(&branches, &[('1', "main")]), []);
        assert_eq!(planned(&branches[..1], &[('1', "main")]), [], "and it stays so");
    }
}
