//! A model's prompts, by name.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::bundle::Manifest;
use crate::tokenize::{Prompt, TokenizeError, Tokenizer};

/// The maximum size of the names that a message lists. A model may have many.
const MAX_LISTED_BYTES: usize = 256;
/// The maximum number of characters of an unknown name that a message quotes.
const MAX_QUOTED_CHARS: usize = 80;

/// The prompts of a model, and which of them is the default.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Prompts {
    by_name: BTreeMap<String, Arc<Prompt>>,
    default: Option<String>,
}

/// Which prompt to put in front of texts.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum PromptChoice {
    /// The default, if there is one.
    #[default]
    Default,
    /// None, not even the default.
    None,
    /// The one with this name.
    Named(String),
}

/// The model has no prompt with the requested name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the prompt {} is unknown; {known}", quoted(.name))]
pub struct UnknownPrompt {
    /// The requested name.
    pub name: String,
    known: String,
}

impl PromptChoice {
    /// An empty name selects no prompt, and no name selects the default.
    pub fn of(name: Option<String>) -> Self {
        match name {
            None => Self::Default,
            Some(name) if name.is_empty() => Self::None,
            Some(name) => Self::Named(name),
        }
    }

    /// The one with this name, which is not empty.
    pub fn named(name: &str) -> Self {
        Self::Named(name.to_owned())
    }
}

impl Prompts {
    /// The prompts that a manifest lists, for a bundle's tokenizer with its present settings.
    ///
    /// # Errors
    /// [`TokenizeError::Failed`].
    pub fn load(manifest: &Manifest, tokenizer: &Tokenizer) -> Result<Self, TokenizeError> {
        let prompt = |(name, text): (&String, &String)| {
            Ok((name.clone(), Arc::new(tokenizer.prompt(text, manifest.exclude_prompt)?)))
        };
        let by_name = manifest.prompts.iter().map(prompt).collect::<Result<_, TokenizeError>>()?;
        Ok(Self { by_name, default: manifest.default_prompt.clone() })
    }

    /// Prompts by name, whose tokens are pooled, without a default.
    pub fn plain<'n>(prompts: impl IntoIterator<Item = (&'n str, &'n str)>) -> Self {
        let by_name =
            prompts.into_iter().map(|(name, text)| (name.to_owned(), Arc::new(Prompt::plain(text)))).collect();
        Self { by_name, default: None }
    }

    /// The names, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.by_name.keys().map(String::as_str)
    }

    /// Whether there is a prompt with this name.
    pub fn contains(&self, name: &str) -> bool {
        self.by_name.contains_key(name)
    }

    /// The name of the default.
    pub fn default_name(&self) -> Option<&str> {
        self.default.as_deref()
    }

    /// The same prompts with another default.
    ///
    /// # Errors
    /// [`UnknownPrompt`].
    pub fn with_default(self, choice: &PromptChoice) -> Result<Self, UnknownPrompt> {
        let default = match choice {
            PromptChoice::Default => self.default,
            PromptChoice::None => None,
            PromptChoice::Named(name) if self.contains(name) => Some(name.clone()),
            PromptChoice::Named(name) => return Err(self.unknown(name)),
        };
        Ok(Self { default, ..self })
    }

    /// The chosen prompt; `None` if there is none.
    ///
    /// # Errors
    /// [`UnknownPrompt`].
    pub fn choose(&self, choice: &PromptChoice) -> Result<Option<&Arc<Prompt>>, UnknownPrompt> {
        match choice {
            PromptChoice::Default => Ok(self.default.as_ref().and_then(|name| self.by_name.get(name))),
            PromptChoice::None => Ok(None),
            PromptChoice::Named(name) => self.by_name.get(name).map(Some).ok_or_else(|| self.unknown(name)),
        }
    }

    /// Names the prompts, for a message.
    pub fn known(&self) -> String {
        if self.by_name.is_empty() {
            return "the model has no prompts".to_owned();
        }
        let mut listed = String::new();
        for (index, name) in self.names().enumerate() {
            if listed.len() + name.len() > MAX_LISTED_BYTES {
                return format!("the model has the prompts {listed} and {} more", self.by_name.len() - index);
            }
            listed += if index == 0 { "`" } else { ", `" };
            listed += name;
            listed += "`";
        }
        format!("the model has the prompts {listed}")
    }

    fn unknown(&self, name: &str) -> UnknownPrompt {
        UnknownPrompt { name: name.to_owned(), known: self.known() }
    }
}

fn quoted(name: &str) -> String {
    match name.char_indices().nth(MAX_QUOTED_CHARS) {
        Some((end, _)) => format!("`{}...`", &name[..end]),
        None => format!("`{name}`"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bundle::{MAX_PROMPT_NAME_BYTES, MAX_PROMPTS};

    fn two() -> Prompts {
        Prompts::plain([("query", "query"), ("document", "document")])
    }

    /// As in a request.
    fn named(name: &str) -> PromptChoice {
        PromptChoice::of(Some(name.to_owned()))
    }

    #[test]
    fn the_default_is_chosen_only_without_a_name() {
        let text = |prompts: &Prompts, choice: &PromptChoice| {
            prompts.choose(choice).expect("known").map(|prompt| prompt.text().to_owned())
        };
        let query = Some("query".to_owned());
        for (default, expected) in [(PromptChoice::Default, None), (named("query"), query.clone()), (named(""), None)] {
            let prompts = two().with_default(&default).expect("known");
            assert_eq!(text(&prompts, &PromptChoice::of(None)), expected);
            assert_eq!(prompts.default_name(), expected.as_deref());
            assert_eq!(text(&prompts, &named("")), None);
            assert_eq!(text(&prompts, &named("query")), query);
        }
    }

    #[test]
    fn the_error_for_an_unknown_name_lists_the_known_ones() {
        let error = |prompts: &Prompts, name: &str| prompts.choose(&named(name)).expect_err("unknown").to_string();
        let known = "the model has the prompts `document`, `query`";
        assert_eq!(error(&two(), "Query"), format!("the prompt `Query` is unknown; {known}"));
        assert_eq!(two().with_default(&named("x")).expect_err("unknown").to_string(), error(&two(), "x"));
        assert_eq!(error(&Prompts::default(), "query"), "the prompt `query` is unknown; the model has no prompts");
        assert_eq!(error(&two(), &"é".repeat(81)), format!("the prompt `{}...` is unknown; {known}", "é".repeat(80)));
    }

    #[test]
    fn long_lists_of_names_are_shortened() {
        let names: Vec<_> = (0..MAX_PROMPTS).map(|number| format!("{number:0MAX_PROMPT_NAME_BYTES$}")).collect();
        let known = Prompts::plain(names.iter().map(|name| (name.as_str(), ""))).known();
        assert!(known.len() < 400 && known.ends_with("0000` and 63 more"), "{known}");
    }
}
