//! Detection: the first group of buildpacks that takes the application.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    Error, Result,
    api::Api,
    descriptor::{Descriptor, GroupEntry, Order},
    environment::Environment,
    files,
    plan::{BuildPlan, Member, Passed, Plan, resolve},
    runner::{Ground, Place, Program, Runner},
};

/// A buildpack that is at hand.
#[derive(Debug, Clone)]
pub struct Available {
    pub descriptor: Descriptor,
    /// Its directory.
    pub root: Place,
}

/// All buildpacks at hand.
#[derive(Debug, Clone, Default)]
pub struct Catalog {
    pub all: Vec<Available>,
}

impl Catalog {
    /// A buildpack of this version; the newest one where no version is asked for.
    pub fn find(&self, id: &str, version: &str) -> Option<&Available> {
        let mut of = self.all.iter().filter(|one| one.descriptor.id == id);
        if version.is_empty() {
            let number = |one: &&Available| -> Vec<u64> {
                one.descriptor.version.split('.').map(|part| part.parse().unwrap_or(0)).collect()
            };
            return of.max_by_key(number);
        }
        of.find(|one| one.descriptor.version == version)
    }
}

/// A flat group: buildpacks with programs, in order.
type Flat = Vec<GroupEntry>;

/// The most flat groups that an order may become, and how deep composites nest.
const MOST_GROUPS: usize = 4096;
const MOST_DEPTH: usize = 32;

/// Takes composite buildpacks apart: each group becomes all groups that it stands for, the first preferred. A buildpack that comes
/// twice counts once, at its first place.
pub fn flatten(order: &Order, catalog: &Catalog) -> Result<Vec<Flat>> {
    let mut flat = Vec::new();
    groups(order, &[], false, &[], catalog, 0, &mut flat)?;
    Ok(flat)
}

fn groups(
    order: &Order,
    next: &[GroupEntry],
    optional: bool,
    done: &[GroupEntry],
    catalog: &Catalog,
    depth: usize,
    flat: &mut Vec<Flat>,
) -> Result<()> {
    if depth > MOST_DEPTH {
        return Err(Error::Image(format!("buildpacks are nested deeper than {MOST_DEPTH}: one of them holds itself")));
    }
    let alternatives = order.iter().map(|group| group.group.iter().chain(next).cloned().collect::<Vec<_>>());
    let without = optional.then(|| next.to_vec());
    'group: for entries in alternatives.chain(without) {
        let mut so_far = done.to_vec();
        for (at, entry) in entries.iter().enumerate() {
            if so_far.iter().any(|known| known.id == entry.id) {
                continue;
            }
            if let Some(found) = catalog.find(&entry.id, &entry.version)
                && !found.descriptor.order.is_empty()
            {
                groups(&found.descriptor.order, &entries[at + 1..], entry.optional, &so_far, catalog, depth + 1, flat)?;
                continue 'group;
            }
            so_far.push(entry.clone());
        }
        if flat.len() >= MOST_GROUPS {
            return Err(Error::Image(format!("the order has more than {MOST_GROUPS} groups")));
        }
        flat.push(so_far);
    }
    Ok(())
}

/// What a `bin/detect` said.
#[derive(Debug, Clone)]
enum Said {
    Yes(BuildPlan),
    No,
    /// It failed, or it is not for this target.
    Failed(String),
}

/// The chosen group and its plan.
#[derive(Debug, Clone)]
pub struct Detected {
    pub group: Vec<Member>,
    pub plan: Plan,
}

/// Asks the groups in turn. The buildpacks of a group are asked at the same time, each once in all.
pub async fn detect(order: &Order, catalog: &Catalog, ground: &Ground, runner: &dyn Runner) -> Result<Detected> {
    let mut said: BTreeMap<(String, String), Said> = BTreeMap::new();
    let mut tried: Vec<String> = Vec::new();
    let mut failed = false;
    for flat in flatten(order, catalog)? {
        let mut group: Vec<(&GroupEntry, &Available)> = Vec::new();
        for entry in &flat {
            let Some(found) = catalog.find(&entry.id, &entry.version) else {
                return Err(Error::Image(format!(
                    "there is no buildpack {}@{}: the builder does not hold it, and none was given",
                    entry.id, entry.version
                )));
            };
            let both = [&entry.exec_env, &found.descriptor.exec_env];
            let new = found.descriptor.api >= Api::new(0, 12);
            let fits = |list: &&Vec<String>| {
                list.is_empty() || list.iter().any(|name| name == "*" || *name == ground.exec_env)
            };
            if !new || both.iter().all(fits) {
                group.push((entry, found));
            }
        }
        let mut begun = BTreeSet::new();
        let new = group.iter().filter(|(_, found)| {
            let key = (found.descriptor.id.clone(), found.descriptor.version.clone());
            !said.contains_key(&key) && begun.insert(key)
        });
        let asked: Vec<_> = new.map(|(entry, found)| ask(found, entry.optional, ground, runner)).collect();
        for (key, answer) in futures::future::try_join_all(asked).await? {
            if let Said::Failed(why) = &answer {
                tried.push(format!("{}@{} {why}", key.0, key.1));
            }
            said.insert(key, answer);
        }
        let mut passed = Vec::new();
        let (mut refused, mut error) = (Vec::new(), false);
        for (entry, found) in &group {
            let descriptor = &found.descriptor;
            let member = Member {
                id: descriptor.id.clone(),
                version: descriptor.version.clone(),
                api: descriptor.api,
                homepage: descriptor.homepage.clone(),
            };
            match said.get(&(descriptor.id.clone(), descriptor.version.clone())) {
                Some(Said::Yes(plan)) => passed.push(Passed { member, optional: entry.optional, plan: plan.clone() }),
                Some(Said::No) | None if entry.optional => {}
                Some(Said::No) | None => refused.push(format!("{} says no", member.shown())),
                Some(Said::Failed(_)) => {
                    error = true;
                    if !entry.optional {
                        refused.push(format!("{} failed", member.shown()));
                    }
                }
            }
        }
        failed |= error && !refused.is_empty();
        let names = group.iter().map(|(_, found)| found.descriptor.id.as_str()).collect::<Vec<_>>().join(" + ");
        if !refused.is_empty() {
            tried.push(format!("{names}: {}", refused.join(", ")));
            continue;
        }
        match resolve(&passed) {
            Ok((group, plan)) => return Ok(Detected { group, plan }),
            Err(why) => tried.push(format!("{names}: {why}")),
        }
    }
    Err(Error::Undetected { tried, failed })
}

type Answer = ((String, String), Said);

async fn ask(found: &Available, optional: bool, ground: &Ground, runner: &dyn Runner) -> Result<Answer> {
    let descriptor = &found.descriptor;
    let key = (descriptor.id.clone(), descriptor.version.clone());
    if !optional && !descriptor.targets.iter().any(|target| target.satisfies(&ground.target)) {
        return Ok((key, Said::Failed("is not made for this target".into())));
    }
    let directory = ground.plans.join(&format!("{}-{}", crate::escaped(&key.0), crate::escaped(&key.1)));
    files::shared_directory(&directory.host, ground.owner)?;
    let plan = directory.join("plan.toml");
    files::write(&plan.host, "")?;
    files::hand_over(&plan.host, ground.owner)?;
    let mut env = Environment::for_build(&ground.env);
    let mut vars = env.with_overrides(ground, !descriptor.clear_env)?;
    vars.insert("CNB_BUILDPACK_DIR".into(), found.root.inside.clone());
    if descriptor.api >= Api::new(0, 8) {
        vars.insert("CNB_PLATFORM_DIR".into(), ground.platform.inside.clone());
        vars.insert("CNB_BUILD_PLAN_PATH".into(), plan.inside.clone());
    }
    target_variables(descriptor.api, ground, &mut vars);
    let argv = vec![format!("{}/bin/detect", found.root.inside), ground.platform.inside.clone(), plan.inside.clone()];
    let program =
        Program { buildpack: descriptor.shown(), argv, directory: ground.app.inside.clone(), env: vars, shown: false };
    let ended = runner.run(program).await?;
    let answer = match ended.code {
        0 => {
            let text = files::text(&ground.plans.host, &plan.host)?.unwrap_or_default();
            match BuildPlan::parse(&format!("the plan of {}", descriptor.shown()), &text) {
                Ok(plan) => Said::Yes(plan),
                Err(error) => Said::Failed(format!("wrote a plan that cannot be read: {error}")),
            }
        }
        100 => Said::No,
        code => Said::Failed(format!("failed with exit code {code}{}", shown_end(&ended.output))),
    };
    Ok((key, answer))
}

fn shown_end(output: &str) -> String {
    let lines: Vec<&str> = output.lines().filter(|line| !line.trim().is_empty()).collect();
    lines[lines.len().saturating_sub(5)..].iter().map(|line| format!("\n    {line}")).collect()
}

/// What newer buildpacks are told.
pub(crate) fn target_variables(api: Api, ground: &Ground, vars: &mut BTreeMap<String, String>) {
    if api >= Api::new(0, 10) {
        vars.extend(ground.target.variables());
    }
    if api >= Api::new(0, 12) && !ground.exec_env.is_empty() {
        vars.insert("CNB_EXEC_ENV".into(), ground.exec_env.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::descriptor::parse_order;

    fn catalog(all: &[(&str, &str)]) -> Catalog {
        let one = |(id, order): &(&str, &str)| {
            let text = format!("api = \"0.10\"\n[buildpack]\nid = \"{id}\"\nversion = \"1.0.0\"\n{order}");
            Available {
                descriptor: Descriptor::parse(id, &text).unwrap(),
                root: Place::same(std::path::Path::new("/")),
            }
        };
        Catalog { all: all.iter().map(one).collect() }
    }

    fn order(groups: &[&[&str]]) -> String {
        let entry = |id: &str| {
            let (id, optional) = id.strip_suffix('?').map_or((id, false), |id| (id, true));
            format!("[[order.group]]\nid = \"{id}\"\nversion = \"1.0.0\"\noptional = {optional}\n")
        };
        groups.iter().map(|g| format!("[[order]]\n{}", g.iter().map(|id| entry(id)).collect::<String>())).collect()
    }

    fn shown(groups: &[&[&str]], catalog: &Catalog) -> Vec<String> {
        let flat = flatten(&parse_order("o", &order(groups)).unwrap(), catalog).unwrap();
        flat.iter()
            .map(|g| {
                g.iter().map(|e| format!("{}{}", e.id, if e.optional { "?" } else { "" })).collect::<Vec<_>>().join(" ")
            })
            .collect()
    }

    #[test]
    fn nested_orders_multiply_from_the_left() {
        let known = catalog(&[
            ("O", &order(&[&["A", "B"], &["C", "D"]])),
            ("P", &order(&[&["E", "F"], &["G", "H"]])),
            ("A", ""),
            ("B", ""),
            ("C", ""),
            ("D", ""),
            ("E", ""),
            ("F", ""),
            ("G", ""),
            ("H", ""),
        ]);
        // The matrices of the specification.
        assert_eq!(shown(&[&["E", "O", "F"]], &known), ["E A B F", "E C D F"]);
        assert_eq!(shown(&[&["O", "P"]], &known), ["A B E F", "A B G H", "C D E F", "C D G H"]);
        assert_eq!(shown(&[&["O?", "E"]], &known), ["A B E", "C D E", "E"]);
        assert_eq!(shown(&[&["A", "A", "O"]], &known), ["A B", "A C D"]);
    }

    #[test]
    fn a_composite_that_holds_itself_ends() {
        let known = catalog(&[("O", &order(&[&["O"]]))]);
        let error = flatten(&parse_order("o", &order(&[&["O"]])).unwrap(), &known).unwrap_err();
        assert!(error.to_string().contains("holds itself"), "{error}");
    }

    #[test]
    fn the_newest_version_is_taken_where_none_is_asked_for() {
        let mut known = catalog(&[("a", ""), ("a", "")]);
        known.all[0].descriptor.version = "1.10.0".into();
        known.all[1].descriptor.version = "1.9.0".into();
        assert_eq!(known.find("a", "").unwrap().descriptor.version, "1.10.0");
        assert!(known.find("a", "2").is_none());
    }
}
