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
    python3 -m pip install numpy pillow pydantic pydicom pylibjpeg pylibjpeg-libjpeg pylibjpeg-openjpeg imagecodecs PyYAML tqdm
COPY --from=wheel /wheels /opt/s2d/wheels
RUN python3 -m pip install --no-deps /opt/s2d/wheels/*.whl
# An empty folder: `python -m` puts the working directory first on the path.
WORKDIR /run/s2d

# The pipeline names one image for all its steps: key phrases, evaluation and registration load the models themselves.
FROM common AS step
RUN python3 -m pip install torch transformers safetensors tokenizers sentencepiece huggingface_hub radgraph "ray[default,train]" kfp kfp-kubernetes \
    kubernetes minio pyarrow scipy click httpx dicomweb-client requests "tritonclient[http]" aiohttp psutil
# In a cluster a training step creates a RayJob instead of starting Ray in its own pod.
ENV S2D_RAY_MODE=kubernetes
USER 10001

FROM step AS train

FROM common AS triton
RUN python3 -m pip install torch transformers safetensors tokenizers sentencepiece huggingface_hub nvidia-pytriton
USER 10001

FROM common AS gateway
RUN python3 -m pip install fastapi uvicorn python-multipart "tritonclient[http]" aiohttp httpx
USER 10001
