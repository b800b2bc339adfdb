"""``attnbuild bench attention=A,B lengths=512,2048``: seconds and memory of attentions against length."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from annotated_types import Ge, Gt

from attnbuild.cli.arguments import parse_flags
from attnbuild.cli.compose import compose, open_loader, resolve_alone
from attnbuild.cli.names import check_names
from attnbuild.cli.overrides import COMMAND_LINE, choices_in, read_overrides
from attnbuild.errors import ConfigError, Problem, did_you_mean
from attnbuild.registry import check_options, load_plugins, options_of

if TYPE_CHECKING:
    from hydra.core.config_loader import ConfigLoader
    from hydra.core.override_parser.types import Override

    from attnbuild.attention.block import AttentionBlock
    from attnbuild.measure.layers import Bench
    from attnbuild.measure.race import Figures

__all__ = ["HELP", "run"]

HELP = """\
attnbuild bench attention=NAME,... [lengths=512,2048,8192] [WORD ...]: time and peak memory of whole attention
layers (projections included) against the length of the sequence, with fitted exponents, a picture and JSON.

  attention=...        presets, one or several: window,linformer,multihead
  attention.NAME=...   an option, for the presets that declare it: attention.window=128
  lengths=...          lengths of the sequence
  backward=true        false: the forward pass alone
  dim=512 heads=8      width and heads (of the presets that have more than one)
  batch=1              sequences
  causal=false         true: position i sees no j > i
  cross=false          true: attend to a second sequence of the same length
  dtype=float32        bfloat16, float16 or float64
  device=cpu           cuda
  threads=null         CPU threads; null: PyTorch's own choice
  repeats=5            interleaved turns, of which the median counts
  limit_s=60           what would take longer in one call is left out
  output=DIR           where bench.json and bench.png go; null: outputs/bench/DATE/TIME
  plugins=[...]        modules that register your own parts"""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What is measured, and how.

    Args:
        lengths: lengths of the sequence.
        backward: whether gradients are computed too.
        dim: width of the states.
        heads: number of heads, of the presets that have more than one.
        batch: sequences.
        causal: position i may not see j > i.
        cross: attend to a second sequence of the same length.
        dtype: of states and parameters.
        device: where.
        threads: CPU threads; null is PyTorch's own choice.
        repeats: interleaved turns, of which the median counts.
        limit_s: the longest that one call may take.
        output: a folder for the results.
        plugins: modules that register parts.
    """

    lengths: list[Annotated[int, Ge(1)]] = field(default_factory=lambda: [512, 2048, 8192])
    backward: bool = True
    dim: Annotated[int, Ge(1)] = 512
    heads: Annotated[int, Ge(1)] = 8
    batch: Annotated[int, Ge(1)] = 1
    causal: bool = False
    cross: bool = False
    dtype: Literal["float32", "bfloat16", "float16", "float64"] = "float32"
    device: str = "cpu"
    threads: Annotated[int, Ge(1)] | None = None
    repeats: Annotated[int, Ge(1)] = 5
    limit_s: Annotated[int | float, Gt(0)] = 60
    output: str | None = None
    plugins: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class _Asked:
    """What the user typed.

    Attributes:
        settings: of the measurement.
        presets: name -> its options, as its file has them.
        options: of the attentions, for those that declare them.
    """

    settings: Settings
    presets: dict[str, dict[str, Any]]
    options: dict[str, Any]


def run(words: Sequence[str]) -> int:
    """Run the command.

    Raises:
        ConfigError: a word is wrong, or no preset can serve.
    """
    if {"-h", "--help"} & set(words):
        print(HELP)
        return 0
    asked = _read(words)

    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(asked.settings.threads or before)
    try:
        return _measure(asked)
    finally:
        torch.set_num_threads(before)


def _read(words: Sequence[str]) -> _Asked:
    """Hold every word to what it may be, before anything is measured."""
    flags = parse_flags(words)
    if flags.multirun:
        raise ConfigError("bench measures all presets in one run; leave out -m")
    with open_loader(flags.config_dir, flags.overrides) as loader:
        overrides, problems = read_overrides(flags.overrides, loader)
        values: dict[str, Any] = {}
        options: dict[str, Any] = {}
        names: list[str] = []
        for override in overrides:
            key = override.key_or_group
            if key == "attention":
                names = choices_in(override)
            elif key.startswith("attention."):
                options[key.removeprefix("attention.")] = override.value()
            elif not override.is_hydra_override():
                values[key] = _several(override) if key in ("lengths", "plugins") else override.value()
        problems += _located(check_options(Settings, values, "", "bench"))
        if not names:
            message = "name the presets to measure: attention=window,multihead; `attnbuild list attention` has them"
            problems.append(Problem("attention", message))
        if problems:
            raise ConfigError(problems)
        settings = Settings(**values)
        load_plugins(settings.plugins)
        presets = {name: _preset(loader, name) for name in dict.fromkeys(names)}
    _check(settings, presets, options)
    return _Asked(settings, presets, options)


def _several(override: Override) -> Any:
    """``512,2048`` and ``[512,2048]`` are the same list, and ``512`` a list of one."""
    if override.is_sweep_override():
        return list(override.sweep_iterator()) if override.is_discrete_sweep() else override.value()
    value = override.value()
    return value if isinstance(value, list) else [value]


def _located(problems: list[Problem]) -> list[Problem]:
    return [Problem(problem.path, problem.message, COMMAND_LINE) for problem in problems]


def _preset(loader: ConfigLoader, name: str) -> dict[str, Any]:
    """The options of a shipped preset, or of one in a user's folder."""
    passed = check_names(loader, [f"attention={name}"], alone=True)
    return {"preset": name, **resolve_alone(compose(loader, passed, name=None))["attention"]}


def _check(settings: Settings, presets: Mapping[str, Mapping[str, Any]], options: Mapping[str, Any]) -> None:
    """Refuse options that no preset declares, and places and devices that there are not."""
    import torch

    from attnbuild.attention.spec import AttentionSpec
    from attnbuild.measure.layers import declared_options

    problems = []
    known = {option for config in presets.values() for option in declared_options(AttentionSpec.from_config(config))}
    for name in options.keys() - known:
        message = f"no preset that is measured has this option; {did_you_mean(name, known)}"
        problems.append(Problem(f"attention.{name}", message, COMMAND_LINE))
    if settings.causal and settings.cross:
        problems.append(Problem("causal", "cross-attention has no order of its own to be causal in", COMMAND_LINE))
    try:
        torch.empty((), device=settings.device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        problems.append(Problem("device", f"{settings.device!r} cannot be used: {reason}", COMMAND_LINE))
    if problems:
        raise ConfigError(problems)


def _measure(asked: _Asked) -> int:
    """Race the presets that can serve, and hand over what came out."""
    import torch

    from attnbuild.measure.layers import Bench
    from attnbuild.measure.race import Race

    settings = asked.settings
    bench = Bench(
        settings.dim,
        settings.heads,
        settings.batch,
        settings.causal,
        settings.cross,
        settings.backward,
        getattr(torch, settings.dtype),
        settings.device,
        max(settings.lengths),
        asked.options,
    )
    built, refused = _build(bench, asked.presets)
    raised = {} if "max_len" in asked.options else _raised(asked.presets, built)
    entrants = {
        name: lambda length, config=config: bench.call(config, length)
        for name, config in asked.presets.items()
        if name not in refused
    }
    if not entrants:
        reasons = [Problem(name, reason) for name, reason in refused.items()]
        raise ConfigError(reasons)
    with _progress() as tell:
        race = Race(entrants, repeats=settings.repeats, limit_s=settings.limit_s, device=settings.device, tell=tell)
        figures = race.run(settings.lengths)
    return _Report(asked, refused, raised, figures).give()


def _build(bench: Bench, presets: Mapping[str, Mapping[str, Any]]) -> tuple[dict[str, AttentionBlock], dict[str, str]]:
    """The layers of the presets that can serve here, and why the others cannot."""
    built, refused = {}, {}
    for name, config in presets.items():
        try:
            built[name] = bench.build(config)
        except ConfigError as error:
            refused[name] = "; ".join(problem.message for problem in error.problems)
    return built, refused


def _raised(presets: Mapping[str, Mapping[str, Any]], built: Mapping[str, AttentionBlock]) -> dict[str, int]:
    """The longest input of presets that had to be built for longer ones, as it was."""
    from attnbuild.attention.spec import AttentionSpec
    from attnbuild.measure.layers import declared_options

    raised = {}
    for name, layer in built.items():
        config = presets[name]
        own = config.get("max_len", declared_options(AttentionSpec.from_config(config)).get("max_len"))
        if own is not None and layer.max_len is not None and own < layer.max_len:
            raised[name] = own
    return raised


def _progress() -> Any:
    """A line on a terminal that says what runs; nothing elsewhere."""
    from contextlib import contextmanager

    from rich.console import Console

    @contextmanager
    def shown() -> Any:
        with Console(stderr=True).status("") as status:
            yield lambda line: status.update(line)

    return shown()


class _Report:
    """What came out: a table, a picture and a file.

    Args:
        asked: what was measured.
        refused: presets that could not serve.
        raised: the longest input that presets came with, of those that were built for a longer one.
        figures: by preset and length.
    """

    def __init__(
        self,
        asked: _Asked,
        refused: dict[str, str],
        raised: dict[str, int],
        figures: dict[tuple[str, int], Figures],
    ) -> None:
        self.asked, self.refused, self.raised, self.figures = asked, refused, raised, figures
        self.lengths = sorted(set(asked.settings.lengths))
        self.curves = {name: self._curve(name) for name in asked.presets if name not in refused}
        self.curves = {name: points for name, points in self.curves.items() if points}

    def give(self) -> int:
        """Print and write all of it; the exit code is 1 where a preset broke."""
        from attnbuild.cli.tables import console, table

        columns = ["attention", "", *map(str, self.lengths), "exponent"]
        console().print(table(columns, [row for name in self.curves for row in self._rows(name)]))
        left_out = self._left_out()
        for what, reason in left_out:
            print(f"left out: {what}: {reason}")
        folder = Path(self.asked.settings.output or time.strftime("outputs/bench/%Y-%m-%d/%H-%M-%S"))
        folder.mkdir(parents=True, exist_ok=True)
        self._write(folder / "bench.json", left_out)
        if self.curves:
            from attnbuild.measure.record import draw_growth

            draw_growth(folder / "bench.png", self.curves, self._title())
        if self.raised:
            print(
                f"max_len was raised to {self.lengths[-1]}: {', '.join(f'{n} ({m})' for n, m in self.raised.items())}"
            )
        print(f"\n{self._title()}{self._fitted_over()}\nwritten to {folder}")
        return int(any(figures.failed for figures in self.figures.values()))

    def _title(self) -> str:
        asked = self.asked.settings
        passes = "forward and backward" if asked.backward else "forward"
        place = "cross-attention" if asked.cross else "causal self-attention" if asked.causal else "self-attention"
        return (
            f"{place}, {passes}: {asked.batch} x length x {asked.dim}, {asked.heads} heads, "
            f"{asked.dtype} on {asked.device}"
        )

    def _fitted_over(self) -> str:
        """What the exponents are of, where there is one."""
        longest = max(map(len, self.curves.values()), default=0)
        over = {0: "", 1: "", 2: "; exponents over two lengths"}
        return over.get(longest, "; exponents over the longest three lengths")

    def _curve(self, name: str) -> list[tuple[int, float, float]]:
        known = ((length, self.figures[name, length]) for length in self.lengths)
        return [(length, figures.seconds, figures.peak) for length, figures in known if not figures.problem]

    def _exponents(self, name: str) -> tuple[float, float]:
        """Of time and memory, over the longest three lengths: shorter ones are mostly fixed cost."""
        from attnbuild.measure.race import exponent

        points = self.curves[name][-3:]
        return exponent([(at, seconds) for at, seconds, _ in points]), exponent([(at, peak) for at, _, peak in points])

    def _rows(self, name: str) -> list[list[str]]:
        points = {length: (seconds, peak) for length, seconds, peak in self.curves[name]}
        times = [f"{points[at][0] * 1e3:.4g}" if at in points else "-" for at in self.lengths]
        peaks = [f"{points[at][1] / 2**20:.4g}" if at in points else "-" for at in self.lengths]
        fitted = ["-" if math.isnan(value) else f"{value:.2f}" for value in self._exponents(name)]
        return [[name, "ms", *times, fitted[0]], ["", "MB", *peaks, fitted[1]]]

    def _left_out(self) -> list[tuple[str, str]]:
        cells = [(f"{name} at {at}", figures.problem) for (name, at), figures in self.figures.items()]
        return [*self.refused.items(), *((what, problem) for what, problem in cells if problem)]

    def _write(self, path: Path, left_out: list[tuple[str, str]]) -> None:
        from attnbuild.measure.record import machine, rows_of, versions

        rows = [
            row
            for (name, length), figures in self.figures.items()
            for row in rows_of(f"{name} {length}", "attnbuild", figures)
        ]
        for name in self.curves:
            for metric, value in zip(("time", "peak_memory"), self._exponents(name), strict=True):
                if not math.isnan(value):
                    metric = f"{metric}_exponent"
                    rows.append({"case": name, "system": "attnbuild", "metric": metric, "value": value, "unit": ""})
        record = {
            "settings": asdict(self.asked.settings) | {"attention": list(self.asked.presets)},
            "options": self.asked.options,
            "versions": versions(),
            "machine": machine(self.asked.settings.device),
            "raised": {name: {"max_len": [before, self.lengths[-1]]} for name, before in self.raised.items()},
            "left_out": [{"case": what, "reason": reason} for what, reason in left_out],
            "rows": rows,
        }
        path.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def word_names() -> list[str]:
    """The words that are no overrides of the config, as they are typed."""
    return [f"{name}=" for name in options_of(Settings)]
