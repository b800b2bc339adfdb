"""Writes a page for each attention and the tables of choosing.md: ``make tables``; a test holds them.

What an attention is and can do comes from the registry; what was measured, from ``benchmarks/results/*.json``, whose
rows have case, system, metric, value and unit.
"""

from __future__ import annotations

import inspect
import json
import math
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from attention_pictures import draw, options, served
from docstring_parser import DocstringStyle, parse

from attnbuild import build_attention, list_names
from attnbuild.attention import describe
from attnbuild.attention.heads import Heads
from attnbuild.attention.presets import load_preset
from attnbuild.attention.spec import PART_DEFAULTS, AttentionSpec
from attnbuild.cli.annotation import describe_type
from attnbuild.registry import lookup, options_of

DOCS = Path(__file__).parent
PAGES = DOCS / "attention"
CHOOSING = DOCS / "choosing.md"
RESULTS = DOCS.parent / "benchmarks" / "results"

#: The length for which the overview counts.
LENGTH = 4096

#: What each capability is called, in the order of the pages.
CAPABILITIES = {
    "self_attention": "self-attention",
    "causal": "causal self-attention",
    "cross_attention": "cross-attention",
    "parallel": "all queries at once",
    "sequence": "positions of a sequence, not cells of an image alone",
    "padding": "padding",
    "incremental": "token-by-token decoding",
    "linear_memory": "memory linear in length",
    "differentiable": "exact gradients",
}
WEIGHTS = {
    "distribution": "a distribution: each row sums to 1 and makes the output",
    "effective": "effective: they reproduce the output, and need not sum to 1",
    "none": "none",
}


def page(name: str) -> str:
    """The page of a preset."""
    told = describe(name)
    sections = [
        f"<!-- made by docs/attention_pages.py: make tables -->\n# `{name}`",
        told["summary"],
        *_formula(told["parts"]),
        _picture(name),
        "## Use",
        _commands(told),
        "## Options",
        _options(told),
        "## What it can do",
        _capabilities(told),
        "## Measured cost",
        _measured(name),
        "[All attentions](../choosing.md#all-of-them) · [which one to choose](../choosing.md)",
    ]
    return "\n\n".join(section for section in sections if section) + "\n"


def _formula(parts: dict[str, str]) -> list[str]:
    """What each part computes, as its class says; parts that do nothing are left out."""
    told = []
    for kind, name in parts.items():
        if kind in ("pattern", "position") and name == PART_DEFAULTS[kind]:
            continue
        document = parse(inspect.getdoc(lookup(kind, name)) or "", style=DocstringStyle.GOOGLE)
        said = [document.short_description, document.long_description]
        text = "\n\n".join(paragraph for paragraph in said if paragraph).replace("``", "`")
        told.append(f"**{kind} `{name}`.** {text}")
    return told


def _picture(name: str) -> str:
    small = ", ".join(f"`{option}={value}`" for option, value in options(name).items())
    claim = describe(name)["capabilities"]["weights"]
    what = (
        "how much each output changes with each input (it has no weights)"
        if claim == "none"
        else "weights" + (", by their size" if claim == "effective" else "")
    )
    drawn = f"![who sees whom under {name}: {', '.join(served(name))}]({name}.png)"
    return f"{drawn}\n\nA fresh layer on random states: {what}; white is not seen." + (
        f" Drawn with {small}." if small else ""
    )


def _commands(told: dict[str, Any]) -> str:
    """How to choose it: from the command line and from Python."""
    name, can = told["name"], told["capabilities"]
    beside = "" if can["parallel"] else " encoder=rnn decoder=rnn"
    beside += "" if can["sequence"] else " task=classification encoder=vit"
    places = {
        "encoder/attention": can["self_attention"],
        "decoder/self_attention": can["self_attention"] and can["causal"],
        "decoder/cross_attention": can["cross_attention"],
    }
    serving = [place for place, serves in places.items() if serves]
    lines = [f"attnbuild train attention={name}{beside}", f"attnbuild train {serving[-1]}={name}{beside}"]
    own = [option for option in told["options"] if option["name"] not in options_of(Heads)]
    settable = [option for option in own if type(option["default"]) is int]
    if settable:
        option, value = settable[0]["name"], settable[0]["default"]
        lines.append(f"attnbuild train attention={name} attention.{option}={value}{beside}")
    arguments = ["dim=256"]
    arguments += [] if can["self_attention"] else ["memory_dim=256"]
    arguments += [] if can["parallel"] else ["sequential=True"]
    arguments += [] if can["sequence"] else ["grid=(16, 16)"]
    layer = f'layer = attnbuild.build_attention("{name}", {", ".join(arguments)})'
    bash = "\n".join(dict.fromkeys(lines))
    return f"Serves {_listed(serving)}.\n\n```bash\n{bash}\n```\n\n```python\nimport attnbuild\n\n{layer}\n```"


def _listed(words: Sequence[str]) -> str:
    quoted = [f"`{word}`" for word in words]
    return " and ".join(filter(None, [", ".join(quoted[:-1]), quoted[-1]]))


def _options(told: dict[str, Any]) -> str:
    rows = [
        (
            f"`{option['name']}`",
            describe_type(option["type"]),
            f"`{_yaml(option['default'])}`",
            option["help"].removesuffix("."),
        )
        for option in sorted(told["options"], key=lambda option: option["name"] in options_of(Heads))
    ]
    parts = ", ".join(f"`{kind}={name}`" for kind, name in told["parts"].items() if kind != "core")
    made = f"Core `{told['parts']['core']}`" + (f" with {parts}; each can be set as an option." if parts else ".")
    return f"{made}\n\n{table(('option', 'values', 'default', 'meaning'), rows)}"


def _yaml(value: Any) -> str:
    return json.dumps(value) if isinstance(value, bool) or value is None else str(value)


def _capabilities(told: dict[str, Any]) -> str:
    can, reasons = told["capabilities"], dict(told["reasons"])
    if not can["self_attention"]:
        reasons.setdefault("causal", "it has no self-attention")
    rows = [
        (said, "yes" if can[name] else "no", "" if can[name] else reasons.get(name, ""))
        for name, said in CAPABILITIES.items()
    ]
    return table(("", "", "why not"), [*rows, ("weights", WEIGHTS[can["weights"]], "")])


def _measured(name: str) -> str:
    """The rows of this preset in results/attention.json, metric by metric."""
    rows = [row for row in results("attention") if row["system"] == "attnbuild" and _preset_of(row["case"]) == name]
    if not rows:
        return f"Not yet measured here. `attnbuild bench attention=multihead,{name}` measures it on your machine."
    return by_length(rows) + (
        "\n\nForward and backward; `heads`: the attention alone, `states`: with its projections. How, and against "
        "whom: [benchmarks/results/attention.md](../../benchmarks/results/attention.md)."
    )


def _preset_of(case: str) -> str:
    """The preset that a case starts with: `local_m, N=512` is of `local_m`, not of a `local`."""
    words = re.match(r"\w*", case)
    return max((name for name in list_names("attention") if words and words[0] == name), default="", key=len)


def results(stem: str) -> list[dict[str, Any]]:
    """Rows of a results file; none where it is not there."""
    path = RESULTS / f"{stem}.json"
    if not path.exists():
        return []
    rows = json.loads(path.read_text(encoding="utf-8")).get("rows", [])
    return [row for row in rows if {"case", "system", "metric", "value"} <= row.keys()]


def _block_of(row: dict[str, Any]) -> bool:
    """Whether a row is of a preset's whole block: its case is the preset and a length, and no more."""
    return row["system"] == "attnbuild" and re.fullmatch(r"\w+ \d+", row["case"]) is not None


def by_length(rows: Sequence[dict[str, Any]]) -> str:
    """Time and peak memory by length, of cases such as `window on heads 2048`; the fastest at the longest first."""
    cells: dict[str, dict[int, dict[str, float]]] = {}
    for row in rows:
        what, _, length = row["case"].rpartition(" ")
        if length.isdigit():
            cells.setdefault(what, {}).setdefault(int(length), {})[row["metric"]] = row["value"]
    lengths = sorted({length for measured in cells.values() for length in measured})
    order = sorted(cells, key=lambda what: [cells[what].get(at, {}).get("time", math.inf) for at in reversed(lengths)])
    lines = [(what, *(_cost(cells[what].get(length, {})) for length in lengths)) for what in order]
    return table(("ms / MB at length", *map(str, lengths)), lines)


def _cost(figures: dict[str, float]) -> str:
    return " / ".join(f"{figures[metric]:.3g}" for metric in ("time", "peak_memory") if metric in figures)


def pivot(rows: Sequence[dict[str, Any]], rows_by: str, columns_by: str) -> str:
    """A table of values; what was not measured is left empty."""
    columns = list(dict.fromkeys(_headed(row, columns_by) for row in rows))
    cells = {(row[rows_by], _headed(row, columns_by)): _number(row["value"]) for row in rows}
    lines = [
        (str(first), *(cells.get((first, column), "") for column in columns))
        for first in dict.fromkeys(row[rows_by] for row in rows)
    ]
    return table((rows_by, *columns), lines)


def _headed(row: dict[str, Any], key: str) -> str:
    unit = row.get("unit")
    return f"{row[key]} ({unit})" if key == "metric" and unit and unit not in row[key].split() else str(row[key])


def _number(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table; a bar within a cell is escaped."""
    lines = [heads, ["---"] * len(heads), *([cell.replace("|", "\\|") for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def overview() -> str:
    """Every attention: what it serves, what it costs and gives."""
    rows = []
    for name in list_names("attention"):
        can = describe(name)["capabilities"]
        marks = (
            can["self_attention"],
            can["self_attention"] and can["causal"],
            can["cross_attention"],
            can["incremental"],
            can["linear_memory"],
        )
        shown = ("✓" if mark else "" for mark in marks)
        rows.append((f"[`{name}`](attention/{name}.md)", *shown, keys_rated(name), can["weights"]))
    heads = ("attention", "self", "causal", "cross", "step by step", "linear memory", "keys rated", "weights")
    return table(heads, rows)


def keys_rated(name: str) -> str:
    """How many keys a query rates in a sequence of LENGTH, counted over queries and heads of a sparse pattern."""
    spec = AttentionSpec.from_config(load_preset(name))
    pattern = spec.parts.get("pattern")
    if pattern is None or not pattern.maker.sparse:
        return "linear" if spec.capabilities.linear_memory else "all"
    cells = {} if spec.capabilities.sequence else {"grid": (LENGTH // 64, 64)}
    layer = build_attention(name, dim=64, **cells)
    head = torch.arange(layer.heads).view(-1, 1, 1)
    query = torch.arange(0, LENGTH, 61).view(-1, 1)  # a prime step, so that all places in a block are met
    return f"{layer.core.pattern.mask_mod(head, query, torch.arange(LENGTH)).double().sum(dim=-1).mean().item():.0f}"


def measured_tables() -> str:
    """What the catalogue costs, by case, and how well it does, one table a task; against peers: the linked pages."""
    blocks = [row for row in results("attention") if _block_of(row)]
    what = "Forward and backward of one layer, projections included: batch 1, 8 heads of 64, fp32, on a CPU."
    told = [what, by_length(blocks)] if blocks else []
    quality = results("attention_quality")
    for case in dict.fromkeys(row["case"] for row in quality):
        rows = [row for row in quality if row["case"] == case]
        told += [f"**{case}**", pivot(rows, rows_by="system", columns_by="metric")]
    pages = [f"[{path.stem}](../benchmarks/results/{path.name})" for path in sorted(RESULTS.glob("attention*.md"))]
    told += [f"In full, with machine, versions and spread: {', '.join(pages)}."] if pages else []
    return "\n\n".join(told) or "Nothing yet."


def choosing(text: str) -> str:
    """The page with its generated regions as they should be."""
    for marker, made in {"overview": overview(), "measured": measured_tables()}.items():
        region = re.compile(rf"(<!-- {marker}: made by docs/attention_pages.py -->\n).*?(<!-- end -->)", re.DOTALL)
        text = region.sub(lambda found, made=made: f"{found[1]}{made}\n{found[2]}", text)
    return text


def write() -> None:
    """All pages and pictures; pages of presets that are no more go."""
    PAGES.mkdir(exist_ok=True)
    kept = set(list_names("attention"))
    for path in PAGES.iterdir():
        if path.stem not in kept:
            path.unlink()
    for name in sorted(kept):
        (PAGES / f"{name}.md").write_text(page(name), encoding="utf-8")
        draw(name, PAGES / f"{name}.png")
    CHOOSING.write_text(choosing(CHOOSING.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    write()
