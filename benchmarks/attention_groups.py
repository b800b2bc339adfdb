"""What `attention_quality.py` compares: groups of trainings that differ in their attention alone."""

from __future__ import annotations

from dataclasses import dataclass, field

__all__ = ["COMMON", "GROUPS", "LENGTH", "ROWS", "UNITS", "Group"]

COMMON = (
    "trainer.max_minutes=30",  # a guard: runs end by their number of updates
    "validation.maps=1",
    "callbacks.early_stopping=null",
    "average=none",
)
TRANSLATION = (
    *("experiment=multi30k", "recipe=null", "tokenizer.vocab_size=4000", "model.dim=128"),
    *("search=greedy", "model.dropout=0.1", "optimizer.lr=0.003"),
)
RNN = (  # twice as many updates, of half the sentences: before, most scores have not begun to find the words
    *(*TRANSLATION, "encoder=rnn", "decoder=rnn"),
    *("batch.tokens=1024", "trainer.max_steps=1600", "validation.every=800", "scheduler.warmup=400"),
)
TRANSFORMER = (
    *(*TRANSLATION, "encoder.layers=2", "decoder.layers=2", "encoder.feedforward=512", "decoder.feedforward=512"),
    *("trainer.max_steps=800", "validation.every=400", "scheduler.warmup=400"),
)
LONG = (
    *("task=classification", "data=table", "data.source=text", "data.target=label", "tokenizer=byte"),
    *("encoder=transformer", "encoder.layers=2", "encoder.feedforward=128", "decoder.pooling=mean", "model.dim=64"),
    *("batch.rows=16", "batch.tokens=65536", "batch.max_length=4096", "trainer.max_steps=600", "validation.every=300"),
    *("scheduler.warmup=100", "optimizer.lr=0.002", "model.dropout=0.1", "data.root=RUNS/joined_news"),
)
NO_POSITIONS = ("encoder.positions=none", "decoder.positions=none")

#: Of the long inputs: about 800 bytes each.
LENGTH, ROWS = 800, 16


@dataclass(frozen=True)
class Group:
    """Runs that can be compared.

    Attributes:
        title: what is compared.
        data: what on, for the page.
        metric: the headline, of the test split.
        words: what all share.
        variants: name -> what differs.
    """

    title: str
    data: str
    metric: str
    words: tuple[str, ...]
    variants: dict[str, tuple[str, ...]] = field(default_factory=dict)


def _cross(names: str) -> dict[str, tuple[str, ...]]:
    return {name: (f"decoder/cross_attention={name}",) for name in names.split()}


def _everywhere(names: str, *more: str) -> dict[str, tuple[str, ...]]:
    return {name: (f"attention={name}", *more) for name in names.split()}


def _within_an_eighth() -> dict[str, tuple[str, ...]]:
    """Patterns and ranks that show a query at most an eighth of LENGTH, and full attention beside them."""
    options = {
        "multihead": "",
        "window": "window=48",
        "dilated": "window=24 dilation=2",
        "block_local": "block_size=96",
        "strided": "stride=28",
        "fixed": "stride=28",
        "logsparse": "local=40",
        "bigbird": "block_size=16 global_blocks=1 random_blocks=2",
        "longformer": "window=48 global_tokens=2",
        "linformer": "projected_len=96 max_len=4096",
        "nystromformer": "landmarks=96",
        "reformer": "chunk_len=24 hash_buckets=32 rounds=2",
        "linear": "",
        "performer": "features=96",
        "cosformer": "max_len=4096",
    }
    return {
        name: (f"attention={name}", *(f"attention.{option}" for option in chosen.split()))
        for name, chosen in options.items()
    }


MULTI30K = "multi30k en-de"
NEWS = "AG News by bytes, four descriptions of one class joined"
GROUPS = {
    "rnn": Group(
        "Cross-attention of a recurrent model (LSTM, Luong's wiring with input feeding)",
        MULTI30K,
        "bleu",
        RNN,
        _cross(
            "none luong_dot luong_general luong_concat bahdanau luong_location location_aware local_m local_p "
            "gaussian hard multihead"
        ),
    ),
    "cross": Group(
        "Cross-attention of a Transformer (multi-head self-attention everywhere)",
        MULTI30K,
        "bleu",
        TRANSFORMER,
        {"multihead": ()}
        | _cross(
            "none single_head bahdanau luong_general cosine hard gaussian local_p topk sparsemax entmax15 "
            "linear performer"
        ),
    ),
    "heads": Group(
        "Head layouts, at every place of a Transformer",
        MULTI30K,
        "bleu",
        TRANSFORMER,
        {"multihead": ()} | _everywhere("single_head multi_query grouped_query latent talking_heads"),
    ),
    "positions": Group(
        "Positions of a Transformer's self-attention",
        MULTI30K,
        "bleu",
        TRANSFORMER,
        {
            "sinusoidal embeddings": (),
            "none": NO_POSITIONS,
            **_everywhere("rope alibi relative t5", *NO_POSITIONS),
        },
    ),
    "long": Group(
        "Long inputs: patterns and sub-quadratic families in a Transformer encoder with mean pooling",
        NEWS,
        "accuracy",
        LONG,
        _within_an_eighth(),
    ),
}
#: What the figures of a run are, and their units; the headline comes first.
UNITS = {
    "bleu": {"bleu": "BLEU", "chrf": "chrF", "loss": "nats", "parameters": "count", "speed": "target tokens/s"},
    "accuracy": {"accuracy": "percent", "loss": "nats", "parameters": "count", "speed": "examples/s", "memory": "MB"},
}
