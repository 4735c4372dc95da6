"""Functions as text, and what the names in it stand for."""

from __future__ import annotations

import ast
import builtins
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import FunctionType
from typing import Any


class FunctionText:
    """A function that loops may call.

    Attributes:
        name: Of the function.
        path: Its file.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        assert isinstance(function, FunctionType)
        self._function, self.__doc__ = function, function.__doc__
        self.name, self.path = function.__name__, function.__code__.co_filename

    def __call__(self, *arguments: Any) -> Any:
        """Run it as Python does, for tests: functions of vectors exist in compiled loops only."""
        return self._function(*arguments)

    def tree(self) -> ast.FunctionDef:
        """Return its text, parsed."""
        return _functions_of(self.path)[self._function.__code__.co_firstlineno]

    def names(self) -> dict[str, Any]:
        """Return what names stand for that are no variables."""
        cells = self._function.__closure__ or ()
        free = zip(self._function.__code__.co_freevars, cells, strict=True)
        enclosed = {name: cell.cell_contents for name, cell in free}
        return {**vars(builtins), **self._function.__globals__, **enclosed}

    def makes_arrays(self) -> bool:
        """Return whether it makes arrays, so that it becomes a part of its caller."""
        nodes = ast.walk(self.tree())
        return any(isinstance(n, ast.Attribute) and n.attr in {"empty", "zeros"} for n in nodes)


@cache
def _functions_of(path: str) -> dict[int, ast.FunctionDef]:
    """Return the functions of a file by the line that they, or their decorators, begin on."""
    tree = ast.parse(Path(path).read_bytes())
    return {
        min([node.lineno, *(one.lineno for one in node.decorator_list)]): node
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef)
    }
