//! From texts of several sources to one typed configuration.

use std::collections::{BTreeMap, BTreeSet};

use super::Configuration;
use super::check;
use super::environment;
use super::error::{ConfigErrors, Given, Mistake, Origin};
use super::file;
use super::parse::Parsed;
use super::setting::{self, Setting};
use super::sources::Sources;
use super::table::Settings;

/// Hands out the text of each setting from the source that counts, and keeps what is wrong with the others.
#[derive(Debug, Default)]
pub(super) struct Reader {
    /// By key, the strongest source first.
    given: BTreeMap<&'static str, Vec<Given>>,
    /// What was read, in the order of reading.
    effective: Vec<Given>,
    /// Keys with a mistake: rules about them would only repeat it.
    spoilt: BTreeSet<&'static str>,
    mistakes: Vec<Mistake>,
}

impl Reader {
    /// Notes a text for the setting. The strongest source comes first.
    pub(super) fn offer(&mut self, setting: &'static Setting, text: String, origin: Origin) {
        let given = Given { setting: setting.name(), text, origin };
        self.given.entry(setting.key).or_default().push(given);
    }

    /// Notes what is wrong.
    pub(super) fn reject(&mut self, mistake: Mistake) {
        self.mistakes.push(mistake);
    }

    /// Notes what is wrong with a value of the setting.
    pub(super) fn reject_value(&mut self, setting: &'static Setting, mistake: Mistake) {
        self.spoilt.insert(setting.key);
        self.mistakes.push(mistake);
    }

    /// The value of the setting from its strongest source, else its default. Texts of weaker sources are checked, too:
    /// what nobody reads today is a surprise for the day when the stronger source goes.
    pub(super) fn read<T>(&mut self, key: &'static str, parse: impl Fn(&str) -> Parsed<T>) -> Option<T> {
        let setting = setting::by_key(key)?;
        let mut given = self.given.get(key).cloned().unwrap_or_default();
        given.push(Given { setting: setting.name(), text: setting.default.to_owned(), origin: Origin::Default });
        let mut value = None;
        for given in given {
            match parse(&given.text) {
                Ok(parsed) if value.is_none() => {
                    value = Some(parsed);
                    self.effective.push(given);
                }
                Ok(_) => {}
                Err(expected) => self.reject_value(setting, Mistake::Value { given, expected }),
            }
        }
        value
    }

    /// The strongest text that a source gives for the setting.
    pub(super) fn strongest(&self, key: &str) -> Option<&Given> {
        self.given.get(key).and_then(|given| given.first())
    }

    /// Forgets what sources give for the setting.
    pub(super) fn forget(&mut self, key: &str) {
        self.given.remove(key);
    }
}

impl Configuration {
    /// The configuration that the sources make: flags before variables before the file before defaults.
    ///
    /// # Errors
    /// [`ConfigErrors`] with every mistake of every source.
    pub fn resolve(sources: &Sources) -> Result<Self, ConfigErrors> {
        Self::resolve_besides(sources, Vec::new())
    }

    /// As [`resolve`](Self::resolve), with mistakes that were made in collecting the sources.
    pub(super) fn resolve_besides(sources: &Sources, mistakes: Vec<Mistake>) -> Result<Self, ConfigErrors> {
        let mut reader = Reader { mistakes, ..Reader::default() };
        offer_flags(&mut reader, &sources.flags);
        environment::offer(&mut reader, &sources.env);
        if let Some((path, text)) = &sources.file {
            file::offer(&mut reader, path, text);
        }
        // A source that could not be read may hold what would keep the rules: then only the values are judged.
        let whole = reader.mistakes.iter().all(|mistake| !hides_values(mistake));
        let notes = check::choose_between_bundle_and_model(&mut reader);
        let settings = Settings::read(&mut reader);
        if let Some(settings) = settings.as_ref().filter(|_| whole) {
            let conflicts = check::conflicts(settings, &reader.effective, &reader.spoilt);
            reader.mistakes.extend(conflicts);
        }
        match settings {
            Some(settings) if reader.mistakes.is_empty() => Ok(Self { settings, effective: reader.effective, notes }),
            // Defaults are valid, so that a field that could not be read has left a mistake.
            _ => Err(ConfigErrors::new(reader.mistakes)),
        }
    }
}

impl Settings {
    /// The settings that the sources make, without where they come from.
    ///
    /// # Errors
    /// As [`Configuration::resolve`].
    pub fn resolve(sources: &Sources) -> Result<Self, ConfigErrors> {
        Configuration::resolve(sources).map(|configuration| configuration.settings)
    }
}

fn offer_flags(reader: &mut Reader, flags: &BTreeMap<&'static str, String>) {
    for (key, text) in flags {
        match setting::by_key(key) {
            Some(setting) => reader.offer(setting, text.clone(), Origin::Flag(setting.flag())),
            None => reader.reject(Mistake::Unknown {
                name: (*key).to_owned(),
                origin: Origin::Flag(format!("--{key}")),
                suggestion: setting::nearest_key(key).map(str::to_owned),
            }),
        }
    }
}

/// Whether values may stand where they could not be read.
fn hides_values(mistake: &Mistake) -> bool {
    matches!(mistake, Mistake::Syntax { .. } | Mistake::Unreadable { .. } | Mistake::NotText { .. })
}

#[cfg(test)]
pub(super) mod tests;
