//! Checks that each module of the core and of the binding imports only from its own floor or a lower
//! one, and that no imports form a circle. A room is a top-level module; a floor is a layer of rooms.

mod floors_support;

use std::path::Path;

use floors_support::{Sources, between_rooms, circle, imports, read_sources, upward_imports};

/// The rooms of the core, from the top floor to the bottom.
const CORE: &[&[&str]] = &[
    &["relay", "copy", "send_file", "bench"],
    &["file", "direction"],
    &["engine"],
    &["limits", "pipe"],
    &["fd"],
    &["fault", "traffic", "error", "options", "threads"],
];

/// The rooms of the binding, from the top floor to the bottom.
const BINDING: &[&[&str]] = &[
    &["dispatcher"],
    &["connect", "files", "running"],
    &["convert", "sockets"],
    &[
        "delivery",
        "loopback",
        "native_end",
        "native_rate_limiter",
        "stats",
    ],
    &["streams"],
    &["log", "numbers", "outcome", "registry", "runtime"],
];

fn sources_of(name: &str) -> Sources {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let sources = read_sources(&crates.join(name).join("src"));
    assert!(sources.len() > 10, "{name} has {} files", sources.len());
    sources
}

#[track_caller]
fn check(sources: &Sources, floors: &[&[&str]]) {
    let imports = imports(sources);
    assert_eq!(upward_imports(&imports, floors), Vec::<String>::new());
    assert_eq!(circle(&between_rooms(&imports)), None);
    assert_eq!(circle(&imports), None);
}

#[test]
fn modules_of_the_core_import_only_from_their_floor_and_below() {
    check(&sources_of("fdsplice"), CORE);
}

#[test]
fn modules_of_the_binding_import_only_from_their_floor_and_below() {
    check(&sources_of("fdsplice-node"), BINDING);
}

/// A small crate without any violation, whose files can be replaced.
fn planted(replaced: &[(&str, &str)]) -> Sources {
    let files = [
        (
            "",
            "pub mod verbs; mod low; mod floor; pub use low::{Low, deep::Deep};",
        ),
        (
            "verbs",
            "use crate::{low::Low, floor};\nfn f() { crate::low::deep::g() }",
        ),
        (
            "low",
            "mod deep; pub(crate) use deep::Deep; pub struct Low;",
        ),
        ("low::deep", "use crate::floor::base; pub struct Deep;"),
        ("floor", "pub mod base;"),
        ("floor::base", "// crate::verbs is above\npub fn h() {}"),
    ];
    let files = files.iter().chain(replaced);
    files
        .map(|(module, text)| ((*module).to_owned(), (*text).to_owned()))
        .collect()
}

const PLANTED: &[&[&str]] = &[&["verbs"], &["low"], &["floor"]];

#[test]
fn the_check_accepts_downward_imports() {
    check(&planted(&[]), PLANTED);
    let imports = imports(&planted(&[]));
    let of_verbs: Vec<_> = imports["verbs"].iter().map(String::as_str).collect();
    assert_eq!(of_verbs, ["floor", "low", "low::deep"]);
}

#[test]
fn the_check_reports_an_upward_import() {
    for text in [
        "use crate::verbs;",
        "use crate::verbs::run as start;",
        "use crate::{floor::base, verbs::{self, run}};",
        "fn f(limit: crate::low::Low) {}",
        "use crate::Deep;",
        "use super::super::verbs;",
        "use crate::unknown;",
    ] {
        let imports = imports(&planted(&[("floor::base", text)]));
        assert!(!upward_imports(&imports, PLANTED).is_empty(), "{text}");
    }
}

#[test]
fn the_check_resolves_a_name_to_the_module_that_defines_it() {
    let imports = imports(&planted(&[("floor::base", "use crate::low::Deep;")]));
    let imported: Vec<_> = imports["floor::base"].iter().map(String::as_str).collect();
    assert_eq!(imported, ["low::deep"]);
}

#[test]
fn the_check_ignores_the_body_of_a_macro() {
    let text = "macro_rules! m { () => { crate::verbs::run() }; } pub fn h() {}";
    check(&planted(&[("floor::base", text)]), PLANTED);
}

#[test]
fn the_check_reports_a_room_without_a_floor() {
    let imports = imports(&planted(&[("attic", "pub fn h() {}")]));
    assert_eq!(
        upward_imports(&imports, PLANTED),
        ["attic is on no floor".to_owned()]
    );
}

#[test]
fn the_check_reports_a_circle_of_rooms() {
    let circular = planted(&[("floor::base", "use crate::low::deep::Deep;")]);
    let circle = circle(&between_rooms(&imports(&circular)));
    assert_eq!(
        circle,
        Some(["floor", "low", "floor"].map(str::to_owned).into())
    );
}

#[test]
fn the_check_reports_a_circle_of_files_in_one_room() {
    let circular = planted(&[
        ("low", "mod deep; use deep::Deep; pub struct Low;"),
        ("low::deep", "use crate::low::Low; pub struct Deep;"),
    ]);
    let imports = imports(&circular);
    assert_eq!(circle(&between_rooms(&imports)), None);
    assert_eq!(
        circle(&imports),
        Some(["low", "low::deep", "low"].map(str::to_owned).into())
    );
}
