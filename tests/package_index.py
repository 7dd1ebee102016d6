"""A package index on the loopback interface, and wheels of our own making for it."""

from __future__ import annotations

import hashlib
import io
import struct
import threading
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import torch
from torch import Tensor


def wheel(name: str, version: str, files: Mapping[str, bytes]) -> bytes:
    """A wheel that suits every machine and holds `files` and a licence."""
    info = f"{name}-{version}.dist-info/"
    about = {
        "METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        "WHEEL": "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        "LICENSE": "Do as you like.\n",
    }
    everything = {**files, **{info + key: text.encode() for key, text in about.items()}}
    record = "".join(f"{path},,\n" for path in (*everything, info + "RECORD"))
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for path, data in (*everything.items(), (info + "RECORD", record.encode())):
            archive.writestr(path, data)
    return packed.getvalue()


@contextmanager
def package_index(project: str, file: str, data: bytes) -> Iterator[str]:
    """The address of an index with one file of one project."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path == f"/simple/{project}/":
                body, kind = f'<a href="/files/{file}">{file}</a>'.encode(), "text/html"
            elif self.path == f"/files/{file}":
                body, kind = data, "application/octet-stream"
            else:
                self.send_error(404)
                return
            self.send_response(200)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/simple"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def rrdb_weights(features: int = 8, growth: int = 32, blocks: int = 1, seed: int = 0) -> dict[str, Tensor]:
    """A small RRDBNet (R-ESRGAN 4x) with seeded weights that fit half precision, in the network's order."""
    generator = torch.Generator().manual_seed(seed)
    sizes = [("conv_first", 3, features)]
    for block in range(blocks):
        for dense in (1, 2, 3):
            inner = f"body.{block}.rdb{dense}.conv"
            sizes += [(f"{inner}{k}", features + (k - 1) * growth, growth) for k in range(1, 5)]
            sizes += [(f"{inner}5", features + 4 * growth, features)]
    sizes += [(name, features, features) for name in ("conv_body", "conv_up1", "conv_up2", "conv_hr")]
    sizes += [("conv_last", features, 3)]
    found: dict[str, Tensor] = {}
    for name, inner_channels, outer in sizes:
        spread = (2 / (inner_channels * 9)) ** 0.5
        weight = torch.randn(outer, inner_channels, 3, 3, generator=generator) * spread
        found[f"{name}.weight"] = weight.half().float()
        found[f"{name}.bias"] = torch.rand(outer, generator=generator) * 0.1
    return found


def as_ncnn(weights: Mapping[str, Tensor]) -> tuple[bytes, bytes]:
    """The convolutions and PReLUs as ncnn's two files, text and numbers, with half-precision weights."""
    lines, numbers = [], b""
    for name in (key.removesuffix(".weight") for key in weights if key.endswith(".weight")):
        weight = weights[f"{name}.weight"].numpy()
        if weight.ndim == 1:
            lines.append(f"PReLU {name} 1 1 a b 0={weight.size}")
            numbers += weight.astype(np.float32).tobytes()
            continue
        has_bias = f"{name}.bias" in weights
        lines.append(f"Convolution {name} 1 1 a b 0={weight.shape[0]} 1=3 4=1 5={int(has_bias)} 6={weight.size}")
        half = weight.astype(np.float16).tobytes()
        numbers += struct.pack("<I", 0x01306B47) + half + b"\0" * (-len(half) % 4)
        numbers += weights[f"{name}.bias"].numpy().tobytes() if has_bias else b""
    head = ["7767517", f"{len(lines) + 1} {len(lines) + 1}", "Input data 0 1 data"]
    return "\n".join([*head, *lines, ""]).encode(), numbers
