"""The words of a caption as captions are scored: lower-cased, split as the Penn Treebank does, no punctuation.

The convention of coco-caption (Chen et al. 2015, "Microsoft COCO Captions", section 3.1): Stanford's PTBTokenizer
with ``-lowerCase``, then the punctuation marks are dropped. This is its rule for captions without its Java.
"""

from __future__ import annotations

import re
import unicodedata
from functools import cache

__all__ = ["caption_tokens"]

#: Typographic apostrophes are written as the plain one.
_APOSTROPHES = str.maketrans(dict.fromkeys("\u2018\u2019\u02bc\u0060\u00b4", "'"))

#: What the treebank splits from the end of a word: "a dog's", "isn't", "they're".
_CLITIC = re.compile(r"(?<=.)(?:n't|'(?:s|m|d|re|ve|ll))$")
#: Words that the treebank takes apart although nothing in their spelling says so.
_JOINED = {"cannot": ("can", "not"), "gonna": ("gon", "na"), "gotta": ("got", "ta"), "wanna": ("wan", "na")}


def caption_tokens(text: str) -> list[str]:
    """The words of a caption.

    ``"A man's dog isn't black-and-white, it's 3.5 years old."`` gives ``a man 's dog is n't black-and-white
    it 's 3.5 years old``. Letters of scripts that write no spaces (Han, kana) are words of their own.
    """
    words: list[str] = []
    for word in _pattern().findall(text.lower().translate(_APOSTROPHES)):
        if word in _JOINED:
            words += _JOINED[word]
            continue
        clitics: list[str] = []
        while found := _CLITIC.search(word):
            clitics.insert(0, found[0])
            word = word[: found.start()]
        words += [word, *clitics]
    return words


@cache
def _pattern() -> re.Pattern[str]:
    """What a word is, from Unicode's classes of characters, which ``re`` cannot name."""
    classes: dict[str, list[str]] = {"P": [], "S": []}
    # Sets that end at U+FFFF are matched some ten times as fast; what lies beyond (emoji) passes for letters.
    for letter in map(chr, range(0x10000)):
        kind = unicodedata.category(letter)[0]
        if kind in classes:
            classes[kind].append(letter)
    # The treebank keeps these, and coco-caption does not drop them.
    kept = "%&#@*"
    punctuation = re.escape("".join(classes["P"]))
    symbol = re.escape("".join(classes["S"]) + kept)
    alone = r"\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
    inner = rf"[^\s{alone}{punctuation}{symbol}]"
    return re.compile(
        rf"[{alone}]"
        r"|\d+(?:[.,:/]\d+)+(?!\w)"  # 3.5, 1,000, 10:30, 1/2
        r"|(?:[^\W\d_]\.){2,}"  # u.s., a.m.
        r"|'(?:s|m|d|re|ve|ll)(?!\w)"  # split before, as in "a dog 's tail"
        rf"|{inner}+(?:[-'./_&]+{inner}+)*"  # black-and-white, o'clock
        rf"|[{symbol}]"
    )
