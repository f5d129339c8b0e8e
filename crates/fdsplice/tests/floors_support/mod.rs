//! Reads which modules of a crate import which, from the text of its sources, and finds imports that
//! go up a floor or around a circle.
//!
//! A module is identified by its path without `crate`, as `fd::endpoint`; the root is the empty
//! path. A room is a module at the top level, with its submodules.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// The imports of each module.
pub(crate) type Imports = BTreeMap<String, BTreeSet<String>>;

/// The text of every source file, by module.
pub(crate) type Sources = BTreeMap<String, String>;

/// Reads the sources below a folder `src`.
pub(crate) fn read_sources(src: &Path) -> Sources {
    fn visit(folder: &Path, parent: &str, sources: &mut Sources) {
        for entry in fs::read_dir(folder).expect("a folder of sources") {
            let path = entry.expect("an entry").path();
            let stem = path.file_stem().and_then(|stem| stem.to_str());
            let stem = stem.expect("a name in UTF-8");
            if path.is_dir() {
                visit(&path, &join(parent, stem), sources);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let module = match stem {
                    "lib" | "mod" => parent.to_owned(),
                    _ => join(parent, stem),
                };
                sources.insert(module, fs::read_to_string(&path).expect("a source"));
            }
        }
    }
    let mut sources = Sources::new();
    visit(src, "", &mut sources);
    sources
}

/// Finds the imports between modules. A name that a module re-exports from a submodule counts as an
/// import of that submodule.
pub(crate) fn imports(sources: &Sources) -> Imports {
    let modules: BTreeMap<&str, Module> = sources
        .iter()
        .map(|(name, text)| (name.as_str(), Module::parse(name, text)))
        .collect();
    let resolve = |path: &[String]| {
        let mut module = String::new();
        let mut rest: Vec<&str> = path.iter().map(String::as_str).collect();
        while let Some(first) = rest.first().copied() {
            let below = join(&module, first);
            if modules.contains_key(below.as_str()) {
                module = below;
                rest.remove(0);
                continue;
            }
            let exports = modules.get(module.as_str()).map(|module| &module.exports);
            let Some(origin) = exports.and_then(|exports| exports.get(first)) else {
                break;
            };
            module.clear();
            rest = origin.iter().map(String::as_str).collect();
        }
        module
    };
    modules
        .iter()
        .map(|(name, module)| {
            let mut imported: BTreeSet<String> =
                module.paths.iter().map(|path| resolve(path)).collect();
            imported.remove(*name);
            ((*name).to_owned(), imported)
        })
        .collect()
}

/// Describes every import from a floor above that of the importing room, and every room without a
/// floor. `floors` begins with the top floor.
pub(crate) fn upward_imports(imports: &Imports, floors: &[&[&str]]) -> Vec<String> {
    let floor = |room: &str| floors.iter().position(|rooms| rooms.contains(&room));
    let mut problems = Vec::new();
    for (module, imported) in imports {
        let Some(own) = room(module) else { continue };
        let Some(own_floor) = floor(own) else {
            problems.push(format!("{own} is on no floor"));
            continue;
        };
        for other in imported {
            let is_above = room(other)
                .and_then(floor)
                .is_none_or(|other_floor| other_floor < own_floor);
            if is_above {
                let other = if other.is_empty() { "the root" } else { other };
                problems.push(format!("{module} imports from {other}, which is above it"));
            }
        }
    }
    problems
}

/// The imports between rooms.
pub(crate) fn between_rooms(imports: &Imports) -> Imports {
    let mut rooms = Imports::new();
    for (module, imported) in imports {
        let Some(own) = room(module) else { continue };
        let others = imported.iter().filter_map(|other| room(other));
        rooms
            .entry(own.to_owned())
            .or_default()
            .extend(others.filter(|other| *other != own).map(str::to_owned));
    }
    rooms
}

/// One circle of imports, if there is any.
pub(crate) fn circle(imports: &Imports) -> Option<Vec<String>> {
    fn visit(
        module: &str,
        imports: &Imports,
        path: &mut Vec<String>,
        done: &mut BTreeSet<String>,
    ) -> bool {
        if let Some(start) = path.iter().position(|visited| visited == module) {
            path.drain(..start);
            path.push(module.to_owned());
            return true;
        }
        if done.contains(module) {
            return false;
        }
        path.push(module.to_owned());
        for other in imports.get(module).into_iter().flatten() {
            if visit(other, imports, path, done) {
                return true;
            }
        }
        path.pop();
        done.insert(module.to_owned());
        false
    }
    let mut done = BTreeSet::new();
    imports.keys().find_map(|module| {
        let mut path = Vec::new();
        visit(module, imports, &mut path, &mut done).then_some(path)
    })
}

fn room(module: &str) -> Option<&str> {
    module.split("::").next().filter(|room| !room.is_empty())
}

fn join(parent: &str, name: &str) -> String {
    if parent.is_empty() {
        name.to_owned()
    } else {
        format!("{parent}::{name}")
    }
}

/// The paths to other modules in one source file. All of them start at the root of the crate.
#[derive(Default)]
struct Module {
    paths: Vec<Vec<String>>,
    /// Names that the file re-exports from its submodules, and where they come from.
    exports: BTreeMap<String, Vec<String>>,
}

impl Module {
    fn parse(name: &str, text: &str) -> Self {
        let tokens = without_macros(tokens(text));
        let own: Vec<String> = name.split("::").map(str::to_owned).collect();
        let own = if name.is_empty() { Vec::new() } else { own };
        let is = |at: usize, token: &str| tokens.get(at).is_some_and(|other| other == token);
        let submodules: BTreeSet<&String> = (0..tokens.len())
            .filter(|at| is(*at, "mod") && is(at + 2, ";"))
            .map(|at| &tokens[at + 1])
            .collect();
        let mut module = Self::default();
        let mut is_export = false;
        let mut depth = 0;
        // The modules written inside this file, each with the depth of its braces.
        let mut inline: Vec<(String, usize)> = Vec::new();
        let mut at = 0;
        while at < tokens.len() {
            match tokens[at].as_str() {
                "use" => is_export = at > 0 && (is(at - 1, "pub") || is(at - 1, ")")),
                ";" => is_export = false,
                "mod" if is(at + 2, "{") => inline.push((tokens[at + 1].clone(), depth)),
                "{" => depth += 1,
                "}" => {
                    depth -= 1;
                    inline.pop_if(|(_, outside)| *outside == depth);
                }
                _ => {}
            }
            let is_start = is(at + 1, "::") && (at == 0 || !is(at - 1, "::"));
            let base = match tokens[at].as_str() {
                _ if !is_start => None,
                "crate" => Some((Vec::new(), at + 2)),
                "self" => Some((own.clone(), at + 2)),
                "super" => {
                    let mut base = own.clone();
                    base.extend(inline.iter().map(|(name, _)| name.clone()));
                    let mut from = at;
                    while is(from, "super") && is(from + 1, "::") {
                        base.pop();
                        from += 2;
                    }
                    Some((base, from))
                }
                first if submodules.contains(&first.to_owned()) => Some((own.clone(), at)),
                _ => None,
            };
            let Some((base, from)) = base else {
                at += 1;
                continue;
            };
            let mut leaves = Vec::new();
            at = tree(&tokens, from, &base, &mut leaves).max(at + 1);
            for leaf in leaves {
                if is_export && let Some(name) = leaf.last() {
                    module.exports.insert(name.clone(), leaf);
                } else {
                    module.paths.push(leaf);
                }
            }
        }
        module
    }
}

/// Collects the paths of a `use` tree or of a path in an expression. Returns where it ends.
fn tree(tokens: &[String], mut at: usize, base: &[String], leaves: &mut Vec<Vec<String>>) -> usize {
    let is_name = |token: &String| token.starts_with(|c: char| c.is_alphabetic() || c == '_');
    let is = |at: usize, token: &str| tokens.get(at).is_some_and(|other| other == token);
    let mut path = base.to_vec();
    loop {
        if is(at, "{") {
            at += 1;
            while at < tokens.len() && !is(at, "}") {
                at = if is(at, ",") {
                    at + 1
                } else {
                    tree(tokens, at, &path, leaves).max(at + 1)
                };
            }
            return at + 1;
        }
        match tokens.get(at) {
            Some(name) if name == "self" => at += 1,
            Some(name) if is_name(name) => {
                path.push(name.clone());
                at += 1;
            }
            _ => {}
        }
        if !is(at, "::") {
            leaves.push(path);
            // `use a::b as c` has two more tokens.
            return if is(at, "as") { at + 2 } else { at };
        }
        at += 1;
    }
}

/// Splits a source into names, `::` and single characters, without comments.
fn tokens(text: &str) -> Vec<String> {
    let mut tokens: Vec<String> = Vec::new();
    for line in text.lines() {
        let code = line.split("//").next().unwrap_or_default();
        let mut rest = code.trim_start();
        while let Some(first) = rest.chars().next() {
            let is_part = |c: char| c.is_alphanumeric() || c == '_';
            let length = if rest.starts_with("::") {
                2
            } else if is_part(first) {
                rest.find(|c| !is_part(c)).unwrap_or(rest.len())
            } else {
                first.len_utf8()
            };
            tokens.push(rest[..length].to_owned());
            rest = rest[length..].trim_start();
        }
    }
    tokens
}

/// Removes the bodies of `macro_rules!`. Their paths belong to the files that expand the macro.
fn without_macros(tokens: Vec<String>) -> Vec<String> {
    let mut kept = Vec::new();
    let mut tokens = tokens.into_iter();
    while let Some(token) = tokens.next() {
        if token != "macro_rules" {
            kept.push(token);
            continue;
        }
        let mut depth = 0;
        for token in tokens.by_ref() {
            match token.as_str() {
                "{" => depth += 1,
                "}" if depth == 1 => break,
                "}" => depth -= 1,
                _ => {}
            }
        }
    }
    kept
}
