"""``attnbuild show``: what overrides compose to, without training."""

from __future__ import annotations

import json
import re

import pytest
import torch
import yaml

from attnbuild.attention.backends.choose import few_keys

ON_CPU = not torch.cuda.is_available()
FEW_KEYS = few_keys(torch.float32)


def test_show(run):
    outcome = run("show", "attention=window", "attention.window=4", "model.dim=32")
    assert outcome.code == 0, outcome
    config, _, rest = outcome.out.partition("\nplace ")
    assert yaml.safe_load(config)["attention"]["window"] == 4
    assert re.search(r"encoder/attention +window", rest)
    assert re.search(r"decoder/cross_attention +multihead +'window' cannot serve here", rest)
    assert re.search(r"model +EncoderDecoder\(\) +[\d,]+", rest)
    names, why = (f"reference, from {FEW_KEYS + 1} ", r"up to \d+ queries and keys.*; ") if ON_CPU else ("", "")
    wide = rf"encoder/attention +{names}sdpa, from \d+ blocksparse \(c\w+\) +{why}dense kernels.*keys a query"
    assert re.search(wide, rest)
    assert re.search(rf"decoder/cross_attention +{names}sdpa \(c\w+\) +{why}every query may see every key", rest)
    assert re.search(r"^[\d,]+ parameters", rest, re.MULTILINE)


@pytest.mark.skipif(not ON_CPU, reason="of a CPU")
def test_backends_are_those_of_the_precision(run):
    told = run("show", "trainer.precision=bf16-mixed", "model.dim=32", "attention=multihead").out
    assert re.search(rf"encoder/attention +reference, from {few_keys(torch.bfloat16) + 1} sdpa", told)


def test_layers_that_differ_are_shown(run):
    outcome = run("show", "encoder.attention_by_layer={1: window}")
    assert re.search(r"encoder/attention +multihead.*\n +layer 1 +window", outcome.out), outcome


def test_shared_parameters_count_once(run):
    def total(*words):
        return int(re.findall(r"^([\d,]+) parameters", run("show", *words).out, re.MULTILINE)[0].replace(",", ""))

    assert total("model.tie_embeddings=all") < total("model.tie_embeddings=none")


@pytest.mark.parametrize("length", [FEW_KEYS, 2 * FEW_KEYS])
def test_cost_by_place(length, run):
    """Linear layers and scores, counted: what a reader can work out by hand."""
    dim, rows = 32, 4
    sizes = [f"model.dim={dim}", f"length={length}", f"sentences={rows}", "encoder.layers=2", "decoder.layers=1"]
    told = run("show", *sizes, "attention.heads=2").out
    (forward, backward, kept, peak) = re.findall(
        r"encoder/attention +([\d.e-]+) +([\d.e-]+) +([\d.]+) +([\d.]+)", told
    )[0]
    tokens = rows * length
    one_layer = 2 * tokens * dim * dim * 4 + 2 * 2 * tokens * length * dim
    assert float(forward) == pytest.approx(2 * one_layer / 1e9, rel=0.01)
    # Two products for each forward one; the fused kernel, for more keys, computes its scores a second time.
    again = 2 * tokens * length * dim if length > FEW_KEYS else 0
    assert float(backward) == pytest.approx(2 * (2 * one_layer + again) / 1e9, rel=0.01)
    assert float(kept) > 0
    assert float(peak) > 0
    assert re.search(r"whole model +[\d.]+", told)


def test_cost_of_a_length_that_cannot_be(run, refused):
    assert "'no': expected a whole number above 0" in refused("show", "length=no")


SMALL = ("model.dim=16", "encoder.layers=1", "decoder.layers=1", "length=8", "sentences=2")


def test_the_same_for_programs(run):
    words = ("attention=window", "attention.window=4", *SMALL)
    told, record = run("show", *words).out, json.loads(run("show", "--json", *words).out)
    assert record["config"] == yaml.safe_load(told.partition("\nplace ")[0])
    assert record["config"]["attention"]["window"] == 4
    assert record["places"]["encoder.attention"] == {"preset": "window"}
    assert "cannot serve here" in record["places"]["decoder.cross_attention"]["reason"]
    (backends,) = (found for found in record["backends"] if found["place"] == "encoder.attention")
    *short, wide = [(change["from_length"], change["backend"]) for change in backends["backends"]]
    assert short == ([(1, "reference"), (FEW_KEYS + 1, "sdpa")] if ON_CPU else [(1, "sdpa")])
    assert wide[1] == "blocksparse"
    assert f"sdpa, from {wide[0]} blocksparse ({backends['device']})" in told
    assert f"{record['parameters']:,} parameters" in told
    assert f"a vocabulary of {record['outputs']:,}" in told
    cost = record["cost"]
    assert (cost["length"], cost["sentences"]) == (8, 2)
    assert cost["places"].keys() == record["places"].keys()
    for what in ("forward_flops", "backward_flops"):
        parts = [*(place[what] for place in cost["places"].values()), cost["rest"][what]]
        assert sum(parts) == cost["whole"][what] > 0
    assert cost["whole"]["peak_bytes"] > cost["places"]["encoder.attention"]["peak_bytes"] > 0


def test_layers_that_differ_for_programs(run):
    words = ("--json", "model.dim=16", "encoder.layers=2", "encoder.attention_by_layer={1: window}", "length=4")
    record = json.loads(run("show", *words).out)
    assert record["places"]["encoder.attention"]["by_layer"] == {"1": "window"}
    layers = [found["layer"] for found in record["backends"] if found["place"] == "encoder.attention"]
    assert layers == [0, 1]


def test_a_cost_that_cannot_be_counted_is_said(run):
    words = ("decoder/cross_attention=luong_location", "decoder.cross_attention.max_len=4", *SMALL)
    why = "decoder.cross_attention: an input of 8 positions is longer than decoder.cross_attention.max_len=4"
    outcome = run("show", *words)
    assert f"cost cannot be counted on 2 sentences of 8 tokens: {why}" in outcome.out
    cost = json.loads(run("show", "--json", *words).out)["cost"]
    assert cost.keys() == {"sentences", "length", "problem"}
    assert why in cost["problem"]


@pytest.mark.parametrize(
    ("word", "meant"),
    [
        ("longformer", "attention=longformer"),
        ("Longformer", "attention=longformer"),
        ("rnn", "decoder=rnn or encoder=rnn"),
        ("adam", "optimizer=adam"),
    ],
)
def test_a_choice_without_its_group(refused, word, meant):
    told = refused("show", word)
    assert f"{word}  (command line) is not an override: they are written key=value; did you mean {meant}?\n" in told


def test_a_word_that_is_no_choice(refused):
    assert refused("show", "nonsense").endswith("they are written key=value\n")


@pytest.mark.parametrize("words", [("encoder=rnn", "decoder=rnn", "attention=luong_general"), ("attention=none",)])
def test_other_models(run, words):
    assert run("show", *words).code == 0


def test_what_is_wrong_is_said(refused):
    assert "did you mean 'window'?" in refused("show", "attention=window", "attention.windw=3")
