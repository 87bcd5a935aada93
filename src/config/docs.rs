//! `docs/CONFIGURATION.md`, made from the table so that the two cannot differ.

use super::{Kind, OTHER_VARIABLES, Setting, TABLE};

const INTRODUCTION: &str = "\
# Configuration

<!-- Made from src/config/table.rs: change it there, then run `UPDATE_DOCS=1 cargo test --release configuration_page`. -->

Every setting has a flag, an environment variable and a key in a TOML file (`--config FILE` or `EMBEDD_CONFIG`). Flags
outdo variables, variables outdo the file, the file outdoes defaults. All mistakes are told at once, and the exit code is
then 64. `embedd serve --print-config` prints the settings in effect, with their sources, as a TOML file.

* Sizes are bytes (`65536`) or have a unit: `KiB`, `MiB`, `GiB`, `kB`, `MB`, `GB`. Times have a unit: `500ms`, `2s`, `1m`, `1h`.
* A switch as a flag needs no value: `--offline` is `--offline=true`.
* In the file, numbers and switches stand with or without quotes, all else in quotes. Keys stand at the top, in no table.
* Paths are taken as they are: `~` is not expanded, and a relative path begins at the working directory.
* An empty variable counts as not set. Unknown `EMBEDD_*` variables are mistakes, except those that Kubernetes sets for a
  Service (`EMBEDD_SERVICE_HOST`, `EMBEDD_PORT` and the like).
* `bundle` and `model` both say what is served: the one from the stronger source counts.
* At level `info`, `debug` and `trace`, libraries that log much stay at `warn` unless named (`debug,h2=debug`). `tokenizers`
  never logs at `trace`, where it tells of each character.

| Flag | Variable | TOML key | Default | Meaning |
|---|---|---|---|---|
";

/// The page in Markdown.
pub fn markdown() -> String {
    let mut page = INTRODUCTION.to_owned();
    TABLE.iter().for_each(|setting| page += &row(setting));
    page += "\nVariables that are no settings:\n\n| Variable | Meaning |\n|---|---|\n";
    OTHER_VARIABLES.iter().for_each(|(name, meaning)| page += &format!("| `{name}` | {meaning} |\n"));
    page
}

fn row(setting: &Setting) -> String {
    let (flag, placeholder, key, default) = (setting.flag(), setting.placeholder, setting.key, setting.default);
    let value = if setting.kind == Kind::Switch { format!("[={placeholder}]") } else { format!(" {placeholder}") };
    let also = setting.also.iter().map(|other| format!(", else `{other}`")).collect::<String>();
    let help = setting.help().replace('|', "\\|");
    format!("| `{flag}{value}` | `{}`{also} | `{key}` | `{default}` | {help} |\n", setting.variable())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    #[test]
    fn the_configuration_page_says_what_the_table_says() {
        let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/CONFIGURATION.md");
        if std::env::var_os("UPDATE_DOCS").is_some() {
            std::fs::write(&page, super::markdown()).expect("docs/ can be written");
        }
        let written = std::fs::read_to_string(&page).unwrap_or_default();
        assert!(
            written == super::markdown(),
            "docs/CONFIGURATION.md is not what src/config/table.rs says; run `UPDATE_DOCS=1 cargo test --release \
             configuration_page` and commit the page"
        );
    }
}
