"""Which attention serves each place of a model."""

from __future__ import annotations

from typing import Any

import pytest

from attnbuild.attention import load_preset
from attnbuild.inputs import Ends, TextInput
from attnbuild.model import check_model
from attnbuild.places import resolve_places


def config(attention: str = "multihead", encoder: str = "transformer", decoder: str = "transformer") -> dict[str, Any]:
    return {
        "attention": load_preset(attention),
        "encoder": {"type": encoder, "dim": 16, "layers": 2},
        "decoder": {"type": decoder, "dim": 16, "layers": 2},
    }


def presets(given: dict[str, Any]) -> dict[str, str]:
    places = resolve_places(given)
    assert not places.problems, places.problems
    return {path: choice.preset for path, choice in places.choices.items()}


def problems(given: dict[str, Any]) -> list[tuple[str, str]]:
    joint = given.get("tokenizer", {}).get("joint", True)
    found = check_model(given, Ends(TextInput(8, 0), 8, shared_vocabulary=joint))
    return [(problem.path, problem.message) for problem in found]


def test_one_word_serves_every_place_it_can() -> None:
    assert presets(config("cosine")) == dict.fromkeys(
        ["encoder.attention", "decoder.self_attention", "decoder.cross_attention"], "cosine"
    )


def test_another_place_keeps_multihead_and_says_why() -> None:
    choice = resolve_places(config("window")).choices["decoder.cross_attention"]
    assert choice.preset == "multihead"
    assert choice.reason is not None
    assert "'window' cannot serve here" in choice.reason
    assert choice.summary() == {"preset": "multihead", "reason": choice.reason}


def test_an_rnn_has_one_place() -> None:
    assert presets(config("luong_general", "rnn", "rnn")) == {"decoder.cross_attention": "luong_general"}


def test_a_preset_at_one_place() -> None:
    given = config("window")
    given["decoder"]["cross_attention"] = load_preset("bahdanau")
    assert presets(given)["decoder.cross_attention"] == "bahdanau"
    assert presets(given)["encoder.attention"] == "window"


def test_an_option_at_one_place() -> None:
    given = config("multihead")
    given["decoder"]["cross_attention"] = {"preset": "inherit", "heads": 2}
    places = resolve_places(given)
    assert places.choices["decoder.cross_attention"].spec.block["heads"] == 2
    assert places.choices["decoder.self_attention"].spec.block["heads"] == 4


def test_layers_may_differ() -> None:
    given = config("multihead")
    given["encoder"]["attention_by_layer"] = {1: "window", 0: {"type": "soft", "position": "rope"}}
    choice = resolve_places(given).choices["encoder.attention"]
    assert choice.for_layer(1).preset == "window"
    assert choice.for_layer(0).parts["position"].name == "rope"
    assert choice.summary()["by_layer"] == {"1": "window", "0": ""}


@pytest.mark.parametrize(
    ("change", "path", "words"),
    [
        ({"decoder": {"cross_attention": {"preset": "window", "type": "soft", "pattern": "window"}}},
         "decoder.cross_attention", "'window' cannot serve here"),
        ({"decoder": {"cross_attention": {"preset": "window", "type": "soft", "pattern": "window"}}},
         "decoder.cross_attention", "cross-attention presets: bahdanau, cosine, "),
        ({"encoder": {"cross_attention": {"preset": "multihead", "type": "soft"}}},
         "encoder.cross_attention", "encoder 'transformer' has no such place for attention; this model has: encoder/attention"),
        ({"encoder": {"attention_by_layer": {2: "window"}}},
         "encoder.attention_by_layer.2", "there is no layer 2; layers are 0 to 1"),
        ({"encoder": {"attention_by_layer": {0: "windw"}}},
         "encoder.attention_by_layer.0", "did you mean 'window'"),
        ({"decoder": {"self_attention_by_layer": {0: "none"}}},
         "decoder.self_attention_by_layer.0", "'none' cannot serve here"),
        ({"attention": {"heads": 3}}, "attention.heads", "3 heads do not divide the width 16: choose 2 or 4 (at encoder.attention)"),
        ({"attention": {"windw": 3}}, "attention.windw", "unknown option of preset 'multihead'"),
        ({"decoder": {"cross_attention": {"preset": "inherit", "heads": 5}}},
         "decoder.cross_attention.heads", "5 heads do not divide the width 16"),
        ({"decoder": {"dim": 8}, "model": {"tie_embeddings": "all"}}, "model.tie_embeddings", "encoder.dim is 16 and decoder.dim 8"),
        ({"decoder": {"type": "rnn", "wiring": "show_attend_tell"}, "model": {"tie_embeddings": "target"}},
         "model.tie_embeddings", "each word calls for itself: set model.tie_embeddings=none"),
        ({"model": {"tie_embeddings": "all"}, "tokenizer": {"joint": False}}, "model.tie_embeddings", "tokenizer.joint=true"),
        ({"encoder": {"attention_by_layer": "window"}},
         "encoder.attention_by_layer", "'window': expected layers and their presets"),
        ({"encoder": {"attention_by_layer": {0: None}}},
         "encoder.attention_by_layer.0", "None: expected the name of a preset"),
        ({"encoder": {"attention_by_layer": {1: {"heads": 3}}}},
         "encoder.attention_by_layer.1.heads", "3 heads do not divide the width 16: choose 2 or 4 (at encoder.attention)"),
        ({"encoder": {"layers": "x", "attention_by_layer": {1: "window"}}},
         "encoder.layers", "'x': input should be a valid integer"),
        ({"encoder": {"attention": "window"}},
         "encoder.attention", "'window': expected a section of options; a preset is chosen with encoder/attention="),
        ({"encoder": {"type": None}}, "encoder.type", "is missing; one of: cnn, "),
        ({"encoder": {"layres": 3}}, "encoder.layres", "did you mean 'layers'"),
        ({"encoder": {"type": "transfomer"}}, "encoder.type", "did you mean 'transformer'"),
    ],
)  # fmt: skip
def test_what_cannot_work_is_refused(change: dict[str, dict[str, Any]], path: str, words: str) -> None:
    given = config()
    for section, values in change.items():
        given.setdefault(section, {}).update(values)
    assert any(where == path and words in message for where, message in problems(given)), problems(given)


def test_an_attention_that_serves_no_place_is_refused() -> None:
    ((path, message),) = problems(config("window", "rnn", "rnn"))
    assert path == "attention"
    assert message.startswith("'window' can serve no place of this model (decoder/cross_attention:")


def test_options_at_the_places_it_serves_do_not_make_an_attention_useless() -> None:
    given = config("window")
    for part, place in (("encoder", "attention"), ("decoder", "self_attention")):
        given[part][place] = {"preset": "inherit", "heads": 2}
    assert presets(given) == {
        "encoder.attention": "window",
        "decoder.self_attention": "window",
        "decoder.cross_attention": "multihead",
    }


def test_layers_may_differ_where_their_number_is_left_to_the_default() -> None:
    given = config()
    del given["encoder"]["layers"]
    given["encoder"]["attention_by_layer"] = {2: "window"}
    assert problems(given) == []


def test_strict_places_refuse_what_would_fall_back() -> None:
    ((path, message),) = problems({**config("window"), "strict_places": True})
    assert path == "decoder.cross_attention"
    assert "'window' cannot serve here" in message


def test_raw_values_of_another_width_do_not_fit_a_residual() -> None:
    given = config("bahdanau")
    given["decoder"]["dim"] = 8
    ((path, message),) = problems(given)
    assert path == "attention.projections"
    assert "keeps the memory's width 16, and the residual here is 8 wide" in message


def test_problems_of_several_parts_come_together() -> None:
    given = config()
    given["encoder"]["layres"] = 3
    given["decoder"]["norm"] = "middle"
    given["attention"]["windw"] = 3
    assert {path for path, _ in problems(given)} == {"encoder.layres", "decoder.norm", "attention.windw"}


def test_widths_that_do_not_fit_are_told_for_all_places_and_once_an_option() -> None:
    given = config()
    given["encoder"]["attention"] = {"preset": "inherit", "heads": 3}
    given["attention"]["heads"] = 5
    assert [path for path, _ in problems(given)] == ["encoder.attention.heads", "attention.heads"]


def test_a_part_that_cannot_serve_is_told_where_the_preset_could() -> None:
    for given in (config("dot"), config()):
        given["decoder"]["cross_attention"] = {"position": "relative"}
        ((path, message),) = problems(given)
        assert path == "decoder.cross_attention.position"
        assert message.startswith("'relative' cannot serve here: ")
        assert message.endswith("leave it out")


def test_raw_values_of_one_layer_are_told_at_that_layer() -> None:
    given = config()
    given["decoder"] |= {"dim": 8, "cross_attention_by_layer": {1: "bahdanau"}}
    ((path, _),) = problems(given)
    assert path == "decoder.cross_attention_by_layer.1.projections"


def test_an_attention_that_serves_nowhere_is_refused_with_those_that_do() -> None:
    ((_, message),) = problems(config("window", encoder="rnn", decoder="rnn"))
    able = message.rpartition("presets that can:")[2].replace(",", " ").split()
    assert "bahdanau" in able
    assert "window" not in able


def test_an_option_for_a_part_is_not_inherited_where_another_part_stands() -> None:
    given = config("relative")
    given["attention"] |= {"max_distance": 1}
    given["encoder"]["attention"] = {"position": "alibi"}
    assert problems(given) == []
    given["encoder"]["attention"] |= {"max_distance": 2}
    ((path, _),) = problems(given)
    assert path == "encoder.attention.max_distance"
