"""The commands of ``attnbuild``."""

from __future__ import annotations

__all__ = ["COMMANDS"]

#: command -> (module with ``run(words)``, what it does)
COMMANDS = {
    "train": ("attnbuild.cli.train", "compose a model from configuration, train it and test it"),
    "test": ("attnbuild.cli.test", "score a trained run: run=DIR [data=...] [search=...]"),
    "predict": ("attnbuild.cli.predict", "use a trained run: run=DIR input=FILE|- output=FILE|-"),
    "export": ("attnbuild.cli.export", "write a trained run for other programs: run=DIR format=ctranslate2|onnx"),
    "list": ("attnbuild.cli.listing", "what there is to choose: [KIND] [GLOB] [--json]"),
    "show": ("attnbuild.cli.show", "what overrides compose to: config, places, modules, parameters, cost"),
    "bench": ("attnbuild.cli.bench", "time and memory of attentions against length: attention=... lengths=..."),
    "report": ("attnbuild.cli.report", "compare the jobs of a sweep, or any runs, in one page: DIR [output=DIR]"),
}
