# `just` lists the recipes; CONTRIBUTING.md says when each is needed.

[private]
default:
    @just --list --unsorted

# Build and serve the default model
serve *arguments:
    cargo run --release -- serve {{ arguments }}

# Format
fmt:
    cargo fmt --all

# Check formatting, clippy, spelling, shell scripts and workflows
lint:
    .ci/lint

# Correct the spelling that `just lint` rejects
typos:
    "$(.ci/environment lint .ci/lint.txt)/typos" --write-changes

# Run every test, as the README says
test *arguments:
    cargo test --locked --release --workspace {{ arguments }}

# Run the unit tests of every crate, or of one: `just test-fast -p embedd-kernels`
test-fast *arguments="--workspace":
    cargo test --locked --lib {{ arguments }}

# Convert all-mpnet-base-v2 with a report, and compare every engine with PyTorch on all texts
accuracy:
    .ci/accuracy

# Run unit tests in release builds with debug assertions and overflow checks
test-checked:
    .ci/checked

# Write docs/API.md and docs/CONFIGURATION.md from the protos and the table of settings
docs:
    UPDATE_DOCS=1 cargo test --locked --lib --test it -- configuration_page api_reference

# Build the documentation of every crate, and open it
rustdoc:
    .ci/docs
    cargo doc --release --workspace --no-deps --document-private-items --open

# Check the web page in a headless Chromium
page *arguments:
    .ci/page {{ arguments }}

# Check the Dockerfile and the manifests in deploy/
manifests:
    .ci/manifests

# Check embedd.v1 against a commit (needs buf)
protocol commit="main":
    .ci/protocol {{ commit }}

# Check dependencies: advisories, licenses, bans, duplicates (needs cargo-deny)
deny:
    cargo deny --locked check

# Run the kernels under Miri (needs nightly Rust with miri)
miri:
    .ci/miri

# Type-check for 64-bit ARM (needs its target, and a C cross-compiler on other machines)
aarch64:
    .ci/aarch64

# Fuzz all targets, or some: `just fuzz 60 tokenizer` (needs nightly Rust and cargo-fuzz)
fuzz *arguments:
    .ci/fuzz {{ arguments }}

# Time the kernels, or with `engine` the native engine
bench name="kernels":
    cargo bench --locked --bench {{ name }}

# Attack servers in the memory of a pod: all, or those whose ids begin so (`just attacks M K02`); `--slow`: also slow ones
attacks *arguments:
    .ci/attacks {{ arguments }}

# Call the server with the clients of other servers: all, or those named with `--client`
clients *arguments:
    .ci/clients {{ arguments }}

# Run mixed traffic against a server
soak minutes="10":
    .ci/soak {{ minutes }}

# Run embedd on this machine's NVIDIA GPU and measure it beside PyTorch: `--quick`, `--install-pytorch`
prove-gpu *arguments:
    deploy/prove-gpu.sh {{ arguments }}

# Build the container image
image tag="embedd":
    docker build --tag {{ tag }} .

# Run everything that must pass on every change
ci:
    .ci/run
