"""Reads a pickle's bytes into plain data; nothing in it can run.

A pickle is a program for a small stack machine. This machine knows the opcodes that PyTorch's files use, and instead
of importing what a pickle names it looks the name up in a table of its own. Work and memory are bounded by the
pickle's length, and what an opcode builds is counted before it is built.
Source: Python's Lib/pickletools.py for the opcodes.
"""

from __future__ import annotations

import pickletools
import struct
from collections.abc import Callable, Hashable, Mapping
from typing import Any, Protocol

from webui.core.errors import BadModelFile

MAX_PICKLE = 16 << 20
MAX_TEXT = 1 << 20
MAX_WORK = 250_000
"""Opcodes and items built; a checkpoint needs about 35 for a tensor. Within this a hostile file costs under 100 MB."""
MAX_KEY = 1 << 40
"""Whole numbers as keys of tables are node numbers and widths; huge ones can be chosen to collide."""


class Known(Protocol):
    """Something that a pickle may name. `call` is what applying it to arguments gives, in plain data."""

    def call(self, machine: Machine, arguments: tuple[Any, ...]) -> Any: ...


class _Stop(Exception):
    """The pickle is at its end."""


class Machine:
    """Runs one pickle. known: (module, name) -> what stands for it. load_storage: the persistent id's meaning.

    file: the name of the file, for messages.
    """

    def __init__(
        self,
        file: str,
        known: Mapping[tuple[str, str], Known],
        load_storage: Callable[[Any], Any],
    ):
        self.file = file
        self._known = known
        self._load_storage = load_storage
        self._stack: list[Any] = []
        self._marks: list[list[Any]] = []
        self._memo: dict[int, Any] = {}
        self._data = b""
        self._at = 0
        self._work = 0

    def run(self, data: bytes | memoryview, start: int = 0) -> tuple[Any, int]:
        """What the pickle at `start` holds, and where it ends. Raises: BadModelFile."""
        self._data = bytes(data[start : start + MAX_PICKLE])
        self._at, self._stack, self._marks, self._memo = 0, [], [], {}
        try:
            while True:
                opcode = self._data[self._at]
                self._at += 1
                self.spend(1)
                handler = _OPCODES.get(opcode)
                if handler is None:
                    raise self.refused(f"its pickle has the instruction {_title(opcode)}, which no weights need")
                handler(self)
        except _Stop:
            return self._pop(), start + self._at
        except (IndexError, KeyError, ValueError, struct.error) as error:
            raise BadModelFile(
                f"{self.file} is damaged: its pickle can't be read; copy or download it again."
            ) from error

    def spend(self, items: int) -> None:
        """Count work before it is done. Raises: BadModelFile past the limit."""
        self._work += items
        if self._work > MAX_WORK:
            raise self.refused("its pickle is far larger than any model's")

    def refused(self, why: str) -> BadModelFile:
        return BadModelFile(f"{self.file} is refused: {why}. Get the model as .safetensors, or from another source.")

    def key(self, value: Any) -> Hashable:
        """`value` if it may be a key: text, small whole numbers, None, or a named thing."""
        if value is None or isinstance(value, str | bool) or (isinstance(value, int) and abs(value) < MAX_KEY):
            return value
        if isinstance(value, bytes) or getattr(value, "is_name", False):
            return value
        raise self.refused(f"its pickle uses {type(value).__name__} values as keys")

    def global_named(self, module: Any, name: Any) -> Known:
        """What stands for a named thing. Raises: BadModelFile naming what isn't allowed."""
        if type(module) is not str or type(name) is not str:
            raise self.refused("its pickle names things by something other than text")
        found = self._known.get((module, name))
        if found is None:
            raise self.refused(
                f"its pickle asks for {_shown(module)}.{_shown(name)}, which no weights need and which can run programs"
            )
        return found

    # What the opcodes do ------------------------------------------------------------------------------------------

    def _take(self, count: int) -> bytes:
        if count < 0 or self._at + count > len(self._data):
            raise ValueError("more bytes claimed than there are")
        taken = self._data[self._at : self._at + count]
        self._at += count
        return taken

    def _skip(self, count: int) -> None:
        self._take(count)

    def _number(self, form: str) -> Any:
        return struct.unpack(form, self._take(struct.calcsize(form)))[0]

    def _line(self) -> str:
        end = self._data.index(b"\n", self._at)
        if end - self._at > 1000:
            raise ValueError("a line too long for a name")
        line = self._take(end - self._at).decode("utf-8")
        self._at += 1
        return line

    def _push(self, value: Any) -> None:
        self._stack.append(value)

    def _pop(self) -> Any:
        return self._stack.pop()

    def _since_mark(self) -> list[Any]:
        items = self._stack
        self._stack = self._marks.pop()
        self.spend(len(items) // 8)
        return items

    def _mark(self) -> None:
        self._marks.append(self._stack)
        self._stack = []

    def _text(self, length: int) -> None:
        if length > MAX_TEXT:
            raise ValueError("a text too long")
        self._push(self._take(length).decode("utf-8", "surrogatepass"))

    def _old_text(self, length: int) -> None:
        """Python 2's plain strings, which were bytes."""
        if length > MAX_TEXT:
            raise ValueError("a text too long")
        self._push(self._take(length).decode("latin-1"))

    def _long(self, length: int) -> None:
        if length > 64:
            raise ValueError("a number too long")
        self._push(int.from_bytes(self._take(length), "little", signed=True))

    def _pop_list(self) -> list[Any]:
        top = self._stack[-1]
        if type(top) is not list:
            raise self.refused(f"its pickle appends to {type(top).__name__}")
        return top

    def _append(self) -> None:
        value = self._pop()
        self._pop_list().append(value)

    def _extend(self) -> None:
        values = self._since_mark()
        self._pop_list().extend(values)

    def _set_items(self, items: list[Any]) -> None:
        target = self._stack[-1]
        if not isinstance(target, dict):
            raise self.refused(f"its pickle sets items of {type(target).__name__}")
        if len(items) % 2:
            raise ValueError("a key without a value")
        for key, value in zip(items[::2], items[1::2], strict=True):
            target[self.key(key)] = value

    def _set_item(self) -> None:
        value, key = self._pop(), self._pop()
        self._set_items([key, value])

    def _table(self) -> None:
        items = self._since_mark()
        self._push({})
        self._set_items(items)

    def _add_items(self) -> None:
        items = self._since_mark()
        target = self._stack[-1]
        if type(target) is not set:
            raise self.refused(f"its pickle adds items to {type(target).__name__}")
        target.update(self.key(item) for item in items)

    def _tuple(self, count: int) -> None:
        if count > len(self._stack):
            raise ValueError("too few values")
        items = tuple(self._stack[-count:])
        del self._stack[-count:]
        self._push(items)

    def _remember(self, index: int) -> None:
        self._memo[index] = self._stack[-1]

    def _recall(self, index: int) -> None:
        self._push(self._memo[index])

    def _global(self) -> None:
        module, name = self._line(), self._line()
        self._push(self.global_named(module, name))

    def _stack_global(self) -> None:
        name, module = self._pop(), self._pop()
        self._push(self.global_named(module, name))

    def _call(self) -> None:
        arguments, function = self._pop(), self._pop()
        if type(arguments) is not tuple or not hasattr(function, "call"):
            raise self.refused("its pickle calls something that can't be called")
        self._push(function.call(self, arguments))

    def _build(self) -> None:
        state, target = self._pop(), self._stack[-1]
        if type(target) is dict:
            return  # an OrderedDict's attributes, such as _metadata
        if not hasattr(target, "set_state"):
            raise self.refused(f"its pickle changes the state of {type(target).__name__}")
        target.set_state(self, state)

    def _persistent(self) -> None:
        self._push(self._load_storage(self._pop()))

    def _pop_one(self) -> None:
        self._pop()

    def _pop_mark(self) -> None:
        self._since_mark()

    def _empty_set(self) -> None:
        self.spend(3)  # an empty one takes 216 bytes
        self._push(set())

    def _stop(self) -> None:
        raise _Stop


def _title(opcode: int) -> str:
    return next((known.name for known in pickletools.opcodes if ord(known.code) == opcode), str(opcode))


def _shown(name: str) -> str:
    printable = name if name.isprintable() else name.encode("unicode_escape").decode("ascii")
    return printable if len(printable) <= 80 else f"{printable[:77]}..."


_OPCODES: Mapping[int, Callable[[Machine], None]] = {
    ord(code): handler
    for code, handler in {
        "\x80": lambda m: m._skip(1),  # PROTO
        "\x95": lambda m: m._skip(8),  # FRAME
        ".": Machine._stop,
        "(": Machine._mark,
        "0": Machine._pop_one,
        "1": Machine._pop_mark,
        "2": lambda m: m._push(m._stack[-1]),  # DUP
        "N": lambda m: m._push(None),
        "\x88": lambda m: m._push(True),
        "\x89": lambda m: m._push(False),
        "J": lambda m: m._push(m._number("<i")),
        "K": lambda m: m._push(m._number("<B")),
        "M": lambda m: m._push(m._number("<H")),
        "\x8a": lambda m: m._long(m._number("<B")),
        "\x8b": lambda m: m._long(m._number("<i")),
        "G": lambda m: m._push(m._number(">d")),
        "X": lambda m: m._text(m._number("<I")),
        "\x8c": lambda m: m._text(m._number("<B")),
        "\x8d": lambda m: m._text(m._number("<Q")),
        "T": lambda m: m._old_text(m._number("<i")),
        "U": lambda m: m._old_text(m._number("<B")),
        "B": lambda m: m._push(m._take(m._number("<I"))),
        "C": lambda m: m._push(m._take(m._number("<B"))),
        "\x8e": lambda m: m._push(m._take(m._number("<Q"))),
        "]": lambda m: m._push([]),
        "l": lambda m: m._push(m._since_mark()),
        "a": Machine._append,
        "e": Machine._extend,
        ")": lambda m: m._push(()),
        "t": lambda m: m._push(tuple(m._since_mark())),
        "\x85": lambda m: m._tuple(1),
        "\x86": lambda m: m._tuple(2),
        "\x87": lambda m: m._tuple(3),
        "}": lambda m: m._push({}),
        "d": Machine._table,
        "s": Machine._set_item,
        "u": lambda m: m._set_items(m._since_mark()),
        "\x8f": Machine._empty_set,
        "\x90": Machine._add_items,
        "q": lambda m: m._remember(m._number("<B")),
        "r": lambda m: m._remember(m._number("<I")),
        "\x94": lambda m: m._remember(len(m._memo)),
        "h": lambda m: m._recall(m._number("<B")),
        "j": lambda m: m._recall(m._number("<I")),
        "c": Machine._global,
        "\x93": Machine._stack_global,
        "R": Machine._call,
        "\x81": Machine._call,  # NEWOBJ
        "b": Machine._build,
        "Q": Machine._persistent,
    }.items()
}
"""Left out on purpose: INST, OBJ, EXT*, PERSID, NEWOBJ_EX, buffers, frozen sets, and protocol 0's text numbers."""
