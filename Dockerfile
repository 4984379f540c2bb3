# An image that runs a topology. Build: docker build -t livepipe .
# Run: docker run --rm -p 9876:9876 -v ./configs:/configs:ro livepipe run /configs/live.yaml --set api.host=0.0.0.0
FROM python:3.12-slim

ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu

RUN useradd --create-home --uid 10001 livepipe
WORKDIR /app
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY launcher.py ./
COPY pipeline pipeline
COPY workers workers
COPY configs configs
RUN pip install --no-cache-dir -c constraints.txt --extra-index-url "$TORCH_INDEX" -e '.[torch]'

USER livepipe
ENV PYTHONUNBUFFERED=1
# The launcher is process 1: it handles SIGTERM by draining, and reaps whatever its stages leave behind.
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=120s \
    CMD ["python", "launcher.py", "health"]
ENTRYPOINT ["python", "launcher.py"]
CMD ["run", "configs/live.yaml"]
