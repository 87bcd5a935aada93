//! The effective configuration as text.

use super::configuration::Configuration;
use super::error::{Given, Origin};
use super::setting::{Kind, Setting};
use super::table::TABLE;

impl Configuration {
    /// A TOML file that results in the same settings; a comment on each line names the source of the value.
    pub fn to_toml(&self) -> String {
        let version = env!("CARGO_PKG_VERSION");
        let mut text = format!("# The effective settings of embedd {version}, each with its source.\n");
        let mut group = None;
        for (setting, given) in TABLE.iter().zip(&self.effective) {
            if group != Some(setting.group) {
                group = Some(setting.group);
                text += &format!("\n# {}\n", setting.group.title());
            }
            text += &format!("{} = {} # {}\n", setting.key, toml_value(setting, &given.text), given.origin);
        }
        text
    }

    /// The settings that are not defaults, on one line for the log: `listen = ... (flag `--listen`), ...`.
    pub fn summary(&self) -> String {
        let changed = self.effective.iter().filter(|given| given.origin != Origin::Default);
        let changed: Vec<String> = changed.map(Given::to_string).collect();
        if changed.is_empty() { "defaults only".to_owned() } else { changed.join(", ") }
    }

    /// The text and origin of every setting, in the order of [`TABLE`].
    pub fn effective(&self) -> &[Given] {
        &self.effective
    }
}

/// The text as a TOML value of the setting's natural type.
fn toml_value(setting: &Setting, text: &str) -> String {
    let is_number = setting.kind == Kind::Number && text.parse::<i64>().is_ok_and(|number| number.to_string() == text);
    let is_switch = setting.kind == Kind::Switch && text.parse::<bool>().is_ok();
    if is_number || is_switch { text.to_owned() } else { toml::Value::String(text.to_owned()).to_string() }
}

#[cfg(test)]
mod tests;
