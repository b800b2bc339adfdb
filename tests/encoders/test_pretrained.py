"""Pretrained encoders against the models they hold: small ones with random weights, saved as a hub would have them."""

from __future__ import annotations

import copy
import json
import shutil
import sys
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from torch import Tensor

from attnbuild import ConfigError
from attnbuild.data.place import TokenizerPlace
from attnbuild.data.tokenizers.vocabulary import BOS, EOS, PAD, UNK, Vocabulary
from attnbuild.encoders.base import Encoder
from attnbuild.initialisation import Initialisation, initialise
from attnbuild.inputs import ImageInput, TextInput
from attnbuild.memory import masked_mean
from attnbuild.registry import build
from tests.encoders.places import encoder, image, pixels, text
from tests.encoders.tiny_models import SMALL, save_bert, save_model, save_roberta, save_t5

pytest.importorskip("transformers")

TEXTS = ["the cat sat on the mats", "a", "unhappy dog on the mat"]
VISION: dict[str, tuple[str, dict[str, Any]]] = {
    "vit": ("ViT", {**SMALL, "image_size": 32, "patch_size": 8}),
    "deit": ("DeiT", {**SMALL, "image_size": 32, "patch_size": 8}),
    "resnet": ("ResNet", {"embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1], "layer_type": "basic"}),
    "convnext": ("ConvNext", {"hidden_sizes": [8, 16], "depths": [1, 1], "num_stages": 2}),
    "swin": ("Swin", {"image_size": 32, "embed_dim": 8, "depths": [1, 1], "num_heads": [2, 2], "window_size": 4}),
}


def vocabulary(path: Path) -> Vocabulary:
    return build("tokenizer", TokenizerPlace(path), {"type": "pretrained", "path": str(path)}, "tokenizer").train([])


def pretrained(source: TextInput | ImageInput, **options: Any) -> Encoder:
    return encoder(source, type="pretrained", **{name: str(v) if name == "path" else v for name, v in options.items()})


def rows(words: Vocabulary, texts: list[str]) -> Tensor:
    """As the data makes them: EOS at the end, padded at the right."""
    ids = [torch.tensor([*row, EOS]) for row in words.encode(texts)]
    return torch.nn.utils.rnn.pad_sequence(ids, batch_first=True, padding_value=PAD)


@pytest.mark.parametrize("save", [save_bert, save_roberta, save_t5])
def test_text_states_are_the_model_s(save: Any, tmp_path: Path) -> None:
    """By the model's own tokenizer, with its special tokens and its padding."""
    model, tokenizer = save(tmp_path)
    words = vocabulary(tmp_path)
    ours, source = pretrained(text(len(words)), path=tmp_path), rows(words, TEXTS)
    given = tokenizer(TEXTS, return_tensors="pt", padding=True)
    if save is save_t5:
        model = model.get_encoder().eval()
    if save is not save_bert:
        given.pop("token_type_ids", None)
    expected = model(**given).last_hidden_state
    memory = ours(source)
    first = int(save is not save_t5)  # T5 has no class token
    assert ours.own_summary == bool(first)
    assert torch.equal(memory.key_padding_mask, source == PAD)
    for row, real in enumerate((source != PAD).sum(dim=1).tolist()):
        torch.testing.assert_close(memory.states[row, :real], expected[row, first : first + real])
    torch.testing.assert_close(memory.summary, expected[:, 0] if first else masked_mean(memory.states, source == PAD))


def test_a_pair_is_read_as_the_model_reads_pairs(tmp_path: Path) -> None:
    model, tokenizer = save_bert(tmp_path)
    words = vocabulary(tmp_path)
    first, second = words.encode(["the cat", "a mat on"])
    memory = pretrained(text(len(words)), path=tmp_path)(torch.tensor([[*first, EOS, *second, EOS, PAD]]))
    given = tokenizer("the cat", "a mat on", return_tensors="pt")
    assert given["token_type_ids"].unique().tolist() == [0, 1]
    expected = model(**given).last_hidden_state
    torch.testing.assert_close(memory.summary, expected[:, 0])
    torch.testing.assert_close(memory.states[:, :-1], expected[:, 1:])


def test_special_tokens_are_the_model_s(tmp_path: Path) -> None:
    _, tokenizer = save_bert(tmp_path)
    reader = pretrained(text(len(vocabulary(tmp_path))), path=tmp_path).reader
    found = reader._to_model(torch.tensor([PAD, BOS, EOS, UNK, 4, 10])).tolist()
    special = [tokenizer.pad_token_id, tokenizer.cls_token_id, tokenizer.sep_token_id, tokenizer.unk_token_id]
    assert found == [*special, 0, 6]


@pytest.mark.parametrize("name", VISION)
@pytest.mark.parametrize("size", [(32, 32), (64, 32)], ids=str)
def test_image_states_are_the_model_s(name: str, size: tuple[int, int], tmp_path: Path) -> None:
    """From uint8, normalised by hand; of another size than the model was made for too."""
    kind, options = VISION[name]
    model = save_model(kind, tmp_path, **options)
    (tmp_path / "preprocessor_config.json").write_text(
        json.dumps({"image_mean": [0.1, 0.2, 0.3], "image_std": [0.5, 0.6, 0.7]})
    )
    ours, source = pretrained(image(*size), path=tmp_path), pixels(2, 3, *size)
    mean, std = torch.tensor([0.1, 0.2, 0.3]).view(3, 1, 1), torch.tensor([0.5, 0.6, 0.7]).view(3, 1, 1)
    resized = {"interpolate_pos_encoding": True} if name in ("vit", "deit", "swin") else {}
    output = model(pixel_values=(source.float() / 255 - mean) / std, **resized)
    memory, height, width = ours(source), *ours.reader.grid
    assert memory.grid == (height, width)
    assert height * size[1] == width * size[0]
    assert memory.states.shape == (2, height * width, 16)
    states = output.last_hidden_state
    if name in ("resnet", "convnext"):
        assert ours.own_summary == (name == "convnext")
        torch.testing.assert_close(memory.states, states.flatten(2).transpose(1, 2))
        torch.testing.assert_close(memory.summary, output.pooler_output.flatten(1))
    else:
        extra = {"vit": 1, "deit": 2, "swin": 0}[name]
        torch.testing.assert_close(memory.states, states[:, extra:])
        torch.testing.assert_close(memory.summary, states[:, 0] if extra else states.mean(dim=1))


@pytest.mark.parametrize(
    ("processor", "mean", "std"),
    [
        (None, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        ({"image_mean": 0.5, "image_std": [0.25]}, (0.5,) * 3, (0.25,) * 3),
        ({"do_normalize": False, "image_mean": [9, 9, 9]}, (0,) * 3, (1,) * 3),
    ],
)
def test_normalisation(processor: dict[str, Any] | None, mean: tuple[float], std: tuple[float], tmp_path: Path) -> None:
    save_model("ResNet", tmp_path, **VISION["resnet"][1])
    if processor is not None:
        (tmp_path / "preprocessor_config.json").write_text(json.dumps(processor))
    normalise = pretrained(image(), path=tmp_path).reader.normalise
    torch.testing.assert_close(normalise.mean.flatten(), torch.tensor(mean, dtype=torch.float32))
    torch.testing.assert_close(normalise.std.flatten(), torch.tensor(std, dtype=torch.float32))


def test_grey_images_are_read_as_coloured_ones(tmp_path: Path) -> None:
    save_model("ResNet", tmp_path, **VISION["resnet"][1])
    grey = pixels(2, 1, 32, 32)
    memory = pretrained(image(channels=1), path=tmp_path)(grey)
    torch.testing.assert_close(memory.states, pretrained(image(), path=tmp_path)(grey.expand(-1, 3, -1, -1)).states)


@pytest.mark.parametrize("kind", ["text", "image"])
def test_frozen_is_frozen(kind: str, tmp_path: Path) -> None:
    """No gradients, no dropout, no running means, in training too; the projection learns."""
    if kind == "text":
        save_bert(tmp_path, hidden_dropout_prob=0.5)
        words = vocabulary(tmp_path)
        given, source = text(len(words)), rows(words, TEXTS)
    else:
        save_model("ResNet", tmp_path, **VISION["resnet"][1])
        given, source = image(), pixels(2, 3, 32, 32)
    model = pretrained(given, path=tmp_path, freeze=True, dim=6)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    still = model(source).states
    model.train()
    assert not any(module.training for module in model.reader.modules())
    torch.testing.assert_close(model(source).states, still)
    model(source).states.square().sum().backward()
    assert {name for name, value in model.named_parameters() if value.grad is not None} == {
        "project.weight",
        "project.bias",
    }
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    thawed = pretrained(given, path=tmp_path).train()
    assert all(module.training for module in thawed.modules())


@pytest.mark.parametrize("name", ["bert", *VISION])
def test_every_parameter_gets_a_gradient(name: str, tmp_path: Path) -> None:
    """None is left over from the task that the model was trained on."""
    if name == "bert":
        save_bert(tmp_path)
        words = vocabulary(tmp_path)
        model, source = pretrained(text(len(words)), path=tmp_path), rows(words, TEXTS)
    else:
        save_model(VISION[name][0], tmp_path, **VISION[name][1])
        model, source = pretrained(image(), path=tmp_path), pixels(2, 3, 32, 32)
    memory = model(source)
    ((memory.states**3).sum() + (memory.summary**3).sum()).backward()
    without = {key for key, value in model.named_parameters() if value.grad is None}
    assert without <= {key for key in without if "mask_token" in key}


def test_width(tmp_path: Path) -> None:
    save_model("ResNet", tmp_path, **VISION["resnet"][1])
    assert pretrained(image(), path=tmp_path).dim == 16
    assert isinstance(pretrained(image(), path=tmp_path, dim=16).project, torch.nn.Identity)
    projected = pretrained(image(), path=tmp_path, dim=6)(pixels(2, 3, 32, 32))
    assert (projected.states.shape[2], projected.summary.shape[1]) == (6, 6)


@pytest.mark.parametrize("name", ["bert", "roberta", "t5", "vit", "resnet"])
def test_a_checkpoint_needs_nothing_else(name: str, tmp_path: Path) -> None:
    """What is carried is plain JSON, and with the weights enough: the folder may be gone."""
    texts = {"bert": save_bert, "roberta": save_roberta, "t5": save_t5}
    if name in texts:
        texts[name](tmp_path / "model")
        words = vocabulary(tmp_path / "model")
        given, source = text(len(words)), rows(words, TEXTS)
    else:
        save_model(VISION[name][0], tmp_path / "model", **VISION[name][1])
        given, source = image(), pixels(2, 3, 32, 32)
    (tmp_path / "model" / "preprocessor_config.json").write_text(json.dumps({"image_mean": [0.1, 0.2, 0.3]}))
    options = {"path": str(tmp_path / "model"), "freeze": True, "dim": 6}
    first = pretrained(given, **options)
    carried = json.loads(json.dumps(first.carried()))
    assert str(tmp_path) not in json.dumps(carried)
    weights = first.state_dict()
    shutil.rmtree(tmp_path / "model")
    again = pretrained(given, **options, **carried)
    assert again.carried() == carried
    again.load_state_dict(weights)
    torch.testing.assert_close(again(source).states, first(source).states)
    torch.testing.assert_close(again(source).summary, first(source).summary)


@pytest.mark.parametrize("how", get_args(Initialisation))
def test_what_initialises_a_model_leaves_its_weights(how: Initialisation, tmp_path: Path) -> None:
    save_bert(tmp_path)
    given = text(len(vocabulary(tmp_path)))
    model = pretrained(given, path=tmp_path, dim=6)
    read, project = pretrained(given, path=tmp_path).reader.state_dict(), model.project.weight.clone()
    initialise(torch.nn.Sequential(model), how)
    found = model.reader.state_dict()
    assert found.keys() == read.keys()
    assert all(torch.equal(found[name], value) for name, value in read.items())
    assert not torch.equal(model.project.weight, project)


def test_copies(tmp_path: Path) -> None:
    """As averaged weights are kept."""
    save_model("ResNet", tmp_path, **VISION["resnet"][1])
    model, source = pretrained(image(), path=tmp_path), pixels(1, 3, 32, 32)
    torch.testing.assert_close(copy.deepcopy(model)(source).states, model(source).states)


@pytest.mark.parametrize("name", ["bert", "vit", "resnet"])
def test_a_config_is_checked_without_weights_or_tokenizer(name: str, tmp_path: Path) -> None:
    """On the meta device config.json is enough: nothing else is there."""
    if name == "bert":
        save_bert(tmp_path)
    else:
        save_model(VISION[name][0], tmp_path, **VISION[name][1])
    for file in tmp_path.iterdir():
        if file.name != "config.json":
            file.unlink()
    with torch.device("meta"):
        model = pretrained(text(8) if name == "bert" else image(), path=tmp_path, dim=6)
    assert model.dim == 6
    assert all(value.is_meta for value in model.state_dict().values())


def test_text_and_images_are_not_mixed_up(tmp_path: Path) -> None:
    save_bert(tmp_path / "text")
    save_model("ResNet", tmp_path / "image", **VISION["resnet"][1])
    with pytest.raises(ConfigError, match=r"encoder\.path .*text' reads text, and this data is image"):
        pretrained(image(), path=tmp_path / "text")
    with pytest.raises(ConfigError, match=r"encoder\.path .*image' reads image, and this data is text"):
        pretrained(text(), path=tmp_path / "image")


def test_another_vocabulary_is_refused(tmp_path: Path) -> None:
    save_bert(tmp_path)
    with pytest.raises(
        ConfigError, match=r"tokenizer\.type .*its own 15 tokens and not the 96 of.*tokenizer=pretrained"
    ):
        pretrained(text(100), path=tmp_path)


@pytest.mark.parametrize(
    ("save", "most"),
    [(save_bert, 11), (save_roberta, 37)],  # 40 positions, of which the first two are none, and a class token
)
def test_of_a_longer_text_the_beginning_is_read(
    save: Any, most: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    save(tmp_path)
    model = pretrained(text(len(vocabulary(tmp_path))), path=tmp_path)
    long = torch.full((3, most + 4), 9)
    long[1, 4], long[1, 5:] = EOS, PAD
    long[2, most - 1], long[2, most:] = EOS, PAD
    beginnings = long[:, :most].clone()
    beginnings[0, -1] = EOS
    model(beginnings)
    assert "sees the beginning" not in caplog.text
    found, again, expected = model(long), model(long), model(beginnings)
    assert caplog.text.count(f"reads {most} tokens: of longer texts, such as one of {most + 4}") == 1
    for memory in (found, again):
        torch.testing.assert_close(memory.states, expected.states)
        torch.testing.assert_close(memory.summary, expected.summary)
        assert torch.equal(memory.key_padding_mask, beginnings == PAD)


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("ViTMAE", {**SMALL, "image_size": 32, "patch_size": 8}),  # a quarter of the patches, shuffled
        ("ViTMAE", {**SMALL, "image_size": 32, "patch_size": 8, "mask_ratio": 0.0}),  # all, shuffled
        ("Yolos", {**SMALL, "image_size": [32, 32], "patch_size": 8, "num_detection_tokens": 10}),
    ],
    ids=["vit_mae", "vit_mae of all", "yolos"],
)
def test_states_that_are_no_grid_are_refused(kind: str, options: dict[str, Any], tmp_path: Path) -> None:
    save_model(kind, tmp_path, **options)
    with pytest.raises(ConfigError, match=r"encoder\.path .*gives no state for each part of an image in its place"):
        pretrained(image(), path=tmp_path)


def test_a_model_that_asks_for_more_than_pixels_is_refused(tmp_path: Path) -> None:
    save_model("Siglip2Vision", tmp_path, **SMALL, num_patches=16, patch_size=8)
    with pytest.raises(ConfigError, match=r"encoder\.path .*asks for more than pixels: .*spatial_shapes"):
        pretrained(image(), path=tmp_path)


def test_a_size_that_a_model_cannot_read_is_told(tmp_path: Path) -> None:
    save_model("Yolos", tmp_path, **SMALL, image_size=[32, 32], patch_size=8, num_detection_tokens=1)
    with pytest.raises(ConfigError, match=r"image\.size .*does not read images of 4 x 4 pixels .*image\.size=32"):
        pretrained(image(4, 4), path=tmp_path)


def test_the_rest_of_an_image_is_a_cell_where_the_model_makes_it_one(tmp_path: Path) -> None:
    """Swin pads 34 pixels to 9 patches of 4, and these to 5 pairs."""
    save_model("Swin", tmp_path, **VISION["swin"][1])
    memory = pretrained(image(34, 34), path=tmp_path)(pixels(1, 3, 34, 34))
    assert (memory.grid, memory.states.shape[1]) == ((5, 5), 25)


@pytest.mark.parametrize("meta", [False, True])
@pytest.mark.parametrize("path", ["nobody/nothing", "no/such/folder/here", "./empty"])
def test_a_path_with_nothing_is_refused(path: str, meta: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    with (
        torch.device("meta" if meta else "cpu"),
        pytest.raises(ConfigError, match=rf"encoder\.path  '{path}' cannot be read"),
    ):
        pretrained(image(), path=path)


def test_without_a_path_it_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"encoder\.path  name a folder or a model"):
        pretrained(image())


def test_damaged_files_are_refused(tmp_path: Path) -> None:
    save_model("ResNet", tmp_path, **VISION["resnet"][1])
    (tmp_path / "model.safetensors").write_bytes(b"nonsense")
    with pytest.raises(ConfigError, match=r"encoder\.path .*cannot be read"):
        pretrained(image(), path=tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ConfigError, match=r"encoder\.path .*cannot be read"):
        pretrained(image(), path=tmp_path)


def test_missing_weights_are_no_weights(tmp_path: Path) -> None:
    """The library would draw them, and say so in a warning."""
    from safetensors.torch import load_file, save_file

    save_model("ViT", tmp_path, **VISION["vit"][1])
    weights = load_file(tmp_path / "model.safetensors")
    save_file({name: value for name, value in weights.items() if "pooler" not in name}, tmp_path / "model.safetensors")
    pretrained(image(), path=tmp_path)
    kept = dict(list(weights.items())[:-6])
    save_file(kept, tmp_path / "model.safetensors")
    with pytest.raises(ConfigError, match=r"encoder\.path .*lack weights of a vit model: "):
        pretrained(image(), path=tmp_path)


def test_code_of_a_stranger_is_not_run(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text("raise SystemExit('ran')")
    auto = {"AutoConfig": "own.Own", "AutoModel": "own.Own"}
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "own", "auto_map": auto}))
    with pytest.raises(ConfigError, match=r"encoder\.path .*cannot be read"):
        pretrained(image(), path=tmp_path)


def test_without_the_library_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ConfigError, match=r"pip install 'attnbuild\[hf\]'"):
        pretrained(image(), path="microsoft/resnet-18")
