"""quantbound from Python: runs the program, reads what it leaves.

>>> import quantbound
>>> quantbound.run(["sweep", "my.toml", "--out", "r"])      # doctest: +SKIP
>>> quantbound.load("r").table("measurements")              # doctest: +SKIP
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import shutil
import subprocess
import sysconfig
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Mapping, Optional, Sequence, Union

__all__ = ["Failed", "Run", "load", "program", "run"]

PathLike = Union[str, "os.PathLike[str]"]


class Failed(RuntimeError):
    """The program ended with another exit code than 0.

    ``code`` 1: a bound was violated, or a check failed; 2: bad usage or input; 130, 143: stopped by a signal.
    """

    def __init__(self, arguments: Sequence[str], code: int, message: str) -> None:
        super().__init__(f"quantbound {' '.join(arguments)}: exit code {code}: {message.strip()}")
        self.code = code
        self.message = message


def program() -> Path:
    """The program: what ``QUANTBOUND`` names, else the one installed beside this module, else the first on the path."""
    named = os.environ.get("QUANTBOUND")
    if named:
        return Path(named)
    ending = ".exe" if os.name == "nt" else ""
    folders = [sysconfig.get_path("scripts"), sysconfig.get_path("scripts", f"{os.name}_user")]
    for folder in folders:
        file = Path(folder) / f"quantbound{ending}"
        if file.is_file():
            return file
    found = shutil.which("quantbound")
    if found is None:
        raise FileNotFoundError("quantbound is not installed: pip install the wheel, or set QUANTBOUND to the program")
    return Path(found)


def run(
    arguments: Sequence[PathLike],
    *,
    check: bool = True,
    cwd: Optional[PathLike] = None,
) -> "subprocess.CompletedProcess[str]":
    """Runs the program with these arguments and returns its exit code and output as text.

    With ``check`` another exit code than 0 raises :class:`Failed`. ``json.loads(run([..., "--json"]).stdout)`` is what a
    command says in numbers.
    """
    words = [os.fspath(a) for a in arguments]
    done = subprocess.run([os.fspath(program()), *words], capture_output=True, text=True, cwd=cwd, check=False)
    if check and done.returncode != 0:
        raise Failed(words, done.returncode, done.stderr)
    return done


@dataclass(frozen=True)
class Run:
    """A finished run."""

    path: Path
    #: ``summary.json``: verdicts, and the numbers of each cell.
    summary: Mapping[str, Any]

    @property
    def tables(self) -> list[str]:
        """Names of the stored tables, which ``results/schema.md`` describes."""
        return sorted(file.stem for file in self.path.glob("*.parquet"))

    @property
    def holds(self) -> bool:
        """Is no bound violated and no verdict invalid?"""
        counts = self.summary["counts"]
        return bool(counts["violated"] == 0 and counts["invalid"] == 0)

    def table(self, name: str, kind: Optional[str] = None) -> Any:
        """A table as a data frame of ``kind``: ``"polars"``, ``"pandas"`` or ``"pyarrow"``; the first installed if none is named."""
        file = self.path / f"{name}.parquet"
        if not file.is_file():
            raise FileNotFoundError(f"{file}: no such table; this run has {', '.join(self.tables)}")
        kind = kind or _installed()
        if kind == "polars":
            return importlib.import_module("polars").read_parquet(file)
        if kind == "pandas":
            return importlib.import_module("pandas").read_parquet(file)
        if kind == "pyarrow":
            return importlib.import_module("pyarrow.parquet").read_table(file)
        raise ValueError(f"kind {kind!r}: polars, pandas or pyarrow")


def _installed() -> str:
    for kind in ("polars", "pandas", "pyarrow"):
        if importlib.util.find_spec(kind) is not None:
            return kind
    raise ImportError("tables need polars, pandas or pyarrow: pip install polars")


def load(run_dir: PathLike) -> Run:
    """Opens a run directory, as ``sweep``, ``run`` and ``layers`` leave it."""
    path = Path(run_dir)
    file = path / "summary.json"
    if not file.is_file():
        raise FileNotFoundError(f"{path}: no finished run: summary.json is not there")
    return Run(path, json.loads(file.read_text(encoding="utf-8")))
