"""A trained tokenizer: sentences to ids and back."""

from __future__ import annotations

from collections.abc import Iterable

from tokenizers import Tokenizer

from attnbuild.errors import CheckpointError

__all__ = ["BOS", "EOS", "PAD", "SPECIAL_TOKENS", "UNK", "Vocabulary"]

#: Ids of the special tokens, the same in every vocabulary.
PAD, BOS, EOS, UNK = range(4)

#: Their names, in the order of their ids.
SPECIAL_TOKENS = ("<pad>", "<s>", "</s>", "<unk>")

_SILENT = frozenset((PAD, BOS, EOS))


class Vocabulary:
    """A trained tokenizer with the special tokens at fixed ids.

    Args:
        text: JSON of a tokenizer of the ``tokenizers`` library with ``SPECIAL_TOKENS`` as ids 0 to 3.
    """

    def __init__(self, text: str) -> None:
        # Kept as it came: the library does not write every score again to the last digit.
        self._json = text
        self._tokenizer = Tokenizer.from_str(text)
        # The name of a special token within a text is text like any other.
        self._tokenizer.encode_special_tokens = True
        self._in_bytes = "ByteLevel" in repr(self._tokenizer.decoder)

    def __len__(self) -> int:
        return self._tokenizer.get_vocab_size()

    def encode(self, texts: list[str]) -> list[list[int]]:
        """Ids of each text, without special tokens except ``UNK``."""
        return [coded.ids for coded in self._tokenizer.encode_batch_fast(texts, add_special_tokens=False)]

    def decode(self, ids: Iterable[Iterable[int]]) -> list[str]:
        """Text of each list of ids; ``PAD``, ``BOS`` and ``EOS`` are dropped, ``UNK`` shows as ``<unk>``."""
        kept = [[int(token) for token in row if token not in _SILENT] for row in ids]
        return self._tokenizer.decode_batch(kept, skip_special_tokens=False)

    def pieces(self) -> list[str]:
        """The tokens as the tokenizer writes them, in the order of their ids."""
        return [self._tokenizer.id_to_token(number) or "" for number in range(len(self))]

    def tokens(self, ids: Iterable[int]) -> list[str]:
        """A readable label for each id: white space shows as ``▁``, part of a character as ``<0xC3>``."""
        return [self._label(int(token)) for token in ids]

    def labels(self, text: str) -> list[str]:
        """A readable label for each token of a text, as ``tokens`` gives; an unknown one shows as it was written."""
        coded = self._tokenizer.encode(text, add_special_tokens=False)
        pairs = zip(coded.ids, coded.offsets, strict=True)
        return [_written(text, *span) if token == UNK else self._label(token) for token, span in pairs]

    def _label(self, token: int) -> str:
        piece = self._tokenizer.id_to_token(token)
        if piece is None:
            raise IndexError(f"no token has the id {token}")
        if self._in_bytes and token >= len(SPECIAL_TOKENS):
            piece = _read_bytes(piece)
        return _show_spaces(piece)

    def to_json(self) -> str:
        """All of it as the JSON of the ``tokenizers`` library."""
        return self._json

    @classmethod
    def from_json(cls, text: str) -> Vocabulary:
        """The vocabulary that :meth:`to_json` wrote.

        Raises:
            CheckpointError: the text is damaged or not a vocabulary of attnbuild.
        """
        try:
            vocabulary = cls(text)
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # the library raises bare exceptions, and panics that are no Exception
            raise CheckpointError(f"the tokenizer cannot be read: {error}") from error
        if vocabulary._tokenizer.padding or vocabulary._tokenizer.truncation:
            raise CheckpointError("not a tokenizer of attnbuild: it pads or cuts texts, to any length that it says")
        if tuple(vocabulary._tokenizer.id_to_token(token) for token in range(4)) != SPECIAL_TOKENS:
            raise CheckpointError(f"not a tokenizer of attnbuild: its first ids are not {', '.join(SPECIAL_TOKENS)}")
        return vocabulary


def _printable_bytes() -> dict[str, int]:
    """The printable stand-ins that byte-level tokenizers use for bytes (GPT-2's table), to the bytes."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(0x100) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(0x100 + n): byte for n, byte in enumerate(others)}


_BYTES = _printable_bytes()


def _read_bytes(piece: str) -> str:
    data = bytes(_BYTES[character] for character in piece)
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        text = ""
    readable = text and _show_spaces(text).isprintable()
    return text if readable else "".join(f"<0x{byte:02X}>" for byte in data)


def _written(text: str, first: int, last: int) -> str:
    """A part of a text as a label: it begins with a space where there is one before it, or none before that."""
    piece = text[first:last]
    word = piece.strip()
    starts = first == 0 or text[first - 1].isspace() or piece[:1].isspace()
    return f"▁{word}" if starts else word


def _show_spaces(text: str) -> str:
    return "".join("▁" if character.isspace() else character for character in text)
