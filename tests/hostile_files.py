"""Files that try to do harm when they are loaded: by running a program, or by taking all time and memory.

Each is built here byte by byte. Those that could run something would create `canary` in the current folder.
"""

from __future__ import annotations

import base64
import io
import json
import pickle
import struct
import zipfile
import zlib
from collections.abc import Iterator

CANARY = "canary"
COMMAND = f"touch {CANARY}".encode()

STOP = b"."
EMPTY = b"\x80\x02}."
LEGACY_HEAD = (
    pickle.dumps(0x1950A86A20F9469CFC6C, 2)
    + pickle.dumps(1001, 2)
    + pickle.dumps(
        {"protocol_version": 1001, "little_endian": True, "type_sizes": {"short": 2, "int": 4, "long": 4}}, 2
    )
)


def text(value: bytes | str) -> bytes:
    raw = value.encode() if isinstance(value, str) else value
    return b"X" + struct.pack("<I", len(raw)) + raw


def named(module: str, name: str) -> bytes:
    return f"c{module}\n{name}\n".encode()


def called(module: str, name: str, argument: bytes = text(COMMAND)) -> bytes:
    """function(argument), left on the stack."""
    return named(module, name) + argument + b"\x85R"


def program(body: bytes) -> bytes:
    """A pickle of a table whose one value is what `body` leaves on the stack."""
    return b"\x80\x02}" + text("a") + body + b"s."


def storage(kind: bytes = named("torch", "FloatStorage"), key: str = "0", count: bytes = b"K\x04") -> bytes:
    return b"(" + text("storage") + kind + text(key) + text("cpu") + count + b"tQ"


def tensor(
    of: bytes | None = None, offset: bytes = b"K\x00", shape: bytes = b"K\x04\x85", stride: bytes = b"K\x01\x85"
) -> bytes:
    held = storage() if of is None else of
    return named("torch._utils", "_rebuild_tensor_v2") + b"(" + held + offset + shape + stride + b"\x89}tR"


def zipped(pickled: bytes, numbers: dict[str, bytes] | None = None, method: int = zipfile.ZIP_STORED) -> bytes:
    """As torch.save lays it out."""
    members = {"archive/data.pkl": pickled, "archive/version": b"3\n"}
    members |= {f"archive/data/{key}": raw for key, raw in (numbers or {"0": bytes(16)}).items()}
    return archive(list(members.items()), method)


def archive(members: list[tuple[str, bytes]], method: int = zipfile.ZIP_STORED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as file:
        for name, content in members:
            file.writestr(zipfile.ZipInfo(name), content, method)
    return buffer.getvalue()


def legacy(pickled: bytes, keys: list[str] | None = None, numbers: bytes = b"") -> bytes:
    return LEGACY_HEAD + pickled + pickle.dumps(keys or [], 2) + numbers


PROGRAMS: dict[str, bytes] = {
    f"call of {module}.{name}": program(called(module, name))
    for module, name in (
        ("os", "system"),
        ("posix", "system"),
        ("nt", "system"),
        ("os", "popen"),
        ("subprocess", "getoutput"),
        ("subprocess", "Popen"),
        ("builtins", "eval"),
        ("builtins", "exec"),
        ("__builtin__", "eval"),
        ("builtins", "getattr"),
        ("builtins", "__import__"),
        ("pkgutil", "resolve_name"),
        ("importlib", "import_module"),
        ("runpy", "run_path"),
        ("operator", "attrgetter"),
        ("functools", "partial"),
        ("pty", "spawn"),
        ("webbrowser", "open"),
        ("pickle", "loads"),
        ("numpy", "load"),
        ("torch", "load"),
        ("torch.hub", "load"),
        ("torch.serialization", "load"),
        ("torch._utils", "_rebuild_wrapper_subclass"),
        ("torch.jit", "load"),
        ("torch.nn.modules.container", "Sequential"),
        ("collections", "OrderedDict.fromkeys"),
        ("collections", "namedtuple"),
        ("_codecs", "decode"),
        ("torch", "FloatStorage.__new__"),
        ("torch\u200b", "FloatStorage"),
        ("", ""),
    )
} | {
    "names from the stack": program(text("os") + text("system") + b"\x93" + text(COMMAND) + b"\x85R"),
    "names from the memo": program(
        text("os") + b"q\x01" + text("system") + b"q\x020" + b"0h\x01h\x02\x93" + text(COMMAND) + b"\x85R"
    ),
    "names that are not text": program(text("os") + b"\x85" + text("system") + b"\x93"),
    "names that are bytes": program(b"C\x02os" + b"C\x06system" + b"\x93"),
    "INST": program(b"(" + text(COMMAND) + b"ios\nsystem\n"),
    "OBJ": program(b"(" + named("os", "system") + text(COMMAND) + b"o"),
    "EXT1": program(b"\x82\x01"),
    "EXT2": program(b"\x83\x01\x00"),
    "EXT4": program(b"\x84\x01\x00\x00\x00"),
    "NEWOBJ": program(named("os", "system") + text(COMMAND) + b"\x85\x81"),
    "NEWOBJ_EX": program(named("collections", "OrderedDict") + b")}\x92"),
    "state of a class": program(named("collections", "OrderedDict") + b"}" + text("__reduce__") + b"Nsb"),
    "state of a storage type": program(named("torch", "FloatStorage") + b"}" + text("dtype") + b"Nsb"),
    "state of a number": program(b"K\x01}b"),
    "state of a list": program(b"]}b"),
    "a call of text": program(text("os.system") + text(COMMAND) + b"\x85R"),
    "a call of a storage type": program(named("torch", "FloatStorage") + b"K\x04\x85R"),
    "a call without a tuple": program(named("collections", "OrderedDict") + b"]R"),
    "append to a table": program(b"}K\x01a"),
    "items of a list": program(b"]" + text("k") + b"K\x01s"),
    "persistent id as text": program(b"Pos.system\n"),
    "persistent id of a module": program(b"(" + text("module") + named("torch", "FloatStorage") + text("x") + b"tQ"),
    "persistent id of a name": program(text("0") + b"Q"),
    "persistent id with a program as its type": program(b"(" + text("storage") + called("os", "system") + b"tQ"),
    "another codec": program(named("_codecs", "encode") + text(COMMAND) + text("zip") + b"\x86R"),
    "numpy object": program(
        named("numpy.core.multiarray", "scalar")
        + (named("numpy", "dtype") + text("O8") + b"\x85R")
        + called("os", "system")
        + b"\x86R"
    ),
    "program in a state": program(
        named("pytorch_lightning.callbacks", "ModelCheckpoint") + b")\x81" + called("os", "system") + b"b"
    ),
    "program as a hook": program(
        named("torch._utils", "_rebuild_parameter") + b"(" + tensor() + b"\x88" + called("os", "system") + b"tR"
    ),
}
"""What a pickle may ask for that no weights need; each is tried in both of torch's layouts, and bare."""

NUMBER = struct.pack
TENSORS: dict[str, bytes] = {
    "storage of 2^47 numbers": program(tensor(storage(count=b"\x8a\x07" + bytes(5) + b"\x80\x00"))),
    "storage of -1 numbers": program(tensor(storage(count=b"J\xff\xff\xff\xff"))),
    "storage count as text": program(tensor(storage(count=text("4")))),
    "storage count as truth": program(tensor(storage(count=b"\x88"))),
    "storage that isn't there": program(tensor(storage(key="7"))),
    "storage outside the folder": program(tensor(storage(key="../version"))),
    "storage with a view": program(
        tensor(
            b"("
            + text("storage")
            + named("torch", "FloatStorage")
            + text("0")
            + text("cpu")
            + b"K\x04"
            + text("view")
            + b"tQ"
        )
    ),
    "tensor without a storage": program(tensor(b"N")),
    "tensor beyond its storage": program(tensor(shape=b"K\x05\x85")),
    "tensor from beyond its storage": program(tensor(offset=b"K\x01")),
    "tensor at a negative offset": program(tensor(offset=b"J\xff\xff\xff\xff")),
    "tensor of a negative size": program(tensor(shape=b"J\xff\xff\xff\xff\x85")),
    "tensor with a negative step": program(tensor(offset=b"K\x03", stride=b"J\xff\xff\xff\xff\x85")),
    "tensor with a huge step": program(tensor(shape=b"K\x02\x85", stride=b"J\xff\xff\xff\x7f\x85")),
    "tensor of 2^40 copies": program(tensor(shape=b"\x8a\x06\x00\x00\x00\x00\x00\x01\x85", stride=b"K\x00\x85")),
    "tensor of sizes that overflow": program(
        tensor(shape=b"J\xff\xff\xff\x7fJ\xff\xff\xff\x7fJ\xff\xff\xff\x7f\x87", stride=b"K\x00K\x00K\x00\x87")
    ),
    "tensor with more sizes than steps": program(tensor(shape=b"K\x02K\x02\x86")),
    "tensor of a shape that isn't a tuple": program(tensor(shape=b"]")),
}
"""Tensors that don't fit their storage of four numbers."""


def floods() -> Iterator[tuple[str, bytes]]:
    """Pickles that take time or memory: each is short for what it asks."""
    yield "two million instructions", b"\x80\x02" + b"N0" * 1_000_000 + b"}."
    yield "lists in lists", b"\x80\x02" + b"]" * 500_000 + b"a" * 499_999 + STOP
    yield "tuples in tuples", b"\x80\x02)" + b"\x85" * 550_000 + STOP
    yield "marks", b"\x80\x02" + b"(" * 700_000 + b"}."
    yield "sets", b"\x80\x02]" + b"(" + b"\x8f" * 500_000 + b"e."
    yield "a memo without end", b"\x80\x02]" + b"".join(b"r" + NUMBER("<I", i * 7) for i in range(700_000)) + STOP
    yield "a text longer than the file", b"\x80\x02\x8d" + NUMBER("<Q", 1 << 62) + b"abc"
    yield "bytes longer than the file", b"\x80\x02\x8e" + NUMBER("<Q", (1 << 64) - 1) + b"abc"
    yield "a number of two gigabytes", b"\x80\x02\x8b" + NUMBER("<i", (1 << 31) - 1) + b"abc"
    yield "a number of a million digits", b"\x80\x02\x8b" + NUMBER("<i", 1_000_000) + b"\xff" * 1_000_000 + STOP
    yield "a length below zero", b"\x80\x02T" + NUMBER("<i", -5) + b"abc"
    yield "a wide text", b"\x80\x02" + text("\U0001f600".encode() + b"a" * (15 << 20)) + STOP
    yield (
        "the same list copied into tables",
        (
            b"\x80\x02]("
            + b"K\x01K\x02\x86" * 100_000
            + b"eq\x01"
            + (named("collections", "OrderedDict") + b"q\x02h\x01\x85R0")
            + b"h\x02h\x01\x85R0" * 10_000
            + b"}."
        ),
    )
    yield "the same text encoded again and again", (
        b"\x80\x02" + named("_codecs", "encode") + b"q\x01" + text("a" * 1_000_000) + b"q\x02"
        + text("latin1") + b"q\x03(" + b"h\x01h\x02h\x03\x86R" * 50_000 + b"t."
    )  # fmt: skip
    yield "tables that hold each other a billion times", (
        b"\x80\x02}q\x00" + b"".join(
            b"(" + b"".join(text(f"{i}") + b"h" + bytes([level]) for i in range(10)) + b"dq" + bytes([level + 1])
            for level in range(30)
        ) + STOP
    )  # fmt: skip
    yield "a table in itself", b"\x80\x02}q\x00" + text("a") + b"h\x00s."
    yield "keys that collide", (
        b"\x80\x02}(" + b"".join(
            b"\x8a\x0a" + (i * ((1 << 61) - 1)).to_bytes(10, "little") + b"N" for i in range(100_000)
        ) + b"u."
    )  # fmt: skip
    yield "a tuple as a key", b"\x80\x02}" + b")" + b"\x85" * 300_000 + b"Ns."
    yield "nothing on the stack", b"\x80\x020000."
    yield "a memo that isn't there", b"\x80\x02h\x05."
    yield "no end", b"\x80\x02}"
    yield "protocol 0", b"(lp0\nS'a'\np1\na."


def archives() -> Iterator[tuple[str, bytes]]:
    """Zip archives that are not what they look like."""
    good = program(tensor())
    bad = program(called("os", "system"))
    first, second = "archive/data.pkl", "other/data.pkl"
    yield "two data.pkl", archive([(first, good), (second, bad), ("archive/data/0", bytes(16))])
    yield (
        "two records of one name",
        _twice(archive([(first, good), ("archive/data.pkX", bad), ("archive/data/0", bytes(16))])),
    )
    yield "no data.pkl", archive([("a/b.txt", b"x")])
    yield "a zip in a zip", archive([("inner.zip", zipped(bad))])
    yield "a numpy archive", archive([("arr_0.npy", b"\x93NUMPY")])
    yield "TorchScript", archive([(first, good), ("archive/data/0", bytes(16)), ("archive/code/__torch__.py", b"1")])
    yield "TorchScript constants", archive([(first, good), ("archive/constants.pkl", EMPTY)])
    yield "a stranger inside", archive([(first, good), ("archive/data/0", bytes(16)), ("archive/run.sh", COMMAND)])
    yield "a name that leads outside", archive([(first, good), ("../../evil.py", b"1")])
    yield "big-endian", archive([(first, good), ("archive/byteorder", b"big"), ("archive/data/0", bytes(16))])
    yield "a pickle of a gigabyte", zipped(b"\x80\x02" + bytes(100 << 20), method=zipfile.ZIP_DEFLATED)
    yield "numbers of a hundred megabytes", zipped(good, {"0": bytes(100 << 20)}, zipfile.ZIP_DEFLATED)
    yield (
        "a record that unpacks to more than it says",
        _patched_size(zipped(good, {"0": bytes(64)}, zipfile.ZIP_DEFLATED)),
    )
    yield "a wrong checksum", zipped(good).replace(b"_rebuild_tensor_v2", b"_rebuild_tensor_v3", 1)
    yield "cut off", zipped(good)[:-30]
    yield "cut off in the middle", zipped(good)[:120]
    yield "encrypted", _flagged(zipped(good))
    yield "records in one place", _overlapping(zipped(good, {"0": bytes(16), "1": bytes(16)}))
    yield "a record beyond the end", zipped(good).replace(NUMBER("<2I", 16, 16), NUMBER("<2I", 1 << 30, 1 << 30))
    yield "a million records claimed", _many(zipped(good))
    yield "a directory beyond the end", _far(zipped(good))
    yield "another name in front of the record", zipped(good).replace(b"archive/data.pkl", b"archive/data.pkX", 1)
    yield "only the start of a zip", b"PK\x03\x04" + bytes(200)


def _end(file: bytes) -> int:
    return file.rfind(b"PK\x05\x06")


def _twice(file: bytes) -> bytes:
    return file.replace(b"archive/data.pkX", b"archive/data.pkl")


def _many(file: bytes) -> bytes:
    return file[: _end(file) + 8] + NUMBER("<2H", 65_000, 65_000) + file[_end(file) + 12 :]


def _far(file: bytes) -> bytes:
    return file[: _end(file) + 16] + NUMBER("<I", 0x7FFFFFFF) + file[_end(file) + 20 :]


def _flagged(file: bytes) -> bytes:
    at = file.find(b"PK\x01\x02") + 8
    return file[:at] + b"\x01" + file[at + 1 :]


def _overlapping(file: bytes) -> bytes:
    """The entry of data/1 points at data/0's local header, whose name is changed to fit."""
    entries = file[file.find(b"PK\x01\x02") :]
    zero = entries.find(b"archive/data/0") - 46
    one = entries.find(b"archive/data/1") - 46
    moved = entries[: one + 42] + entries[zero + 42 : zero + 46] + entries[one + 46 :]
    return file[: -len(entries)] + moved


def _patched_size(file: bytes) -> bytes:
    at = file.rfind(b"archive/version") - 46
    entry = file.rfind(b"PK\x01\x02", 0, at)
    name = file.rfind(b"archive/data.pkl") - 46
    assert entry > 0
    return file[: name + 24] + NUMBER("<I", 50) + file[name + 28 :]


def safetensors(header: bytes, data: bytes = b"", length: int | None = None) -> bytes:
    return NUMBER("<Q", len(header) if length is None else length) + header + data


def headers() -> Iterator[tuple[str, bytes]]:
    """Safetensors files whose header takes time or memory."""
    entry = b'{"dtype":"F32","shape":[0],"data_offsets":[0,0]}'
    yield "a million tensors", safetensors(b"{" + b",".join(b'"%d":%s' % (i, entry) for i in range(400_000)) + b"}")
    yield "lists without end", safetensors(b'{"a":[' + b"[]," * 8_000_000 + b"[]]}")
    yield "depth", safetensors(b'{"a":' * 1_000_000)
    yield "a header of 2^63 bytes", safetensors(b"{}", length=1 << 63)
    yield "a header of 90 megabytes", safetensors(b"{}" + b" " * (90 << 20))
    yield "wide characters", safetensors(
        b'{"__metadata__":{"a":"' + "\U0001f600".encode() + b"a" * (24 << 20) + b'"}}'
    )  # fmt: skip
    yield (
        "two million metadata fields",
        safetensors(b'{"__metadata__":{' + b",".join(b'"%d":""' % i for i in range(2_000_000)) + b"}}"),
    )
    yield "a number of a million digits", safetensors(b'{"a":{"dtype":"F32","shape":[' + b"9" * 1_000_000 + b"]}}")
    yield (
        "offsets that overlap",
        safetensors(
            json.dumps({n: {"dtype": "U8", "shape": [4], "data_offsets": [0, 4]} for n in "ab"}).encode(), bytes(4)
        ),
    )
    yield (
        "a shape that overflows",
        safetensors(json.dumps({"a": {"dtype": "F32", "shape": [1 << 47] * 16, "data_offsets": [0, 0]}}).encode()),
    )


YAML_RUNS = (
    "!!python/object/apply:os.system ['touch canary']",
    "!!python/object/new:os.system ['touch canary']",
    "!!python/name:os.system",
    "!!python/module:os",
    "!!python/object:subprocess.Popen {args: touch canary}",
    "!!python/tuple [1]",
)


def sidecars() -> Iterator[tuple[str, str]]:
    """.yaml files beside a checkpoint: title and text."""
    for text in YAML_RUNS:
        yield text[2:30], f"model: {text}"
    laughs = "".join(f"a{level + 1}: &a{level + 1} [{', '.join([f'*a{level}'] * 9)}]\n" for level in range(9))
    yield "a billion laughs", f"a0: &a0 [x]\n{laughs}model: *a9\n"
    yield "depth", "model: " + "[" * 500
    yield "a list of lists", "model: [" + "[]," * 20_000 + "[]]"
    yield "a number of a million digits", f"model: {'9' * 1_000_000}"
    yield "a megabyte", "model:\n" + "  x: 1\n" * 150_000
    yield "an unknown dtype of prediction", "model: {params: {parameterization: [v]}}"


def pictures() -> Iterator[tuple[str, bytes]]:
    """Pictures with an embedding in a text chunk: title and PNG."""

    def png(*chunks: bytes, width: int = 1, height: int = 1, rows: bytes = b"\0\0\0\0") -> bytes:
        header = chunk(b"IHDR", struct.pack(">2I5B", width, height, 8, 2, 0, 0, 0))
        return b"\x89PNG\r\n\x1a\n" + header + b"".join(chunks) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND")

    def chunk(kind: bytes, data: bytes = b"") -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    def embedding(content: bytes) -> bytes:
        return png(chunk(b"tEXt", b"sd-ti-embedding\0" + base64.b64encode(content)))

    yield "JSON of a hundred thousand levels", embedding(b"[" * 100_000)
    yield "a table of a million levels", embedding(b'{"a":' * 1_000_000)
    yield "rows of different lengths", embedding(b'{"string_to_param":{"*":{"TORCHTENSOR":[[1],[2,3]]}}}')
    yield "numbers that aren't", embedding(b'{"string_to_param":{"*":{"TORCHTENSOR":[[1e999]]}}}')
    yield "a million vectors", embedding(b'{"string_to_param":{"*":{"TORCHTENSOR":[' + b"[0]," * 1_000_000 + b"[0]]}}}")
    yield "a pickle", embedding(PROGRAMS["call of os.system"])
    bomb = zlib.compress(b"A" * (200 << 20))
    yield "a text that unpacks to 200 megabytes", png(chunk(b"zTXt", b"sd-ti-embedding\0\0" + bomb))
    yield "an international one", png(chunk(b"iTXt", b"sd-ti-embedding\0\1\0\0\0" + bomb))
    yield "no picture", b"\x89PNG\r\n\x1a\n" + bytes(50)


def hostile_files() -> Iterator[tuple[str, str, bytes]]:
    """Title, suffix and content of every file; all must be refused."""
    for title, pickled in PROGRAMS.items():
        yield f"zip: {title}", ".ckpt", zipped(pickled)
        yield f"legacy: {title}", ".pt", legacy(pickled)
        yield f"bare: {title}", ".bin", pickled
    yield "named .safetensors: zip", ".safetensors", zipped(PROGRAMS["call of os.system"])
    yield "named .safetensors: legacy", ".safetensors", legacy(PROGRAMS["call of os.system"])
    yield "named .safetensors: bare", ".safetensors", PROGRAMS["call of os.system"]
    yield "named .safetensors: good pickle", ".safetensors", zipped(program(tensor()))
    yield "legacy: in the first pickle", ".pt", PROGRAMS["call of os.system"] + LEGACY_HEAD
    yield (
        "legacy: in the third pickle",
        ".pt",
        LEGACY_HEAD[: LEGACY_HEAD.rfind(b"\x80\x02}")] + b"\x80\x02" + called("os", "system") + STOP,
    )
    yield "legacy: in the list of keys", ".pt", LEGACY_HEAD + EMPTY + b"\x80\x02" + called("os", "system") + STOP
    yield "legacy: numbers missing", ".pt", legacy(program(tensor()), ["0"])
    yield "legacy: numbers cut off", ".pt", legacy(program(tensor()), ["0"], NUMBER("<q", 4) + bytes(12))
    yield "legacy: another count", ".pt", legacy(program(tensor()), ["0"], NUMBER("<q", 1 << 40) + bytes(16))
    yield "legacy: a key twice", ".pt", legacy(program(tensor()), ["0", "0"], (NUMBER("<q", 4) + bytes(16)) * 2)
    yield "legacy: a key too many", ".pt", legacy(program(tensor()), ["0", "1"], (NUMBER("<q", 4) + bytes(16)) * 2)
    for title, pickled in TENSORS.items():
        yield f"zip: {title}", ".ckpt", zipped(pickled)
    for title, pickled in floods():
        yield f"zip: {title}", ".ckpt", zipped(pickled, method=zipfile.ZIP_STORED)
    for title, content in archives():
        yield f"zip: {title}", ".ckpt", content
    for title, content in headers():
        yield f"safetensors: {title}", ".safetensors", content
    yield "tar: torch 0.1", ".pt", b"sys_info" + bytes(504)
    yield "gzip", ".ckpt", b"\x1f\x8b" + zlib.compress(EMPTY)
    yield "GGUF", ".ckpt", b"GGUF" + bytes(100)
    yield "HTML", ".ckpt", b"<!DOCTYPE html><html>Not found</html>"
    yield "nothing", ".ckpt", b""
    yield "one byte", ".pt", b"\x80"
