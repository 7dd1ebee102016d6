"""One formula of a schedule or prompt: checked by its syntax tree, then computed by numexpr for all frames at once.

The text is never executed: a tree of allowed operators, names and functions is written out again, and numexpr, which
has an interpreter of its own, reads what was written.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping
from typing import Any

from webui.extensions.api import InvalidRequest

LONGEST = 2000
FUNCTIONS = {
    "sin": 1, "cos": 1, "tan": 1, "arcsin": 1, "arccos": 1, "arctan": 1, "arctan2": 2, "sinh": 1, "cosh": 1, "tanh": 1,
    "arcsinh": 1, "arccosh": 1, "arctanh": 1, "exp": 1, "expm1": 1, "log": 1, "log10": 1, "log1p": 1, "sqrt": 1,
    "abs": 1, "floor": 1, "ceil": 1, "where": 3, "real": 1, "imag": 1, "conj": 1,
}  # fmt: skip
_ARITHMETIC = {
    ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/", ast.FloorDiv: "//", ast.Mod: "%", ast.Pow: "**",
}  # fmt: skip
_BITWISE = {ast.BitAnd: "&", ast.BitOr: "|", ast.BitXor: "^"}
_SIGNS = {ast.USub: "-", ast.UAdd: "", ast.Invert: "~"}
_COMPARISONS = {ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">=", ast.Eq: "==", ast.NotEq: "!="}


class BadExpression(InvalidRequest):
    """A formula that can't be computed; the message is a clause without its subject."""


def evaluate(text: str, variables: Mapping[str, Any]) -> Any:
    """The formula's value as an array of float64, of the shape that the variables have together.

    variables: numbers or int64 arrays by name. Raises: BadExpression; a value that isn't finite is returned as it is.
    """
    import numexpr
    import numpy as np

    written, in_integers = _written(text, variables)
    number = np.int64 if in_integers else np.float64
    given = {name: np.asarray(value, dtype=number) for name, value in variables.items()}
    shape = np.broadcast_shapes(*(value.shape for value in given.values()))
    try:
        with np.errstate(all="ignore"):
            value = numexpr.evaluate(written, local_dict=given, global_dict={}, truediv=True)
    except ZeroDivisionError as error:
        raise BadExpression("divides by zero") from error
    except OverflowError as error:
        raise BadExpression("gets too large for a number") from error
    except (TypeError, ValueError, NotImplementedError, KeyError, RecursionError) as error:
        raise BadExpression(f"can't be computed ({' '.join(str(error).split())[:100]})") from error
    if np.iscomplexobj(value):
        raise BadExpression("gives a complex number; take its real(...) or imag(...)")
    return np.broadcast_to(np.asarray(value, dtype=np.float64), shape)


def _written(text: str, names: Mapping[str, Any]) -> tuple[str, bool]:
    """The formula as numexpr gets it, and whether it works on the bits of whole numbers."""
    if len(text) > LONGEST:
        raise BadExpression(f"is longer than {LONGEST} characters")
    try:
        tree = ast.parse(text.strip(), mode="eval").body
        in_integers = _uses_bits(tree)
        return _write(tree, names, in_integers), in_integers
    except SyntaxError as error:
        raise BadExpression(f"can't be read ({error.msg})") from error
    except (RecursionError, MemoryError) as error:
        raise BadExpression("is nested too deeply") from error
    except ValueError as error:  # a null byte, or a number of thousands of digits
        raise BadExpression("can't be read") from error


def _write(node: ast.expr, names: Mapping[str, Any], in_integers: bool) -> str:
    def write(inner: ast.expr) -> str:
        return _write(inner, names, in_integers)

    match node:
        case ast.Constant(value=bool() | str() | bytes() | complex()) | ast.Constant(value=None):
            raise BadExpression(f"has {ast.unparse(node)[:40]} where a number is expected")
        case ast.Constant(value=int() as value):
            # As floating-point numbers, so that 9**9**9 overflows at once and isn't computed to the last digit.
            return str(value) if in_integers else repr(float(value))
        case ast.Constant(value=float() as value):
            return repr(value) if abs(value) < float("inf") else "1e308*10"
        case ast.Name(id=name) if name in names:
            return name
        case ast.Name(id=name):
            raise BadExpression(f'has the unknown name "{name[:40]}"; there are {", ".join(names)}')
        case ast.UnaryOp(op=sign, operand=operand) if type(sign) in _SIGNS:
            return f"({_SIGNS[type(sign)]}{write(operand)})"
        case ast.BinOp(left=left, op=op, right=right) if type(op) in {**_ARITHMETIC, **_BITWISE}:
            if in_integers and isinstance(op, ast.Pow):
                raise BadExpression("has ** beside & | ~ on whole numbers, which don't go together")
            return f"({write(left)} {({**_ARITHMETIC, **_BITWISE})[type(op)]} {write(right)})"
        case ast.Compare(left=left, ops=[op], comparators=[right]) if type(op) in _COMPARISONS:
            return f"({write(left)} {_COMPARISONS[type(op)]} {write(right)})"
        case ast.Compare():
            raise BadExpression("has a chain of comparisons; write (a < b) & (b < c)")
        case ast.Call(func=ast.Name(id=name), args=arguments, keywords=[]) if name in FUNCTIONS:
            if len(arguments) != FUNCTIONS[name]:
                raise BadExpression(f"gives {name} {len(arguments)} values, it takes {FUNCTIONS[name]}")
            return f"{name}({', '.join(write(argument) for argument in arguments)})"
        case ast.Call(func=ast.Name(id=name)):
            raise BadExpression(f'calls the unknown function "{name[:40]}"')
        case _:
            raise BadExpression(f'has "{ast.unparse(node)[:40]}", which schedules don\'t know')


def _uses_bits(node: ast.expr) -> bool:
    """Whether & | ^ ~ work on numbers somewhere, and not on truth values as in (t > 3) & (t < 9)."""
    for inner in ast.walk(node):
        operands: tuple[ast.expr, ...] = ()
        if isinstance(inner, ast.BinOp) and type(inner.op) in _BITWISE:
            operands = (inner.left, inner.right)
        elif isinstance(inner, ast.UnaryOp) and isinstance(inner.op, ast.Invert):
            operands = (inner.operand,)
        if any(not _is_truth(operand) for operand in operands):
            return True
    return False


def _is_truth(node: ast.expr) -> bool:
    match node:
        case ast.Compare():
            return True
        case ast.UnaryOp(op=ast.Invert(), operand=operand):
            return _is_truth(operand)
        case ast.BinOp(op=ast.BitAnd() | ast.BitOr() | ast.BitXor(), left=left, right=right):
            return _is_truth(left) and _is_truth(right)
    return False
