# check=skip=SecretsUsedInArgOrEnv
# (the one it means is the path of a file)
# LM Desk with its built-in engine and the starter model. One image, two roles: see docker-compose.yml.
ARG PYTHON_IMAGE=python:3.12-slim

FROM ${PYTHON_IMAGE} AS build
# Empty means pip's own defaults; set them to build behind a mirror.
ARG PIP_INDEX_URL=
ARG PIP_EXTRA_INDEX_URL=
ARG PIP_TRUSTED_HOST=
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /build
RUN python -m venv /opt/lmdesk
# The dependencies first: they change less often than the program.
COPY requirements.lock ./
RUN /opt/lmdesk/bin/pip install --require-hashes --no-deps -r requirements.lock
COPY pyproject.toml README.md LICENSE ./
COPY src ./src
RUN python -m pip wheel --no-deps --wheel-dir dist . \
    && /opt/lmdesk/bin/pip install --no-deps dist/*.whl

FROM ${PYTHON_IMAGE}
# llama.cpp needs OpenMP, which its wheel does not carry.
RUN apt-get update \
    && apt-get install -y --no-install-recommends libgomp1 \
    && rm -rf /var/lib/apt/lists/* \
    && groupadd --gid 10001 lmdesk \
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /data lmdesk \
    && install -d -o 10001 -g 10001 -m 0700 /data
COPY --from=build /opt/lmdesk /opt/lmdesk
ENV PATH=/opt/lmdesk/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    LMDESK_DATA_DIR=/data \
    LMDESK_HOST=0.0.0.0 \
    LMDESK_PORT=7860 \
    LMDESK_TOKEN_FILE=/data/token \
    GRADIO_TEMP_DIR=/tmp/uploads
USER 10001:10001
WORKDIR /data
VOLUME /data
EXPOSE 7860 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --start-interval=1s --retries=3 \
    CMD ["python", "-c", "import os, urllib.request as u; u.urlopen('http://127.0.0.1:' + os.environ['LMDESK_PORT'] + '/readyz', timeout=4)"]
ENTRYPOINT ["lmdesk"]
CMD ["serve"]
