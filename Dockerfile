# One file, one target per role: step (pipeline steps), train (Ray), triton (serving), gateway (what a hospital reaches).
#
#   docker build --target gateway --build-arg BASE=python:3.11-slim@sha256:<digest> .
#
# The base comes by digest, never by tag alone. It has Python 3.11 with a shared libpython, which Triton's Python backend
# loads. Each role installs only what it imports; every version, also of what is pulled in, is the lock's.
ARG BASE

FROM ${BASE} AS wheel
COPY . /source
RUN python3 -m pip wheel --no-cache-dir --no-deps --wheel-dir /wheels /source

FROM ${BASE} AS common
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_CONSTRAINT=/opt/s2d/requirements.lock \
    PYTHONUNBUFFERED=1 HF_HUB_OFFLINE=1
COPY requirements.lock /opt/s2d/
RUN useradd --uid 10001 --user-group --no-create-home s2d && install -d -o s2d /run/s2d && \
    python3 -m pip install numpy pillow pydantic pydicom pylibjpeg pylibjpeg-libjpeg pylibjpeg-openjpeg PyYAML tqdm
COPY --from=wheel /wheels /opt/s2d/wheels
RUN python3 -m pip install --no-deps /opt/s2d/wheels/*.whl
# An empty folder: `python -m` puts the working directory first on the path.
WORKDIR /run/s2d

FROM common AS step
RUN python3 -m pip install kfp kfp-kubernetes kubernetes minio pyarrow scipy
USER 10001

FROM common AS train
RUN python3 -m pip install torch transformers peft safetensors tokenizers "ray[train]" kfp kfp-kubernetes kubernetes \
    minio pyarrow scipy radgraph
USER 10001

FROM common AS triton
RUN python3 -m pip install torch transformers peft safetensors tokenizers nvidia-pytriton
USER 10001

FROM common AS gateway
RUN python3 -m pip install fastapi uvicorn python-multipart "tritonclient[http]" aiohttp httpx
USER 10001
