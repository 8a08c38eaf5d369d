//! Everything that reads text or bytes from outside, under libFuzzer. `cargo xtask fuzz` builds it with coverage and runs each target;
//! `FUZZ_TARGET` names the one that this process is.
//!
//! No input may make a reader panic, hang, or eat memory; and what a reader prints again must be read as the same.

#![no_main]

mod targets;

use std::sync::OnceLock;

use targets::{TARGETS, Target};

libfuzzer_sys::fuzz_target!(
    init: {
        let name = std::env::var("FUZZ_TARGET").unwrap_or_default();
        let Some(target) = TARGETS.iter().find(|target| target.name == name) else {
            let names: Vec<&str> = TARGETS.iter().map(|target| target.name).collect();
            eprintln!("FUZZ_TARGET is {name:?}; it must be one of {}", names.join(", "));
            std::process::exit(2);
        };
        let _ = CHOSEN.set(target);
    },
    |input: &[u8]| {
        if let Some(target) = CHOSEN.get() {
            (target.run)(input);
        }
    }
);

static CHOSEN: OnceLock<&'static Target> = OnceLock::new();
