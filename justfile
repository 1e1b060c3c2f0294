# The commands of the house. `just` alone lists them.
_default:
    @just --list

# Form, lints and the rules of the house: what takes a minute
check:
    cargo fmt --check
    cargo clippy --locked --all-targets -- -D warnings
    cargo test --locked --test tidy
    @if command -v cargo-deny >/dev/null; then cargo deny --locked check; else echo "cargo-deny is not installed: skipped"; fi

# Every test, on real parts
test *arguments:
    scripts/test {{ arguments }}

# What a change must pass
ci:
    .ci/run

# The long proofs: crashes at random, guards removed
prove:
    scripts/prove

# Lag, start, memory, size: the figures of docs/performance.md
bench:
    cargo bench --locked --bench lag
    cargo bench --locked --bench ticker
    scripts/figures

# Mend the form
fmt:
    cargo fmt

# Write jobs.schema.json from the types
schema:
    cargo run --locked --quiet -- config schema > jobs.schema.json

# Run the daemon with the shipped table
run:
    cargo run --release --locked
