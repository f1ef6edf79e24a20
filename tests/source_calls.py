"""Finds calls in Python source that run, unpickle or fetch something that is not in the source."""

from __future__ import annotations

import ast
from pathlib import Path

# Calls of these, and of all that is in these modules.
BUILTINS = {"eval", "exec", "compile", "__import__", "open", "breakpoint"}
MODULES = {
    "pickle", "_pickle", "cPickle", "dill", "cloudpickle", "joblib", "marshal", "shelve",
    "subprocess", "pty", "multiprocessing", "ctypes", "code", "codeop", "runpy",
    "urllib", "urllib3", "http", "ftplib", "smtplib", "socket", "socketserver", "ssl", "requests", "httpx", "aiohttp",
    "torch.hub", "torch.utils.model_zoo", "torch.utils.cpp_extension", "torch.package", "torch.jit",
}  # fmt: skip
FUNCTIONS = {
    "os.system", "os.popen", "os.startfile", "builtins.eval", "builtins.exec", "builtins.compile",
    "builtins.__import__", "torch.load", "torch.ops.load_library", "torch.classes.load_library", "numpy.load",
    "numpy.loads", "numpy.fromfile", "torch.from_file", "importlib.import_module", "importlib.__import__",
}  # fmt: skip
FAMILIES = ("os.exec", "os.spawn", "os.posix_spawn", "os.fork")


def forbidden_calls(source: str) -> list[str]:
    """What a file calls or imports that it should not, as "line: name"."""
    tree = ast.parse(source)
    names = _imported(tree)
    found = []
    for node in ast.walk(tree):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            found += [(node.lineno, name) for name in _full_names(node) if _in_module(name)]
        elif isinstance(node, (ast.Name, ast.Attribute)) and isinstance(node.ctx, ast.Load):
            name = _dotted(node, names)
            # Not only calls: a function can be passed on and called elsewhere.
            if name in BUILTINS or name in FUNCTIONS or name.startswith(FAMILIES) or _in_module(name):
                found.append((node.lineno, name))
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    safe = {(node.func.lineno, "torch.load") for node in calls if _is_safe_load(node, names)}
    return [f"{line}: {name}" for line, name in sorted(set(found)) if (line, name) not in safe]


def forbidden_calls_in(path: Path) -> list[str]:
    """The same of a file."""
    return forbidden_calls(path.read_text())


def _imported(tree: ast.AST) -> dict[str, str]:
    """What names of the file stand for."""
    names: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                names[alias.asname or alias.name.partition(".")[0]] = (
                    alias.name if alias.asname else alias.name.partition(".")[0]
                )
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                names[alias.asname or alias.name] = f"{node.module}.{alias.name}"
    return names


def _full_names(node: ast.Import | ast.ImportFrom) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    return [f"{node.module}.{alias.name}" for alias in node.names]


def _dotted(node: ast.AST, names: dict[str, str]) -> str:
    """The full name of ``a.b.c``; "" if it is none."""
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    if not isinstance(node, ast.Name):
        return ""
    return ".".join([names.get(node.id, node.id), *reversed(parts)])


def _in_module(name: str) -> bool:
    return any(name == module or name.startswith(module + ".") for module in MODULES)


def _is_safe_load(node: ast.Call, names: dict[str, str]) -> bool:
    """``torch.load(…, weights_only=True)``."""
    by_name = {keyword.arg: keyword.value for keyword in node.keywords}
    value = by_name.get("weights_only")
    return _dotted(node.func, names) == "torch.load" and isinstance(value, ast.Constant) and value.value is True
