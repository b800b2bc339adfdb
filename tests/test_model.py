"""Whole models: every encoder with every decoder and every attention that fits."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
import torch

import attnbuild
from attnbuild.attention import load_preset
from attnbuild.data.tokenizers.vocabulary import PAD
from attnbuild.embedding import Embedding, sinusoids
from attnbuild.inputs import Ends, ImageInput, TextInput
from attnbuild.memory import Memory
from attnbuild.model import EncoderDecoder, build_model, check_model
from attnbuild.registry import lookup, names

PARTS = [
    ({"type": "transformer", "norm": "pre"}, {"type": "transformer", "norm": "pre"}),
    (
        {"type": "transformer", "norm": "post", "positions": "learned"},
        {"type": "transformer", "norm": "post"},
    ),
    ({"type": "rnn", "cell": "lstm"}, {"type": "rnn", "cell": "lstm", "wiring": "luong"}),
    ({"type": "rnn", "cell": "gru"}, {"type": "rnn", "cell": "gru", "wiring": "bahdanau"}),
    ({"type": "rnn", "bidirectional": False}, {"type": "rnn", "wiring": "luong", "input_feeding": False}),
    ({"type": "transformer"}, {"type": "rnn", "wiring": "bahdanau"}),
    ({"type": "rnn"}, {"type": "transformer"}),
    ({"type": "rnn"}, {"type": "rnn", "wiring": "show_attend_tell"}),
    ({"type": "transformer", "class_token": True}, {"type": "rnn"}),
    ({"type": "cnn", "width": 4, "blocks": [1, 1]}, {"type": "rnn", "wiring": "show_attend_tell"}),
    ({"type": "vit", "class_token": True}, {"type": "transformer"}),
    ({"type": "vit", "class_token": False}, {"type": "rnn"}),
]
VOCABULARY = 20
ENDS = Ends(TextInput(VOCABULARY, PAD), VOCABULARY, shared_vocabulary=True)
IMAGE_ENDS = Ends(ImageInput(1, 8, 12, (0.4,), (0.3,)), VOCABULARY)


def config(encoder: dict[str, Any], decoder: dict[str, Any], attention: str, tie: str = "all") -> dict[str, Any]:
    if decoder.get("wiring") == "show_attend_tell":
        tie = "none"
    elif encoder["type"] in ("cnn", "vit"):
        tie = "target"
    shared = {"dim": 16, "layers": 2, "dropout": 0.0}
    if encoder["type"] == "cnn":
        encoder = {"layers": None, **encoder}
    options = {**shared, **encoder}
    return {
        "encoder": {name: value for name, value in options.items() if value is not None},
        "decoder": {**shared, **decoder},
        "attention": load_preset(attention),
        "model": {"tie_embeddings": tie},
    }


def ends_of(given: dict[str, Any]) -> Ends:
    """What there is to read, as the encoder reads it."""
    return ENDS if "text" in lookup("encoder", given["encoder"]["type"]).reads else IMAGE_ENDS


def model_of(given: dict[str, Any]) -> EncoderDecoder:
    torch.manual_seed(0)
    model = build_model(given, ends_of(given))
    return model.double().eval()


def sources(given: dict[str, Any]) -> torch.Tensor:
    """Three texts of 6, 4 and 2 tokens, or three images."""
    if ends_of(given) is IMAGE_ENDS:
        return torch.randint(256, (3, 1, 8, 12), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    source = tokens(3, 6, 1)
    source[1, 4:], source[2, 2:] = PAD, PAD
    return source


def tokens(rows: int, columns: int, seed: int) -> torch.Tensor:
    return torch.randint(4, VOCABULARY, (rows, columns), generator=torch.Generator().manual_seed(seed))


MODELS = [
    pytest.param(given, id=f"{encoder['type']}-{decoder.get('wiring', decoder['type'])}-{attention}-{number}")
    for (number, (encoder, decoder)), attention in itertools.product(
        enumerate(PARTS), attnbuild.list_names("attention")
    )
    if not check_model(given := config(encoder, decoder, attention), ends_of({"encoder": encoder}))
]


def test_every_encoder_and_generator_is_here() -> None:
    """Those of a user's own model: tests/encoders/test_pretrained.py; classifiers: tests/decoders/test_classifier.py."""
    encoders, decoders = ({part["type"] for part in parts} for parts in zip(*PARTS, strict=True))
    assert encoders == set(names("encoder")) - {"pretrained"}
    assert decoders == {name for name in names("decoder") if lookup("decoder", name).writes == "text"}
    served = {case.values[0]["attention"]["preset"] for case in MODELS}
    assert served == set(attnbuild.list_names("attention"))


@pytest.mark.parametrize("given", MODELS)
def test_stepping_equals_teacher_forcing_and_a_batch_equals_its_rows(given: dict[str, Any]) -> None:
    model = model_of(given)
    source, target = sources(given), tokens(3, 5, 2)
    whole = model(source, target)
    decoded = model.decoder(target, model.encode(source), need_weights=True)
    weights = decoded.weights
    torch.testing.assert_close(decoded.logits, whole)

    beams = 2
    state = model.start(source).reorder(torch.arange(3).repeat_interleave(beams))
    for step in range(target.shape[1]):
        result = model.decoder.step(target[:, step].repeat_interleave(beams), state, need_weights=True)
        torch.testing.assert_close(result.logits, whole[:, step].repeat_interleave(beams, dim=0))
        if weights is not None:
            torch.testing.assert_close(result.weights, weights[:, :, step].repeat_interleave(beams, dim=0))
        state = result.state.reorder(torch.tensor([1, 0, 3, 2, 5, 5]))
    kept = state.keep(torch.tensor([2, 0]))
    assert (kept.sentences, kept.rows) == (2, 4)
    expected = model.decoder.step(target[:, 0].repeat_interleave(beams), state).logits
    after = model.decoder.step(target[[2, 0], 0].repeat_interleave(beams), kept).logits
    torch.testing.assert_close(after, expected[[4, 5, 0, 1]])

    alone = source[2:] if source.ndim > 2 else source[2:, :2]
    torch.testing.assert_close(model(alone, target[2:]), whole[2:])


@pytest.mark.parametrize("given", MODELS)
def test_every_parameter_gets_a_gradient(given: dict[str, Any]) -> None:
    model = model_of(given).train()
    decoded = model.decode(sources(given), tokens(3, 5, 2))
    loss = (decoded.logits * torch.randn_like(decoded.logits)).sum()
    for choice in decoded.choices:
        loss = loss + choice.loss(torch.randn(3, dtype=loss.dtype))
    loss.backward()
    silent = [name for name, parameter in model.named_parameters() if parameter.grad is None]
    assert not silent


@pytest.mark.parametrize(("tie", "matrices"), [("none", 3), ("target", 2), ("all", 1)])
def test_tied_embeddings_share_one_matrix(tie: str, matrices: int) -> None:
    model = model_of(config(*PARTS[0], "multihead", tie))
    shared = {
        id(weight)
        for weight in (
            model.encoder.embedding.tokens.weight,
            model.decoder.embedding.tokens.weight,
            model.decoder.output.weight,
        )
    }
    assert len(shared) == matrices


def test_initialisations_are_what_they_are_named() -> None:
    xavier = model_of(config(*PARTS[0], "multihead"))
    weight = xavier.decoder.layers[0].feedforward.expand.weight
    limit = (6 / sum(weight.shape)) ** 0.5
    assert 0.9 * limit < weight.abs().max() <= limit
    given = config(*PARTS[0], "multihead")
    given["model"]["initialisation"] = "normal"
    weight = model_of(given).decoder.layers[0].feedforward.expand.weight
    assert weight.std().item() == pytest.approx(0.02, rel=0.1)


def test_recurrent_cells_start_as_their_docstring_says() -> None:
    """Jozefowicz et al. 2015: the forget gate's biases sum to 1; Saxe et al. 2014: recurrent matrices are orthogonal."""
    model = model_of(config({"type": "rnn"}, {"type": "rnn"}, "multihead"))
    for cell, suffix in ((model.encoder.recurrent, "_l1_reverse"), (model.decoder.cells.layers[1], "")):
        width = cell.hidden_size
        bias = getattr(cell, f"bias_ih{suffix}") + getattr(cell, f"bias_hh{suffix}")
        expected = torch.zeros_like(bias)
        expected[width : 2 * width] = 1
        torch.testing.assert_close(bias, expected)
        for gate in getattr(cell, f"weight_hh{suffix}").float().split(width):
            torch.testing.assert_close(gate @ gate.T, torch.eye(width), rtol=0, atol=1e-5)


def test_longer_than_the_learned_positions_is_an_error_that_says_so() -> None:
    encoder = {"type": "transformer", "positions": "learned", "max_positions": 4}
    model = model_of(config(encoder, {"type": "transformer"}, "multihead"))
    with pytest.raises(attnbuild.DataError, match="5 tokens is longer than the 4 learned positions"):
        model.encode(tokens(1, 5, 0))


def test_an_empty_row_is_harmless() -> None:
    """A row that is nothing but padding gives finite numbers, forward and backward."""
    for encoder, decoder in PARTS:
        model = model_of(given := config(encoder, decoder, "multihead"))
        if ends_of(given) is IMAGE_ENDS:
            continue
        source = tokens(2, 4, 0)
        source[1] = 0
        logits = model(source, tokens(2, 3, 1))
        logits.sum().backward()
        assert logits.isfinite().all()
        assert all(parameter.grad.isfinite().all() for parameter in model.parameters())


def test_bahdanau_wiring_equals_the_paper() -> None:
    """Bahdanau et al. 2015, A.2.2: c_i from s_(i-1), then s_i = f(s_(i-1), y_(i-1), c_i), then maxout."""
    given = config({"type": "rnn"}, {"type": "rnn", "cell": "gru", "wiring": "bahdanau"}, "bahdanau")
    given["decoder"]["layers"] = 1
    model = model_of(given)
    decoder, memory, target = model.decoder, model.encode(tokens(1, 4, 0)), tokens(1, 3, 1)
    cell, score = decoder.cells.layers[0], decoder.attention.core.score
    state = torch.tanh(decoder.initial_hidden(memory.summary))
    for step in range(3):
        word = decoder.embedding.tokens(target[:, step])
        rated = torch.tanh(state @ score.query_weight[0] + memory.states[0] @ score.key_weight[0]) @ score.vector[0]
        context = (rated.softmax(0) * memory.states[0]).sum(0, keepdim=True)
        state = cell(torch.cat([word, context], -1), state)
        pairs = decoder.readout.project(torch.cat([state, word, context], -1)).view(-1, 2)
        logits = decoder.output(pairs.amax(-1))
        torch.testing.assert_close(model(tokens(1, 4, 0), target)[0, step], logits)


def test_luong_wiring_equals_the_paper() -> None:
    """Luong et al. 2015: h_t, then c_t, then h~ = tanh(W [c; h]), which is fed to the next input (3.3)."""
    model = model_of(config({"type": "rnn"}, {"type": "rnn", "layers": 1, "wiring": "luong"}, "luong_general"))
    decoder, source, target = model.decoder, tokens(1, 4, 0), tokens(1, 3, 1)
    memory = model.encode(source)
    hidden = torch.tanh(decoder.initial_hidden(memory.summary))
    cell = torch.tanh(decoder.initial_cell(memory.summary))
    fed = torch.zeros_like(hidden)
    for step in range(3):
        word = decoder.embedding.tokens(target[:, step])
        hidden, cell = decoder.cells.layers[0](torch.cat([word, fed], -1), (hidden, cell))
        rated = (hidden @ decoder.attention.core.score.weight[0]) @ memory.states[0].T
        context = rated.softmax(-1) @ memory.states[0]
        fed = torch.tanh(torch.cat([context, hidden], -1) @ decoder.readout[0].weight.T)
        torch.testing.assert_close(model(source, target)[0, step], decoder.output(fed)[0])


def test_rnn_summary_is_the_final_state_of_both_directions() -> None:
    model = model_of(config({"type": "rnn", "layers": 1}, {"type": "rnn"}, "multihead"))
    source = tokens(2, 5, 0)
    source[1, 3:] = 0
    memory = model.encode(source)
    half = model.encoder.dim // 2
    torch.testing.assert_close(memory.summary[1, :half], memory.states[1, 2, :half])
    torch.testing.assert_close(memory.summary[1, half:], memory.states[1, 0, half:])
    assert (memory.states[1, 3:] == 0).all()


def give_weights(layer: torch.nn.Module, theirs: torch.nn.Module, attentions: dict[str, str]) -> None:
    """Copy a Transformer layer of torch into ours; ``attentions``: our name -> theirs."""
    for own, other in attentions.items():
        block, twin = getattr(layer, own), getattr(theirs, other)
        projections = (block.query_projection, block.key_projection, block.value_projection)
        for part, weight, bias in zip(
            projections, twin.in_proj_weight.chunk(3), twin.in_proj_bias.chunk(3), strict=True
        ):
            part.weight.data, part.bias.data = weight, bias
        block.out_projection.load_state_dict(twin.out_proj.state_dict())
    layer.feedforward.expand.load_state_dict(theirs.linear1.state_dict())
    layer.feedforward.contract.load_state_dict(theirs.linear2.state_dict())


@pytest.mark.parametrize("norm", ["pre", "post"])
def test_transformer_layers_equal_torch(norm: str) -> None:
    """Where norms, residuals and sublayers stand: torch.nn.TransformerEncoderLayer and -DecoderLayer."""
    parts = {"type": "transformer", "norm": norm, "feedforward": 32}
    model = model_of(config(parts, parts, "multihead"))
    options = {"dim_feedforward": 32, "dropout": 0.0, "norm_first": norm == "pre", "batch_first": True}
    encoder = torch.nn.TransformerEncoderLayer(16, 4, **options, dtype=torch.float64)
    decoder = torch.nn.TransformerDecoderLayer(16, 4, **options, dtype=torch.float64)
    for theirs in (encoder, decoder):
        for name, parameter in theirs.named_parameters():
            if "norm" in name:
                torch.nn.init.normal_(parameter)
    own_encoder, own_decoder = model.encoder.layers[0], model.decoder.layers[0]
    give_weights(own_encoder, encoder, {"attention": "self_attn"})
    give_weights(own_decoder, decoder, {"self_attention": "self_attn", "cross_attention": "multihead_attn"})
    norms = [
        (own_encoder.attention_residual, encoder.norm1),
        (own_encoder.feedforward_residual, encoder.norm2),
        (own_decoder.self_residual, decoder.norm1),
        (own_decoder.cross_residual, decoder.norm2),
        (own_decoder.feedforward_residual, decoder.norm3),
    ]
    for own, norm_layer in norms:
        own.norm.load_state_dict(norm_layer.state_dict())
    source, target = torch.randn(2, 5, 16, dtype=torch.float64), torch.randn(2, 4, 16, dtype=torch.float64)
    padding = torch.arange(5) >= torch.tensor([[5], [3]])
    real = ~padding
    states = encoder(source, src_key_padding_mask=padding)
    torch.testing.assert_close(own_encoder(source, padding)[0][real], states[real])
    memory = Memory(source, padding, source[:, 0])
    causal = torch.nn.Transformer.generate_square_subsequent_mask(4, dtype=torch.float64)
    expected = decoder(target, source, tgt_mask=causal, memory_key_padding_mask=padding)
    torch.testing.assert_close(own_decoder(target, memory, False)[0], expected)


def test_sinusoidal_positions_are_the_papers() -> None:
    """Vaswani et al. 2017, 3.5: PE(pos, 2i) = sin(pos / 10000^(2i/d)), PE(pos, 2i + 1) = cos of the same."""
    for dim in (6, 7):
        table = sinusoids(torch.tensor([0, 1, 200]), dim)
        for row, position in enumerate((0, 1, 200)):
            for channel in range(dim):
                angle = position / 10000 ** ((channel - channel % 2) / dim)
                value = math.cos(angle) if channel % 2 else math.sin(angle)
                assert table[row, channel].item() == pytest.approx(value, abs=1e-4)


@pytest.mark.parametrize("given", MODELS[::2])
def test_bf16_autocast_trains_and_decodes(given: dict[str, Any]) -> None:
    """trainer.precision=bf16-mixed: near the numbers of fp32, finite gradients, also step by step."""
    model = model_of(given).float()
    source, target = sources(given)[:2], tokens(2, 4, 2)
    expected = model(source, target)
    with torch.autocast("cpu", torch.bfloat16):
        logits = model(source, target)
        state = model.start(source).reorder(torch.tensor([0, 0, 1, 1]))
        for step in range(target.shape[1]):
            result = model.decoder.step(target[:, step].repeat_interleave(2), state, need_weights=True)
            state = result.state.reorder(torch.tensor([1, 0, 3, 2]))
    # bf16 has 8 bits, and a temperature of 10 multiplies their error: all logits together are within a tenth.
    # What is chosen, not weighed, may turn out otherwise where two keys are rated all but alike.
    chosen = not attnbuild.attention.describe(given["attention"]["preset"])["capabilities"]["differentiable"]
    for found, wanted in ((logits, expected), (result.logits, expected[:, -1].repeat_interleave(2, dim=0))):
        assert found.isfinite().all()
        assert chosen or (found.float() - wanted).norm() < 0.1 * wanted.norm()
    logits.float().square().sum().backward()
    # In evaluation an attention that only chooses may leave its scores without a gradient.
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters() if parameter.grad is not None)


@pytest.mark.parametrize("first", [0, 1000, 1020, 1024, 5000])
def test_an_embedding_counts_positions_however_far(first: int) -> None:
    """Sinusoids are kept for the first positions alone; a step beyond them gets its own."""
    layer = Embedding(5, 8, positions="sinusoidal").eval()
    tokens = torch.zeros(1, 10, dtype=torch.long)
    layer(tokens)  # makes what is kept
    found = layer(tokens, first=first) - layer.tokens(tokens)
    torch.testing.assert_close(found[0], sinusoids(torch.arange(first, first + 10), 8))
    assert layer._table is not None
    assert len(layer._table) == 1024
