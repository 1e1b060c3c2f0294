# The daemon in an image without a shell: 65532 runs it, the root may be read-only, only /data is written.
# Why it is built so: docs/decisions/0007-container.md. How to run it: docs/operations.md, Container.
#
#   docker build -t emponto --build-arg WORKERS_REVISION=$(git rev-parse HEAD) .
#
# A build that must come out the same tomorrow names digests: --build-arg BASE_IMAGE=gcr.io/distroless/cc-debian13@sha256:...
ARG RUST_IMAGE=docker.io/library/rust:1.95.0-slim-bookworm
ARG BASE_IMAGE=gcr.io/distroless/cc-debian13:nonroot

FROM ${RUST_IMAGE} AS builder
WORKDIR /build

# The dependencies are a layer of their own, built with a stub of the crate: it stays until Cargo.lock changes. No cache
# mounts: some builders of hosting platforms refuse them.
COPY Cargo.toml Cargo.lock ./
RUN mkdir src benches \
    && echo 'fn main() {}' >src/main.rs \
    && touch src/lib.rs benches/decay.rs benches/lag.rs benches/ticker.rs \
    && cargo build --release --locked --bin workers

# Files of the context keep their times, which may be older than what the stub left: cargo would take them for unchanged.
COPY migrations migrations
COPY src src
ARG WORKERS_REVISION
ARG RAILWAY_GIT_COMMIT_SHA
ARG SOURCE_COMMIT
RUN touch src/lib.rs src/main.rs \
    && WORKERS_REVISION="${WORKERS_REVISION:-${RAILWAY_GIT_COMMIT_SHA:-$SOURCE_COMMIT}}" \
       cargo build --release --locked --bin workers \
    && mkdir -p /out/data \
    && cp target/release/workers /out/workers

FROM ${BASE_IMAGE}
ARG WORKERS_REVISION
LABEL org.opencontainers.image.title="emponto" \
      org.opencontainers.image.description="A cron-and-interval scheduler daemon with a durable ledger of every due instant" \
      org.opencontainers.image.version="0.1.0" \
      org.opencontainers.image.revision="${WORKERS_REVISION}" \
      org.opencontainers.image.licenses="MIT OR Apache-2.0"

WORKDIR /app
COPY --from=builder /out/workers /usr/local/bin/workers
# Owned by the user: a named volume that is mounted here for the first time takes the owner over.
COPY --from=builder --chown=65532:65532 /out/data /data
# The table of this repository, to be replaced: COPY your own over it, or mount it.
COPY jobs.toml /app/jobs.toml

# `container` says so where the runtime leaves no mark: the daemon then listens on all addresses. SQLite spills large sorts
# into a folder it can write.
ENV container=oci \
    WORKERS_DATA_DIR=/data \
    SQLITE_TMPDIR=/data

USER 65532:65532
EXPOSE 8000
HEALTHCHECK --interval=30s --timeout=6s --start-period=30s --retries=3 CMD ["/usr/local/bin/workers", "health", "--live"]
ENTRYPOINT ["/usr/local/bin/workers"]
