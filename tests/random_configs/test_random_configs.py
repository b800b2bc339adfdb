"""Any configuration trains a step and answers, or is refused by one error whose advice, followed, leads to one that does.

Configs are drawn from the registry and ``conf`` alone, so a new part is covered by being registered, with its
file. A few hundred here; ten thousand under the marker ``configs`` (``make test-configs``), which also holds
that not too many are refused: a strategy that draws nonsense tests nothing but the first check.
"""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, seed, settings

from attnbuild.cli.compose import compose, open_loader, resolve
from attnbuild.cli.names import check_names
from attnbuild.errors import AttnbuildError, ConfigError, DataError
from attnbuild.sections import OF_SWEEPS
from tests.random_configs.advice import followed
from tests.random_configs.drawing import any_words
from tests.random_configs.running import train_a_step
from tests.random_configs.words import Words, config_of, typed

#: Times that advice is followed before it counts as leading nowhere.
ROUNDS = 9
#: Parts of the ten thousand that run side by side, each with a seed of its own.
PORTIONS = 20

#: Every found fault, kept. Words of a config, and what was wrong with it.
FOUND: list[Words] = [
    {"task": "translation", "optimizer.beta1": 0},  # torch takes no whole number for a beta
    {"task": "translation", "search.n_best": 4, "search.beam": 2},  # was found after the data was read, at no path
    {
        "task": "translation",
        "attention": "bahdanau",
        "attention.heads": 2,
        "attention.kv_heads": 2,
    },  # heads=1 was not enough
    {"task": "captioning", "encoder.blocks": [1, 1, 1, 1, 1]},  # "leave out stages": how many?
    {"task": "translation", "encoder": "rnn", "encoder.dim": 15},  # "choose an even one", and the embeddings are tied
    {"task": "classification", "image.channels": 1.0},  # equals the literal 1, and cannot multiply a tuple
    {"task": "classification", "encoder": "vit", "encoder.dim": 1},  # no channel for the rows: division by zero
    {
        "task": "translation",
        "attention": "rope",
        "attention.position": "alibi",
    },  # rope_base, which nobody typed, was refused
    {"task": "translation", "batch.max_length": 1},  # "raise it": to what?
    {"task": "translation", "batch.tokens": 1},
    {"task": "translation", "attention": "alibi", "encoder": "rnn", "decoder": "rnn"},  # serves no place: which would?
    {"task": "captioning", "search": "none"},  # options that nobody typed were refused instead of the search
    {"task": "translation", "attention": "dot", "decoder.cross_attention.position": "relative"},  # no advice
    {
        "task": "translation",
        "encoder.dim": 8,
        "decoder.cross_attention_by_layer": {0: "bahdanau"},
    },  # was told at another path
    {"task": "translation", "tokenizer": "unigram", "tokenizer.vocab_size": 5},
    {"task": "translation", "attention": "none", "decoder.dim": 8},  # projections=all here, projections=none there
    {"task": "translation", "encoder.dim": 6, "attention.heads": 4},  # heads that divide one width, then the other
    {"task": "translation", "encoder": "vit"},  # another that reads text, of those that need no files
    {
        "task": "translation",
        "attention": "relative",
        "attention.max_distance": 1,
        "encoder.attention.position": "alibi",
    },
    {"task": "translation", "batch.tokens": 2, "batch.max_length": 2},  # raise the one, lower the other
    {"task": "classification", "encoder.stem": 4, "batch.tokens": 1},  # batch norm of one image of one cell
    {"task": "translation", "optimizer.eps": 5e-324},  # 0 in single precision
]


def outcome(words: Words, folder: Path) -> str:
    """ "trained", or what kept the words as they were drawn from it; advice is followed until it trains."""
    first, tried, said = "trained", Counter[str](), []
    for _ in range(ROUNDS):
        try:
            train_a_step(config_of(words), folder)
            return first
        except (ConfigError, DataError) as error:
            said.append(str(error))
            first = _reason(error) if len(said) == 1 else first
            words = followed(words, error, tried)
        except AttnbuildError as error:  # training came to nothing, and the user is told
            return f"told: {_without_numbers(str(error))}"
    told = "\n".join(said)
    raise AssertionError(f"after {ROUNDS} times following what is said, it still does not train:\n{told}")


def _reason(error: AttnbuildError) -> str:
    problems = [problem.message for problem in error.problems] if isinstance(error, ConfigError) else [str(error)]
    return " + ".join(sorted({_without_numbers(message) for message in problems}))


def _without_numbers(message: str) -> str:
    """The beginning of a message, alike for all values: to be counted by."""
    return re.sub(r"'[^']*'|-?\d[\d.e-]*", "_", message).split("\n")[0][:60]


def law(words: Words, folder: Path, counts: Counter[str] | None = None) -> None:
    ended = outcome(words, folder)
    if counts is not None:
        counts[ended] += 1


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What trainings leave, which is nothing but notes of batches that did harm."""
    return tmp_path_factory.mktemp("runs")


drawn = settings(max_examples=300, derandomize=True, database=None, suppress_health_check=list(HealthCheck))


@pytest.mark.parametrize("words", FOUND, ids=lambda words: " ".join(map(str, words.values())))
def test_what_was_found_once(folder: Path, words: Words) -> None:
    law(words, folder)


@drawn
@given(words=any_words())
def test_any_config_trains_or_is_refused_with_advice_that_helps(folder: Path, words: Words) -> None:
    law(words, folder)


@pytest.mark.configs
@pytest.mark.parametrize("portion", range(PORTIONS))
def test_ten_thousand_configs(folder: Path, portion: int) -> None:
    counts: Counter[str] = Counter()

    @seed(portion)
    @settings(drawn, derandomize=False, max_examples=10_000 // PORTIONS)
    @given(words=any_words())
    def each(words: Words) -> None:
        law(words, folder, counts)

    try:
        each()
    finally:
        total = counts.total()
        print(f"{total} configs: {counts['trained']} trained as drawn; the others by what was said first:")
        for reason, count in counts.most_common():
            if reason != "trained":
                print(f"{count:7d}  {reason}")
    assert counts["trained"] >= 0.4 * total, "the strategy is too wild: most configs are refused"


@settings(drawn, max_examples=4)
@given(words=any_words())
def test_words_mean_what_hydra_makes_of_them(words: Words) -> None:
    """What ``config_of`` makes of words is what the command line makes of them."""
    try:
        expected = config_of(words)
    except ConfigError as error:
        with open_loader() as loader, pytest.raises(ConfigError) as refused:
            check_names(loader, [f"{key}={value}" for key, value in words.items() if "." not in key])
        found = [[problem.path for problem in each.problems] for each in (refused.value, error)]
        assert found[0] == found[1]
        return
    with open_loader() as loader:
        composed = compose(loader, check_names(loader, typed(words)))
        resolved: dict[str, Any] = resolve(composed, composed.hydra.runtime.choices)
    resolved = {name: section for name, section in resolved.items() if name not in OF_SWEEPS}
    expected["paths"]["outputs"] = resolved["paths"]["outputs"]
    assert resolved == expected
