//! Embeddings as JSON.

use std::io::{self, BufWriter, Write};

use serde::Serialize;

use crate::cli::Output;
use embedd_client::Embedding;

#[derive(Serialize)]
struct Row<'a> {
    index: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<&'a str>,
    embedding: &'a [f32],
    token_count: u32,
    truncated: bool,
    cached: bool,
}

pub(super) struct Writer<W: Write> {
    out: BufWriter<W>,
    output: Output,
    begun: bool,
}

impl<W: Write> Writer<W> {
    pub(super) fn new(out: W, output: Output) -> Self {
        Self { out: BufWriter::new(out), output, begun: false }
    }

    pub(super) fn write(&mut self, index: u64, text: Option<&str>, embedding: &Embedding) -> io::Result<()> {
        let before: &[u8] = match (self.output, self.begun) {
            (Output::JsonLines, _) => b"",
            (Output::Json, false) => b"[\n",
            (Output::Json, true) => b",\n",
        };
        self.begun = true;
        let Embedding { values, token_count, truncated, cached } = embedding;
        let row =
            Row { index, text, embedding: values, token_count: *token_count, truncated: *truncated, cached: *cached };
        self.out.write_all(before)?;
        serde_json::to_writer(&mut self.out, &row)?;
        if self.output == Output::JsonLines { self.out.write_all(b"\n") } else { Ok(()) }
    }

    pub(super) fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }

    pub(super) fn finish(&mut self) -> io::Result<()> {
        let end: &[u8] = match (self.output, self.begun) {
            (Output::JsonLines, _) => b"",
            (Output::Json, false) => b"[]\n",
            (Output::Json, true) => b"\n]\n",
        };
        self.out.write_all(end)?;
        self.out.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(output: Output, texts: &[Option<&str>]) -> String {
        let mut bytes = Vec::new();
        let mut writer = Writer::new(&mut bytes, output);
        for (index, text) in texts.iter().enumerate() {
            let embedding = Embedding { values: vec![0.1, -2.0], token_count: 3, truncated: false, cached: true };
            writer.write(index as u64, *text, &embedding).expect("written");
        }
        writer.finish().expect("written");
        drop(writer);
        String::from_utf8(bytes).expect("text")
    }

    #[test]
    fn embeddings_are_one_object_per_line_or_one_array() {
        let row = r#"{"index":0,"embedding":[0.1,-2.0],"token_count":3,"truncated":false,"cached":true}"#;
        assert_eq!(written(Output::JsonLines, &[None]), format!("{row}\n"));
        assert_eq!(written(Output::JsonLines, &[]), "");
        let array: serde_json::Value =
            serde_json::from_str(&written(Output::Json, &[None, Some("a\"b")])).expect("JSON");
        assert_eq!((&array[0]["text"], &array[1]["text"]), (&serde_json::Value::Null, &"a\"b".into()));
        assert_eq!(written(Output::Json, &[]), "[]\n");
    }
}
