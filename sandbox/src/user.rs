//! `user[:group]` as images and Kubernetes give it, looked up in a root file system's own `/etc/passwd` and `/etc/group`.

/// Numbers, and where the user is at home.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct User {
    pub uid: u32,
    pub gid: u32,
    pub groups: Vec<u32>,
    pub home: String,
}

struct Account<'a> {
    name: &'a str,
    uid: u32,
    gid: u32,
    home: &'a str,
}

fn accounts(passwd: &str) -> impl Iterator<Item = Account<'_>> {
    passwd.lines().filter_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        let uid = fields.nth(1)?.parse().ok()?;
        let gid = fields.next()?.parse().ok()?;
        Some(Account { name, uid, gid, home: fields.nth(1).unwrap_or("") })
    })
}

/// Name, number, members.
fn groups(group: &str) -> impl Iterator<Item = (&str, u32, std::str::Split<'_, char>)> {
    group.lines().filter_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        let gid = fields.nth(1)?.parse().ok()?;
        Some((name, gid, fields.next().unwrap_or("").split(',')))
    })
}

/// Missing files are given as empty text. Numbers need no entry; a name without one is an error that names it.
pub(crate) fn resolve(user: &str, more: &[u32], passwd: &str, group: &str) -> Result<User, String> {
    let (who, whose) = match user.split_once(':') {
        Some((who, whose)) => (who, (!whose.is_empty()).then_some(whose)),
        None => (user, None),
    };
    let who = if who.is_empty() { "0" } else { who };
    let number: Option<u32> = who.parse().ok();
    // A name wins over a number, as in `chown`.
    let account = accounts(passwd).find(|a| a.name == who).or_else(|| accounts(passwd).find(|a| Some(a.uid) == number));
    let uid = match (&account, number) {
        (Some(account), _) => account.uid,
        (None, Some(number)) => number,
        (None, None) => {
            return Err(format!(
                "there is no user `{who}` in the image's /etc/passwd; name one that is there, or give a number"
            ));
        }
    };
    let gid = match whose {
        Some(whose) => {
            match groups(group).find(|(name, ..)| *name == whose).map(|(_, gid, _)| gid).or(whose.parse().ok()) {
                Some(gid) => gid,
                None => {
                    return Err(format!(
                        "there is no group `{whose}` in the image's /etc/group; name one that is there, or give a number"
                    ));
                }
            }
        }
        None => account.as_ref().map_or(0, |a| a.gid),
    };
    let mut all: Vec<u32> = more.to_vec();
    // With an explicit group a user has that group alone, as in Docker.
    if let (Some(account), None) = (&account, whose) {
        all.extend(
            groups(group).filter(|(_, _, members)| members.clone().any(|m| m == account.name)).map(|(_, gid, _)| gid),
        );
    }
    all.sort_unstable();
    all.dedup();
    all.truncate(65_536);
    let home =
        account.map(|a| a.home).filter(|home| home.starts_with('/')).unwrap_or(if uid == 0 { "/root" } else { "/" });
    Ok(User { uid, gid, groups: all, home: home.into() })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str =
        "root:x:0:0:root:/root:/bin/sh\nnode:x:1000:1001::/home/node:/bin/sh\nbroken\n7:x:77:78::/seven:\n";
    const GROUP: &str = "root:x:0:\nnode:x:1001:\nwheel:x:10:root,node\naudio:x:29:node\n";

    fn user(text: &str) -> Result<(u32, u32, Vec<u32>, String), String> {
        resolve(text, &[], PASSWD, GROUP).map(|u| (u.uid, u.gid, u.groups, u.home))
    }

    #[test]
    fn names_and_numbers_are_looked_up() {
        assert_eq!(user(""), Ok((0, 0, vec![10], "/root".into())));
        assert_eq!(user("node"), Ok((1000, 1001, vec![10, 29], "/home/node".into())));
        assert_eq!(user("1000"), Ok((1000, 1001, vec![10, 29], "/home/node".into())));
        assert_eq!(user("node:audio"), Ok((1000, 29, vec![], "/home/node".into())));
        assert_eq!(user("node:5"), Ok((1000, 5, vec![], "/home/node".into())));
        assert_eq!(user("4242"), Ok((4242, 0, vec![], "/".into())));
        assert_eq!(user("7"), Ok((77, 78, vec![], "/seven".into())));
        assert_eq!(user("node:"), user("node"));
        assert_eq!(user(":audio"), Ok((0, 29, vec![], "/root".into())));
    }

    #[test]
    fn unknown_names_are_named() {
        assert!(user("nobody").unwrap_err().contains("`nobody`"));
        assert!(user("node:nobody").unwrap_err().contains("group `nobody`"));
        assert!(user("-1").is_err());
    }

    #[test]
    fn an_image_without_accounts_still_has_numbers_and_root() {
        assert_eq!(
            resolve("", &[7, 7], "", "").unwrap(),
            User { uid: 0, gid: 0, groups: vec![7], home: "/root".into() }
        );
    }
}
