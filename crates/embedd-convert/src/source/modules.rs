//! Reads `modules.json`: which modules a model has, and where they are.

use std::path::{Component, Path, PathBuf};

use serde::Deserialize;

use super::{SourceError, read_optional_json};

const FILE: &str = "modules.json";

/// The modules of a sentence-transformers folder: a transformer, a pooling, and optionally a normalization.
#[derive(Debug, Default)]
pub(super) struct Modules {
    /// The transformer's folder, relative to the model's; often empty.
    pub(super) transformer: PathBuf,
    /// The pooling's configuration file, relative to the model's folder. `None`: the folder has no `modules.json`, and
    /// sentence-transformers uses the mean.
    pub(super) pooling: Option<String>,
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
        let [transformer, pooling] = match modules.as_slice() {
            [transformer, pooling] | [transformer, pooling, _] if is_supported(&modules) => [transformer, pooling],
            _ => {
                let classes: Vec<&str> = modules.iter().map(Module::class).collect();
                return Err(SourceError::Unsupported {
                    path,
                    what: format!("the module chain {}", classes.join(" -> ")),
                    instead: "Transformer -> Pooling and Transformer -> Pooling -> Normalize are".to_owned(),
                });
            }
        };
        Ok(Self {
            transformer: inside(&path, "a transformer", &transformer.path)?,
            pooling: Some(
                inside(&path, "a pooling", &pooling.path)?.join("config.json").to_string_lossy().into_owned(),
            ),
        })
    }

    /// The files, relative to the model's folder.
    pub(super) fn files(&self) -> Vec<String> {
        self.pooling.iter().flat_map(|pooling| [FILE.to_owned(), pooling.clone()]).collect()
    }
}

fn is_supported(modules: &[Module]) -> bool {
    let classes: Vec<&str> = modules.iter().map(Module::class).collect();
    matches!(classes.as_slice(), ["Transformer", "Pooling"] | ["Transformer", "Pooling", "Normalize"])
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
