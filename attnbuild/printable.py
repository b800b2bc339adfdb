"""Text of files and models as it may be sent to a terminal or a log.

A terminal obeys what it is sent: an escape sequence in a caption can clear the screen, retitle the window or
rewrite what stands there. So nothing that was read is shown raw.
"""

from __future__ import annotations

import re

__all__ = ["in_one_line", "printable"]

#: Controls but tab and line feed (C0, DEL, C1), line and paragraph separators, what turns the direction of a line
#: around, and halves of surrogate pairs, which no encoding of output knows.
_OBEYED = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def printable(text: str) -> str:
    """The text with what a terminal would obey written as escapes: ESC becomes ``\\x1b``."""
    return _OBEYED.sub(lambda found: found.group().encode("unicode_escape").decode("ascii"), text)


def in_one_line(text: str, longest: int | None = None) -> str:
    """The same without line feeds and tabs, for names within messages.

    Args:
        text: such as the path of a file, which may hold any character.
        longest: characters kept; None keeps all.
    """
    cut = text if longest is None or len(text) <= longest else f"{text[:longest]}..."
    return printable(cut).replace("\n", "\\n").replace("\t", "\\t")
