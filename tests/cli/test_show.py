"""``attnbuild show``: what overrides compose to, without training."""

from __future__ import annotations

import re

import pytest
import yaml


def test_show(run):
    outcome = run("show", "attention=window", "attention.window=4", "model.dim=32")
    assert outcome.code == 0, outcome
    config, _, rest = outcome.out.partition("\nplace ")
    assert yaml.safe_load(config)["attention"]["window"] == 4
    assert re.search(r"encoder/attention +window", rest)
    assert re.search(r"decoder/cross_attention +multihead +'window' cannot serve here", rest)
    assert re.search(r"model +EncoderDecoder\(\) +[\d,]+", rest)
    assert "Soft(backend=sdpa" in rest
    assert re.search(r"^[\d,]+ parameters", rest, re.MULTILINE)


def test_layers_that_differ_are_shown(run):
    outcome = run("show", "encoder.attention_by_layer={1: window}")
    assert re.search(r"encoder/attention +multihead.*\n +layer 1 +window", outcome.out), outcome


def test_shared_parameters_count_once(run):
    def total(*words):
        return int(re.findall(r"^([\d,]+) parameters", run("show", *words).out, re.MULTILINE)[0].replace(",", ""))

    assert total("model.tie_embeddings=all") < total("model.tie_embeddings=none")


@pytest.mark.parametrize("words", [("encoder=rnn", "decoder=rnn", "attention=luong_general"), ("attention=none",)])
def test_other_models(run, words):
    assert run("show", *words).code == 0


def test_what_is_wrong_is_said(refused):
    assert "did you mean 'window'?" in refused("show", "attention=window", "attention.windw=3")
