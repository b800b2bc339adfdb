"""Whether the longest examples, and the longest outputs that may be written, fit the model: told before training."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from attnbuild.attention.lengths import longest_allowed
from attnbuild.errors import Problem
from attnbuild.model import EncoderDecoder

__all__ = ["too_low"]

#: Place of an attention -> the sequence whose length counts there; of learned positions, by the part that has them.
_SEQUENCES = {
    "encoder.attention": "source",
    "encoder": "source",
    "decoder.cross_attention": "memory",
    "decoder.self_attention": "target",
    "decoder": "target",
}


def too_low(model: EncoderDecoder, longest: Mapping[str, int]) -> list[Problem]:
    """The limits of a model that some of the data, or of what it may write, exceeds, with what is needed.

    Args:
        model: with its attentions and embeddings.
        longest: positions of the longest "source", "memory" and "target".
    """
    problems: dict[str, Problem] = {}
    sequences = dict(_SEQUENCES)
    if getattr(model.encoder, "class_token", None) is not None:  # attended to like a position, but embedded by itself
        sequences["encoder.attention"] = "source with its class token"
        longest = {**longest, "source with its class token": longest["source"] + 1}
    # Several places may share one option: the longest of their sequences, which comes last, decides.
    for path, limit, place in sorted(_limits(model), key=lambda limit: longest.get(sequences.get(limit[2], ""), 0)):
        sequence = sequences.get(place, "")
        needed = longest.get(sequence, 0)
        if needed > limit:
            written = ", as long as the search may write," if sequence == "target" else ""
            message = f"{limit}: the longest {sequence}{written} has {needed} positions; set {path}={needed} or more"
            problems[path] = Problem(path, message)
    return list(problems.values())


def _limits(model: EncoderDecoder) -> Iterator[tuple[str, int, str]]:
    """(config path, most positions, place) of all that is limited."""
    yield from longest_allowed(model)
    for name, part in (("encoder", model.encoder), ("decoder", model.decoder)):
        learned = getattr(getattr(part, "embedding", None), "learned", None)
        if learned is not None:
            yield f"{name}.max_positions", learned.num_embeddings, name
