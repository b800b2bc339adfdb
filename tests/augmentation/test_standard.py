"""Images change as the options say, each on its own, and the same seed changes them the same way."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from attnbuild.augmentation.standard import Standard
from attnbuild.errors import ConfigError
from attnbuild.registry import build

OFF = {"flip": 0.0, "crop": 0, "rotate": 0.0, "color": 0.0, "erase": 0.0}
ON = {"flip": 0.5, "crop": 2, "rotate": 20.0, "color": 0.4, "erase": 0.5}


def make(**options) -> Standard:
    return build("augmentation", None, {"type": "standard", **OFF, **options}, "augmentation")


def noise(count=16, channels=3, side=12) -> torch.Tensor:
    draw = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (count, channels, side, side), generator=draw, dtype=torch.uint8)


@pytest.mark.parametrize("channels", [1, 3])
def test_nothing_changes_where_all_is_off(channels):
    images = noise(channels=channels)
    assert torch.equal(make()(images), images.float() / 255)


@given(
    options=st.fixed_dictionaries(
        {
            "flip": st.floats(0, 1),
            "crop": st.integers(0, 6),
            "rotate": st.floats(0, 180),
            "color": st.floats(0, 1),
            "erase": st.floats(0, 1),
        }
    ),
    channels=st.sampled_from([1, 3]),
    height=st.integers(2, 14),
    width=st.integers(2, 14),
    count=st.integers(1, 4),
)
@settings(max_examples=30)
def test_shape_type_and_range_stay(options, channels, height, width, count):
    images = torch.randint(0, 256, (count, channels, height, width), dtype=torch.uint8)
    changed = make(**options)(images)
    assert (changed.shape, changed.dtype) == (images.shape, torch.float32)
    assert changed.isfinite().all()
    assert changed.min() >= 0
    assert changed.max() <= 1


@pytest.mark.parametrize("option", sorted(ON))
def test_each_option_changes_images_each_on_its_own(option):
    """Sixteen times the same image becomes several different ones."""
    images = noise(1).repeat(16, 1, 1, 1)
    torch.manual_seed(0)
    changed = make(**{option: ON[option]})(images)
    different = {tuple(image.flatten().tolist()) for image in changed}
    assert len(different) >= (2 if option in ("flip", "erase") else 8)
    assert not torch.equal(changed, images.float() / 255)


def test_what_each_option_does():
    images = noise()
    exact = images.float() / 255
    assert torch.equal(make(flip=1.0)(images), exact.flip(-1))
    shifted = make(crop=2)(images)
    padded = torch.nn.functional.pad(exact, (2, 2, 2, 2))
    windows = torch.stack([padded[:, :, top : top + 12, left : left + 12] for top in range(5) for left in range(5)])
    assert ((windows - shifted).abs().amax(dim=(2, 3, 4)) < 1e-6).any(dim=0).all()
    erased = make(erase=1.0)(images)
    kept = (erased == exact).all(dim=1)
    assert (erased.amax(dim=1)[~kept] == 0).all()
    assert ((~kept).float().mean(dim=(1, 2)) <= 0.4).all()
    grey = torch.full((8, 3, 6, 6), 100, dtype=torch.uint8)
    bright = make(color=0.5)(grey)
    assert bright.min() >= 100 / 255 * 0.5 - 1e-6
    assert bright.max() <= 100 / 255 * 1.5 + 1e-6


def test_a_turn_is_within_its_degrees():
    """A bright line from the middle to the right edge stays within the angle."""
    images = torch.zeros(64, 1, 65, 65, dtype=torch.uint8)
    images[:, :, 32, 33:] = 255
    torch.manual_seed(0)
    turned = make(rotate=30.0)(images)
    y, x = torch.meshgrid(torch.arange(65) - 32.0, torch.arange(65) - 32.0, indexing="ij")
    angles = torch.atan2((turned * y).sum((1, 2, 3)), (turned * x).sum((1, 2, 3))).rad2deg()
    assert angles.abs().max() <= 31
    assert angles.max() > 15
    assert angles.min() < -15


@pytest.mark.parametrize("channels", [1, 3])
def test_the_same_seed_repeats(channels):
    augment, images = make(**ON), noise(channels=channels)
    runs = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        augment(noise(3, channels))  # another batch before: only the generator may matter
        runs.append(augment(images))
    assert torch.equal(runs[0], runs[1])
    assert not torch.equal(runs[0], runs[2])
    torch.manual_seed(1)
    make(**ON)(noise(3, channels))
    assert torch.equal(make(**ON)(images), runs[0]), "a new process that resumes has a new module"


def test_building_draws_nothing():
    state = torch.random.get_rng_state()
    make(**ON)
    assert torch.equal(torch.random.get_rng_state(), state)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_mixed_precision_changes_nothing(dtype):
    augment, images = make(**ON), noise()
    torch.manual_seed(1)
    exact = augment(images)
    torch.manual_seed(1)
    with torch.autocast("cpu", dtype):
        mixed = augment(images)
    assert mixed.dtype == torch.float32
    assert torch.equal(mixed, exact)


@pytest.mark.gpu
def test_on_the_images_device():
    images = noise().cuda()
    augment = make(**ON)
    runs = []
    for _ in range(2):
        torch.manual_seed(1)
        runs.append(augment(images))
    assert runs[0].is_cuda
    assert torch.equal(*runs)


@pytest.mark.parametrize("bad", [{"flip": 1.5}, {"crop": -1}, {"rotate": 200.0}, {"color": 2.0}, {"erase": -0.1}])
def test_wrong_options_are_refused(bad):
    with pytest.raises(ConfigError, match=rf"augmentation\.{next(iter(bad))}"):
        make(**bad)


def test_kornia_is_loaded_only_when_used():
    program = "import sys; from attnbuild.registry import names; assert 'standard' in names('augmentation'); assert 'kornia' not in sys.modules"
    subprocess.run([sys.executable, "-c", program], check=True)
