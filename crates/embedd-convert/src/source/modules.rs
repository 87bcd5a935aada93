//! Reads `modules.json`: which modules a model has, and where they are.

use std::path::{Component, Path, PathBuf};

use serde::Deserialize;

use super::{SourceError, read_optional_json};

const FILE: &str = "modules.json";
const NORMALIZE: &str = "Normalize";
/// The modules that may follow the pooling.
const OTHERS: [&str; 2] = ["Dense", "LayerNorm"];
/// The maximum number of such modules. Models have up to 2.
const MAX_OTHERS: usize = 8;

/// The modules of a sentence-transformers folder: a transformer and a pooling; then others, of which a normalization is
/// the last.
#[derive(Debug, Default)]
pub(super) struct Modules {
    /// The transformer's folder, relative to the model's; often empty.
    pub(super) transformer: PathBuf,
    /// The pooling's configuration file, relative to the model's folder. `None`: the folder has no `modules.json`, and
    /// sentence-transformers uses the mean.
    pub(super) pooling: Option<String>,
    /// The modules after the pooling, without the normalization: their classes and folders.
    pub(super) others: Vec<(String, PathBuf)>,
}

#[derive(Deserialize)]
struct Module {
    #[serde(default)]
    path: String,
    #[serde(rename = "type")]
    kind: String,
}

impl Module {
    /// The class, without its Python module, which depends on the version.
    fn class(&self) -> &str {
        self.kind.rsplit('.').next().unwrap_or(&self.kind)
    }
}

impl Modules {
    pub(super) fn read(folder: &Path) -> Result<Self, SourceError> {
        let path = folder.join(FILE);
        let Some(modules) = read_optional_json::<Vec<Module>>(&path)? else { return Ok(Self::default()) };
        let [transformer, pooling, others @ ..] = supported(&path, &modules)? else { return Ok(Self::default()) };
        let others = others.iter().filter(|module| module.class() != NORMALIZE);
        let others = others.map(|module| Ok((module.class().to_owned(), inside(&path, "a module", &module.path)?)));
        Ok(Self {
            transformer: inside(&path, "a transformer", &transformer.path)?,
            pooling: Some(config_file(&inside(&path, "a pooling", &pooling.path)?)),
            others: others.collect::<Result<_, SourceError>>()?,
        })
    }

    /// The files, relative to the model's folder.
    pub(super) fn files(&self) -> Vec<String> {
        self.pooling.iter().flat_map(|pooling| [FILE.to_owned(), pooling.clone()]).collect()
    }
}

/// A module's configuration file.
pub(super) fn config_file(folder: &Path) -> String {
    folder.join("config.json").to_string_lossy().into_owned()
}

/// The modules, if they are a chain that can be converted.
fn supported<'m>(path: &Path, modules: &'m [Module]) -> Result<&'m [Module], SourceError> {
    let classes: Vec<&str> = modules.iter().map(Module::class).collect();
    let is_supported = match classes.as_slice() {
        ["Transformer", "Pooling", others @ ..] => {
            let others = others.strip_suffix(&[NORMALIZE]).unwrap_or(others);
            others.len() <= MAX_OTHERS && others.iter().all(|class| OTHERS.contains(class))
        }
        _ => false,
    };
    if is_supported {
        return Ok(modules);
    }
    Err(SourceError::Unsupported {
        path: path.to_owned(),
        what: format!("the module chain {}", classes.join(" -> ")),
        instead: "supported are Transformer -> Pooling, then any of Dense and LayerNorm, then Normalize or none"
            .to_owned(),
    })
}

/// The path of a module within the model's folder.
fn inside(path: &Path, module: &str, folder: &str) -> Result<PathBuf, SourceError> {
    let relative = Path::new(folder);
    if relative.components().all(|part| matches!(part, Component::Normal(_))) {
        return Ok(relative.to_owned());
    }
    Err(SourceError::Unsupported {
        path: path.to_owned(),
        what: format!("{module} in the folder `{folder}`"),
        instead: "its path must be relative to the model's folder and stay inside".to_owned(),
    })
}
