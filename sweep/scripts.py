"""Scripts: the block of TOML at the head of a Python file, as PEP 723 defines it."""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sweep import literals
from sweep.errors import SweepError

_BLOCK = re.compile(r"(?m)^# /// script$\s(?P<content>(^#(| .*)$\s)+)^# ///$")
_OPENING = re.compile(r"(?m)^#\s*///\s*script\b")
_TOML_LINE = re.compile(r"\(at line (\d+), column \d+\)")


@dataclass(frozen=True)
class Block:
    """The block of a file: its TOML values, and its lines without the comment characters.

    `first_line` is the number of the first of these lines in the file.
    """

    values: dict[str, Any]
    lines: tuple[str, ...]
    first_line: int

    def line_of(self, table: str, key: str) -> int | None:
        """Return the line that sets `key` in a table such as `tool.sweep.axes`, or None.

        Only the usual layout is found: the table's header on a line, then a key per line.
        """
        current = ""
        setting = re.compile(rf"\s*[\"']?{re.escape(key)}[\"']?\s*[.=]")
        for number, line in enumerate(self.lines, self.first_line):
            if header := re.fullmatch(r"\s*\[+([^\[\]]+)\]+\s*(#.*)?", line):
                current = header[1].strip()
                if current == f"{table}.{key}":
                    return number
            elif current == table and setting.match(line):
                return number
        return None


def block(path: Path, hint: str) -> Block | None:
    """Return the block of a file, or None; SweepError with `hint` for invalid or several blocks."""
    text = literals.text(path)
    blocks = list(_BLOCK.finditer(text))
    if not blocks:
        if opening := _OPENING.search(text):
            line = text.count("\n", 0, opening.start()) + 1
            message = f"{path}, line {line}: the block that begins here is not closed"
            raise SweepError(message, "each line begins with `# `, and the last one is `# ///`")
        return None
    if len(blocks) > 1:
        line = text.count("\n", 0, blocks[1].start()) + 1
        raise SweepError(f"{path}, line {line}: a second block", hint)
    first_line = text.count("\n", 0, blocks[0].start("content")) + 1
    commented = blocks[0]["content"].splitlines()
    lines = tuple(line[2:] if line.startswith("# ") else line[1:] for line in commented)
    try:
        return Block(tomllib.loads("\n".join(lines)), lines, first_line)
    except tomllib.TOMLDecodeError as error:
        found = _TOML_LINE.search(str(error))
        line = first_line + int(found[1]) - 1 if found else first_line
        problem = _TOML_LINE.sub("", str(error)).strip()
        raise SweepError(f"{path}, line {line} is not TOML: {problem}", hint) from None
