//! What a registry is sent: layers, manifests, names.

use std::path::Path;

use image::{
    Reference,
    layer::{ApplyOptions, apply},
    registry::Document,
};

use super::text;

/// A layer is unpacked beneath a directory of its own; whatever it says, nothing appears beside it.
pub fn layer(input: &[u8]) {
    let Ok(room) = tempfile::tempdir_in(memory()) else { return };
    let target = room.path().join("target");
    if std::fs::create_dir(&target).is_err() {
        return;
    }
    let options = ApplyOptions {
        max_entries: 1_000,
        max_bytes: 1 << 20,
        devices: false,
        owners: false,
        ..ApplyOptions::default()
    };
    let _ = apply(input, &target, &options);
    let beside = std::fs::read_dir(room.path()).map(Iterator::count).unwrap_or(1);
    assert_eq!(beside, 1, "something was made outside of the layer's directory");
}

/// Where a file costs no disk.
fn memory() -> &'static Path {
    let shm = Path::new("/dev/shm");
    if shm.is_dir() { shm } else { Path::new("/tmp") }
}

/// A manifest is taken under a media type that is known, or refused.
pub fn manifest(input: &[u8]) {
    if let Ok((_, media_type)) = Document::parse("", input) {
        assert!(image::media::shape(&media_type).is_some());
    }
}

/// A name prints as one that means the same.
pub fn reference(input: &[u8]) {
    let text = text(input);
    if let Ok(reference) = text.parse::<Reference>() {
        let printed = reference.to_string();
        let again: Reference = match printed.parse() {
            Ok(again) => again,
            Err(error) => panic!("{text:?} prints as {printed:?}, which is refused: {error}"),
        };
        assert!(again == reference, "{text:?} prints as {printed:?}, which means something else");
    }
}
