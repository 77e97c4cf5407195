# The image of all processes of envprov: `envprov serve`, `envprov controller`, `envprov cleanup`.
# It runs as any user, on a read-only root file system, with a writable /tmp (Helm's caches).
#
# The base images are pinned by version. To pin them by digest as well:
#   docker build --build-arg PYTHON_IMAGE=python:3.11.15-slim-trixie@sha256:... --build-arg GO_IMAGE=golang:1.26.8-trixie@sha256:... .
# Python is of the minor version that the tests run on.
ARG GO_IMAGE=golang:1.26.8-trixie
ARG PYTHON_IMAGE=python:3.11.15-slim-trixie


# Helm, of the version and with the flags of the development cluster (k8s/devcluster/build).
FROM ${GO_IMAGE} AS helm
WORKDIR /src
COPY k8s/devcluster/modules/helm/ ./
RUN go mod download
RUN version=$(go list -m -f '{{.Version}}' helm.sh/helm/v4) \
    && CGO_ENABLED=0 go build -trimpath \
        -ldflags "-s -w -X helm.sh/helm/v4/internal/version.version=$version" \
        -o /out/helm helm.sh/helm/v4/cmd/helm


# The wheel of envprov, built with the locked build backend, and its locked run-time dependencies beside it.
FROM ${PYTHON_IMAGE} AS python
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
WORKDIR /src
COPY requirements.txt requirements-runtime.txt ./
RUN python -m venv /build && /build/bin/pip install --require-hashes -r requirements.txt
RUN python -m venv --without-pip /opt/envprov \
    && pip --python /opt/envprov/bin/python install --require-hashes --only-binary :all: -r requirements-runtime.txt
COPY LICENSE README.md pyproject.toml ./
COPY envprov/ envprov/
COPY webhooks/ webhooks/
COPY k8s/ k8s/
RUN /build/bin/pip wheel --no-deps --no-build-isolation --wheel-dir /wheels . \
    && pip --python /opt/envprov/bin/python install --no-deps --no-index /wheels/*.whl


FROM ${PYTHON_IMAGE}
COPY --from=helm /out/helm /usr/local/bin/helm
COPY --from=python /opt/envprov /opt/envprov
COPY helm/environment/ /charts/environment/
COPY LICENSE /usr/share/doc/envprov/LICENSE
# Modules were compiled when they were installed; nothing is written at run time but below HOME.
ENV PATH=/opt/envprov/bin:$PATH \
    HOME=/tmp \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
WORKDIR /tmp
# A number, so that runAsNonRoot can be checked; any other works as well.
USER 65532:65532
ENTRYPOINT ["envprov"]
