"""The softmax matrix from its landmarks."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated

import torch
from annotated_types import Ge, Interval
from torch import Tensor, nn

from attnbuild.attention.backends import length_convolution, sdpa
from attnbuild.attention.capabilities import Capabilities
from attnbuild.attention.core.base import Attended, Core
from attnbuild.attention.parts import CorePlace
from attnbuild.attention.precision import full_precision
from attnbuild.attention.products import per_head
from attnbuild.errors import ConfigError
from attnbuild.registry import register

__all__ = ["Nystromformer", "pseudo_inverse"]


@dataclass
class _Segments:
    """How the real positions of each row are divided into segments, one a landmark.

    Attributes:
        index: (B, N), the segment of each position; of padding, ``count``.
        sizes: (B, M), real positions of each segment; 0 where a row has fewer positions than landmarks.
        count: M.
        plain: nothing is padded and all segments are of one size.
        few: (B,), whether every segment of a row is one position.
    """

    index: Tensor
    sizes: Tensor
    count: int
    plain: bool
    few: Tensor

    @classmethod
    def of(cls, like: Tensor, key_padding_mask: Tensor | None, landmarks: int) -> _Segments:
        """Segments of the positions of (B, H, N, D): as equal as the real length allows, whatever the padding."""
        batch, length = like.shape[0], like.shape[2]
        count = min(landmarks, length)
        if key_padding_mask is None:
            place = torch.arange(length, device=like.device).expand(batch, -1)
            real = torch.full((batch, 1), length, device=like.device)
            index = place * count // length
        else:
            place = (~key_padding_mask).cumsum(dim=1) - 1
            real = (~key_padding_mask).sum(dim=1, keepdim=True)
            index = place * real.clamp(max=count) // real.clamp(min=1)
            index = index.masked_fill(key_padding_mask, count)
        sizes = torch.zeros(batch, count + 1, dtype=torch.long, device=like.device)
        sizes = sizes.scatter_add_(1, index, torch.ones_like(index))[:, :count]
        return cls(index, sizes, count, key_padding_mask is None and length % count == 0, real.squeeze(1) <= count)

    def mean(self, states: Tensor) -> Tensor:
        """(B, H, N, D) -> (B, H, M, D), in full precision; 0 for empty segments."""
        precision = torch.promote_types(states.dtype, torch.float32)
        if self.plain:
            return states.unflatten(2, (self.count, -1)).mean(dim=3, dtype=precision)
        if states.device.type != "cpu":
            # There, sums of rows come in any order, and no two runs are alike; a product costs little.
            with full_precision(states):
                return self.matrix(precision) @ states.to(precision)
        batch, heads = states.shape[:2]
        # One row a position, all heads together: a sum over rows is what scatters fast.
        rows = states.transpose(1, 2).flatten(2).flatten(0, 1).to(precision)
        first = torch.arange(batch, device=states.device).unsqueeze(1) * (self.count + 1)
        total = rows.new_zeros(batch * (self.count + 1), rows.shape[-1]).index_add(
            0, (self.index + first).flatten(), rows
        )
        total = total.unflatten(0, (batch, -1))[:, : self.count] / self.sizes.clamp(min=1).unsqueeze(-1)
        return total.unflatten(-1, (heads, -1)).transpose(1, 2)

    def matrix(self, dtype: torch.dtype) -> Tensor:
        """What makes means of states, (B, 1, M, N)."""
        member = self.index.unsqueeze(1) == torch.arange(self.count, device=self.index.device).view(1, -1, 1)
        return (member / self.sizes.clamp(min=1).unsqueeze(-1)).to(dtype).unsqueeze(1)


@register("core", "nystromformer")
class Nystromformer(Core):
    """softmax(Q L') softmax(R L')^+ softmax(R K') V, R and L the landmarks of Q and K (Xiong et al. 2021, eq. 13).

    Products are over the root of the width. Landmarks are means of segments (arXiv 2102.03902, section 3.2), here
    of each row's real positions, so that padding never matters. The pseudo-inverse is found by iteration
    (equation 11). Rows of at most ``landmarks`` positions are attended to exactly. As in the paper a depthwise
    convolution of the values, one kernel a head, is added to the output.

    Args:
        landmarks: segments that queries and keys are averaged over.
        iterations: of the pseudo-inverse; the paper takes 6. More invert ever smaller singular values, in the end
            the rounding errors of single precision.
        convolution: positions that the kernel spans, odd; 0 = no convolution.
    """

    capabilities = Capabilities(
        cross_attention=False,
        causal=False,
        incremental=False,
        weights="effective",
        linear_memory=True,
        reasons={
            "cross_attention": "its landmarks pool all queries, so a decoder's token would see later ones",
            "causal": "its landmarks are means over whole segments, the future among them",
        },
    )

    def __init__(
        self,
        place: CorePlace,
        *,
        landmarks: Annotated[int, Ge(1)] = 64,
        iterations: Annotated[int, Interval(ge=1, le=16)] = 6,
        convolution: Annotated[int, Ge(0)] = 33,
    ) -> None:
        super().__init__(place)
        if convolution and convolution % 2 == 0:
            raise ConfigError(
                f"{convolution}: the kernel spans as much to each side: choose {convolution - 1} or {convolution + 1}, "
                "or 0 for none",
                f"{place.name}.convolution",
            )
        self.landmarks, self.iterations, self.convolution = landmarks, iterations, convolution
        self.scale = 1.0 / math.sqrt(place.key_dim)
        self.kernel = nn.Parameter(torch.empty(place.heads, convolution)) if convolution else None
        if self.kernel is not None:
            bound = 1.0 / math.sqrt(convolution)
            nn.init.uniform_(self.kernel, -bound, bound)

    def extra_repr(self) -> str:
        return f"landmarks={self.landmarks}, iterations={self.iterations}, convolution={self.convolution}"

    def attend(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None,
        need_weights: bool = False,
    ) -> Attended:
        segments = _Segments.of(query, key_padding_mask, self.landmarks)
        queries, keys = segments.mean(query), per_head(segments.mean(key), query.shape[1])
        inverse = self._inverse(queries, keys, segments)
        if need_weights:
            weights = self._weights(query, key, queries, keys, inverse, segments, key_padding_mask)
            return Attended(self.mix(weights, value), weights)
        real = None if key_padding_mask is None else ~key_padding_mask[:, None, None, :]
        pooled = sdpa.attend(queries.to(query.dtype), key, value, scale=self.scale, allowed=real, bias=None)
        with full_precision(query):
            mixed = inverse @ pooled.to(inverse.dtype)
        if not segments.plain or segments.count == query.shape[2]:
            exact = per_head(segments.mean(value), query.shape[1])
            mixed = torch.where(segments.few.view(-1, 1, 1, 1), exact, mixed)
        values = sdpa.attend(
            query,
            keys.to(query.dtype),
            mixed.to(query.dtype),
            scale=self.scale,
            allowed=None if key_padding_mask is None else (segments.sizes > 0)[:, None, None, :],
            bias=None,
        )
        if self.kernel is not None:
            real_value = value if real is None else value * real.transpose(-2, -1)
            values = values + length_convolution.convolve(real_value, self.kernel)
        return Attended(values)

    def _inverse(self, queries: Tensor, keys: Tensor, segments: _Segments) -> Tensor:
        """The pseudo-inverse of softmax(R L'), (B, H, M, M)."""
        with full_precision(queries):
            between = self._softmax(queries @ keys.transpose(-2, -1), segments.sizes > 0)
            if not segments.plain:
                # Landmarks of nothing stand apart, each with itself: so they change nobody's inverse.
                empty = (segments.sizes == 0)[:, None, :]
                itself = torch.eye(segments.count, dtype=between.dtype, device=between.device)
                between = torch.where((empty | empty.transpose(-2, -1)).unsqueeze(1), itself, between)
            return pseudo_inverse(between, self.iterations)

    def _softmax(self, products: Tensor, real: Tensor) -> Tensor:
        """Over the last axis, where (B, S) says so."""
        precision = torch.promote_types(products.dtype, torch.float32)
        scores = (products.to(precision) * self.scale).masked_fill(~real[:, None, None, :], torch.finfo(precision).min)
        return scores.softmax(dim=-1) * real[:, None, None, :]

    def _weights(
        self,
        query: Tensor,
        key: Tensor,
        queries: Tensor,
        keys: Tensor,
        inverse: Tensor,
        segments: _Segments,
        key_padding_mask: Tensor | None,
    ) -> Tensor:
        """The three factors multiplied, and the convolution as a band: (B, H, N, N)."""
        length = query.shape[2]
        real = torch.ones(query.shape[0], length, dtype=torch.bool, device=query.device)
        if key_padding_mask is not None:
            real = ~key_padding_mask
        key = per_head(key, query.shape[1]).to(queries.dtype)
        from_queries = self._softmax(query.to(keys.dtype) @ keys.transpose(-2, -1), segments.sizes > 0)
        to_keys = inverse @ self._softmax(queries @ key.transpose(-2, -1), real)
        to_keys = torch.where(segments.few.view(-1, 1, 1, 1), segments.matrix(to_keys.dtype), to_keys)
        weights = from_queries @ to_keys
        if self.kernel is not None:
            places = torch.arange(length, device=query.device)
            offset = places - places.unsqueeze(1) + self.convolution // 2
            within = (offset >= 0) & (offset < self.convolution)
            weights = weights + self.kernel[:, offset.clamp(0, self.convolution - 1)] * within
        return (weights * real[:, None, None, :]).to(query.dtype)


def pseudo_inverse(matrix: Tensor, iterations: int) -> Tensor:
    """The Moore-Penrose inverse of (..., M, M) by iteration (Razavi et al. 2014; Xiong et al. 2021, equation 11)."""
    identity = torch.eye(matrix.shape[-1], dtype=matrix.dtype, device=matrix.device)
    largest_column = matrix.abs().sum(dim=-2).amax(dim=-1)[..., None, None]
    largest_row = matrix.abs().sum(dim=-1).amax(dim=-1)[..., None, None]
    inverse = matrix.transpose(-2, -1) / (largest_column * largest_row)
    for _ in range(iterations):
        product = matrix @ inverse
        inner = 15 * identity - product @ (7 * identity - product)
        inverse = 0.25 * inverse @ (13 * identity - product @ inner)
    return inverse
