//! The rooms of `src/lib.rs` and who may import whom: the table there is held against the sources, and within a room no two
//! files import each other.
//!
//! What counts are paths in code (`use` lines and paths that are written out); tests within the sources and documentation
//! do not. A folder's `mod.rs` is its door: it names its files and they may name it, so it is left out of circles.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a test may panic")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use syn::visit::Visit;

/// A module's path below the crate: `["triggers", "s3", "poll"]`.
type Module = Vec<String>;

fn src() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

/// Every module that is a file, with its file.
fn modules(dir: &Path, at: &Module, found: &mut BTreeMap<Module, PathBuf>) {
    for entry in dir.read_dir().expect("a folder of the sources") {
        let path = entry.expect("an entry").path();
        let name = path.file_stem().and_then(|name| name.to_str()).expect("a name").to_owned();
        let inner: Module = at.iter().cloned().chain([name.clone()]).collect();
        if path.is_dir() {
            modules(&path, &inner, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let module = if name == "mod" || name == "lib" { at.clone() } else { inner };
            found.insert(module, path);
        }
    }
}

/// True under `#[cfg(test)]`.
fn is_test(attributes: &[syn::Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        attribute.path().is_ident("cfg") && attribute.parse_args::<syn::Path>().is_ok_and(|path| path.is_ident("test"))
    })
}

/// Collects the paths that a file names, absolute below the crate.
struct Paths<'m> {
    module: &'m Module,
    /// Modules within the file, from its outermost to the one being read.
    inline: Vec<String>,
    found: BTreeSet<Module>,
}

impl Paths<'_> {
    /// `segments` as they are written, resolved if they begin at the crate, here or above.
    fn add(&mut self, segments: &[String]) {
        let mut base: Vec<String> = self.module.iter().chain(&self.inline).cloned().collect();
        let mut rest = segments;
        match rest.first().map(String::as_str) {
            Some("crate") => {
                base.clear();
                rest = &rest[1..];
            }
            Some("self") => rest = &rest[1..],
            Some("super") => {
                while rest.first().is_some_and(|segment| segment == "super") {
                    base.pop();
                    rest = &rest[1..];
                }
            }
            _ => {}
        }
        base.extend(rest.iter().cloned());
        self.found.insert(base);
    }

    fn add_tree(&mut self, tree: &syn::UseTree, before: &[String]) {
        let with = |name: &syn::Ident| before.iter().cloned().chain([name.to_string()]).collect::<Vec<_>>();
        match tree {
            syn::UseTree::Path(path) => self.add_tree(&path.tree, &with(&path.ident)),
            syn::UseTree::Name(name) => self.add(&with(&name.ident)),
            syn::UseTree::Rename(rename) => self.add(&with(&rename.ident)),
            syn::UseTree::Glob(_) => self.add(before),
            syn::UseTree::Group(group) => group.items.iter().for_each(|item| self.add_tree(item, before)),
        }
    }
}

impl<'a> Visit<'a> for Paths<'_> {
    fn visit_item_mod(&mut self, module: &'a syn::ItemMod) {
        if !is_test(&module.attrs) {
            self.inline.push(module.ident.to_string());
            syn::visit::visit_item_mod(self, module);
            self.inline.pop();
        }
    }

    fn visit_item_use(&mut self, item: &'a syn::ItemUse) {
        if !is_test(&item.attrs) {
            self.add_tree(&item.tree, &[]);
        }
    }

    fn visit_item_fn(&mut self, item: &'a syn::ItemFn) {
        if !is_test(&item.attrs) {
            syn::visit::visit_item_fn(self, item);
        }
    }

    fn visit_path(&mut self, path: &'a syn::Path) {
        let segments: Vec<String> = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
        self.add(&segments);
        syn::visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, item: &'a syn::Macro) {
        // Most macros hold expressions; what does not parse as such holds no path of ours that is not imported by a `use`.
        let arguments = syn::punctuated::Punctuated::<syn::Expr, syn::Token![,]>::parse_terminated;
        if let Ok(list) = item.parse_body_with(arguments) {
            list.iter().for_each(|expression| self.visit_expr(expression));
        }
        syn::visit::visit_macro(self, item);
    }
}

/// Of each module that is a file, the modules that it names: the longest part of each path that is a file.
fn imports() -> BTreeMap<Module, BTreeSet<Module>> {
    let mut files = BTreeMap::new();
    modules(&src(), &Vec::new(), &mut files);
    let is_test_file = |module: &Module| module.iter().any(|part| part == "tests");
    files.retain(|module, _| !is_test_file(module));
    let read = |(module, path): (&Module, &PathBuf)| {
        let text = std::fs::read_to_string(path).expect("a source");
        let file = syn::parse_file(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        if is_test(&file.attrs) {
            return (module.clone(), BTreeSet::new());
        }
        let mut paths = Paths { module, inline: Vec::new(), found: BTreeSet::new() };
        paths.visit_file(&file);
        let longest =
            |path: &Module| (1..=path.len()).rev().map(|len| path[..len].to_vec()).find(|part| files.contains_key(part));
        let named = paths.found.iter().filter_map(longest).filter(|named| named != module).collect();
        (module.clone(), named)
    };
    files.iter().map(read).collect()
}

/// The table of `src/lib.rs`: of each room the rooms that it may import.
fn table() -> BTreeMap<String, BTreeSet<String>> {
    let text = std::fs::read_to_string(src().join("lib.rs")).expect("src/lib.rs");
    let quoted = |cell: &str| cell.split('`').skip(1).step_by(2).map(str::to_owned).collect::<Vec<_>>();
    let rows: Vec<(String, String)> = text
        .lines()
        .filter_map(|line| {
            let cells: Vec<&str> = line.strip_prefix("//! |")?.split('|').map(str::trim).collect();
            let room = quoted(cells[0]).pop()?;
            Some((room, cells.get(3).map(|cell| (*cell).to_owned())?))
        })
        .collect();
    let rooms: BTreeSet<String> = rows.iter().map(|(room, _)| room.clone()).collect();
    let allowed = |room: &String, cell: &String| match cell.strip_prefix("every room") {
        Some(but) => {
            let not = quoted(but);
            rooms.iter().filter(|other| *other != room && !not.contains(other)).cloned().collect()
        }
        None => quoted(cell).into_iter().collect::<BTreeSet<String>>(),
    };
    rows.iter().map(|(room, cell)| (room.clone(), allowed(room, cell))).collect()
}

#[test]
fn every_room_imports_only_what_the_table_of_lib_rs_allows() {
    let table = table();
    let mut wrong = Vec::new();
    let mut seen: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    let imports = imports();
    for (module, named) in &imports {
        let Some(room) = module.first().filter(|room| *room != "main") else { continue };
        let Some(allowed) = table.get(room) else {
            wrong.push(format!("{room} is not in the table"));
            continue;
        };
        for other in named.iter().filter_map(|named| named.first()).filter(|other| *other != room) {
            seen.entry(room).or_default().insert(other.clone());
            if !allowed.contains(other) {
                wrong.push(format!("{} imports {other}", module.join("::")));
            }
        }
    }
    for (room, allowed) in table.iter().filter(|(room, _)| !["cli", "reactor"].contains(&room.as_str())) {
        let none = BTreeSet::new();
        let seen = seen.get(room.as_str()).unwrap_or(&none);
        wrong.extend(allowed.difference(seen).map(|other| format!("{room} may import {other} and does not: strike it")));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_table_has_no_circle() {
    let table = table();
    let edges = table.iter().map(|(room, allowed)| (room.clone(), allowed.clone())).collect();
    assert_eq!(circle(&edges), None);
}

#[test]
fn no_files_of_a_room_import_each_other() {
    let imports = imports();
    let mut folders: BTreeMap<Module, BTreeMap<String, BTreeSet<String>>> = BTreeMap::new();
    for (module, named) in &imports {
        for named in named {
            // Where the two part: a file or folder beside another one.
            let common = module.iter().zip(named).take_while(|(one, other)| one == other).count();
            if let (Some(one), Some(other), true) = (module.get(common), named.get(common), common > 0) {
                folders.entry(module[..common].to_vec()).or_default().entry(one.clone()).or_default().insert(other.clone());
            }
        }
    }
    let circles: Vec<String> = folders
        .iter()
        .filter_map(|(folder, edges)| circle(edges).map(|circle| format!("{}: {}", folder.join("::"), circle.join(" -> "))))
        .collect();
    assert!(circles.is_empty(), "files that import each other: {circles:#?}");
    assert!(imports.len() > 150, "the sources are read");
}

/// A circle, its first name again at its end.
fn circle(edges: &BTreeMap<String, BTreeSet<String>>) -> Option<Vec<String>> {
    fn walk<'e>(
        at: &'e str,
        edges: &'e BTreeMap<String, BTreeSet<String>>,
        way: &mut Vec<&'e str>,
        done: &mut BTreeSet<&'e str>,
    ) -> Option<Vec<String>> {
        if let Some(start) = way.iter().position(|name| *name == at) {
            return Some(way[start..].iter().copied().chain([at]).map(str::to_owned).collect());
        }
        if !done.insert(at) {
            return None;
        }
        way.push(at);
        let found = edges.get(at).into_iter().flatten().find_map(|next| walk(next, edges, way, done));
        way.pop();
        found
    }
    let mut done = BTreeSet::new();
    edges.keys().find_map(|start| walk(start, edges, &mut Vec::new(), &mut done))
}

#[test]
fn a_circle_is_found() {
    let edges = |list: &[(&str, &[&str])]| {
        let row = |(from, to): &(&str, &[&str])| ((*from).to_owned(), to.iter().map(|name| (*name).to_owned()).collect());
        list.iter().map(row).collect::<BTreeMap<String, BTreeSet<String>>>()
    };
    assert_eq!(circle(&edges(&[("a", &["b", "c"]), ("b", &["c"]), ("c", &[])])), None);
    assert_eq!(circle(&edges(&[("a", &["b"]), ("b", &["c"]), ("c", &["b"])])).unwrap().join(" "), "b c b");
}
