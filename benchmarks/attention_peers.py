"""Who races whom: each mechanism, its public implementations and what they are checked for before the race.

Two levels. On heads: queries, keys and values of 8 heads of 64 are given, as local-attention and performer-pytorch
take them. On states: (1, N, 512) is given, and both sides project, as linformer and transformers do; a peer without
an output projection gets one. Both sides see the same keys. Where both compute the same, weights are copied and
outputs and gradients must be equal; where only the costs can be compared, that is said.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attnbuild import build_attention
from attnbuild.attention.block import AttentionBlock
from attnbuild.measure.layers import pass_through

HEADS, WIDTH, BATCH = 8, 64, 1
DIM = HEADS * WIDTH
#: Keys to each side of a window; Longformer's attention_window counts both sides.
WINDOW = 128
#: Features, slots, landmarks, rounds, chunks and global positions of the families.
FEATURES, SLOTS, LANDMARKS, ROUNDS, CHUNK, GLOBALS = 256, 256, 64, 4, 64, 2
#: The length that equality is checked at.
CHECKED = 1024

OURS, SDPA = "attnbuild", "torch SDPA"

Attend = Callable[..., Tensor]
#: Given a length, what attends; a module, or a function of queries, keys and values.
Builder = Callable[[int], Attend]


@dataclass(frozen=True)
class Setting:
    """Where and in what type it is measured."""

    device: str = "cpu"
    dtype: torch.dtype = torch.float32

    @property
    def suffix(self) -> str:
        """What is added to the names of cases."""
        return "" if self.device == "cpu" else f" {self.device} {str(self.dtype).removeprefix('torch.')}"


@dataclass(frozen=True)
class Match:
    """A mechanism against its peers.

    Attributes:
        name: the preset, with what sets it apart.
        systems: name -> what builds it.
        level: what is given: "heads" or "states".
        check: asserts before the race that both sides compute the same; returns what was found.
        backward: whether gradients are computed too.
        only: the kind of device it runs on; empty: any.
        notes: what a reader of the figures should know.
    """

    name: str
    systems: Mapping[str, Builder]
    level: str = "heads"
    check: Callable[[], str] = lambda: ""
    backward: bool = True
    only: str = ""
    notes: str = ""

    def case(self, length: int, setting: Setting) -> str:
        """What the rows of a length are called."""
        return f"{self.title} {length}{setting.suffix}"

    @property
    def title(self) -> str:
        return f"{self.name} on {self.level}"

    def entrants(self, setting: Setting) -> dict[str, Callable[[int], Callable[[], Any]]]:
        """What the race is given."""
        return {name: functools.partial(self._call, build, setting) for name, build in self.systems.items()}

    def _call(self, build: Builder, setting: Setting, length: int) -> Callable[[], Any]:
        torch.manual_seed(0)
        attend = build(length)
        leaves = inputs(self.level, length, setting, self.backward)
        grad = inputs(self.level, length, setting, False)[0]
        parameters: list[Any] = []
        if isinstance(attend, nn.Module):
            attend.to(setting.device, setting.dtype).train(self.backward)
            parameters = list(attend.parameters())
        return pass_through(lambda: attend(*leaves), [*leaves, *parameters], grad, self.backward)


def inputs(level: str, length: int, setting: Setting | None = None, gradients: bool = True) -> list[Tensor]:
    """Queries, keys and values (1, 8, N, 64), or states (1, N, 512)."""
    setting = setting or Setting()
    generator = torch.Generator().manual_seed(0)
    shape, count = ((BATCH, HEADS, length, WIDTH), 3) if level == "heads" else ((BATCH, length, DIM), 1)
    drawn = (torch.randn(shape, generator=generator) for _ in range(count))
    return [tensor.to(setting.device, setting.dtype).requires_grad_(gradients) for tensor in drawn]


# Ours


class OnHeads(nn.Module):
    """The core of a preset: queries, keys and values in heads, without projections."""

    def __init__(self, preset: str | Mapping[str, Any], causal: bool = False, **options: Any) -> None:
        super().__init__()
        self.core = build_attention(preset, dim=DIM, heads=HEADS, causal=causal, **options).core

    def forward(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        return self.core.attend(query, key, value, None).values


def layer(preset: str, causal: bool = False, **options: Any) -> AttentionBlock:
    """A whole layer."""
    return build_attention(preset, dim=DIM, heads=HEADS, causal=causal, **options)


# Peers on heads


def dense(causal: bool = False) -> Builder:
    return lambda length: functools.partial(F.scaled_dot_product_attention, is_causal=causal)


def local_attention(causal: bool = False) -> nn.Module:
    from local_attention import LocalAttention

    return LocalAttention(
        window_size=WINDOW, causal=causal, exact_windowsize=True, use_rotary_pos_emb=False, dropout=0.0
    )


def performer(causal: bool = False) -> nn.Module:
    from performer_pytorch.performer_pytorch import FastAttention, causal_linear_attention_noncuda

    module = FastAttention(WIDTH, nb_features=FEATURES)
    if causal:  # built as causal it prints that its CUDA code is missing
        module.causal, module.causal_linear_fn = True, causal_linear_attention_noncuda
    return module


def linear_of_performer(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """performer-pytorch's linear attention, with the features elu(x) + 1 of Katharopoulos et al."""
    from performer_pytorch.performer_pytorch import linear_attention

    return linear_attention(F.elu(query) + 1, F.elu(key) + 1, value)


def linear_transformer(causal: bool = False) -> Attend:
    from linear_attention_transformer.linear_attention_transformer import causal_linear_attn, linear_attn

    return functools.partial(causal_linear_attn, bucket_size=64) if causal else linear_attn


def flex(length: int, device: str) -> Attend:
    """FlexAttention, compiled, with a block mask of the window."""
    from torch.nn.attention.flex_attention import create_block_mask, flex_attention

    def near(batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return (query - key).abs() <= WINDOW

    mask = create_block_mask(near, None, None, length, length, device=device)
    compiled = torch.compile(flex_attention, dynamic=False)
    return functools.partial(compiled, block_mask=mask)


# Peers on states


class Projected(nn.Module):
    """A peer without an output projection, and one."""

    def __init__(self, inner: nn.Module, call: Callable[[nn.Module, Tensor], Tensor]) -> None:
        super().__init__()
        self.inner, self.call, self.output = inner, call, nn.Linear(DIM, DIM)

    def forward(self, states: Tensor) -> Tensor:
        return self.output(self.call(self.inner, states))


def longformer(length: int, tokens: int = 0) -> nn.Module:
    """Of transformers, with so many global positions at the start."""
    from transformers import LongformerConfig
    from transformers.models.longformer.modeling_longformer import LongformerSelfAttention

    config = LongformerConfig(
        hidden_size=DIM, num_attention_heads=HEADS, attention_window=[2 * WINDOW], attention_probs_dropout_prob=0.0
    )
    inner = LongformerSelfAttention(config, layer_id=0)

    def call(inner: nn.Module, states: Tensor) -> Tensor:
        everywhere = torch.zeros(states.shape[:2], device=states.device, dtype=states.dtype)
        everywhere[:, :tokens] = 10000.0  # as its model marks global positions
        return inner(
            states,
            attention_mask=everywhere,
            is_index_masked=everywhere < 0,
            is_index_global_attn=everywhere > 0,
            is_global_attn=tokens > 0,
        )[0]

    return Projected(inner, call)


def bigbird(length: int) -> nn.Module:
    from transformers import BigBirdConfig
    from transformers.models.big_bird.modeling_big_bird import BigBirdBlockSparseAttention, BigBirdModel

    config = BigBirdConfig(
        hidden_size=DIM,
        num_attention_heads=HEADS,
        block_size=CHUNK,
        num_random_blocks=3,
        max_position_embeddings=length,
        attention_probs_dropout_prob=0.0,
    )

    def call(inner: nn.Module, states: Tensor) -> Tensor:
        real = torch.ones(states.shape[:2], device=states.device)
        blocked, band, start, end = BigBirdModel.create_masks_for_block_sparse_attn(real, CHUNK)
        return inner(states, band, start, end, blocked, blocked)[0]

    return Projected(BigBirdBlockSparseAttention(config, seed=0), call)


def linformer(length: int) -> nn.Module:
    from linformer.linformer import LinformerSelfAttention

    return LinformerSelfAttention(DIM, seq_len=length, k=SLOTS, heads=HEADS)


def reformer(length: int) -> nn.Module:
    from reformer_pytorch.reformer_pytorch import LSHSelfAttention

    return LSHSelfAttention(DIM, heads=HEADS, bucket_size=CHUNK, n_hashes=ROUNDS)


def nystrom(length: int) -> nn.Module:
    from nystrom_attention import NystromAttention

    return NystromAttention(DIM, dim_head=WIDTH, heads=HEADS, num_landmarks=LANDMARKS)


class TorchMultihead(nn.Module):
    """nn.MultiheadAttention."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.MultiheadAttention(DIM, HEADS, batch_first=True)

    def forward(self, states: Tensor) -> Tensor:
        return self.inner(states, states, states, need_weights=False)[0]


# Checks


def equal(ours: Attend, theirs: Attend, level: str, tolerance: float = 1e-4) -> str:
    """Assert equal outputs and gradients of the inputs; tell the largest difference."""
    results = []
    for attend in (ours, theirs):
        leaves = inputs(level, CHECKED)
        output = attend(*leaves)
        weight = torch.randn(output.shape, generator=torch.Generator().manual_seed(1))
        results.append([output, *torch.autograd.grad(output, leaves, weight)])
    differences = []
    for mine, other in zip(*results, strict=True):
        difference = (mine - other).detach().abs().max() / other.detach().abs().max()
        differences.append(float(difference))
    worst = max(differences)
    assert worst < tolerance, f"outputs or gradients differ by {worst:.1e} of their largest value"
    return f"equal outputs and gradients (largest difference {worst:.0e} of the largest value)"


def check_window(causal: bool) -> str:
    """The masks, seen by giving each key a value of its own; then the outputs."""
    ours, theirs = OnHeads("window", causal, window=WINDOW), local_attention(causal)
    length = 4 * WINDOW
    query = torch.zeros(1, HEADS, length, WIDTH)
    keys = torch.eye(length).expand(1, HEADS, -1, -1)
    seen = [
        torch.cat([attend(query, query, part) for part in keys.split(WIDTH, dim=-1)], dim=-1) > 0
        for attend in (ours, theirs)
    ]
    assert torch.equal(*seen), "the masks differ"
    return f"equal masks; {equal(ours, theirs, 'heads')}"


def copied(ours: nn.Module, theirs: nn.Module, names: Mapping[str, str]) -> None:
    """Copy weights by name, theirs to ours; a matrix may be transposed there, a filter have its one axis elsewhere."""
    own, other = ours.state_dict(), theirs.state_dict()
    for name, source in names.items():
        value = other[source]
        if own[name].shape != value.shape:
            value = value.T if value.dim() == 2 else value.reshape(own[name].shape)
        own[name].copy_(value)
    for name in own.keys() - names.keys():
        if name.endswith("bias"):  # which the peer has none of
            own[name].zero_()


def check_longformer() -> str:
    ours, theirs = layer("window", window=WINDOW), longformer(CHECKED)
    names = {
        f"{part}_projection.{kind}": f"inner.{part}.{kind}"
        for part in ("query", "key", "value")
        for kind in ("weight", "bias")
    }
    copied(ours, theirs, names | _output("output"))
    return equal(ours, theirs, "states")


def check_global() -> str:
    """Global positions too: the peer's first projections are ours, its global ones our second."""
    ours, theirs = our_longformer(CHECKED), longformer(CHECKED, GLOBALS)
    names = {
        f"core.{mine}.{kind}": f"inner.{other}.{kind}"
        for part in ("query", "key", "value")
        for mine, other in ((part, part), (f"global_{part}", f"{part}_global"))
        for kind in ("weight", "bias")
    }
    copied(ours, theirs, names | _output("output"))
    return equal(ours, theirs, "states")


def check_linformer() -> str:
    ours, theirs = our_linformer(CHECKED), linformer(CHECKED)
    names = {
        "core.query_projection.weight": "to_q.weight",
        "core.key_projection.weight": "to_k.weight",
        "core.value_projection.weight": "to_v.weight",
        "core.key_slots": "proj_k",
        "core.value_slots": "proj_v",
        "out_projection.weight": "to_out.weight",
        "out_projection.bias": "to_out.bias",
    }
    copied(ours, theirs, names)
    return equal(ours, theirs, "states")


def check_performer(causal: bool) -> str:
    """With the peer's features, and without the 1e-4 that it adds to each of them."""
    from performer_pytorch import performer_pytorch as peer

    ours, theirs = OnHeads("performer", causal, features=FEATURES), performer(causal)
    copied(ours, theirs, {"core.projection": "projection_matrix"})
    if causal:
        theirs.causal_linear_fn = functools.partial(peer.causal_linear_attention_noncuda, eps=0.0)
    defaults = peer.softmax_kernel.__kwdefaults__
    added = defaults["eps"]
    defaults["eps"] = 0.0
    try:
        return f"{equal(ours, theirs, 'heads')}, once the peer adds no epsilon to its features"
    finally:
        defaults["eps"] = added


def check_nystrom() -> str:
    """The pseudo-inverse is iterated from another start."""
    ours, theirs = layer("nystromformer", landmarks=LANDMARKS), nystrom(CHECKED)
    query, key, value = theirs.to_qkv.weight.detach().chunk(3)
    with torch.no_grad():
        for part, weight in (("query", query), ("key", key), ("value", value)):
            projection = getattr(ours, f"{part}_projection")
            projection.weight.copy_(weight)
    copied(ours, theirs, {"core.kernel": "res_conv.weight", **_output("to_out.0")})
    return equal(ours, theirs, "states", tolerance=1e-2)


def check_flex() -> str:
    states = inputs("heads", CHECKED, gradients=False)
    mine, other = OnHeads("window", window=WINDOW)(*states), flex(CHECKED, "cpu")(*states)
    worst = float((mine - other).abs().max() / other.abs().max())
    assert worst < 1e-4, f"outputs differ by {worst:.1e} of their largest value"
    return f"equal outputs (largest difference {worst:.0e} of the largest value)"


def check_multihead() -> str:
    ours, theirs = layer("multihead"), TorchMultihead()
    with torch.no_grad():
        for part, weight in zip(("query", "key", "value"), theirs.inner.in_proj_weight.chunk(3), strict=True):
            getattr(ours, f"{part}_projection").weight.copy_(weight)
    copied(ours, theirs, _output("inner.out_proj"))
    return equal(ours, theirs, "states")


def check_linear() -> str:
    return equal(OnHeads("linear"), linear_of_performer, "heads")


def check_dense(causal: bool) -> str:
    return equal(OnHeads("multihead", causal), dense(causal)(CHECKED), "heads")


def _output(theirs: str) -> dict[str, str]:
    return {f"out_projection.{kind}": f"{theirs}.{kind}" for kind in ("weight", "bias")}


# The matches


def our_linformer(length: int) -> AttentionBlock:
    return layer("linformer", projected_len=SLOTS, max_len=length)


def our_longformer(length: int) -> AttentionBlock:
    return layer("longformer", window=WINDOW, global_tokens=GLOBALS)


def our_reformer(length: int) -> AttentionBlock:
    """As many buckets as the peer takes."""
    return layer("reformer", rounds=ROUNDS, chunk_len=CHUNK, hash_buckets=max(2, length // CHUNK))


def our_bigbird(length: int) -> AttentionBlock:
    return layer("bigbird", block_size=CHUNK, window_blocks=1, global_blocks=2, random_blocks=3)


def on_heads(preset: str, causal: bool = False, **options: Any) -> Builder:
    return lambda length: OnHeads(preset, causal, **options)


def built(build: Callable[..., Attend], *args: Any) -> Builder:
    """Of what is the same at every length."""
    return lambda length: build(*args)


MATCHES = [
    Match(
        "window",
        {OURS: on_heads("window", window=WINDOW), "local-attention": built(local_attention), SDPA: dense()},
        check=lambda: check_window(False),
    ),
    Match(
        "window causal",
        {
            OURS: on_heads("window", True, window=WINDOW),
            "local-attention": built(local_attention, True),
            SDPA: dense(True),
        },
        check=lambda: check_window(True),
    ),
    Match(
        "window projected",
        {OURS: lambda length: layer("window", window=WINDOW), "transformers Longformer": longformer},
        level="states",
        check=check_longformer,
    ),
    Match(
        "longformer",
        {OURS: our_longformer, "transformers Longformer": lambda length: longformer(length, GLOBALS)},
        level="states",
        check=check_global,
    ),
    Match(
        "bigbird",
        {OURS: our_bigbird, "transformers BigBird": bigbird},
        level="states",
        notes="as many keys a query, 8 blocks of 64; which blocks are random differs, and the peer's second global "
        "block is the last",
    ),
    Match(
        "linformer",
        {OURS: our_linformer, "linformer": linformer},
        level="states",
        check=check_linformer,
    ),
    Match(
        "performer",
        {OURS: on_heads("performer", features=FEATURES), "performer-pytorch": built(performer)},
        check=lambda: check_performer(False),
    ),
    Match(
        "performer causal",
        {
            OURS: on_heads("performer", True, features=FEATURES),
            "performer-pytorch": built(performer, True),
        },
        check=lambda: check_performer(True),
    ),
    Match(
        "linear",
        {
            OURS: on_heads("linear"),
            "performer-pytorch (elu + 1)": lambda length: linear_of_performer,
            "linear-attention-transformer": built(linear_transformer),
        },
        check=check_linear,
        notes="linear-attention-transformer has softmax for features: the same shapes, another function",
    ),
    Match(
        "linear causal",
        {
            OURS: on_heads("linear", True),
            "linear-attention-transformer": built(linear_transformer, True),
        },
        notes="the peer has other features, and sees whole blocks of 64 before its own: another function",
    ),
    Match(
        "nystromformer",
        {OURS: lambda length: layer("nystromformer", landmarks=LANDMARKS), "nystrom-attention": nystrom},
        level="states",
        check=check_nystrom,
    ),
    Match(
        "reformer",
        {OURS: our_reformer, "reformer-pytorch": reformer},
        level="states",
        notes="the same rounds, buckets and chunks; the peer counts a key once for each round that finds it",
    ),
    Match("cosformer", {OURS: lambda length: OnHeads("cosformer", max_len=length)}),
    Match("multihead", {OURS: on_heads("multihead"), SDPA: dense()}, check=lambda: check_dense(False)),
    Match("multihead causal", {OURS: on_heads("multihead", True), SDPA: dense(True)}, check=lambda: check_dense(True)),
    Match(
        "multihead projected",
        {OURS: lambda length: layer("multihead"), "nn.MultiheadAttention": lambda length: TorchMultihead()},
        level="states",
        check=check_multihead,
    ),
    *(
        Match(name, {OURS: on_heads(name, **options)})
        for name, options in {
            "dilated": {"window": WINDOW},
            "block_local": {"block_size": WINDOW},
            "strided": {"stride": WINDOW},
            "fixed": {"stride": WINDOW, "summary": 8},
            "logsparse": {},
        }.items()
    ),
    Match(
        "window forward",
        {
            OURS: on_heads("window", window=WINDOW),
            "FlexAttention": lambda length: flex(length, "cpu"),
            SDPA: dense(),
        },
        check=check_flex,
        backward=False,
        only="cpu",
        notes="FlexAttention has no backward on a CPU",
    ),
    Match(
        "window flex",
        {
            OURS: on_heads("window", window=WINDOW),
            "attnbuild blocksparse": on_heads("window", window=WINDOW, backend="blocksparse"),
            "FlexAttention": lambda length: flex(length, "cuda"),
            SDPA: dense(),
        },
        only="cuda",
    ),
]
