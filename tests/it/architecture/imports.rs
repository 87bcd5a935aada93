//! Finds which files of a crate use names that other files define.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use syn::visit::{self, Visit};
use syn::{Attribute, Item, ItemMod, ItemUse, Macro, UseTree, Visibility};

/// A module's path from the root of its crate: empty for the root.
type Module = Vec<String>;

/// The `.rs` files below a folder.
pub(crate) fn rust_files(root: &Path) -> Vec<PathBuf> {
    let mut folders = vec![root.to_owned()];
    let mut files = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                files.push(path);
            }
        }
    }
    files.sort();
    files
}

/// The imports between the files of one crate, without tests. An import refers to the file that defines the name, even
/// if another file re-exports it. A module and its descendants form one unit, so imports between them are left out.
pub(crate) struct Imports {
    edges: BTreeMap<String, BTreeMap<String, BTreeSet<String>>>,
}

impl Imports {
    pub(crate) fn read(root: &Path) -> Self {
        let modules: BTreeMap<Module, Source> = rust_files(root)
            .into_iter()
            .filter_map(|path| {
                let file = path.strip_prefix(root).expect("a path below the root").to_owned();
                let mut module: Module =
                    file.with_extension("").iter().map(|part| part.to_string_lossy().into()).collect();
                if module.contains(&"tests".to_owned()) || module == ["main"] {
                    return None;
                }
                if module == ["lib"] {
                    module.clear();
                }
                Some((module.clone(), Source::read(&path, file.display().to_string(), module)))
            })
            .collect();

        let mut edges: BTreeMap<String, BTreeMap<String, BTreeSet<String>>> = BTreeMap::new();
        for (module, source) in &modules {
            for path in &source.paths {
                if let Some((target, name)) = resolve(&modules, module, path, 0)
                    && !are_related(module, &target.module)
                {
                    let names = edges.entry(source.file.clone()).or_default().entry(target.file.clone()).or_default();
                    names.insert(name);
                }
            }
        }
        Self { edges }
    }

    pub(crate) fn edges(&self) -> usize {
        self.edges.values().map(BTreeMap::len).sum()
    }

    /// Each group of files that import each other, directly or through others, as text.
    pub(crate) fn circles(&self) -> Vec<String> {
        let reached: BTreeMap<&str, BTreeSet<&str>> =
            self.edges.keys().map(|file| (&**file, self.reached(file))).collect();
        let mut circles: BTreeSet<Vec<&str>> = BTreeSet::new();
        for (file, targets) in &reached {
            if targets.contains(file) {
                let mutual =
                    targets.iter().filter(|target| reached.get(*target).is_some_and(|back| back.contains(file)));
                circles.insert(mutual.copied().collect());
            }
        }
        circles.iter().map(|circle| self.describe(circle)).collect()
    }

    fn reached<'a>(&'a self, file: &str) -> BTreeSet<&'a str> {
        let mut reached = BTreeSet::new();
        let mut next = vec![file];
        while let Some(file) = next.pop() {
            for target in self.edges.get(file).into_iter().flat_map(BTreeMap::keys) {
                if reached.insert(&**target) {
                    next.push(target);
                }
            }
        }
        reached
    }

    fn describe(&self, circle: &[&str]) -> String {
        let lines = circle.iter().flat_map(|file| {
            self.edges[*file].iter().filter(|(target, _)| circle.contains(&&***target)).map(move |(target, names)| {
                let names: Vec<&str> = names.iter().map(String::as_str).collect();
                format!("  {file} -> {target}: {}", names.join(", "))
            })
        });
        lines.collect::<Vec<_>>().join("\n")
    }
}

/// The names that a file defines and uses.
#[derive(Default)]
struct Source {
    file: String,
    module: Module,
    defined: BTreeSet<String>,
    children: BTreeSet<String>,
    /// Imported names, and the paths that they stand for.
    imported: BTreeMap<String, Vec<String>>,
    /// Modules that are imported with a glob.
    globs: Vec<Vec<String>>,
    /// Every path in the file. Paths in other crates (`std::fs`) do not resolve.
    paths: BTreeSet<Vec<String>>,
}

impl Source {
    fn read(path: &Path, file: String, module: Module) -> Self {
        let text = fs::read_to_string(path).expect("text");
        let parsed = syn::parse_file(&text).unwrap_or_else(|error| panic!("{file}: {error}"));
        let mut source = Self { file, module, ..Self::default() };
        for item in &parsed.items {
            source.defined.extend(defined_name(item));
        }
        source.visit_file(&parsed);
        source
    }

    fn import(&mut self, tree: &UseTree, mut prefix: Vec<String>, reexport: bool) {
        match tree {
            UseTree::Path(path) => {
                prefix.push(path.ident.to_string());
                self.import(&path.tree, prefix, reexport);
            }
            UseTree::Group(group) => group.items.iter().for_each(|item| self.import(item, prefix.clone(), reexport)),
            UseTree::Glob(_) => self.globs.push(prefix),
            UseTree::Name(name) => {
                let name = name.ident.to_string();
                if name != "self" {
                    prefix.push(name);
                }
                let last = prefix.last().cloned().unwrap_or_default();
                self.add(last, prefix, reexport);
            }
            UseTree::Rename(rename) => {
                prefix.push(rename.ident.to_string());
                self.add(rename.rename.to_string(), prefix, reexport);
            }
        }
    }

    fn add(&mut self, name: String, path: Vec<String>, reexport: bool) {
        if !reexport {
            self.paths.insert(path.clone());
        }
        self.imported.insert(name, path);
    }
}

fn defined_name(item: &Item) -> Option<String> {
    let ident = match item {
        Item::Const(item) => &item.ident,
        Item::Enum(item) => &item.ident,
        Item::Fn(item) => &item.sig.ident,
        Item::Static(item) => &item.ident,
        Item::Struct(item) => &item.ident,
        Item::Trait(item) => &item.ident,
        Item::Type(item) => &item.ident,
        Item::Union(item) => &item.ident,
        Item::Macro(item) => item.ident.as_ref()?,
        _ => return None,
    };
    Some(ident.to_string())
}

fn is_test(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        attribute.path().is_ident("cfg") && attribute.parse_args::<syn::Path>().is_ok_and(|path| path.is_ident("test"))
    })
}

impl<'ast> Visit<'ast> for Source {
    fn visit_item_mod(&mut self, item: &'ast ItemMod) {
        if is_test(&item.attrs) {
            return;
        }
        if item.content.is_none() {
            self.children.insert(item.ident.to_string());
        }
        // Names in an inline module count as names of its file.
        visit::visit_item_mod(self, item);
    }

    fn visit_item_use(&mut self, item: &'ast ItemUse) {
        if !is_test(&item.attrs) {
            // A re-export does not count as a use of the name in this file.
            let reexport = !matches!(item.vis, Visibility::Inherited);
            self.import(&item.tree, Vec::new(), reexport);
        }
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        if path.leading_colon.is_none() {
            self.paths.insert(path.segments.iter().map(|segment| segment.ident.to_string()).collect());
        }
        visit::visit_path(self, path);
    }

    // Tokens of a macro are not parsed.
    fn visit_macro(&mut self, _: &'ast Macro) {}
}

/// Whether one of the modules is the other, or inside it.
fn are_related(one: &Module, other: &Module) -> bool {
    one.starts_with(other) || other.starts_with(one)
}

/// The file that defines the item at `path`, as seen from `module`, and the item's name. Follows imports and
/// re-exports; `depth` stops circular ones.
fn resolve<'a>(
    modules: &'a BTreeMap<Module, Source>,
    module: &Module,
    path: &[String],
    depth: usize,
) -> Option<(&'a Source, String)> {
    if depth > 16 {
        return None;
    }
    let (first, rest) = path.split_first()?;
    let source = modules.get(module)?;
    let in_module = |module: Module| match rest {
        [] => None,
        rest => resolve(modules, &module, rest, depth + 1),
    };
    match first.as_str() {
        "crate" => in_module(Module::new()),
        "self" => in_module(module.clone()),
        "super" => in_module(module[..module.len().checked_sub(1)?].to_vec()),
        // A module and a function may have the same name, but only a module contains names.
        name if source.children.contains(name) && !rest.is_empty() => {
            in_module([module.as_slice(), &[name.to_owned()]].concat())
        }
        name if source.defined.contains(name) => Some((source, name.to_owned())),
        name => {
            if let Some(import) = source.imported.get(name) {
                let whole: Vec<String> = import.iter().chain(rest).cloned().collect();
                return (whole != path).then(|| resolve(modules, module, &whole, depth + 1)).flatten();
            }
            source.globs.iter().find_map(|glob| {
                let whole: Vec<String> = glob.iter().chain(path).cloned().collect();
                resolve(modules, module, &whole, depth + 1)
            })
        }
    }
}
