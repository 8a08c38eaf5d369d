//! Layers: committed whole or not at all, shared, deep.

mod support;

use std::{
    fs,
    os::unix::fs::{FileTypeExt, MetadataExt, symlink},
};

use sandbox::{ContainerSpec, Error};
use support::{BASE, with};

#[tokio::test]
async fn a_commit_keeps_what_changed_and_only_that() {
    with(false, |f| async move {
        let s = f.sandbox.snapshots();
        let one = s.prepare("one", None).unwrap();
        fs::create_dir_all(one.path().join("dir/sub")).unwrap();
        fs::write(one.path().join("dir/kept"), "1").unwrap();
        fs::write(one.path().join("dir/gone"), "1").unwrap();
        fs::write(one.path().join("dir/sub/x"), "1").unwrap();
        fs::write(one.path().join("changed"), "1").unwrap();
        symlink("/etc/passwd", one.path().join("link")).unwrap();
        assert!(!s.has("one"));
        one.commit().unwrap();
        assert!(s.has("one"));

        let two = s.prepare("two", Some("one")).unwrap();
        assert_eq!(fs::read_to_string(two.path().join("dir/kept")).unwrap(), "1");
        fs::remove_file(two.path().join("dir/gone")).unwrap();
        fs::remove_dir_all(two.path().join("dir/sub")).unwrap();
        fs::create_dir(two.path().join("dir/sub")).unwrap();
        fs::write(two.path().join("dir/sub/y"), "2").unwrap();
        fs::write(two.path().join("changed"), "2").unwrap();
        fs::rename(two.path().join("dir/kept"), two.path().join("moved")).unwrap();
        two.commit().unwrap();

        let diff = s.diff("two").unwrap();
        assert!(fs::symlink_metadata(diff.join("dir/gone")).unwrap().file_type().is_char_device());
        assert_eq!(fs::symlink_metadata(diff.join("dir/gone")).unwrap().rdev(), 0);
        assert_eq!(xattr::get(diff.join("dir/sub"), "trusted.overlay.opaque").unwrap().as_deref(), Some(&b"y"[..]));
        assert!(!diff.join("link").exists() && fs::symlink_metadata(diff.join("link")).is_err());
        assert_eq!(fs::read_to_string(diff.join("moved")).unwrap(), "1");
        for (name, parent) in [("one", None), ("two", Some("one"))] {
            let found = s.list().into_iter().find(|l| l.key == name).unwrap();
            assert_eq!(found.parent.as_deref(), parent);
        }
        assert_eq!(s.chain("two").unwrap(), ["two", "one"]);

        let view = s.view("look", "two", false).unwrap();
        let names = |path: &str| {
            let mut names: Vec<String> = fs::read_dir(view.path().join(path))
                .unwrap()
                .map(|e| e.unwrap().file_name().into_string().unwrap())
                .collect();
            names.sort();
            names
        };
        assert_eq!(names(""), ["changed", "dir", "link", "moved"]);
        assert_eq!((names("dir"), names("dir/sub")), (vec!["sub".to_owned()], vec!["y".to_owned()]));
        assert_eq!(fs::read_to_string(view.path().join("changed")).unwrap(), "2");
        assert!(fs::write(view.path().join("changed"), "3").is_err(), "a view is read-only");
        let base = s.view("base", "one", false).unwrap();
        assert!(fs::write(base.path().join("changed"), "3").is_err(), "a view of one layer too");
        assert!(s.usage("two").unwrap() > 0);
    })
    .await;
}

#[tokio::test]
async fn what_is_not_committed_is_gone() {
    with(false, |f| async move {
        let s = f.sandbox.snapshots();
        let active = s.prepare("never", Some(BASE)).unwrap();
        let path = active.path().to_path_buf();
        fs::write(path.join("x"), "x").unwrap();
        drop(active);
        assert!(!path.join("x").exists() && !s.has("never"));
        let failed: Result<(), Error> = s.import("failed", None, |directory| {
            fs::write(directory.join("half"), "").unwrap();
            Err(Error::Invalid("the layer is damaged".into()))
        });
        assert!(failed.unwrap_err().to_string().contains("damaged"));
        assert!(!s.has("failed"));
        assert!(matches!(s.prepare("x", Some("missing")), Err(Error::NotFound { .. })));
        assert!(matches!(s.prepare(BASE, None), Err(Error::Exists { .. })));
        assert!(s.prepare("", None).is_err());
    })
    .await;
}

#[tokio::test]
async fn two_who_make_the_same_end_with_one() {
    with(false, |f| async move {
        let s = f.sandbox.snapshots();
        let (one, two) = (s.prepare("same", None).unwrap(), s.prepare("same", None).unwrap());
        fs::write(one.path().join("who"), "one").unwrap();
        fs::write(two.path().join("who"), "two").unwrap();
        two.commit().unwrap();
        one.commit().unwrap();
        assert_eq!(fs::read_to_string(s.diff("same").unwrap().join("who")).unwrap(), "two");
    })
    .await;
}

#[tokio::test]
async fn what_is_stood_upon_cannot_be_removed() {
    with(false, |f| async move {
        let s = f.sandbox.snapshots();
        s.prepare("one", None).unwrap().commit().unwrap();
        s.prepare("two", Some("one")).unwrap().commit().unwrap();
        let error = s.remove("one").unwrap_err();
        assert!(matches!(&error, Error::InUse { by, .. } if by.contains("two")), "{error}");
        let view = s.view("v", "two", true).unwrap();
        assert!(matches!(s.remove("two"), Err(Error::InUse { .. })));
        assert!(matches!(s.view("v", "two", true), Err(Error::Exists { .. })));
        drop(view);
        s.remove("two").unwrap();
        let active = s.prepare("three", Some("one")).unwrap();
        assert!(matches!(s.remove("one"), Err(Error::InUse { .. })));
        drop(active);
        s.remove("one").unwrap();
        assert!(matches!(s.remove("one"), Err(Error::NotFound { .. })));
        assert!(!s.has("one") && s.diff("one").is_err());
    })
    .await;
}

#[tokio::test]
async fn deep_chains_are_mounted() {
    with(false, |f| async move {
        let s = f.sandbox.snapshots();
        let mut parent: Option<String> = None;
        for n in 0..120 {
            // Keys as long as digests are, so that paths would not fit the old mount call.
            let key = format!("sha256:{n:064}");
            s.import::<Error>(&key, parent.as_deref(), |directory| {
                fs::write(directory.join(format!("f{n}")), n.to_string()).unwrap();
                fs::write(directory.join("last"), n.to_string()).unwrap();
                Ok(())
            })
            .unwrap();
            parent = Some(key);
        }
        let view = s.view("deep", parent.as_deref().unwrap(), true).unwrap();
        assert_eq!(fs::read_to_string(view.path().join("f0")).unwrap(), "0");
        assert_eq!(fs::read_to_string(view.path().join("last")).unwrap(), "119");
        assert_eq!(fs::read_dir(view.path()).unwrap().count(), 121);
        fs::write(view.path().join("new"), "").unwrap();
        assert_eq!(s.chain(parent.as_deref().unwrap()).unwrap().len(), 120);
    })
    .await;
}

#[tokio::test]
async fn a_step_runs_on_a_snapshot_and_leaves_one() {
    with(false, |f| async move {
        let s = f.sandbox.snapshots();
        let active = s.prepare("step", Some(BASE)).unwrap();
        let said =
            f.run(ContainerSpec::new("step", active.path(), ["sh", "-c", "echo made > /made; rm /etc/group"])).await;
        assert!(said.exit.success(), "{said:?}");
        active.commit().unwrap();
        let diff = s.diff("step").unwrap();
        let mut names: Vec<String> = walkdir::WalkDir::new(&diff)
            .min_depth(1)
            .into_iter()
            .map(|e| e.unwrap().path().strip_prefix(&diff).unwrap().display().to_string())
            .collect();
        names.sort();
        assert_eq!(names, ["etc", "etc/group", "made"], "nothing of the runtime is in the layer");
    })
    .await;
}

#[tokio::test]
async fn views_are_thrown_away_unless_kept() {
    with(false, |f| async move {
        let s = f.sandbox.snapshots();
        let mut view = s.view("mine", BASE, true).unwrap();
        fs::write(view.path().join("x"), "x").unwrap();
        view.keep();
        drop(view);
        let view = s.adopt("mine").unwrap();
        assert_eq!((view.key(), fs::read_to_string(view.path().join("x")).unwrap()), (BASE, "x".into()));
        assert_eq!(fs::read_to_string(view.upper().join("x")).unwrap(), "x");
        drop(view);
        assert!(s.adopt("mine").is_none());
        assert!(s.view("../x", BASE, true).is_err());
    })
    .await;
}
