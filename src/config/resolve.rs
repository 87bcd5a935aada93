//! Resolves the texts of all sources to one typed configuration.

use std::collections::BTreeMap;

use super::check;
use super::configuration::Configuration;
use super::environment;
use super::error::{ConfigErrors, Mistake, Origin};
use super::file;
use super::reader::Reader;
use super::sources::{Flags, Sources};
use super::suggest::nearest_key;
use super::table::{Settings, by_key};

impl Configuration {
    /// The configuration of this process, from its flags, its environment and the file that either of them names.
    ///
    /// # Errors
    /// [`ConfigErrors`] with every mistake, an unreadable file included.
    pub fn load(flags: &Flags) -> Result<Self, ConfigErrors> {
        let (sources, mistakes) = Sources::collect(flags, std::env::vars_os());
        Self::resolve_with(&sources, mistakes)
    }

    /// The configuration from these sources: flags override variables, variables the file, the file defaults.
    ///
    /// # Errors
    /// [`ConfigErrors`] with every mistake of every source.
    pub fn resolve(sources: &Sources) -> Result<Self, ConfigErrors> {
        Self::resolve_with(sources, Vec::new())
    }

    /// Like [`resolve`](Self::resolve), with mistakes found while the sources were collected.
    fn resolve_with(sources: &Sources, mistakes: Vec<Mistake>) -> Result<Self, ConfigErrors> {
        let mut reader = Reader::default();
        mistakes.into_iter().for_each(|mistake| reader.reject(mistake));
        offer_flags(&mut reader, &sources.flags);
        environment::offer(&mut reader, &sources.env);
        if let Some((path, text)) = &sources.file {
            file::offer(&mut reader, path, text);
        }
        // A source that could not be read may hold the value that satisfies a rule; in that case, rules are skipped.
        let check_rules = !reader.lacks_a_source();
        let mut notes = check::choose_between_bundle_and_model(&mut reader);
        notes.extend(check::forget_revision_of_another_model(&mut reader));
        let settings = Settings::read(&mut reader);
        if let Some(settings) = settings.as_ref().filter(|_| check_rules) {
            let conflicts = check::conflicts(settings, reader.effective(), reader.invalid());
            conflicts.into_iter().for_each(|mistake| reader.reject(mistake));
        }
        let (effective, mistakes) = reader.finish();
        match settings {
            Some(mut settings) if mistakes.is_empty() => {
                settings.model = settings.model.at(settings.revision.clone());
                Ok(Self { settings, effective, notes })
            }
            // Defaults are valid, so a missing value always comes with a mistake.
            _ => Err(ConfigErrors::new(mistakes)),
        }
    }
}

impl Settings {
    /// The settings from these sources, without their origins.
    ///
    /// # Errors
    /// Those of [`Configuration::resolve`].
    pub fn resolve(sources: &Sources) -> Result<Self, ConfigErrors> {
        Configuration::resolve(sources).map(|configuration| configuration.settings)
    }
}

fn offer_flags(reader: &mut Reader, flags: &BTreeMap<&'static str, String>) {
    for (key, text) in flags {
        match by_key(key) {
            Some(setting) => reader.offer(setting, text.clone(), Origin::Flag(setting.flag())),
            None => reader.reject(Mistake::Unknown {
                name: (*key).to_owned(),
                origin: Origin::Flag(format!("--{key}")),
                suggestion: nearest_key(key).map(str::to_owned),
            }),
        }
    }
}

#[cfg(test)]
pub(super) mod tests;
