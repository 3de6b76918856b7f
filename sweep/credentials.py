"""Credentials: those that texts carry in their URLs, blotted out before a text is shown or kept."""

from __future__ import annotations

import re

_IN_FRONT = re.compile(r"(\w+://)[^/\s'\"]+@")
_AS_PARAMETER = re.compile(
    r"([?&][\w.-]*(?:token|secret|password|signature|credential|key|sig)[\w.-]*=)[^&\s'\"#]+", re.I
)


def redacted(text: str) -> str:
    """`text` without the user names, passwords and tokens of its URLs."""
    return _AS_PARAMETER.sub(r"\1***", _IN_FRONT.sub(r"\1***@", text))
