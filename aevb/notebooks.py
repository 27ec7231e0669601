r"""The book's notebooks: run one with other parameters, store the outputs of its checked cells.

A chapter's claims are code cells tagged ``nbval-check-output``: each prints a short deterministic
line, and that line, stored in the notebook, is what the tests compare a fresh run with. Only
those cells keep an output in the repository, so that a change of a figure changes no notebook.

A figure's notebook has a cell tagged ``parameters`` (its third). papermill runs it with other
values, and merely logs a name that the notebook does not have, so that a misspelled name would
silently run the defaults. :func:`run` refuses it.

On the command line::

    python -m aevb.notebooks run book/figure_2_lower_bound.ipynb -o out.ipynb -p preset smoke
    python -m aevb.notebooks store book/sgvb.ipynb
"""

import argparse
import ast
import math
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nbformat
from nbformat import NotebookNode

from aevb._files import write_atomically

__all__ = ["NotebookError", "literal", "main", "parameters", "run", "store", "stored_faults"]

CHECKED = "nbval-check-output"
PARAMETERS = "parameters"

# The notebook's own metadata, without what changes from one machine to the next.
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}

NO_LITERAL = (ValueError, TypeError, SyntaxError, MemoryError, RecursionError)
"""What :mod:`ast` raises for a text that is no literal, or too deep a one."""


class NotebookError(RuntimeError):
    """A notebook cannot be read, run or stored as asked; the message names it."""


def _read(path: Path) -> NotebookNode:
    """The notebook, in version 4 of the format."""
    try:
        return nbformat.read(path, as_version=4)
    except FileNotFoundError:
        raise NotebookError(f"{path}: no such notebook") from None
    except Exception as error:  # nbformat raises many kinds, with messages of many lines
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise NotebookError(f"{path}: not a notebook: {reason}") from None


def _tags(cell: NotebookNode) -> list[str]:
    return list(cell.metadata.get("tags", []))


def parameters(path: Path) -> dict[str, Any]:
    """What the cell tagged ``parameters`` declares.

    Every statement of that cell must be ``name = literal``: papermill adds its own cell *after*
    this one, so anything computed here would keep the default's value.

    Args:
        path: The notebook.

    Returns:
        The defaults by name; none where there is no such cell.

    Raises:
        NotebookError: If it cannot be read, or that cell holds anything else.
    """
    path = Path(path)
    found: dict[str, Any] = {}
    for cell in _read(path).cells:
        if cell.cell_type != "code" or PARAMETERS not in _tags(cell):
            continue
        for statement in _parse(cell, path).body:
            match statement:
                case ast.Assign(targets=[ast.Name(id=name)], value=value):
                    try:
                        found[name] = ast.literal_eval(value)
                        continue
                    except NO_LITERAL:
                        pass
            raise NotebookError(
                f"{path}: the parameters cell must hold only `name = literal`, "
                f"found `{ast.unparse(statement)}`"
            )
    return found


def _parse(cell: NotebookNode, path: Path) -> ast.Module:
    try:
        return ast.parse(cell.source)
    except NO_LITERAL as error:
        raise NotebookError(f"{path}: a cell is not plain Python: {error}") from None


def run(notebook: Path | str, output: Path | str, /, **values: Any) -> Path:
    """Run a notebook with other parameters, in its own folder.

    Args:
        notebook: The notebook to run; it stays as it is.
        output: Where the run one goes; its folder is made.
        values: The parameters that differ from the defaults.

    Returns:
        ``output``.

    Raises:
        NotebookError: If the notebook cannot be read or does not declare a name, if a value is not
            of the default's type or cannot be stored, or if a cell fails or ends the kernel. In
            this last case alone ``output`` is written, and holds the error if there is one.
        OSError: If ``output`` cannot be written.
    """
    import papermill  # imports much; only this function needs it
    from nbclient.exceptions import DeadKernelError
    from papermill.exceptions import PapermillExecutionError

    notebook, output = Path(notebook), Path(output)
    declared = parameters(notebook)
    for name, value in values.items():
        if name not in declared:
            raise NotebookError(
                f"{notebook}: no parameter {name!r}; it has: {', '.join(declared) or 'none'}"
            )
        if not _storable(value):
            raise NotebookError(
                f"{notebook}: parameter {name!r}: expected a text, a finite number, True, False, "
                f"None, or a list or an object of those, found another {type(value).__name__}"
            )
        if not _of_type(value, declared[name]):
            raise NotebookError(
                f"{notebook}: parameter {name!r} is of type {type(declared[name]).__name__} "
                f"(default {declared[name]!r}), found {value!r}"
            )
    output.parent.mkdir(parents=True, exist_ok=True)
    try:
        papermill.execute_notebook(
            str(notebook),
            str(output),
            parameters=values,
            cwd=str(notebook.parent),
            kernel_name="python3",
            language="python",
            progress_bar=False,
        )
    except PapermillExecutionError as error:
        raise NotebookError(
            f"{notebook}: cell {error.cell_index} failed: {error.ename}: {error.evalue}"
        ) from None
    except DeadKernelError as error:  # out of memory, for the most part
        raise NotebookError(f"{notebook}: {error}") from None
    return output


def _of_type(value: Any, default: Any) -> bool:
    """Whether ``value`` can stand for ``default``; an int can stand for a float, a bool cannot."""
    if default is None or value is None:
        return True
    if isinstance(default, bool) or isinstance(value, bool):
        return isinstance(default, bool) and isinstance(value, bool)
    if isinstance(default, float):
        return isinstance(value, int | float)
    return isinstance(value, type(default))


def _storable(value: Any) -> bool:
    """Whether a notebook can store ``value``; papermill would pass on another as some text."""
    match value:
        case None | bool():
            return True
        case int():
            return value.bit_length() < 64
        case float():
            return math.isfinite(value)
        case str():
            return not any("\ud800" <= letter <= "\udfff" for letter in value)  # half a letter
        case list():
            return all(map(_storable, value))
        case dict():
            return all(isinstance(key, str) and _storable(key) for key in value) and all(
                map(_storable, value.values())
            )
    return False


def store(notebook: Path | str, timeout: int = 600) -> bool:
    """Run a notebook and write back the outputs of its checked cells, and no others.

    Args:
        notebook: The notebook, which is written as a whole or not at all.
        timeout: The seconds that a cell may take.

    Returns:
        Whether the file changed.

    Raises:
        NotebookError: If it cannot be read, a cell fails, takes too long or prints to stderr, or
            a checked cell shows an image. Nothing is written then.
        OSError: If it cannot be written; the old one is then still there.
    """
    from nbclient import NotebookClient
    from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError

    notebook = Path(notebook)
    book = _read(notebook)
    client = NotebookClient(
        book,
        timeout=timeout,
        kernel_name="python3",
        resources={"metadata": {"path": str(notebook.parent or ".")}},
        coalesce_streams=True,
    )
    try:
        client.execute()
    except CellExecutionError as error:
        raise NotebookError(f"{notebook}: {error.ename}: {error.evalue}") from None
    except (CellTimeoutError, DeadKernelError) as error:
        raise NotebookError(f"{notebook}: {str(error).splitlines()[0]}") from None
    for number, cell in enumerate(book.cells, start=1):
        if cell.cell_type != "code":
            continue
        for fault in stored_faults(cell):
            # An image is for the page: only a checked cell, whose outputs are kept, may have none.
            if CHECKED in _tags(cell) or "stderr" in fault:
                raise NotebookError(f"{notebook}: cell {number} {fault}")
        cell.metadata.pop("execution", None)
        if CHECKED not in _tags(cell):
            cell.outputs, cell.execution_count = [], None
    book.metadata = nbformat.from_dict(METADATA)
    _, book = nbformat.validator.normalize(book)
    before = notebook.read_text(encoding="utf-8")
    after = nbformat.writes(book) + "\n"
    if after != before:
        write_atomically({notebook: after.encode()})
    return after != before


def stored_faults(cell: NotebookNode) -> list[str]:
    """What of a cell's outputs must not be stored.

    Args:
        cell: A code cell that was run.

    Returns:
        What can be said of the cell, once for each output on stderr, error and image.
    """
    faults = []
    for output in cell.outputs:
        if output.output_type == "stream" and output.name == "stderr":
            faults.append(f"prints to stderr: {output.text.splitlines()[0]}")
        if output.output_type == "error":
            faults.append(f"ends in an error: {output.ename}")
        for kind in output.get("data", {}):
            if kind.startswith("image/"):
                faults.append(f"shows an image ({kind})")
    return faults


def literal(text: str) -> Any:
    """Read a parameter's value from the command line.

    Args:
        text: The value as it was given.

    Returns:
        What the text is as a Python literal, else the text itself.
    """
    try:
        return ast.literal_eval(text)
    except NO_LITERAL:
        return text


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line that the module's description shows.

    Args:
        arguments: The words after the command; by default those of the process.

    Returns:
        The exit status, which is 0, or 1 after a line on stderr that says what went wrong.

    Raises:
        SystemExit: If the words are no such command, with the status 2, or ask for help.
    """
    parser = argparse.ArgumentParser(
        prog="python -m aevb.notebooks", description="Run the book's notebooks."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    one = commands.add_parser("run", help="run one notebook with other parameters")
    one.add_argument("notebook", type=Path)
    one.add_argument("-o", "--output", type=Path, required=True, help="where the result goes")
    one.add_argument(
        "-p",
        "--parameter",
        nargs=2,
        action="append",
        default=[],
        metavar=("NAME", "VALUE"),
        help="a parameter and its value, a Python literal or plain text; may be repeated",
    )
    many = commands.add_parser("store", help="run, and store the outputs of the checked cells")
    many.add_argument("notebooks", type=Path, nargs="+")
    options = parser.parse_args(arguments)
    for name in ("AEVB_DATA", "AEVB_RESULTS"):  # kernels run in the notebook's folder
        if os.environ.get(name):
            os.environ[name] = os.path.abspath(os.environ[name])
    try:
        if options.command == "run":
            values = {name: literal(value) for name, value in options.parameter}
            print(run(options.notebook, options.output, **values))
        else:
            for path in options.notebooks:
                print(f"{path}: {'stored' if store(path) else 'unchanged'}", flush=True)
    except (NotebookError, OSError) as error:
        print(f"aevb.notebooks: {' '.join(str(error).splitlines())}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
