# The three images of Modelwright: operator, optimizer, runtime (the model server).
#
#   docker build --target operator -t registry.example/modelwright/operator .
#
# BASE holds Python 3.11 and glibc, nothing else is needed: no shell, no package manager.
# BUILD_BASE holds pip; when it also holds binutils, libraries are stripped. Only BUILD_BASE runs
# anything, on the building machine's own architecture, so another --platform needs no emulation.
# pip reads the PIP_ arguments from its environment: an index or wheels of your own, a proxy's CA.
ARG BASE=gcr.io/distroless/python3-debian12:nonroot
ARG BUILD_BASE=docker.io/library/python:3.11-bookworm

FROM --platform=${BUILDPLATFORM} ${BUILD_BASE} AS build
ENV PYTHONDONTWRITEBYTECODE=1 PYTHONHASHSEED=0 PIP_ROOT_USER_ACTION=ignore
WORKDIR /src
COPY pyproject.toml tools/image/layout.py /src/

FROM build AS operator-site
ARG TARGETARCH PIP_INDEX_URL PIP_NO_INDEX PIP_FIND_LINKS PIP_CERT
COPY constraints/operator.txt /src/constraints/
RUN ["python3", "/src/layout.py", "dependencies", "operator", "/site"]

FROM build AS optimizer-site
ARG TARGETARCH PIP_INDEX_URL PIP_NO_INDEX PIP_FIND_LINKS PIP_CERT
COPY constraints/optimizer.txt /src/constraints/
RUN ["python3", "/src/layout.py", "dependencies", "optimizer", "/site"]

FROM build AS runtime-site
ARG TARGETARCH PIP_INDEX_URL PIP_NO_INDEX PIP_FIND_LINKS PIP_CERT
COPY constraints/runtime.txt /src/constraints/
RUN ["python3", "/src/layout.py", "dependencies", "runtime", "/site"]

FROM build AS code
COPY artifact/ operator/ optimizer/ runtime_image/ /code/
RUN ["python3", "/src/layout.py", "code", "/code"]

FROM --platform=${TARGETPLATFORM} ${BASE} AS base
ENV PYTHONPATH=/opt/modelwright/lib PYTHONSAFEPATH=1 PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
WORKDIR /
USER 10001:10001
LABEL org.opencontainers.image.vendor="Modelwright" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="0.1.0"

FROM base AS operator
COPY --from=operator-site /site /opt/modelwright/lib
COPY --from=code /code/modelwright_artifact /opt/modelwright/lib/modelwright_artifact
COPY --from=code /code/modelwright_operator /opt/modelwright/lib/modelwright_operator
LABEL org.opencontainers.image.title="modelwright operator" \
      org.opencontainers.image.description="Builds, places and watches inference models on Kubernetes"
EXPOSE 8080 8081
ENTRYPOINT ["python3", "-m", "modelwright_operator"]

FROM base AS optimizer
ENV ORT_DISABLE_TELEMETRY=1
COPY --from=optimizer-site /site /opt/modelwright/lib
COPY --from=code /code/modelwright_artifact /opt/modelwright/lib/modelwright_artifact
COPY --from=code /code/modelwright_optimizer /opt/modelwright/lib/modelwright_optimizer
LABEL org.opencontainers.image.title="modelwright optimizer" \
      org.opencontainers.image.description="Finds and measures the fastest build of a model inside its accuracy budget"
EXPOSE 8090
ENTRYPOINT ["python3", "-m", "modelwright_optimizer"]

FROM base AS runtime
ENV ORT_DISABLE_TELEMETRY=1
COPY --from=runtime-site /site /opt/modelwright/lib
COPY --from=code /code/modelwright_artifact /opt/modelwright/lib/modelwright_artifact
COPY --from=code /code/modelwright_runtime /opt/modelwright/lib/modelwright_runtime
LABEL org.opencontainers.image.title="modelwright runtime" \
      org.opencontainers.image.description="Serves a measured model over the Open Inference Protocol"
EXPOSE 8080 8082 9000
ENTRYPOINT ["python3", "-m", "modelwright_runtime"]
