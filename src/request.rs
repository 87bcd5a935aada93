//! Requests are validated when they are constructed: a request that exists is valid.

use std::num::NonZeroUsize;
use std::sync::Arc;

use embedd_model::tokenize::{Prompt, Truncation};
use embedd_model::{PromptChoice, Prompts};

mod violations;

pub(crate) use violations::{TextField, Violations, error_text, quoted};

/// Units of an input's size.
const BYTES: &str = "bytes";
const TOKEN_IDS: &str = "token ids";
/// The limits of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Limits {
    /// Texts in one request.
    pub max_texts: NonZeroUsize,
    /// UTF-8 bytes in one text.
    pub max_text_bytes: usize,
    /// Whether that limit does not apply to texts whose truncation was requested, because no more of them is processed
    /// than the model needs.
    pub truncates_any_size: bool,
    /// Components of the model's vectors.
    pub dimension: usize,
}

/// How to embed the texts of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct EmbedOptions {
    /// Whether vectors are scaled to L2 norm 1.
    pub normalize: bool,
    /// What happens to texts that are too long.
    pub truncation: TruncationChoice,
    /// What to put in front of each text.
    pub prompt: PromptChoice,
    /// How many components of a vector to keep; `None` keeps all.
    pub dimensions: Option<u32>,
    /// Whether to bypass the cache, both for reading and for writing.
    pub skip_cache: bool,
}

impl Default for EmbedOptions {
    fn default() -> Self {
        Self {
            normalize: true,
            truncation: TruncationChoice::default(),
            prompt: PromptChoice::Default,
            dimensions: None,
            skip_cache: false,
        }
    }
}

/// What happens to texts that are too long, and who decided it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TruncationChoice {
    /// The server, because the request left it open.
    Default(Truncation),
    /// The request.
    Requested(Truncation),
}

/// One element of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Input {
    Text(String),
    /// The ids of a text's tokens in the vocabulary of the served model.
    TokenIds(Vec<u32>),
}

/// Validated texts, and how to embed them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct EmbedRequest {
    inputs: Vec<Input>,
    options: EmbedOptions,
    prompt: Option<Arc<Prompt>>,
    dimensions: usize,
}

/// At least one text, all within the limits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Texts(Vec<String>);

impl TruncationChoice {
    pub(crate) fn truncation(self) -> Truncation {
        match self {
            Self::Default(truncation) | Self::Requested(truncation) => truncation,
        }
    }

    /// Whether texts of any size are accepted.
    fn allows_any_size(self, limits: &Limits) -> bool {
        limits.truncates_any_size && matches!(self, Self::Requested(Truncation::End | Truncation::Start))
    }
}

impl Default for TruncationChoice {
    fn default() -> Self {
        Self::Default(Truncation::default())
    }
}

impl Input {
    /// Its size in memory.
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Self::Text(text) => text.len(),
            Self::TokenIds(ids) => size_of_val(ids.as_slice()),
        }
    }
}

impl From<String> for Input {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<Vec<u32>> for Input {
    fn from(ids: Vec<u32>) -> Self {
        Self::TokenIds(ids)
    }
}

impl Texts {
    /// Checks the texts; every problem is added to `violations`.
    pub(crate) fn check(texts: Vec<String>, limits: &Limits, violations: &mut Violations) -> Option<Self> {
        let has_number = check_number(texts.len(), limits, violations);
        let sizes = texts.iter().map(|text| (text.len(), BYTES));
        (has_number && check_sizes(sizes, limits, violations)).then_some(Self(texts))
    }

    pub(crate) fn as_slice(&self) -> &[String] {
        &self.0
    }
}

impl EmbedRequest {
    /// Checks the parts of a request; every problem is added to `violations`.
    pub(crate) fn check<I: Into<Input>>(
        inputs: Vec<I>,
        options: EmbedOptions,
        limits: &Limits,
        prompts: &Prompts,
        violations: &mut Violations,
    ) -> Option<Self> {
        let inputs = check_inputs(inputs, &options, limits, violations);
        let dimensions = check_dimensions(options.dimensions, limits, violations);
        let prompt = check_prompt(&options.prompt, prompts, violations)?;
        Some(Self { inputs: inputs?, options, prompt, dimensions: dimensions? })
    }

    pub(crate) fn inputs(&self) -> &[Input] {
        &self.inputs
    }

    /// The same request in parts of at most `max` inputs.
    pub(crate) fn in_parts(mut self, max: NonZeroUsize) -> impl Iterator<Item = Self> {
        std::iter::from_fn(move || {
            let rest = self.inputs.split_off(self.inputs.len().min(max.get()));
            let inputs = std::mem::replace(&mut self.inputs, rest);
            let Self { options, prompt, dimensions, .. } = &self;
            (!inputs.is_empty()).then(|| Self {
                inputs,
                options: options.clone(),
                prompt: prompt.clone(),
                dimensions: *dimensions,
            })
        })
    }

    pub(crate) fn options(&self) -> &EmbedOptions {
        &self.options
    }

    /// What precedes each text, unless it is empty.
    pub(crate) fn prompt(&self) -> Option<&Prompt> {
        self.prompt.as_deref().filter(|prompt| !prompt.text().is_empty())
    }

    /// Number of components of a vector to keep: 1 to the model's dimension.
    pub(crate) fn dimensions(&self) -> usize {
        self.dimensions
    }
}

fn check_inputs<I: Into<Input>>(
    inputs: Vec<I>,
    options: &EmbedOptions,
    limits: &Limits,
    violations: &mut Violations,
) -> Option<Vec<Input>> {
    if !check_number(inputs.len(), limits, violations) {
        return None;
    }
    let inputs: Vec<Input> = inputs.into_iter().map(Into::into).collect();
    if options.truncation.allows_any_size(limits) {
        return Some(inputs);
    }
    // A token has at least one byte of the text.
    let size = |input: &Input| match input {
        Input::Text(text) => (text.len(), BYTES),
        Input::TokenIds(ids) => (ids.len(), TOKEN_IDS),
    };
    check_sizes(inputs.iter().map(size), limits, violations).then_some(inputs)
}

fn check_number(number: usize, limits: &Limits, violations: &mut Violations) -> bool {
    let field = violations.texts;
    if number == 0 {
        violations.add(field.all(), format!("is empty; send 1 to {} texts", limits.max_texts));
    } else if number > limits.max_texts.get() {
        violations.add(field.all(), too_many_texts(number, limits));
    }
    (1..=limits.max_texts.get()).contains(&number)
}

/// `sizes` have units.
fn check_sizes(
    sizes: impl Iterator<Item = (usize, &'static str)>,
    limits: &Limits,
    violations: &mut Violations,
) -> bool {
    let field = violations.texts;
    let max = limits.max_text_bytes;
    let mut are_valid = true;
    for (index, (size, unit)) in sizes.enumerate().filter(|(_, (size, _))| *size > max) {
        violations.add(field.one(index), format!("has {size} {unit}; the maximum is {max}"));
        are_valid = false;
    }
    are_valid
}

/// The violation of a list of texts that is too long.
pub(crate) fn too_many_texts(count: usize, limits: &Limits) -> String {
    format!("has {count} texts; send at most {} per request", limits.max_texts)
}

fn check_dimensions(dimensions: Option<u32>, limits: &Limits, violations: &mut Violations) -> Option<usize> {
    let Some(dimensions) = dimensions else {
        return Some(limits.dimension);
    };
    match usize::try_from(dimensions) {
        Ok(dimensions) if (1..=limits.dimension).contains(&dimensions) => Some(dimensions),
        _ => {
            let max = limits.dimension;
            violations.add("dimensions", format!("is {dimensions}; must be from 1 to {max}, the model's dimension"));
            None
        }
    }
}

/// The chosen prompt. All protocols call the field `prompt_name`.
fn check_prompt(choice: &PromptChoice, prompts: &Prompts, violations: &mut Violations) -> Option<Option<Arc<Prompt>>> {
    let chosen = prompts.choose(choice);
    if let Err(unknown) = &chosen {
        violations.add("prompt_name", unknown_prompt(&unknown.name, prompts));
    }
    chosen.ok().map(Option::<&Arc<Prompt>>::cloned)
}

/// The violation of a field that names an unknown prompt.
pub(crate) fn unknown_prompt(name: &str, prompts: &Prompts) -> String {
    format!("is {}; {}", quoted(name), prompts.known())
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits {
        max_texts: NonZeroUsize::new(2).expect("not zero"),
        max_text_bytes: 4,
        truncates_any_size: true,
        dimension: 768,
    };

    fn check(texts: &[&str], dimensions: Option<u32>) -> Result<EmbedRequest, Vec<String>> {
        let mut violations = Violations::default();
        let texts: Vec<String> = texts.iter().map(ToString::to_string).collect();
        let options = EmbedOptions { dimensions, ..EmbedOptions::default() };
        EmbedRequest::check(texts, options, &LIMITS, &Prompts::default(), &mut violations)
            .ok_or_else(|| violations.iter().map(|violation| violation.field.clone()).collect())
    }

    #[test]
    fn requests_at_the_limits_are_valid() {
        assert_eq!(check(&["", "1234"], None).expect("valid").dimensions(), 768);
        assert_eq!(check(&["é é"], Some(1)).map(|request| request.dimensions()), Err(vec!["texts[0]".to_owned()]));
        assert_eq!(check(&["é"], Some(768)).expect("valid").dimensions(), 768);
    }

    #[test]
    fn a_prompt_that_the_model_does_not_have_is_a_violation() {
        let check = |prompt: PromptChoice| {
            let options = EmbedOptions { prompt, ..EmbedOptions::default() };
            let mut violations = Violations::default();
            let texts = vec!["a".to_owned()];
            let valid = EmbedRequest::check(texts, options, &LIMITS, &Prompts::default(), &mut violations);
            valid.map(|request| request.prompt().cloned()).ok_or_else(|| violations.to_string())
        };
        for choice in [PromptChoice::Default, PromptChoice::None] {
            assert_eq!(check(choice), Ok(None));
        }
        let named = PromptChoice::of(Some("query".to_owned()));
        assert_eq!(check(named), Err("prompt_name is `query`; the model has no prompts".to_owned()));
    }

    #[test]
    fn violations_name_texts_as_their_protocol_does() {
        let cases = [
            (TextField::default(), ["texts", "texts[1]"]),
            (TextField::List("input"), ["input", "input[1]"]),
            (TextField::Single("inputs"), ["inputs", "inputs"]),
        ];
        for (field, expected) in cases {
            let mut violations = Violations::of(field);
            for texts in [vec![], vec![String::new(), "12345".to_owned()]] {
                assert_eq!(Texts::check(texts, &LIMITS, &mut violations), None);
            }
            assert_eq!(violations.iter().map(|violation| violation.field.as_str()).collect::<Vec<_>>(), expected);
        }
    }

    #[test]
    fn all_problems_are_reported_at_once() {
        assert_eq!(check(&[], Some(0)), Err(vec!["texts".to_owned(), "dimensions".to_owned()]));
        assert_eq!(check(&["a", "b", "c"], None), Err(vec!["texts".to_owned()]));
        assert_eq!(
            check(&["12345", "123456"], Some(769)),
            Err(vec!["texts[0]".into(), "texts[1]".into(), "dimensions".into()])
        );
    }
}
