//! Renders `docs/CONFIGURATION.md` from the table, so that the two cannot differ.

use super::environment::OTHER_VARIABLES;
use super::setting::{Kind, Setting};
use super::table::TABLE;

const INTRODUCTION: &str = "\
# Configuration

<!-- Generated from src/config/table.rs: edit that file, then run `UPDATE_DOCS=1 cargo test configuration_page`. -->

Every setting has a flag, an environment variable and a key in a TOML file (`--config FILE` or `EMBEDD_CONFIG`). Flags
override variables, variables override the file, and the file overrides defaults. All errors are reported at once,
with exit code 64. `embedd serve --print-config` prints the effective settings and their sources as a TOML file.

* Sizes are bytes (`65536`) or have a unit: `KiB`, `MiB`, `GiB`, `kB`, `MB`, `GB`. Times have a unit: `500ms`, `2s`,
  `1m`, `1h`.
* A switch needs no value as a flag: `--offline` is `--offline=true`.
* In the file, quotes are optional around numbers and switches and required around everything else. Keys are top-level:
  the file has no tables.
* Paths are used as written: `~` is not expanded, and relative paths are relative to the working directory.
* An empty variable counts as unset. Unknown `EMBEDD_*` variables are errors, except those that Kubernetes sets for a
  Service (`EMBEDD_SERVICE_HOST`, `EMBEDD_PORT` and the like).
* If `bundle` and `model` are both set, the one from the stronger source is served.
* At the levels `info`, `debug` and `trace`, libraries that log a lot stay at `warn` unless they are named
  (`debug,h2=debug`). `tokenizers` never logs at `trace`, where it would quote texts.

| Flag | Variable | TOML key | Default | Meaning |
|---|---|---|---|---|
";

/// The page in Markdown.
pub fn markdown() -> String {
    let settings: String = TABLE.iter().map(row).collect();
    let others: String = OTHER_VARIABLES.iter().map(|(name, meaning)| format!("| `{name}` | {meaning} |\n")).collect();
    format!("{INTRODUCTION}{settings}\nVariables that are not settings:\n\n| Variable | Meaning |\n|---|---|\n{others}")
}

fn row(setting: &Setting) -> String {
    let Setting { key, placeholder, default, .. } = setting;
    let flag = setting.flag();
    let value = if setting.kind == Kind::Switch { format!("[={placeholder}]") } else { format!(" {placeholder}") };
    let variable = setting.variable();
    let also: String = setting.also.iter().map(|other| format!(", else `{other}`")).collect();
    let help = setting.help().replace('|', "\\|");
    format!("| `{flag}{value}` | `{variable}`{also} | `{key}` | `{default}` | {help} |\n")
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    #[test]
    fn the_configuration_page_is_up_to_date() {
        let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/CONFIGURATION.md");
        if std::env::var_os("UPDATE_DOCS").is_some() {
            std::fs::write(&page, super::markdown()).expect("docs/ is writable");
        }
        let written = std::fs::read_to_string(&page).unwrap_or_default();
        assert!(
            written == super::markdown(),
            "docs/CONFIGURATION.md does not match src/config/table.rs; run `UPDATE_DOCS=1 cargo test \
             configuration_page` and commit the page"
        );
    }
}
