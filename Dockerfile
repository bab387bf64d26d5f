# The command in an image, for the CPU or for NVIDIA's GPUs; docs/platforms.md says how to run it and how far it was tried.
#
#   docker build --tag iconvsr .                                     torch as the package index has it: with CUDA on x86_64
#   docker build --tag iconvsr --build-arg TORCH_INDEX=ADDRESS .     CPU only: ADDRESS is the package index that PyTorch's
#                                                                    installation page gives for it

FROM debian:trixie-slim AS build
# Debian's packages have the versions of the image's release; pinning them would break the build at each security update.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends gcc libc6-dev python3-venv python3-dev \
    && rm -rf /var/lib/apt/lists/*
RUN python3 -m venv /opt/iconvsr
# Before the source: a change of ours does not install torch again. pyproject.toml states the versions.
ARG TORCH_INDEX=
# hadolint ignore=DL3013
RUN /opt/iconvsr/bin/pip install --no-cache-dir ${TORCH_INDEX:+--index-url "$TORCH_INDEX"} torch torchvision
COPY . /source
RUN /opt/iconvsr/bin/pip install --no-cache-dir "/source[command]" \
    && rm -rf /opt/iconvsr/lib/python3.*/site-packages/pip*

FROM debian:trixie-slim
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends python3 \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 1000 --create-home iconvsr \
    && mkdir --mode=1777 /models /video
COPY --from=build /opt/iconvsr /opt/iconvsr
# HOME: any --user may write there. NVIDIA_*: what the container toolkit mounts.
ENV PATH=/opt/iconvsr/bin:$PATH \
    HOME=/tmp \
    ICONVSR_MODELS=/models \
    NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility
USER 1000:1000
WORKDIR /video
ENTRYPOINT ["iconvsr"]
CMD ["--help"]
