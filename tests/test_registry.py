"""The registry: names, schema, options, plugins."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

import pytest
from annotated_types import Ge

from attnbuild import ConfigError, registry
from attnbuild.registry import build, check_options, lookup, options_of, register, summary_of


class Part:
    """A part for tests (Somebody et al. 2020).

    Args:
        size: how large it is,
            on two lines.
        mode: which way.
    """

    def __init__(
        self,
        place: object,
        *,
        size: Annotated[int, Ge(1)],
        mode: Literal["a", "b"] = "a",
        rate: float = 0.5,
        limit: int | None = None,
    ) -> None:
        self.place, self.size = place, size


def test_options_come_from_signature_and_docstring() -> None:
    options = options_of(Part)
    assert list(options) == ["size", "mode", "rate", "limit"]
    assert options["size"].required
    assert options["size"].help == "how large it is, on two lines."
    assert options["mode"].default == "a"
    assert summary_of(Part) == "A part for tests (Somebody et al. 2020)."


@pytest.mark.usefixtures("own_registry")
def test_building_by_name() -> None:
    register("encoder", "part")(Part)
    part = build("encoder", "the place", {"type": "part", "size": 3}, "encoder")
    assert (part.place, part.size) == ("the place", 3)


@pytest.mark.parametrize(
    ("values", "path", "words"),
    [
        ({}, "at.size", "needs this option: how large it is"),
        ({"size": 0}, "at.size", "0: input should be greater than or equal to 1"),
        ({"size": 1.5}, "at.size", "1.5: input should be a valid integer"),
        ({"size": True}, "at.size", "valid integer"),
        ({"size": 1, "mode": "c"}, "at.mode", "'c': input should be 'a' or 'b'"),
        ({"size": 1, "rate": "x"}, "at.rate", "valid number"),
        ({"size": 1, "limit": "x"}, "at.limit", "valid integer"),
        ({"size": 1, "mod": "a"}, "at.mod", "unknown option of this part; did you mean 'mode'?"),
    ],
)
def test_bad_options_are_named(values: dict[str, Any], path: str, words: str) -> None:
    (problem,) = check_options(Part, values, "at", "this part")
    assert problem.path == path
    assert words in problem.message


def test_good_options_pass() -> None:
    assert check_options(Part, {"size": 1, "rate": 1, "limit": None, "mode": "b"}, "at", "this part") == []


@pytest.mark.usefixtures("own_registry")
def test_all_problems_of_a_part_come_together() -> None:
    register("encoder", "part")(Part)
    with pytest.raises(ConfigError) as error:
        build("encoder", None, {"type": "part", "size": 0, "mode": "c", "siez": 1}, "encoder")
    assert len(error.value.problems) == 3


def test_unknown_names_get_the_nearest() -> None:
    with pytest.raises(ConfigError, match="unknown encoder 'transfomer'; did you mean 'transformer'"):
        lookup("encoder", "transfomer")
    with pytest.raises(ConfigError, match="unknown kind 'encoders'; did you mean 'encoder'"):
        lookup("encoders", "rnn")
    with pytest.raises(ConfigError, match="unknown encoder"):
        lookup("encoder", ["rnn"])


def _no_place(*, size: int = 1) -> None: ...


def _not_keyword(place: object, size: int) -> None: ...


def _catch_all(place: object, **options: int) -> None: ...


def _untyped(place: object, *, size=1) -> None: ...  # type: ignore[no-untyped-def]


@pytest.mark.parametrize(
    ("part", "words"),
    [
        (_no_place, "first parameter must be 'place'"),
        (_not_keyword, "keyword-only"),
        (_catch_all, "keyword-only"),
        (_untyped, "type annotation"),
    ],
)
def test_a_signature_that_is_no_schema_is_refused(part: Any, words: str) -> None:
    with pytest.raises(TypeError, match=words):
        register("encoder", "bad")(part)


def test_a_taken_name_is_refused() -> None:
    lookup("encoder", "rnn")
    with pytest.raises(TypeError, match="already registered by attnbuild.encoders.rnn"):
        register("encoder", "rnn")(Part)


def _other_window(place: object, *, window: str = "wide") -> None: ...


def test_an_option_means_the_same_in_every_part_of_an_attention() -> None:
    lookup("pattern", "window")
    with pytest.raises(ValueError, match=r"'window' has another type in (core|pattern) '\w+'"):
        register("score", "windowed")(_other_window)


@pytest.mark.usefixtures("own_registry")
def test_an_option_that_two_parts_declare_reaches_both() -> None:
    from attnbuild.attention.scores.scaled_dot import ScaledDot
    from attnbuild.attention.spec import AttentionSpec

    class Near(ScaledDot):
        """A score that needs the pattern's window too.

        Args:
            window: as the pattern has it.
        """

        def __init__(self, place: Any, *, window: Annotated[int, Ge(0)] = 9) -> None:
            super().__init__(place)

    register("score", "near")(Near)
    spec = AttentionSpec.from_config({"score": "near", "pattern": "window", "window": 2})
    assert spec.parts["score"].options == spec.parts["pattern"].options == {"window": 2}


def _own_heads(place: object, *, heads: int = 1) -> None: ...


def test_a_name_that_the_block_has_is_taken() -> None:
    with pytest.raises(ValueError, match="option 'heads' means something else in every attention"):
        register("score", "headed")(_own_heads)


PLUGIN = """
from attnbuild import register
from attnbuild.attention.scores.base import Score

@register("score", "{name}")
class Constant(Score):
    dot_like = False
    def rate(self, query, key):
        return query.new_zeros(*query.shape[:3], key.shape[2])
"""


@pytest.mark.usefixtures("own_registry")
def test_a_plugin_module_brings_a_part(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    from attnbuild import build_attention

    (tmp_path / "constant_score.py").write_text(PLUGIN.format(name="constant"))
    monkeypatch.syspath_prepend(str(tmp_path))
    registry.load_plugins(["constant_score"])
    layer = build_attention({"score": "constant"}, dim=8, heads=1)
    _, weights = layer(torch.randn(1, 4, 8), need_weights=True)
    torch.testing.assert_close(weights, torch.full((1, 1, 4, 4), 0.25))


def test_a_broken_plugin_is_named_with_its_cause(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "broken_plugin.py").write_text("import a_module_that_is_not_there")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ConfigError, match=re.escape("No module named 'a_module_that_is_not_there'")):
        registry.load_plugins(["broken_plugin"])


def test_every_part_has_a_summary_and_help_for_each_option() -> None:
    for kind in registry.KINDS:
        for name in registry.names(kind):
            part = lookup(kind, name)
            assert summary_of(part), f"{kind} {name} has no summary"
            for option in options_of(part).values():
                assert option.help, f"{kind} {name}: option {option.name} has no help"


@pytest.mark.parametrize(
    ("annotation", "value", "words"),
    [
        (Literal[1, 3], 1.0, "1.0: input should be 1"),
        (Literal[1, 3], True, "True: input should be 1"),
        (Annotated[float, Ge(0)], float("inf"), "inf: input should be a finite number"),
    ],
)
def test_values_that_only_look_right_are_refused(annotation: Any, value: Any, words: str) -> None:
    """They pass for what they equal, and fail where they are used."""
    assert registry.check_value(annotation, value) == words
    assert registry.check_value(annotation, 1) is None
