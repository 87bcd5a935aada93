//! The classes of tokenizers in transformers.

use serde_json::{Map, Value};

use super::{DEBERTA_FILE, SENTENCE_PIECE_FILE};

/// What a class takes from `tokenizer.json`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Class {
    // These take the vocabulary, and build everything else.
    Bert,
    MpNet,
    Roberta,
    XlmRoberta,
    Camembert,
    DebertaV2,
    /// Takes the whole file.
    Generic,
    /// A class that builds its pipeline in a way that is not implemented here. Its file is assumed to agree.
    Unknown,
}

/// Files that older versions of transformers wrote instead of `tokenizer.json`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum OlderFiles {
    /// `vocab.txt`.
    Words,
    /// `vocab.json` and `merges.txt`.
    Merges,
    /// A SentencePiece model of this name.
    SentencePiece(&'static str),
}

/// The names of the special tokens that every class has.
pub(super) const NAMES: [&str; 7] =
    ["bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"];

impl Class {
    /// The class that transformers chooses, from the contents of `tokenizer_config.json` and `config.json`.
    pub(super) fn of(config: &Map<String, Value>, model: &Map<String, Value>) -> Self {
        let text = |file: &Map<String, Value>, field: &str| file.get(field)?.as_str().map(str::to_owned);
        let named = text(config, "tokenizer_class").or_else(|| text(model, "tokenizer_class"));
        let model_type = text(model, "model_type").unwrap_or_default();
        match (named, Self::of_model(&model_type)) {
            (Some(_), Some(Self::Generic)) | (None, None) => Self::Generic,
            (Some(name), _) => Self::named(name.strip_suffix("Fast").unwrap_or(&name)),
            (None, Some(class)) => class,
        }
    }

    fn named(name: &str) -> Self {
        match name {
            "BertTokenizer"
            | "DistilBertTokenizer"
            | "ElectraTokenizer"
            | "LayoutLMTokenizer"
            | "MobileBertTokenizer"
            | "SqueezeBertTokenizer" => Self::Bert,
            "MPNetTokenizer" => Self::MpNet,
            "RobertaTokenizer" => Self::Roberta,
            "XLMRobertaTokenizer" => Self::XlmRoberta,
            "CamembertTokenizer" => Self::Camembert,
            "DebertaV2Tokenizer" => Self::DebertaV2,
            "PreTrainedTokenizer" | "TokenizersBackend" => Self::Generic,
            _ => Self::Unknown,
        }
    }

    /// The class of models that name no other. For `Generic`, a name does not count.
    fn of_model(model_type: &str) -> Option<Self> {
        match model_type {
            "bert" | "distilbert" | "electra" | "mobilebert" | "nomic_bert" => Some(Self::Bert),
            "mpnet" => Some(Self::MpNet),
            "roberta" => Some(Self::Roberta),
            "gte" | "jina_embeddings_v3" | "xlm-roberta" => Some(Self::XlmRoberta),
            "camembert" => Some(Self::Camembert),
            "deberta-v2" => Some(Self::DebertaV2),
            "modernbert" => Some(Self::Generic),
            "gemma3_text" | "qwen3" => Some(Self::Unknown),
            _ => None,
        }
    }

    /// The kind of model that the class builds.
    pub(super) fn model(self) -> Option<&'static str> {
        match self {
            Self::Bert | Self::MpNet => Some("WordPiece"),
            Self::Roberta => Some("BPE"),
            Self::XlmRoberta | Self::Camembert | Self::DebertaV2 => Some("Unigram"),
            Self::Generic | Self::Unknown => None,
        }
    }

    /// Where the class finds its vocabulary if there is no `tokenizer.json`.
    pub(super) fn older_files(self) -> Option<OlderFiles> {
        match self {
            Self::Bert | Self::MpNet => Some(OlderFiles::Words),
            Self::Roberta => Some(OlderFiles::Merges),
            Self::XlmRoberta | Self::Camembert => Some(OlderFiles::SentencePiece(SENTENCE_PIECE_FILE)),
            Self::DebertaV2 => Some(OlderFiles::SentencePiece(DEBERTA_FILE)),
            Self::Generic | Self::Unknown => None,
        }
    }

    /// The special tokens of the class, in the order of [`NAMES`].
    pub(super) fn special_tokens(self) -> [Option<&'static str>; 7] {
        match self {
            Self::Bert => [None, None, Some("[UNK]"), Some("[SEP]"), Some("[PAD]"), Some("[CLS]"), Some("[MASK]")],
            Self::MpNet => ["<s>", "</s>", "[UNK]", "</s>", "<pad>", "<s>", "<mask>"].map(Some),
            Self::Roberta | Self::XlmRoberta | Self::Camembert => {
                ["<s>", "</s>", "<unk>", "</s>", "<pad>", "<s>", "<mask>"].map(Some)
            }
            Self::DebertaV2 => ["[CLS]", "[SEP]", "[UNK]", "[SEP]", "[PAD]", "[CLS]", "[MASK]"].map(Some),
            Self::Generic | Self::Unknown => [None; 7],
        }
    }

    /// Whether the mask token includes the white space before it, unless a file says otherwise.
    pub(super) fn strips_before_mask(self) -> bool {
        matches!(self, Self::MpNet | Self::Camembert)
    }

    /// Special tokens apart from those with names.
    pub(super) fn further_tokens(self) -> &'static [&'static str] {
        match self {
            Self::Camembert => &["<s>NOTUSED", "</s>NOTUSED", "<unk>NOTUSED"],
            _ => &[],
        }
    }
}
