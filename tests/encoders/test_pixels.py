"""Pixels become what encoders read, whether they come as bytes or as numbers."""

from __future__ import annotations

import torch

from attnbuild.encoders.pixels import Normalise
from tests.encoders.places import pixels


def test_bytes_and_floats_are_the_same_numbers() -> None:
    source, normalise = pixels(2, 3, 4, 5), Normalise((0.1, 0.2, 0.3), (0.5, 1.0, 2.0))
    torch.testing.assert_close(normalise(source), normalise(source.float() / 255))


def test_each_channel_has_its_own_mean_and_deviation() -> None:
    source, mean, std = pixels(2, 2, 4, 5), (0.1, 0.6), (0.5, 2.0)
    normalised = Normalise(mean, std)(source)
    for channel in range(2):
        expected = (source[:, channel].double() / 255 - mean[channel]) / std[channel]
        torch.testing.assert_close(normalised[:, channel].double(), expected, rtol=1e-5, atol=1e-6)


def test_what_the_weights_were_trained_on_is_stored_with_them() -> None:
    trained, other = Normalise((0.1,), (0.5,)), Normalise((0.9,), (0.1,))
    other.load_state_dict(trained.state_dict())
    source = pixels(1, 1, 2, 2)
    assert torch.equal(other(source), trained(source))
