"""A client in a process of its own: `kserve` and `tritonclient.grpc` define the same messages and cannot share one.

client_process.py kserve|tritonclient HTTP GRPC FILE...   every file by both protocols; one JSON line an answer
client_process.py cancel HTTP GRPC FILE COUNT             COUNT requests by gRPC, all but the first called off
"""

import asyncio
import hashlib
import json
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np

MODEL = "s2d_align"
OPTIONS = {"max_new_tokens": 40, "evidence": True}


def show(client: str, file: str, report: bytes, pixels: np.ndarray) -> None:
    seen = hashlib.sha256(np.ascontiguousarray(pixels).tobytes()).hexdigest()
    print(json.dumps({"client": client, "file": Path(file).name, "report": json.loads(report), "pixels": seen}))


def by_tritonclient(http: str, grpc: str, files: list[str]) -> None:
    import tritonclient.grpc
    import tritonclient.http

    for module, address in ((tritonclient.http, http), (tritonclient.grpc, grpc)):
        with module.InferenceServerClient(address) as client:
            for file in files:
                answer = client.infer(MODEL, [_input(module, file)], parameters=OPTIONS, request_id="q")
                show(module.__name__, file, answer.as_numpy("REPORT")[0], answer.as_numpy("PIXELS"))


async def by_kserve(http: str, grpc: str, files: list[str]) -> None:
    from kserve import InferenceGRPCClient, InferenceRESTClient, InferInput, InferRequest
    from kserve.inference_client import RESTConfig

    rest, remote = InferenceRESTClient(RESTConfig(protocol="v2")), InferenceGRPCClient(url=grpc)
    for file in files:
        image = InferInput("IMAGE", [1], "BYTES")
        image.set_data_from_numpy(np.array([Path(file).read_bytes()], dtype=object), binary_data=True)
        request = InferRequest(MODEL, [image], request_id="q", parameters=OPTIONS)
        for answer, name in (
            (await rest.infer(f"http://{http}", request, model_name=MODEL), "kserve REST"),
            (await remote.infer(request), "kserve gRPC"),
        ):
            outputs = {output.name: output.as_numpy() for output in answer.outputs}
            report = outputs["REPORT"][0]
            show(name, file, report, outputs["PIXELS"].astype(np.uint8))


def cancel(grpc: str, file: str, count: int) -> None:
    import tritonclient.grpc as triton

    ends: list[str] = []
    all_ended = threading.Event()

    def ended(result: Any, error: Exception | None) -> None:
        ends.append("report" if error is None else str(error))
        if len(ends) == count:
            all_ended.set()

    with triton.InferenceServerClient(grpc) as client:
        calls = [client.async_infer(MODEL, [_input(triton, file)], ended) for _ in range(count)]
        for call in calls[1:]:
            call.cancel()
        assert all_ended.wait(60)
    print(json.dumps(ends))


def _input(module: Any, file: str) -> Any:
    image = module.InferInput("IMAGE", [1], "BYTES")
    image.set_data_from_numpy(np.array([Path(file).read_bytes()], dtype=object))
    return image


if __name__ == "__main__":
    kind, http_address, grpc_address, *rest_of_line = sys.argv[1:]
    if kind == "kserve":
        asyncio.run(by_kserve(http_address, grpc_address, rest_of_line))
    elif kind == "cancel":
        cancel(grpc_address, rest_of_line[0], int(rest_of_line[1]))
    else:
        by_tritonclient(http_address, grpc_address, rest_of_line)
