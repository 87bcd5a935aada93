//! Texts have the same tokens as in the crate `tokenizers`, which gets them whole.

use std::path::PathBuf;

use super::*;

/// Parts of odd texts. Long runs make texts that need several pieces.
const PARTS: [&str; 44] = [
    "the",
    "quick",
    "Brown",
    "tokenization",
    "unaffable",
    "zx",
    "a",
    " ",
    "  ",
    "\n",
    "\t",
    "\r\n",
    ".",
    ",",
    "!",
    "?!",
    "-",
    "_",
    "'",
    "\"",
    "#",
    "##",
    "<",
    ">",
    "/",
    "[",
    "]",
    "<s>",
    "</s>",
    "<mask>",
    "<pad>",
    "[SEP]",
    "[UNK]",
    "<unk>",
    "<UNK>",
    "\0",
    "\u{1}",
    "\u{fffd}",
    "\u{301}",
    "\u{327}\u{301}",
    "\u{4e00}\u{56fd}",
    "\u{f900}",
    "\u{130}\u{3a3}",
    "\u{1f468}\u{200d}",
];
/// Characters that one of the stages treats in its own way.
const CHARACTERS: [char; 16] = [
    '\u{a0}',
    '\u{2028}',
    '\u{3000}',
    '\u{85}',
    '\u{7f}',
    '\u{b}',
    '\u{37e}',
    '\u{1fef}',
    '\u{ac01}',
    '\u{1100}',
    '\u{20000}',
    '\u{e9}',
    '\u{fdfa}',
    '\u{ff0c}',
    '\u{345}',
    '\u{212a}',
];

/// The tokenizers of the fixtures, and those of the real models if they are in the cache folder.
fn tokenizers() -> Vec<(PathBuf, bool)> {
    let fixtures = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/fixtures/models"));
    let home = std::env::var_os("EMBEDD_HOME").map(PathBuf::from);
    let home =
        home.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache/embedd"))).unwrap_or_default();
    let real = ["sentence-transformers--all-mpnet-base-v2", "sentence-transformers--all-MiniLM-L6-v2"];
    let fixtures = ["mpnet", "bert-mean"].map(|name| fixtures.join(name));
    let real = real.map(|name| home.join("models").join(name));
    let mut found = Vec::new();
    for (folder, is_real) in fixtures.map(|folder| (folder, false)).into_iter().chain(real.map(|folder| (folder, true)))
    {
        let path = folder.join("tokenizer.json");
        if path.is_file() {
            found.push((path, is_real));
        } else {
            assert!(is_real, "{} is missing", path.display());
            println!("NOT TESTED: {} is not in the cache folder", path.display());
        }
    }
    found
}

fn odd_text(random: &mut fastrand::Rng, parts: usize) -> String {
    let mut text = String::new();
    let few = random.bool().then(|| random.usize(0..PARTS.len() - 3));
    for _ in 0..parts {
        match random.usize(0..20) {
            0 => text.push(CHARACTERS[random.usize(0..CHARACTERS.len())]),
            1 => text.push(random.char('\u{0}'..'\u{2fff}')),
            2 => (0..random.usize(1..150)).for_each(|_| text.push(random.alphanumeric())),
            _ => {
                let part = few.map_or(0..PARTS.len(), |first| first..first + 3);
                text.push_str(PARTS[random.usize(part)]);
            }
        }
    }
    text
}

/// The tokens as the crate finds them, and what the maximum leaves of them.
fn expected(tokenizer: &Tokenizer, text: &str, truncation: Truncation) -> Result<Tokenized, TokenizeError> {
    let lower = if tokenizer.lowercase { text.to_lowercase() } else { text.to_owned() };
    let ids = tokenizer.inner.encode_fast(lower, false).expect("an encoding").get_ids().to_vec();
    let dropped = ids.len().saturating_sub(tokenizer.capacity());
    let kept = match truncation {
        Truncation::Reject if dropped > 0 => {
            let tokens = ids.len() + tokenizer.special_count();
            return Err(TokenizeError::TooLong { tokens, max: tokenizer.max_tokens });
        }
        Truncation::Start => &ids[dropped..],
        Truncation::End | Truncation::Reject => &ids[..ids.len() - dropped],
    };
    let ids = [&tokenizer.prefix, kept, &tokenizer.suffix].concat();
    Ok(Tokenized { ids: TokenIds::new(ids), truncated: dropped > 0 })
}

/// The list of tokens as the crate finds it.
fn expected_list(tokenizer: &Tokenizer, text: &str) -> Vec<Token> {
    let lower = if tokenizer.lowercase { text.to_lowercase() } else { text.to_owned() };
    let origins = lowercase::Origins::of(text);
    let encoding = tokenizer.inner.encode(lower, true).expect("an encoding");
    let tokens = encoding.get_ids().iter().zip(encoding.get_tokens());
    let places = encoding.get_offsets().iter().zip(encoding.get_special_tokens_mask());
    tokens
        .zip(places)
        .map(|((&id, name), (&(start, end), &special))| {
            if special == 1 {
                return Token { id, text: name.clone(), bytes: None };
            }
            let bytes = if tokenizer.lowercase { origins.range(start..end) } else { start..end };
            Token {
                id,
                text: String::from_utf8_lossy(&text.as_bytes()[bytes.clone()]).into_owned(),
                bytes: Some(bytes),
            }
        })
        .collect()
}

fn check(tokenizer: &Tokenizer, text: &str, name: &str) {
    for truncation in [Truncation::End, Truncation::Start, Truncation::Reject] {
        let found = tokenizer.tokenize(text, truncation);
        assert_eq!(found, expected(tokenizer, text, truncation), "{name}, {truncation:?}: {text:?}");
    }
    let list = expected_list(tokenizer, text);
    assert_eq!(tokenizer.count(text), Ok(list.len()), "{name}: {text:?}");
    assert_eq!(tokenizer.tokens(text, true), Ok(list), "{name}: {text:?}");
}

#[test]
fn odd_texts_have_the_tokens_of_the_whole_text() {
    for (path, is_real) in tokenizers() {
        for lowercase in [false, true] {
            for special_as_text in [false, true] {
                let mut tokenizer = Tokenizer::read(&path, 30, lowercase).expect("a tokenizer");
                tokenizer.inner.set_encode_special_tokens(special_as_text);
                assert!(tokenizer.bert.is_some() && tokenizer.cuts.is_some(), "{}", path.display());
                let mut random = fastrand::Rng::with_seed(u64::from(is_real));
                for round in 0..50 {
                    let text = odd_text(&mut random, if round % 25 == 0 { 1500 } else { 40 });
                    check(&tokenizer, &text, &path.display().to_string());
                }
            }
        }
    }
}

#[test]
fn lowercasing_before_berts_normalizer_keeps_the_tokens_of_the_whole_text() {
    for (path, _) in tokenizers() {
        let mut file: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).expect("a file")).expect("JSON");
        let mut bert = file["normalizer"].take();
        for lowercase in [true, false] {
            bert["lowercase"] = lowercase.into();
            file["normalizer"] = json!({ "type": "Sequence", "normalizers": [{ "type": "Lowercase" }, bert] });
            let tokenizer = Tokenizer::parse(file.to_string().as_bytes(), &path, 30, false).expect("a tokenizer");
            assert!(tokenizer.bert.is_some() && tokenizer.cuts.is_some(), "{}", path.display());
            let mut random = fastrand::Rng::with_seed(2);
            for round in 0..50 {
                let text = odd_text(&mut random, if round % 25 == 0 { 1500 } else { 40 });
                check(&tokenizer, &text, &path.display().to_string());
            }
        }
    }
}

#[test]
fn long_runs_have_the_tokens_of_the_whole_text() {
    for (path, _) in tokenizers() {
        let tokenizer = Tokenizer::read(&path, 400, false).expect("a tokenizer");
        for part in [
            "!", "a", "zx", "zx ", "\u{4e00}", "<", "</s>", " <mask>", "\u{301}", "a\u{301}", "!\u{327}", "\u{130} ",
            "\r\n",
        ] {
            let name = path.display().to_string();
            check(&tokenizer, &part.repeat(9000 / part.len()), &name);
            check(&tokenizer, &format!("{}\u{301}\u{327} x", part.repeat(4090 / part.len())), &name);
        }
    }
}

#[test]
fn long_texts_are_tokenized_in_pieces_and_only_as_far_as_necessary() {
    let (path, _) = tokenizers().swap_remove(0);
    let tokenizer = Tokenizer::read(&path, 10, false).expect("a tokenizer");
    for part in ["word ", "!", "\u{4e00}"] {
        let text = part.repeat((1 << 20) / part.len());
        for truncation in [Truncation::End, Truncation::Start] {
            let mut work = tokenizer.start(&text, None, truncation);
            let piece = work.step().expect("a step").expect("a piece");
            assert!((1000..=4096).contains(&piece), "{piece} bytes of {part:?}");
            assert_eq!(work.step(), Ok(None), "more than 10 tokens are known");
            assert_eq!(work.finish(), tokenizer.tokenize(&text, truncation));
        }
    }
}

#[test]
fn the_excluded_tokens_of_a_prompt_before_a_long_text_are_known() {
    let (path, _) = tokenizers().swap_remove(0);
    let tokenizer = Tokenizer::read(&path, 10, false).expect("a tokenizer");
    let prompt = tokenizer.prompt("zx zx: ", true).expect("a prompt");
    for (words, remaining) in [(0, true), (1, true), (2000, false)] {
        let text = "!".repeat(words);
        let whole = format!("{}{text}", prompt.text());
        for truncation in [Truncation::End, Truncation::Start] {
            let tokenized = tokenizer.tokenize_with(&text, Some(&prompt), truncation).expect("tokens");
            assert_eq!(
                tokenized.ids.as_slice(),
                tokenizer.tokenize(&whole, truncation).expect("tokens").ids.as_slice()
            );
            let dropped = truncation == Truncation::Start && !remaining;
            let of_prompt = tokenizer.count(prompt.text()).expect("a count") - tokenizer.suffix.len();
            assert_eq!(tokenized.ids.excluded(), if dropped { tokenizer.prefix.len() } else { of_prompt });
        }
    }
}

#[test]
fn other_tokenizers_get_texts_whole() {
    let mut tokenizer = super::tokenizer(false);
    assert!(tokenizer.bert.is_none() && tokenizer.cuts.is_none());
    let (path, _) = tokenizers().swap_remove(0);
    tokenizer.inner = tokenizers::Tokenizer::from_file(path).expect("a tokenizer");
    assert!(Cuts::of(&tokenizer.inner).is_some());
    let single_word = tokenizers::AddedToken::from("<name>", false).single_word(true);
    tokenizer.inner.add_tokens([single_word]).expect("added");
    assert!(Cuts::of(&tokenizer.inner).is_none(), "its neighbors decide whether it matches");
}

#[test]
fn added_tokens_with_white_space_or_chinese_characters_restrict_the_cuts() {
    let (path, _) = tokenizers().swap_remove(0);
    let with = |content: &str| {
        let mut tokenizer = Tokenizer::read(&path, 8, false).expect("a tokenizer");
        tokenizer.inner.add_tokens([tokenizers::AddedToken::from(content, false)]).expect("added");
        tokenizer.cuts = Cuts::of(&tokenizer.inner);
        tokenizer.bert = Bert::of(&tokenizer.inner);
        tokenizer
    };
    assert!(with("two words").cuts.is_none());
    for content in ["a!b", "!!", "x.", "\u{4e00}"] {
        let tokenizer = with(content);
        let text = format!("{content}! ").repeat(3000);
        check(&tokenizer, &text, content);
        check(&tokenizer, &"!x".repeat(6000), content);
        check(&tokenizer, &content.repeat(6000), content);
    }
}

#[test]
fn the_names_of_special_tokens_can_be_plain_text() {
    for (path, _) in tokenizers() {
        let mut tokenizer = Tokenizer::read(&path, 100, false).expect("a tokenizer");
        let [end] = tokenizer.suffix[..] else { panic!("one special token ends a text") };
        let name = tokenizer.inner.id_to_token(end).expect("its name");
        let text = format!("a {name} b");
        let ends = |tokenizer: &Tokenizer| {
            let ids = tokenizer.tokenize(&text, Truncation::End).expect("tokens").ids;
            ids.as_slice().iter().filter(|&&id| id == end).count()
        };
        assert_eq!((ends(&tokenizer), tokenizer.differs_from_pytorch(&text)), (2, false));
        tokenizer.set_special_tokens(SpecialTokens::Text);
        assert_eq!((ends(&tokenizer), tokenizer.differs_from_pytorch(&text)), (1, true));
        assert!(tokenizer.differs_from_pytorch(&name.to_uppercase()) && !tokenizer.differs_from_pytorch("a < / s > b"));
    }
}
