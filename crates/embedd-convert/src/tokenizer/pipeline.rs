//! The pipelines that the classes of transformers build around a vocabulary.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::Settings;
use super::added::Added;
use super::class::Class;
use super::special::SpecialTokens;
use super::vocabulary::{Ids, Vocabulary};

/// Stands for the space before a word.
const META_SPACE: &str = "\u{2581}";

/// The tokens before and after every text, with their ids.
struct Ends {
    first: (String, u32),
    last: (String, u32),
}

impl Settings {
    /// The tokenizer that the class builds.
    pub(super) fn rebuild(&self, mut vocabulary: Vocabulary, special: SpecialTokens) -> Value {
        let special = special.with_defaults(self.class, vocabulary.marked.take());
        let ids = Ids::of(&vocabulary.tokens);
        let added = Added::of(&special, &ids, BTreeMap::new());
        let ends = self.ends(&special, &added, &ids);
        let unknown = special.named_or_default("unk_token", self.class);
        let unknown_id = self.unknown_id(&vocabulary, unknown);
        let mut file = json!({
            "version": "1.0", "truncation": null, "padding": null,
            "added_tokens": added.entries(self.rows, [&ends.first.0, &ends.last.0]),
            "normalizer": self.normalizer(vocabulary.character_map.as_deref()),
            "pre_tokenizer": self.pre_tokenizer(),
            "post_processor": self.post_processor(&ends),
            "decoder": self.decoder(),
            "model": self.model(unknown, unknown_id),
        });
        // Moved: they can be large.
        if self.class == Class::Roberta {
            file["model"]["merges"] = vocabulary.merges;
        }
        file["model"]["vocab"] = vocabulary.tokens;
        file
    }

    fn ends(&self, special: &SpecialTokens, added: &Added, ids: &Ids<'_>) -> Ends {
        let end = |name: &str| {
            let content = special.named_or_default(name, self.class);
            // No table of embeddings has the last id, so that a token without an id is rejected by name.
            let id = added.id_of(content).or_else(|| ids.get(content)).unwrap_or(u32::MAX - 1);
            (content.to_owned(), id)
        };
        match self.class {
            Class::XlmRoberta | Class::Camembert => Ends { first: end("bos_token"), last: end("eos_token") },
            _ => Ends { first: end("cls_token"), last: end("sep_token") },
        }
    }

    /// The index of the unknown token in a list of tokens and scores.
    fn unknown_id(&self, vocabulary: &Vocabulary, unknown: &str) -> usize {
        let mut pairs = vocabulary.tokens.as_array().into_iter().flatten();
        match self.class {
            Class::Camembert => pairs.position(|pair| pair[0] == *unknown).unwrap_or(0),
            Class::DebertaV2 => {
                let configured = || self.config.get("unk_id").and_then(Value::as_u64).map(|id| id as usize);
                let found = pairs.position(|pair| pair[0] == *unknown && pair[1].as_f64() == Some(0.0));
                found.or(vocabulary.unknown).or_else(configured).unwrap_or(1)
            }
            _ => 3,
        }
    }

    fn normalizer(&self, character_map: Option<&str>) -> Value {
        match self.class {
            Class::Bert | Class::MpNet => json!({
                "type": "BertNormalizer",
                "clean_text": true,
                "handle_chinese_chars": self.flag("tokenize_chinese_chars", true),
                "strip_accents": self.config.get("strip_accents").and_then(Value::as_bool),
                "lowercase": self.flag("do_lower_case", true),
            }),
            Class::XlmRoberta | Class::Camembert => {
                character_map.map_or(Value::Null, |map| json!({ "type": "Precompiled", "precompiled_charsmap": map }))
            }
            Class::DebertaV2 => {
                let lowercase = self.flag("do_lower_case", false).then(|| json!({ "type": "Lowercase" }));
                let rest = [
                    json!({ "type": "Replace", "pattern": { "Regex": r"\s{2,}|[\n\r\t]" }, "content": " " }),
                    json!({ "type": "NFC" }),
                    json!({ "type": "Strip", "strip_left": false, "strip_right": true }),
                ];
                let parts: Vec<Value> = lowercase.into_iter().chain(rest).collect();
                json!({ "type": "Sequence", "normalizers": parts })
            }
            Class::Roberta | Class::Generic | Class::Unknown => Value::Null,
        }
    }

    fn pre_tokenizer(&self) -> Value {
        match self.class {
            Class::Bert | Class::MpNet => json!({ "type": "BertPreTokenizer" }),
            Class::Roberta => byte_level(self.flag("add_prefix_space", false)),
            Class::XlmRoberta | Class::Camembert => {
                sequence(&[json!({ "type": "WhitespaceSplit" }), self.meta_space("never")])
            }
            Class::DebertaV2 => {
                let punctuation = json!({ "type": "Punctuation", "behavior": "Isolated" });
                let punctuation = self.flag("split_by_punct", false).then_some(punctuation);
                sequence(&punctuation.into_iter().chain([self.meta_space("first")]).collect::<Vec<Value>>())
            }
            Class::Generic | Class::Unknown => Value::Null,
        }
    }

    /// Marks words by a prefix; `otherwise` is the rule for the first word if `add_prefix_space` is off.
    fn meta_space(&self, otherwise: &str) -> Value {
        let scheme = if self.flag("add_prefix_space", true) { "always" } else { otherwise };
        json!({ "type": "Metaspace", "replacement": META_SPACE, "prepend_scheme": scheme, "split": true })
    }

    fn post_processor(&self, ends: &Ends) -> Value {
        let Ends { first, last } = ends;
        let roberta = |trim: bool, prefix: bool| {
            json!({
                "type": "RobertaProcessing", "sep": last, "cls": first, "trim_offsets": trim, "add_prefix_space": prefix,
            })
        };
        let token = |(content, _): &(String, u32), of: u32| json!({ "SpecialToken": { "id": content, "type_id": of } });
        let text = |name: &str, of: u32| json!({ "Sequence": { "id": name, "type_id": of } });
        let second = match self.class {
            Class::MpNet => return roberta(true, false),
            Class::Roberta => return roberta(self.flag("trim_offsets", true), self.flag("add_prefix_space", false)),
            Class::XlmRoberta | Class::Camembert => vec![token(last, 0), text("B", 0), token(last, 0)],
            _ => vec![text("B", 1), token(last, 1)],
        };
        let single = vec![token(first, 0), text("A", 0), token(last, 0)];
        let pair = [single.clone(), second].concat();
        let of = |(content, id): &(String, u32)| json!({ "id": content, "ids": [id], "tokens": [content] });
        json!({
            "type": "TemplateProcessing",
            "single": single,
            "pair": pair,
            "special_tokens": { first.0.as_str(): of(first), last.0.as_str(): of(last) },
        })
    }

    fn decoder(&self) -> Value {
        match self.class {
            Class::Bert | Class::MpNet => json!({ "type": "WordPiece", "prefix": "##", "cleanup": true }),
            Class::Roberta => byte_level(true),
            Class::DebertaV2 => self.meta_space("first"),
            _ => self.meta_space("never"),
        }
    }

    /// The model without its vocabulary.
    fn model(&self, unknown: &str, unknown_id: usize) -> Value {
        match self.class {
            Class::Bert | Class::MpNet => json!({
                "type": "WordPiece", "unk_token": unknown, "continuing_subword_prefix": "##",
                "max_input_chars_per_word": 100,
            }),
            Class::Roberta => json!({
                "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": "",
                "end_of_word_suffix": "", "fuse_unk": false, "byte_fallback": false, "ignore_merges": false,
            }),
            _ => json!({ "type": "Unigram", "unk_id": unknown_id, "byte_fallback": false }),
        }
    }
}

fn byte_level(prefix: bool) -> Value {
    json!({ "type": "ByteLevel", "add_prefix_space": prefix, "trim_offsets": true, "use_regex": true })
}

fn sequence(parts: &[Value]) -> Value {
    json!({ "type": "Sequence", "pretokenizers": parts })
}
