//! The reference set: texts, and their embeddings by PyTorch.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use embedd_kernels::CpuInstructions;
use embedd_model::accuracy::cosine;
use embedd_model::reference::{ReferenceSet, ReferenceText};
use embedd_proto::GetModelRequest;
use safetensors::SafeTensors;
use safetensors::tensor::TensorView;

use super::models::Model;
use super::server::{Server, embed};
use super::skips::not_tested;

/// The number of texts in the reference set of each real model.
const TEXTS: usize = 253;

/// How close the vectors of a model must be to PyTorch's.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Nearness {
    /// The minimum cosine of a text.
    pub(crate) min_cosine: f64,
    /// The minimum mean of these cosines.
    mean_cosine: f64,
}

/// Whether the sums of the portable model cannot saturate on this CPU. If they can, reports that exact sums are not tested.
pub(crate) fn portable_sums_are_exact() -> bool {
    let exact = CpuInstructions::widest().has_int8_dot_products();
    if !exact {
        not_tested("the portable model's accuracy where INT8 sums do not saturate: this CPU has no INT8 dot products");
    }
    exact
}

impl Nearness {
    pub(crate) const FLOAT32: Self = Self { min_cosine: 0.99999, mean_cosine: 0.99999 };

    /// For INT8 models with exact sums: the native model on every CPU, and the portable model on CPUs with INT8 dot
    /// products.
    pub(crate) const INT8: Self = Self { min_cosine: 0.995, mean_cosine: 0.9993 };

    /// For the portable model on this CPU.
    pub(crate) fn portable() -> Self {
        if portable_sums_are_exact() { Self::INT8 } else { Self { min_cosine: 0.99, mean_cosine: 0.998 } }
    }

    pub(crate) fn holds(self, min_cosine: f64, mean_cosine: f64) -> bool {
        min_cosine >= self.min_cosine && mean_cosine >= self.mean_cosine
    }
}

/// The minimum cosine of a text alone to the same text in a padded batch.
pub(crate) const MIN_BATCH_COSINE: f64 = 0.9999;

pub(crate) fn load(model: Model) -> ReferenceSet {
    let set = ReferenceSet::read(&model.reference()).expect("the reference set");
    assert_eq!(set.texts.len(), TEXTS, "the whole reference set");
    set
}

/// A file with every fifth text of mpnet's reference set: the model is large, and `.ci/accuracy` compares all texts.
pub(crate) fn excerpt() -> &'static Path {
    static EXCERPT: OnceLock<PathBuf> = OnceLock::new();
    EXCERPT.get_or_init(|| {
        let bytes = fs::read(Model::Mpnet.reference()).expect("the reference set");
        let file = SafeTensors::deserialize(&bytes).expect("safetensors");
        let metadata = SafeTensors::read_metadata(&bytes).expect("metadata").1.metadata().clone();
        let tensor = |name: &'static str| {
            let tensor = file.tensor(name).expect("a tensor");
            let rows: Vec<&[u8]> = match name {
                "texts" => tensor.data().split_inclusive(|&byte| byte == b'\n').collect(),
                _ => tensor.data().chunks(tensor.data().len() / TEXTS).collect(),
            };
            let rows: Vec<&[u8]> = rows.into_iter().step_by(5).collect();
            let data = rows.concat();
            let mut shape = tensor.shape().to_vec();
            shape[0] = if name == "texts" { data.len() } else { rows.len() };
            (name, tensor.dtype(), shape, data)
        };
        let tensors = ["embeddings", "token_counts", "texts"].map(tensor);
        let views = tensors
            .iter()
            .map(|(name, dtype, shape, data)| (*name, TensorView::new(*dtype, shape.clone(), data).expect("a tensor")));
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("mpnet-excerpt.safetensors");
        fs::write(&path, safetensors::serialize(views, metadata).expect("a file")).expect("written");
        path
    })
}

pub(crate) fn find<'s>(set: &'s ReferenceSet, id: &str) -> &'s ReferenceText {
    set.texts.iter().find(|text| text.id == id).expect("a text of the reference set")
}

/// Asserts that the served model has the embeddings of PyTorch. The conversion has compared the texts in process. Here they
/// are embedded over gRPC, alone and in batches. A text's two embeddings must `agree`.
pub(crate) async fn assert_near_pytorch(
    server: &Server,
    model: Model,
    nearness: Nearness,
    agree: impl Fn(&[f32], &[f32]) -> bool,
) {
    let texts = match model {
        Model::Mpnet => ReferenceSet::read(excerpt()).expect("the excerpt").texts,
        Model::MiniLm | Model::Small => load(model).texts,
    };
    let mut client = server.client().await;
    let served = client.get_model(GetModelRequest {}).await.expect("the model").into_inner();
    let accuracy = served.accuracy.expect("the conversion measured it");
    assert_eq!((served.name.as_str(), accuracy.texts as usize), (model.id(), texts.len()));
    assert!(nearness.holds(accuracy.min_cosine, accuracy.mean_cosine), "{accuracy:?}");

    for texts in texts.chunks(64) {
        let request: Vec<&str> = texts.iter().map(|text| text.text.as_str()).collect();
        let response = embed(&mut client, &request).await;
        assert_eq!((response.model.as_str(), response.embeddings.len()), (model.id(), texts.len()));
        for (text, together) in texts.iter().zip(response.embeddings) {
            let alone = embed(&mut client, &[&text.text]).await.embeddings.remove(0);
            let agreement = cosine(&alone.values, &together.values);
            assert!(agree(&alone.values, &together.values), "{}: {agreement}", text.id);
            for embedding in [alone, together] {
                assert_eq!(embedding.token_count, text.token_count, "{}", text.id);
                let cosine = cosine(&embedding.values, &text.embedding);
                assert!(cosine >= nearness.min_cosine, "{}: {cosine}", text.id);
            }
        }
    }
}
