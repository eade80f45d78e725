# pairloom serve as a container; docs/container.md says how to use it.
#
#   docker build --tag pairloom .
#   docker run --read-only --tmpfs /tmp --publish 127.0.0.1:8000:8000 --volume ./model:/models/model:ro pairloom
FROM python:3.12-slim-trixie AS build

COPY pyproject.toml README.md LICENSE /build/
COPY src /build/src
# Of pairloom: the light core, a server and collections. With qdrant, also those on a Qdrant server.
ARG EXTRAS=serve,search
# pip stays behind: what runs needs none.
RUN python -m venv --without-pip /opt/pairloom \
    && pip --python /opt/pairloom/bin/python install --no-cache-dir --disable-pip-version-check "/build[$EXTRAS]"


FROM python:3.12-slim-trixie

# A fixed number, by which the owner of mounted folders can be named.
RUN groupadd --gid 10001 pairloom \
    && useradd --uid 10001 --gid pairloom --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin pairloom \
    && install --directory --mode=0755 /models \
    && install --directory --mode=0750 --owner=pairloom --group=pairloom /data
COPY --from=build /opt/pairloom /opt/pairloom

# Inside, all addresses; what is published decides who reaches it. Models are those that are mounted: none is fetched.
ENV PATH=/opt/pairloom/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    HF_HUB_OFFLINE=1 \
    PAIRLOOM_SERVE_HOST=0.0.0.0 \
    PAIRLOOM_SERVE_PORT=8000 \
    PAIRLOOM_SERVE_MODELS=/models/model

USER 10001:10001
WORKDIR /data
VOLUME /data
EXPOSE 8000
# Without the proxy that the environment may name.
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 \
    CMD ["python", "-c", "import os, urllib.request as web; web.build_opener(web.ProxyHandler({})).open(f\"http://127.0.0.1:{os.environ['PAIRLOOM_SERVE_PORT']}/health/ready\", timeout=4)"]
ENTRYPOINT ["pairloom", "serve"]
