# Images that run a topology, for machines without and with an NVIDIA GPU:
#   docker build --target cpu -t livepipe:cpu .
#   docker build --target cuda -t livepipe:cuda .
# Run: docker run --rm -p 127.0.0.1:9876:9876 livepipe:cpu run api --set api.host=0.0.0.0
# A topology of yours: -v ./live.yaml:/etc/livepipe/live.yaml:ro livepipe:cpu run /etc/livepipe/live.yaml
# The Python that constraints.txt is tested with.
ARG PYTHON_IMAGE=python:3.11-slim-bookworm

# The wheel. It alone changes when the code does, so that the layers with the dependencies stay.
FROM ${PYTHON_IMAGE} AS wheel
WORKDIR /source
COPY pyproject.toml MANIFEST.in README.md LICENSE launcher.py ./
COPY configs configs
COPY pipeline pipeline
COPY workers workers
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /dist .

FROM ${PYTHON_IMAGE} AS dependencies
SHELL ["/bin/bash", "-o", "pipefail", "-c"]
ENV PATH=/opt/livepipe/bin:$PATH
RUN python -m venv /opt/livepipe
WORKDIR /source
COPY pyproject.toml constraints.txt ./
# What pyproject.toml asks for: the core, and the extras in EXTRAS.
RUN printf '%s\n' \
    'import os, tomllib' \
    'project = tomllib.load(open("pyproject.toml", "rb"))["project"]' \
    'extras = project["optional-dependencies"]' \
    'wanted = [line for extra in os.environ["EXTRAS"].split() for line in extras[extra]]' \
    'print(*project["dependencies"], *wanted, sep="\n")' > requirements.py

FROM dependencies AS cpu-dependencies
# torch without CUDA, a tenth of the size.
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
RUN EXTRAS="torch" python requirements.py > requirements.txt \
    && pip install --no-cache-dir -c constraints.txt --extra-index-url "$TORCH_INDEX" -r requirements.txt

FROM dependencies AS cuda-dependencies
RUN EXTRAS="torch cuda" python requirements.py > requirements.txt \
    && pip install --no-cache-dir -c constraints.txt -r requirements.txt

FROM ${PYTHON_IMAGE} AS runtime
RUN useradd --uid 10001 --create-home livepipe \
    && install --directory --owner=livepipe --group=livepipe --mode=0700 /run/livepipe /var/lib/livepipe
ENV PATH=/opt/livepipe/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    XDG_RUNTIME_DIR=/run/livepipe
WORKDIR /var/lib/livepipe
# The REST service, and the embedded relay.
EXPOSE 9876 5678
# The launcher is process 1: it handles SIGTERM by draining, and reaps whatever its stages leave behind, so no init is
# needed. A stop may take 2 * limits.drain: docker run --stop-timeout 45.
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 CMD ["livepipe", "health"]
ENTRYPOINT ["livepipe"]
CMD ["run", "live"]

FROM runtime AS cuda
# The driver's libraries come from the host (NVIDIA Container Toolkit); `video` are those of NVENC and NVDEC.
ENV NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility,video
COPY --from=cuda-dependencies /opt/livepipe /opt/livepipe
RUN --mount=from=wheel,source=/dist,target=/dist pip install --no-cache-dir --no-index --no-deps /dist/*.whl
USER 10001:10001

# The last stage is what `docker build .` makes.
FROM runtime AS cpu
COPY --from=cpu-dependencies /opt/livepipe /opt/livepipe
RUN --mount=from=wheel,source=/dist,target=/dist pip install --no-cache-dir --no-index --no-deps /dist/*.whl
USER 10001:10001
