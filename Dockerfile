# One file, one target per role: step (pipeline steps), train (Ray), triton (serving), gateway (what a hospital reaches).
#
#   docker build --target gateway --build-arg BASE=python:3.11-slim@sha256:<digest> .
#   docker build --target triton --build-arg TRITON_BASE=nvcr.io/nvidia/tritonserver:24.10-py3@sha256:<digest> .
#
# A base comes by digest, never by tag alone, and has Python 3.11: the project's and the Python backend's minor version.
# Each role installs only what it imports; every version, also of what is pulled in, is the lock's.
ARG BASE
ARG TRITON_BASE=${BASE}

FROM ${BASE} AS wheel
COPY . /source
RUN python3 -m pip wheel --no-cache-dir --no-deps --wheel-dir /wheels /source

FROM ${BASE} AS common
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_CONSTRAINT=/opt/s2d/requirements.lock \
    PYTHONUNBUFFERED=1 HF_HUB_OFFLINE=1
COPY requirements.lock /opt/s2d/
COPY --from=wheel /wheels /opt/s2d/wheels
RUN python3 -m pip install --no-deps /opt/s2d/wheels/*.whl && \
    useradd --uid 10001 --user-group --no-create-home s2d && install -d -o s2d /run/s2d
# An empty folder: `python -m` puts the working directory first on the path.
WORKDIR /run/s2d

FROM common AS step
RUN python3 -m pip install kfp kubernetes minio numpy pandas pillow pyarrow pydantic pydicom pylibjpeg \
    pylibjpeg-libjpeg pylibjpeg-openjpeg PyYAML scipy tqdm
USER 10001

FROM step AS train
USER 0
RUN python3 -m pip install torch transformers peft safetensors tokenizers "ray[train]" radgraph pycocoevalcap matplotlib
USER 10001

FROM common AS gateway
RUN python3 -m pip install fastapi uvicorn python-multipart numpy pillow pydantic "tritonclient[http]"
USER 10001
ENTRYPOINT ["python3", "-m", "serving.gateway"]

FROM ${TRITON_BASE} AS triton
COPY requirements.lock /opt/s2d/
COPY --from=wheel /wheels /opt/s2d/wheels
# NumPy stays at the lock's 1.26: the Python backend of this Triton returns empty tensors under NumPy 2.
RUN PIP_CONSTRAINT=/opt/s2d/requirements.lock python3 -m pip install --no-cache-dir torch transformers peft safetensors \
    tokenizers numpy scipy pillow pydantic pydicom pylibjpeg pylibjpeg-libjpeg pylibjpeg-openjpeg PyYAML tqdm && \
    python3 -m pip install --no-cache-dir --no-deps /opt/s2d/wheels/*.whl && install -d -o 1000 /run/s2d
WORKDIR /run/s2d
USER 1000
